// Our side of delta-scale.mjs: a job a line in, what it took a line out. A process of its own for each part, so that
// its CPU time, its memory and its threads are those of one client, or of one crowd of them.
import * as fs from "node:fs";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { Data, Field, Float64, Int64, RecordBatch, Schema, Struct, Utf8 } from "apache-arrow";
import { connect } from "../../dist/index.js";
import { median } from "../data.mjs";

const MiB = 2 ** 20;
/** The client that `commits` leaves open. */
let kept;
const jobs = { commits, opening, partitions, crowd, idle };
for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  globalThis.gc?.();
  console.log(JSON.stringify(await jobs[job.job](job)));
}

/** Rows `from` to `from + rows` with an id, a value and a key of so many different ones, mixed. */
function batchOf(from, rows, keys = 1) {
  const encoder = new TextEncoder();
  const names = new Uint8Array(rows * 8);
  const offsets = Int32Array.from({ length: rows + 1 }, (_, row) => row * 8);
  for (let row = 0; row < rows; row++) {
    const key = Number((BigInt(from + row) * 2_654_435_761n) % BigInt(keys));
    encoder.encodeInto(`k${String(key).padStart(7, "0")}`, names.subarray(row * 8));
  }
  const columns = [
    ["id", new Int64(), [undefined, BigInt64Array.from({ length: rows }, (_, row) => BigInt(from + row))]],
    ["value", new Float64(), [undefined, Float64Array.from({ length: rows }, (_, row) => (from + row) / 3)]],
    ["key", new Utf8(), [offsets, names]],
  ];
  const schema = new Schema(columns.map(([name, type]) => new Field(name, type, true)));
  const children = columns.map(([, type, buffers]) => new Data(type, 0, rows, 0, buffers));
  return new RecordBatch(schema, new Data(new Struct(schema.fields), 0, rows, 0, [], children));
}

/** So many commits of one row, one after the other. `keep` leaves the client open for the next job. */
async function commits({ target, count, open, keep }) {
  if (open) await kept?.client.close();
  kept = open || !kept ? { client: await connect(target), next: 0 } : kept;
  const cpuMs = [];
  const start = performance.now();
  for (let commit = 0; commit < count; commit++) {
    const before = process.cpuUsage();
    const { result } = await kept.client.enqueue(batchOf(kept.next++, 1));
    const settled = result;
    await kept.client.flush();
    (await settled).orThrow();
    const { user, system } = process.cpuUsage(before);
    cpuMs.push((user + system) / 1e3);
  }
  const seconds = (performance.now() - start) / 1e3;
  globalThis.gc?.();
  const answer = { cpuMs: median(cpuMs), meanCpuMs: mean(cpuMs), msPerCommit: (seconds / count) * 1e3 };
  if (!keep) {
    await kept.client.close();
    kept = undefined;
  }
  return { ...answer, rssMiB: process.memoryUsage.rss() / MiB };
}

/** Opens a table, commits once, and then some more. The process has written to another table before. */
async function opening({ warm, target, more }) {
  await one(warm);
  globalThis.gc?.();
  const before = process.memoryUsage.rss();
  let peak = before;
  const sample = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss());
  }, 2);
  const start = performance.now();
  const client = await connect(target);
  const connected = performance.now();
  await commit(client, 0);
  const committed = performance.now();
  const further = [];
  for (let i = 0; i < more; i++) {
    const at = performance.now();
    await commit(client, i + 1);
    further.push(performance.now() - at);
  }
  peak = Math.max(peak, process.memoryUsage.rss());
  clearInterval(sample);
  await client.close();
  return {
    connectMs: connected - start,
    firstMs: committed - connected,
    furtherMs: median(further),
    aboveMiB: (peak - before) / MiB,
  };
}

async function one(target) {
  await using client = await connect(target);
  await commit(client, 0);
}

async function commit(client, row) {
  const { result } = await client.enqueue(batchOf(row, 1));
  const settled = result;
  await client.flush();
  (await settled).orThrow();
}

/** A million rows in one flush, and what the log says of it. */
async function partitions({ target, rows, keys, storage }) {
  const size = 8_192;
  const batches = [];
  for (let from = 0; from < rows; from += size)
    batches.push(batchOf(from, Math.min(size, rows - from), keys || 1_000));
  const delta = { commitInterval: "1h", ...(keys ? { partitionBy: ["key"] } : {}), ...storage };
  await using client = await connect(target, { delta });
  const start = performance.now();
  const results = [];
  for (const batch of batches) results.push((await client.enqueue(batch)).result);
  await client.flush();
  const seconds = (performance.now() - start) / 1e3;
  const versions = new Set();
  for (const result of await Promise.all(results)) versions.add(result.orThrow().position.value);
  return { seconds, versions: versions.size };
}

/** Clients with a table each: threads, and the time of a round of sends, once the first is over. */
async function crowd({ lake, clients, rounds }) {
  const all = [];
  for (let i = 0; i < clients; i += 50) {
    const some = Array.from(
      { length: Math.min(50, clients - i) },
      (_, n) => `delta:${path.join(lake, `t${i + n}`)}`,
    );
    all.push(...(await Promise.all(some.map((target) => connect(target)))));
  }
  let most = threads();
  const sample = setInterval(() => {
    most = Math.max(most, threads());
  }, 5);
  const seconds = [];
  for (let round = 0; round <= rounds; round++) {
    const start = performance.now();
    const results = await Promise.all(all.map((client) => client.send(batchOf(round, 10))));
    for (const result of results) result.orThrow();
    most = Math.max(most, threads());
    if (round > 0) seconds.push((performance.now() - start) / 1e3);
  }
  clearInterval(sample);
  await Promise.all(all.map((client) => client.close()));
  return { threads: most, threadsClosed: threads(), msPerTable: (median(seconds) * 1e3) / clients };
}

function threads() {
  return process.platform === "linux" ? fs.readdirSync("/proc/self/task").length : 0;
}

/** Sends at once on a client that has been quiet for longer than its commit interval. */
async function idle({ lake, sends, rounds }) {
  const target = path.join(lake, `idle-${sends}`);
  await using client = await connect(`delta:${target}`);
  (await client.send(batchOf(0, 10))).orThrow();
  const ms = [];
  let mostVersions = 0;
  for (let round = 0; round < rounds; round++) {
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    const batches = Array.from({ length: sends }, (_, n) => batchOf(n * 10, 10));
    const versions = new Set();
    await Promise.all(
      batches.map(async (batch) => {
        const start = performance.now();
        const result = (await client.send(batch)).orThrow();
        ms.push(performance.now() - start);
        versions.add(String(result.position.value));
      }),
    );
    mostVersions = Math.max(mostVersions, versions.size);
  }
  ms.sort((a, b) => a - b);
  return { p50Ms: ms[ms.length >> 1], p99Ms: ms[Math.ceil(ms.length * 0.99) - 1], mostVersions };
}

function mean(numbers) {
  return numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
}
