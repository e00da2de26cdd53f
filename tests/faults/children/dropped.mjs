// Clients that are dropped without `close()`: idle ones are ended, and say so; those with anything in flight are not.
import * as fs from "node:fs";
import { batchOver, check, connect, scratch, survived } from "./support.mjs";

const [, , url] = process.argv;
const one = () => batchOver({ ints: Int32Array.of(1, 2, 3) });
const warnings = [];
const logger = { warn: (message, fields) => warnings.push({ message, fields }) };
const descriptors = () => fs.readdirSync("/proc/self/fd").length;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
async function collected(until, what) {
  for (let turn = 0; !until(); turn++) {
    check(turn < 500, `${what}: ${JSON.stringify(warnings)}`);
    globalThis.gc();
    await pause(20);
  }
}

// ---- idle ones ----------------------------------------------------------------------------------

// The runtime has some of its own.
const first = await connect(url);
await first.send(one());
await first.close();
const before = descriptors();
async function use(target) {
  const client = await connect(target, { logger, flight: { commitInterval: "20ms" } });
  const result = await client.send(one());
  check(result.status === "acknowledged", String(result));
  for await (const result of client.sendAll([one()])) check(result.success, String(result));
}
for (let i = 0; i < 10; i++) await use(url);
check(descriptors() > before, "no connection was made");
await collected(() => warnings.length === 10, "they are still there");
check(
  warnings.every(({ message }) => message.includes("without close()")),
  JSON.stringify(warnings),
);
await collected(() => descriptors() <= before, "their connections are still there");

// ---- one whose failure nobody has read --------------------------------------------------------------

async function fail() {
  const client = await connect(`delta:${scratch()}/table`, { logger });
  await client.send(one());
  await client.enqueue(batchOver({ floats: Float64Array.of(1) }));
  await client.flush();
}
warnings.length = 0;
await fail();
await collected(() => warnings.some(({ fields }) => fields.undelivered === 1), "the failure is not told");

// ---- those with something in flight ---------------------------------------------------------------

async function enqueue() {
  const options = { logger, delta: { commitInterval: "700ms" }, batching: { linger: "300ms" } };
  const client = await connect(`delta:${scratch()}/table`, options);
  return (await client.enqueue(one())).result;
}
async function yielding() {
  const client = await connect("discard:", { logger, batching: { linger: "1ms" } });
  const source = (async function* () {
    for (let i = 0; i < 10; i++) {
      await pause(50);
      yield one();
    }
  })();
  return client.sendAll(source);
}
async function piping() {
  const client = await connect("discard:", { logger });
  return client.writable();
}
warnings.length = 0;
const owed = await Promise.all([enqueue(), enqueue()].map(async (result) => ({ result: await result })));
check(
  owed.every(({ result }) => result.status === "acknowledged"),
  JSON.stringify(owed),
);
let seen = 0;
for await (const result of await yielding()) {
  globalThis.gc();
  check(result.success, String(result));
  seen++;
}
check(seen === 10, `${seen} outcomes`);
const writer = (await piping()).getWriter();
for (let i = 0; i < 10; i++) {
  globalThis.gc();
  await pause(10);
  await writer.write(one());
}
await writer.close();

// ---- one that is closed says nothing -----------------------------------------------------------------

async function close() {
  const client = await connect("discard:", { logger: { warn: () => warnings.push("closed") } });
  await client.send(one());
  await client.close();
}
await close();
for (let turn = 0; turn < 10; turn++) {
  globalThis.gc();
  await pause(10);
}
check(!warnings.includes("closed"), "a closed client was dropped");

// ---- what sendAll has yielded is the consumer's -------------------------------------------------------

let alive = 0;
const registry = new FinalizationRegistry(() => alive--);
async function consume() {
  const client = await connect("discard:", { batching: { linger: "1ms" }, inflight: { maxBytes: "1MiB" } });
  const source = (function* () {
    for (let i = 0; i < 400; i++) {
      const batch = batchOver({ ints: new Int32Array(50_000) });
      registry.register(batch, i);
      alive++;
      yield batch;
    }
  })();
  let count = 0;
  for await (const result of client.sendAll(source)) {
    check(result.success, String(result));
    if (++count === 350) {
      for (let turn = 0; alive > 60 && turn < 100; turn++) {
        globalThis.gc();
        await pause(10);
      }
      check(alive <= 60, `${alive} batches are kept after ${count} were yielded`);
    }
  }
  await client.close();
}
await consume();
survived();
