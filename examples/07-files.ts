// Files and frames to a table: NDJSON, CSV and Parquet as they lie on the disk, and a data frame from memory. Lines that
// do not fit are told by their number; all others are in the table.
//
//   node examples/07-files.ts [delta:./lake/orders] [directory for the files]
import * as fs from "node:fs";
import * as path from "node:path";
import { connect, t } from "arrow-ingest";

const target = process.argv[2] ?? "delta:./lake/orders";
const folder = process.argv[3] ?? "./orders";

// What others left behind.
fs.mkdirSync(folder, { recursive: true });
fs.writeFileSync(
  path.join(folder, "monday.ndjson"),
  '{"id":9007199254740993,"price":9.95,"note":"the first"}\n{"id":2,"price":0.123456}\n{"id":3,"price":"1e3"}\n',
);
fs.writeFileSync(path.join(folder, "tuesday.csv"), 'price,id,note\n12.50,4,"a ""gift"""\nfree,5,\n0.01,6,\n');

const order = t.schema({ id: t.int64(), price: t.decimal(18, 4), note: t.utf8().nullable() });
await using client = await connect(target, { schema: order });

for (const name of ["monday.ndjson", "tuesday.csv"]) {
  for await (const { result, rejections } of client.sendBytes(path.join(folder, name))) {
    result.orThrow();
    console.log(`${name}: ${result.rows} rows`);
    for (const { line, path: where, code, message } of rejections)
      console.log(`${name}, line ${line}: ${where}: ${code}: ${message}`);
  }
}

// Columns of any library go as they are: here typed arrays and plain ones.
const result = await client.send({
  id: BigInt64Array.of(7n, 8n),
  price: ["3.5", "4.25"],
  note: [null, "from memory"],
});
console.log(`frame: ${result.orThrow().rows} rows`);
