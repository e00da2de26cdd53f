// Our side of flight.mjs: a job a line in, what it took a line out. A process of its own, so that its CPU time and
// its memory are the client's and nobody else's.
import { createInterface } from "node:readline";
import { connect } from "../../dist/index.js";
import { another, bytesOf, ringOf } from "../data.mjs";

const MiB = 2 ** 20;
const jobs = { throughput, latency, memory };
for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  // What the job before has left behind is not for this one to clear.
  globalThis.gc?.();
  console.log(JSON.stringify(await jobs[job.job](job)));
}

/** Up to the answer to `flush`: everything is acknowledged then. */
async function throughput({ port, rows, ring, count, way }) {
  const batches = ringOf(rows, ring);
  const bytes = bytesOf(batches[0]);
  await using client = await connect(`grpc://127.0.0.1:${port}/a/b`);
  const [start, before] = [performance.now(), process.cpuUsage()];
  if (way === "sendAll") {
    for await (const result of client.sendAll(source(batches, count))) result.orThrow();
  } else {
    const results = [];
    for (let i = 0; i < count; i++) results.push((await client.enqueue(batches[i % ring])).result);
    await client.flush();
    for (const result of await Promise.all(results)) result.orThrow();
  }
  const seconds = (performance.now() - start) / 1e3;
  const { user, system } = process.cpuUsage(before);
  return { bytes: bytes * count, batches: count, seconds, cpu: (user + system) / 1e6 };
}

function* source(batches, count) {
  for (let i = 0; i < count; i++) yield batches[i % batches.length];
}

/** One after the other, each alone, from `send` to its acknowledgement. */
async function latency({ port, rows, ring, count }) {
  const batches = ringOf(rows, ring);
  await using client = await connect(`grpc://127.0.0.1:${port}/a/b`, {
    batching: { linger: 0 },
    flight: { acknowledgement: "part" },
  });
  const us = [];
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    const result = await client.send(batches[i % ring]);
    us.push((performance.now() - start) * 1e3);
    result.orThrow();
  }
  return { us };
}

/** Resident memory above what it was before the first batch; for a process that has done nothing else. */
async function memory({ port, rows, ring, budgetMiB, streamMiB, fresh, yields, idle }) {
  const batches = ringOf(rows, ring);
  const bytes = bytesOf(batches[0]);
  globalThis.gc?.();
  const before = process.memoryUsage.rss();
  let peak = before;
  const sample = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss());
  }, 2);
  if (idle) {
    // What the collector leaves lying about of a producer's memory, whoever it is made for.
    const kept = [];
    for (let made = 0, i = 0; made < streamMiB * MiB; made += bytes, i++) {
      kept.push(another(batches[i % ring]));
      if (kept.length * bytes > budgetMiB * MiB) kept.shift();
      peak = Math.max(peak, process.memoryUsage.rss());
      await new Promise(setImmediate);
    }
    clearInterval(sample);
    return { aboveMiB: (peak - before) / MiB };
  }
  const client = await connect(`grpc://127.0.0.1:${port}/a/b`, { inflight: { maxBytes: budgetMiB * MiB } });
  const start = performance.now();
  let inFlight = 0;
  for (let sent = 0, i = 0; sent < streamMiB * MiB; sent += bytes, i++) {
    const batch = batches[i % ring];
    const delivery = await client.enqueue(fresh ? another(batch) : batch);
    inFlight = Math.max(inFlight, client.stats().bytes.inFlight);
    delivery.result.then((result) => result.orThrow());
    peak = Math.max(peak, process.memoryUsage.rss());
    if (yields) await new Promise(setImmediate);
  }
  await client.flush();
  const seconds = (performance.now() - start) / 1e3;
  const { pinned, pool } = client.stats();
  await client.close();
  clearInterval(sample);
  return {
    aboveMiB: (peak - before) / MiB,
    inFlightMiB: inFlight / MiB,
    pinnedPeakMiB: pinned.peakBytes / MiB,
    poolPeakMiB: pool.peakBytes / MiB,
    megabytesPerSecond: (streamMiB * MiB) / 1e6 / seconds,
  };
}
