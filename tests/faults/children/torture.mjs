// Tables of several batches to an emulator that refuses rows and rotates, loses and cuts streams meanwhile: every
// row is accounted for once, and refused rows by their own numbers.
import { Table } from "apache-arrow";
import { listDeadLetters, readDeadLetter, startEmulator } from "../../../dist/index.js";
import { batchOver, check, connect, scratch, survived } from "./support.mjs";

const letters = scratch();
const emulator = await startEmulator({
  commitInterval: 2,
  faults: [
    "reject:column=i,equals=77",
    "rotate:after=900rows,grace=20ms,times=12",
    "partial:after=1500rows,rows=7,times=6",
    "lose-before-commit:after=1200rows,times=6",
    "close:after=2000rows,times=4",
    "stall:after=300rows,for=30ms,times=5",
  ],
});
const client = await connect(emulator.url("a.b.c"), {
  ...emulator.options,
  zerobus: { ...emulator.options.zerobus, atomicRefusals: true },
  batching: { maxRows: 200, linger: 1 },
  retry: { attempts: 100, baseDelay: 1, maxDelay: 10 },
  deadLetter: { directory: letters },
});
let random = 7;
const dice = (sides) => {
  random = (random * 48_271) % 2_147_483_647;
  return random % sides;
};
const deliveries = [];
for (let turn = 0; turn < 60; turn++) {
  const bad = [];
  let rows = 0;
  const batches = Array.from({ length: 1 + dice(4) }, () => {
    const ints = new Int32Array(1 + dice(120)).map(() =>
      turn % 6 === 0 && dice(60) === 0 ? 77 : 1_000 + turn,
    );
    ints.forEach((value, row) => {
      if (value === 77) bad.push(rows + row);
    });
    rows += ints.length;
    return batchOver({ ints });
  });
  const given = batches.length === 1 ? batches[0] : new Table(batches);
  deliveries.push({ bad, rows, turn, delivery: await client.enqueue(given) });
}
let refused = 0;
let accepted = 0;
for (const { bad, rows, turn, delivery } of deliveries) {
  const result = await delivery.result;
  const named = result.rejections.map(({ row }) => Number(row));
  const what = `${turn}: ${result.status}, ${rows} rows, ${result.acceptedRows} accepted, refused ${named}, at fault ${bad}: ${result.error?.message}`;
  check(result.rows === rows && result.acceptedRows + named.length === rows, what);
  check(`${named}` === `${bad}`, what);
  check(result.rejectedRows === bad.length, what);
  const kept = result.rejectedBatch();
  if (bad.length > 0)
    check(
      [...kept.getChildAt(0)].every((value) => value === 77),
      `${turn}: other rows are given as refused`,
    );
  refused += bad.length;
  accepted += result.acceptedRows;
}
await client.close().catch((error) => check(error.code === "UNDELIVERED", error.message));
let found = 0;
for (const file of await listDeadLetters(letters)) {
  const { rows, rejections } = await readDeadLetter(file);
  check(
    [...rows.getChildAt(0)].every((value) => value === 77),
    "a row that was not refused is kept",
  );
  for (const { sequence, row } of rejections)
    check(deliveries[Number(sequence) - 1].bad.includes(row), `row ${row} of ${sequence} was not refused`);
  found += rows.numRows;
}
check(found === refused, `${found} of ${refused} refused rows are kept`);
const { tables, faultsFired } = await emulator.summary();
const { rowsDurable, rowsAcknowledged } = tables["a.b.c"];
check(
  rowsDurable >= accepted && rowsAcknowledged <= rowsDurable,
  `${accepted}, ${rowsDurable}, ${rowsAcknowledged}`,
);
console.log({
  faultsFired,
  refused,
  accepted,
  rowsDurable,
  rowsAcknowledged,
  stats: client.stats().sessions,
});
await emulator.close();
survived();
