// A producer with a spool, to be killed at any moment: what was answered as durable stands in a file.
//
//   node spooled-producer.mjs <facts as JSON>
//
// { url, options, acknowledged, first, seed, refusals, drain }: `acknowledged` is the file; ids begin at `first`, which
// no other run has had. With `refusals` one delivery in eight holds a row that the table refuses. Says "ready" when it is connected. With `drain` it produces nothing, and ends when all is delivered or
// the time is over.
import * as fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Field, Int64, makeVector, Schema, Table, Utf8, vectorFromArray } from "apache-arrow";
import { connect } from "../../../dist/index.js";

const facts = JSON.parse(process.argv[2]);
/** So many `enqueue` wait at once, and share syncs. */
const LOOPS = 3;
const DRAIN_MS = 600_000;

// The table takes no row without a text.
const fields = [
  new Field("id", new Int64()),
  new Field("hash", new Int64()),
  new Field("text", new Utf8(), false),
];
const client = await connect(facts.url, {
  ...facts.options,
  ...(facts.refusals ? { schema: new Schema(fields) } : {}),
});
process.stdout.write("ready\n");
if (facts.drain) {
  await client.close({ deadline: DRAIN_MS });
} else {
  const acknowledged = fs.openSync(facts.acknowledged, "a", 0o600);
  let next = BigInt(facts.first);
  let random = BigInt(facts.seed);
  const below = (limit) => {
    random = BigInt.asUintN(64, random * 6_364_136_223_846_793_005n + 1_442_695_040_888_963_407n);
    return Number(random >> 33n) % limit;
  };
  const produce = async () => {
    for (;;) {
      const rows = 1 + below(20);
      const first = next;
      next += BigInt(rows);
      const refused = facts.refusals && below(8) === 0 ? below(rows) : -1;
      await client.enqueue(batch(first, rows, refused));
      // One write: after it the rows are promised, and a kill cannot tear it.
      fs.writeSync(acknowledged, `${first} ${first + BigInt(rows)}\n`);
      await sleep(below(5));
    }
  };
  await Promise.all(Array.from({ length: LOOPS }, produce));
}

function batch(first, rows, refused) {
  const ids = BigInt64Array.from({ length: rows }, (_, row) => first + BigInt(row));
  return new Table({
    id: makeVector(ids),
    hash: makeVector(ids.map(hashOf)),
    text: vectorFromArray(
      Array.from(ids, (id, row) => (row === refused ? null : String(id).repeat(Number(id % 5n)))),
      new Utf8(),
    ),
  });
}

/** As `hashed` of spool_checker.py. */
function hashOf(id) {
  let word = BigInt.asUintN(64, id * 0x9e3779b97f4a7c15n);
  word ^= word >> 29n;
  return BigInt.asIntN(64, word * 0xbf58476d1ce4e5b9n);
}
