// Orders into a Databricks table through Zerobus. Without a target, into one of an emulator on this machine, which
// writes a Delta table below ./lake and asks for another stream now and then, as the service does.
//
//   node examples/04-zerobus.ts
//
// The same against the service, for a table (id BIGINT NOT NULL, city STRING, price DOUBLE, at TIMESTAMP): a target,
// and ZEROBUS_UNITY_CATALOG_URL, ZEROBUS_CLIENT_ID and ZEROBUS_CLIENT_SECRET in the environment.
//
//   node examples/04-zerobus.ts zerobus://<workspace>.zerobus.<region>.cloud.databricks.com/main.sales.orders
import { makeVector, Table, TimestampMillisecond, Utf8, vectorFromArray } from "apache-arrow";
import { connect, startEmulator } from "arrow-ingest";

const given = process.argv[2];
const TABLE = "main.sales.orders";
const BATCHES = 20;
const ROWS = 1_000;

await using emulator = given?.startsWith("zerobus")
  ? null
  : await startEmulator({
      lake: given ?? "./lake",
      tables: {
        [TABLE]: [
          { name: "id", type: "BIGINT", nullable: false },
          { name: "city", type: "STRING" },
          { name: "price", type: "DOUBLE" },
          { name: "at", type: "TIMESTAMP" },
        ],
      },
      faults: ["rotate:after=5000rows,times=3,grace=30s"],
    });

/** Columns in any order and of the types at hand: what the table holds exactly is made its own. */
function orders(first: number, count: number): Table {
  const cities = ["Berlin", "München", null];
  const ids = Int32Array.from({ length: count }, (_, row) => first + row);
  return new Table({
    at: vectorFromArray(new Array(count).fill(Date.now()), new TimestampMillisecond("UTC")),
    city: vectorFromArray(
      Array.from(ids, (id) => cities[id % cities.length]),
      new Utf8(),
    ),
    id: makeVector(ids),
    price: makeVector(Float64Array.from(ids, (id) => id / 100)),
  });
}

function* allDay() {
  for (let first = 0; first < BATCHES * ROWS; first += ROWS) yield orders(first, ROWS);
}

const target = emulator?.url(TABLE) ?? given!;
await using client = await connect(target, emulator?.options);
await client.check(); // credentials, table and a stream, without a row

for await (const result of client.sendAll(allDay())) result.orThrow();
const late = await client.send(orders(BATCHES * ROWS, 1));
console.log(`${late.status} after ${late.attempts} attempt: another stream is no failure`);
console.log(`${client.stats().rows.accepted} rows are acknowledged`);

if (emulator !== null) {
  const { streams, rowsDurable } = (await emulator.summary()).tables[TABLE]!;
  console.log(`the emulator holds ${rowsDurable} rows, which came on ${streams} streams`);
}
