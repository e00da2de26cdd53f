// Cost per item at a thousand, ten thousand and a hundred thousand of them: what is worse than linear shows in
// the ratio from one to the next. The destination answers one question, so that a client connects, and is then away.
import * as http2 from "node:http2";
import { Data, Field, Int32, makeData, RecordBatch, Schema, Struct } from "apache-arrow";
import { connect } from "../../dist/index.js";
import { failures } from "../growth.mjs";

const SIZES = [1_000, 10_000, 100_000];
/** How much more an item may cost among ten times as many. */
const LIMIT = 1.5;
const TURNS = 3;
const ROOMY = { inflight: { maxBytes: "8GiB", maxPinnedBytes: "8GiB" } };
const retry = { attempts: 1_000_000, baseDelay: "10s", maxDelay: "10s", deadline: "1h" };

const schema = new Schema([new Field("n", new Int32(), false)]);
const one = batchOf(schema);

const CASES = {
  "abort of deliveries that share an unsent write": aborts,
  "close with many pending": closePending,
  "close with many waiting for the budget": closeWaiting,
  "batches of new schemas": schemas,
  "enqueue without await": enqueues,
};

const results = {};
for (const [name, measure] of Object.entries(CASES)) {
  await measure(SIZES[0]);
  const rows = [];
  for (const count of SIZES) {
    const turns = [];
    // A small number is over before anything is warm; the best of some is what it costs.
    for (let turn = 0; turn < (count > 10_000 ? 1 : TURNS); turn++) turns.push(await measure(count));
    const best = turns.reduce((best, turn) => (turn.ms < best.ms ? turn : best));
    const { ms, ...more } = best;
    const us = (ms * 1e3) / count;
    const before = rows.at(-1);
    rows.push({ count, us, over: before === undefined ? null : us / before.us, ...more });
    console.error(`  ${name}, ${count}: ${us.toFixed(2)} µs each${JSON.stringify(more)}`);
  }
  results[name] = rows;
}
const failed = failures(results, LIMIT);
for (const one of failed) console.error(`  failed: ${one}`);
console.log(JSON.stringify({ results, failed }));

async function aborts(count) {
  const { client, gone } = await away({ batching: { maxRows: 1_000_000, linger: "1s" }, retry, ...ROOMY });
  const controllers = Array.from({ length: count }, () => new AbortController());
  const outcomes = [];
  for (const { signal } of controllers) {
    const delivery = await client.enqueue(one, { signal });
    outcomes.push(delivery.result);
  }
  await gone();
  const start = performance.now();
  for (const controller of controllers) controller.abort();
  await Promise.all(outcomes);
  const ms = performance.now() - start;
  await client.close({ deadline: 0 });
  return { ms };
}

async function closePending(count) {
  const { client, gone } = await away({ batching: { maxRows: 1_000, linger: 1 }, retry, ...ROOMY });
  const outcomes = [];
  for (let sent = 0; sent < count; sent++) {
    const delivery = await client.enqueue(one);
    outcomes.push(delivery.result);
  }
  await gone();
  return closing(client, outcomes);
}

async function closeWaiting(count) {
  const { client, gone } = await away({ batching: { linger: 1 }, retry, inflight: { maxBytes: "1KiB" } });
  await gone();
  const before = process.memoryUsage();
  const waiting = [];
  for (let sent = 0; sent < count; sent++) waiting.push(client.enqueue(one).catch(() => {}));
  const after = process.memoryUsage();
  const bytesPerCaller = Math.round((after.rss - before.rss) / count);
  return { ...(await closing(client, waiting)), bytesPerCaller };
}

/** What `close` takes beyond its deadline, until the last caller knows; and the longest turn of the event loop. */
async function closing(client, promises) {
  const deadline = 200;
  let last = performance.now();
  let longestTurnMs = 0;
  const ticks = setInterval(() => {
    const now = performance.now();
    longestTurnMs = Math.max(longestTurnMs, now - last);
    last = now;
  }, 1);
  const start = performance.now();
  await client.close({ deadline }).catch(() => {});
  await Promise.all(promises);
  const ms = Math.max(0, performance.now() - start - deadline);
  clearInterval(ticks);
  return { ms, longestTurnMs: Math.round(longestTurnMs) };
}

async function schemas(count) {
  const client = await connect("discard:");
  const batches = Array.from({ length: count }, (_, n) =>
    batchOf(new Schema([new Field(`n${n}`, new Int32(), false)])),
  );
  const start = performance.now();
  for (const batch of batches) await client.enqueue(batch);
  await client.flush();
  const ms = performance.now() - start;
  await client.close();
  return { ms };
}

async function enqueues(count) {
  const client = await connect("discard:", ROOMY);
  const start = performance.now();
  const calls = [];
  for (let sent = 0; sent < count; sent++) calls.push(client.enqueue(one));
  await Promise.all(calls);
  await client.flush();
  const ms = performance.now() - start;
  await client.close();
  return { ms };
}

/** A client whose server goes away when it is told to; `gone` waits until the client has noticed. */
async function away(options) {
  const server = http2.createServer();
  const sessions = new Set();
  server.on("session", (session) => {
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
    session.on("error", () => {});
  });
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    // UNIMPLEMENTED: few servers can say what they take before there are any rows.
    stream.respond(
      { ":status": 200, "content-type": "application/grpc", "grpc-status": "12" },
      { endStream: true },
    );
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  let failed;
  const noticed = new Promise((resolve) => {
    failed = resolve;
  });
  const logger = { warn: failed };
  const client = await connect(`grpc://127.0.0.1:${server.address().port}/growth`, { ...options, logger });
  for (const session of sessions) session.destroy();
  server.close();
  const gone = async () => {
    // Something has to be sent for it to be noticed; where all wait, one comes first.
    if (client.stats().deliveries.unsettled === 0) await client.enqueue(one);
    await noticed;
  };
  return { client, gone };
}

function batchOf(schema) {
  const struct = new Struct(schema.fields);
  const child = makeData({ type: new Int32(), data: Int32Array.of(7) });
  return new RecordBatch(schema, new Data(struct, 0, 1, 0, [], [child]));
}
