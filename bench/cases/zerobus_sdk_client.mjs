// The official TypeScript SDK's side of zerobus.mjs: `zerobus_sdk_client.mjs <its addon>`. The same jobs, the same
// batches. Its `ingestBatch` takes a batch as Arrow IPC bytes, so writing these is the caller's work and is counted.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { LargeUtf8, Table, tableToIPC } from "apache-arrow";
import { median, ringOf, UTC } from "../data.mjs";
import { busyThread } from "../turns.mjs";

const { ArrowDataType, ZerobusSdk } = createRequire(import.meta.url)(process.argv[2]);
const schemaFields = [
  { name: "id", dataType: ArrowDataType.Int64, nullable: false },
  { name: "value", dataType: ArrowDataType.Float64, nullable: false },
  { name: "code", dataType: ArrowDataType.Int32, nullable: false },
  { name: "name", dataType: ArrowDataType.LargeUtf8, nullable: false },
  { name: "at", dataType: ArrowDataType.TimestampMicros, nullable: false },
];

const jobs = { throughput, latency };
for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  globalThis.gc?.();
  const batches = ringOf(job.rows, job.ring, new LargeUtf8(), UTC);
  const stream = await open(job);
  console.log(JSON.stringify(await jobs[job.job](stream, batches, job.count)));
  await stream.close();
}

/** Up to the answer to `flush`: everything is acknowledged then. */
async function throughput(stream, batches, count) {
  await stream.waitForOffset(await stream.ingestBatch(ipc(batches[0])));
  const handoffUs = [];
  const thread = busyThread();
  for (let i = 0; i < count; i++) {
    const called = performance.now();
    const queued = stream.ingestBatch(ipc(batches[i % batches.length]));
    handoffUs.push((performance.now() - called) * 1e3);
    await queued;
  }
  await stream.flush();
  return { ...thread(count), handoff: "IPC bytes", handoffUs: median(handoffUs) };
}

/** One after the other, each alone, from `ingestBatch` to its acknowledgement. */
async function latency(stream, batches, count) {
  const us = [];
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    await stream.waitForOffset(await stream.ingestBatch(ipc(batches[i % batches.length])));
    us.push((performance.now() - start) * 1e3);
  }
  return { us };
}

/** Without the copy that `Buffer.from(bytes)` would be. */
function ipc(batch) {
  const bytes = tableToIPC(new Table([batch]), "stream");
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function open({ endpoint, table, options }) {
  const { unityCatalogUrl, clientId, clientSecret } = options.zerobus;
  const sdk = new ZerobusSdk(endpoint, unityCatalogUrl);
  return sdk.createArrowStream({ tableName: table, schemaFields }, clientId, clientSecret, {});
}
