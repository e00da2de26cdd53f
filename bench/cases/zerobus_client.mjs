// Our side of zerobus.mjs: a job a line in, what it took a line out. A process of its own, so that its CPU time is
// the client's and nobody else's.
import { createInterface } from "node:readline";
import { LargeUtf8, Utf8 } from "apache-arrow";
import { connect } from "../../dist/index.js";
import { median, ringOf, UTC } from "../data.mjs";
import { busyThread } from "../turns.mjs";

const jobs = { throughput, latency };
for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  // What the job before has left behind is not for this one to clear.
  globalThis.gc?.();
  console.log(JSON.stringify(await jobs[job.job](job)));
}

/** Up to the answer to `flush`: everything is acknowledged then. */
async function throughput({ rows, ring, count, ...job }) {
  const batches = batchesOf(rows, ring, job);
  await using client = await open(job);
  // The official client's stream is open before its clock starts, so ours is as well.
  (await client.send(batches[0])).orThrow();
  const results = [];
  const handoffUs = [];
  const thread = busyThread();
  for (let i = 0; i < count; i++) {
    const called = performance.now();
    const admitted = client.enqueue(batches[i % ring]);
    handoffUs.push((performance.now() - called) * 1e3);
    results.push((await admitted).result);
  }
  await client.flush();
  const busy = thread(count);
  const handoffs = new Set();
  for (const result of await Promise.all(results)) handoffs.add(result.orThrow().handoff);
  // The calls alone, on the clock, beside what the thread did for results and all.
  return { ...busy, handoff: [...handoffs].join(", "), handoffUs: median(handoffUs) };
}

/** One after the other, each alone, from `send` to its acknowledgement. */
async function latency({ rows, ring, count, ...job }) {
  const batches = batchesOf(rows, ring, job);
  await using client = await open(job, { batching: { linger: 0 } });
  const us = [];
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    const result = await client.send(batches[i % ring]);
    us.push((performance.now() - start) * 1e3);
    result.orThrow();
  }
  return { us };
}

function batchesOf(rows, ring, { cast, utc }) {
  return ringOf(rows, ring, cast ? new Utf8() : new LargeUtf8(), utc ? UTC : undefined);
}

function open({ url, table, options, compression, handoff }, more = {}) {
  const zerobus = { ...options.zerobus, compression };
  return connect(url + table, { ...more, zerobus, ...(handoff && { handoff }) });
}
