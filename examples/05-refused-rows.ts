// Rows that a table does not take: the others go, and these come back with the reason, are kept on the disk, mended,
// and sent again.
//
//   node examples/05-refused-rows.ts [directory for refused rows]
import { makeVector, Table, vectorFromArray } from "apache-arrow";
import { connect, listDeadLetters, readDeadLetter, removeDeadLetter, startEmulator } from "arrow-ingest";

const directory = process.argv[2] ?? "./refused";
const TABLE = "main.sales.payments";

// An amount of 32 bits, and a service that takes none below 0.
await using emulator = await startEmulator({
  tables: {
    [TABLE]: [
      { name: "payer", type: "STRING" },
      { name: "amount", type: "INT" },
    ],
  },
  faults: ["reject:column=amount,below=0"],
});
const target = emulator.url(TABLE);

{
  await using client = await connect(target, { ...emulator.options, deadLetter: { directory } });
  const result = await client.send(
    new Table({
      payer: vectorFromArray(["Ada", "Grace", "Edsger", "Barbara", "Tony"]),
      amount: makeVector(BigInt64Array.of(100n, -250n, 300n, 40_000_000_000n, 500n)),
    }),
  );
  console.log(
    `${result.status}: ${result.acceptedRows} rows are acknowledged, ${result.rejectedRows} refused`,
  );
  for (const { row, code, message } of result.rejections) console.log(`row ${row}: ${code}: ${message}`);
  console.log(String(result.rejectedBatch()?.schema)); // as they were sent, and not as the table has them
}

// Later, perhaps in another process: `npx arrow-ingest deadletter ls` shows the same files.
await using client = await connect(target, emulator.options);
for (const file of await listDeadLetters(directory)) {
  const { rows, rejections } = await readDeadLetter(file);
  const amounts = Array.from(rows.getChild("amount")!, (amount: bigint) => {
    const positive = amount < 0n ? -amount : amount;
    return positive > 2_147_483_647n ? 2_147_483_647n : positive;
  });
  const mended = rows.assign(new Table({ amount: makeVector(BigInt64Array.from(amounts)) }));
  (await client.send(mended)).orThrow();
  await removeDeadLetter(file); // after the acknowledgement: a row is there twice at worst, and never lost
  console.log(`sent again: ${rejections.map(({ row, code }) => `row ${row} (${code})`).join(", ")}`);
}
console.log(`the table holds ${await emulator.rows(TABLE)} rows`);
