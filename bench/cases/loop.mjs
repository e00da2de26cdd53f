// Event-loop delay while 10 MB batches stream into a Delta table, and into nothing, at full rate.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { connect } from "../../dist/index.js";
import { mixedBatch } from "../data.mjs";

const lake = fs.mkdtempSync(path.join(os.tmpdir(), "bench-loop-"));
const batches = Array.from({ length: 8 }, () => mixedBatch(10 * 2 ** 20));
const results = {};
for (const [name, target, total] of [
  ["delta", `delta:${path.join(lake, "table")}`, 100],
  ["discard", "discard:", 400],
]) {
  const client = await connect(target, { inflight: { maxBytes: "128MiB" } });
  const delay = monitorEventLoopDelay({ resolution: 1 });
  const start = performance.now();
  for (let count = 0; count < total; count++) {
    if (count === 8) delay.enable();
    const delivery = await client.enqueue(batches[count % batches.length]);
    delivery.result.then((result) => result.orThrow());
    // A producer does something else in between; without it one turn of the loop would hold many handoffs.
    await new Promise(setImmediate);
  }
  await client.flush();
  delay.disable();
  const seconds = (performance.now() - start) / 1_000;
  // The histogram counts its own sampling interval of 1 ms.
  results[name] = {
    p50Ms: delay.percentile(50) / 1e6,
    p99Ms: delay.percentile(99) / 1e6,
    maxMs: delay.max / 1e6,
    megabytesPerSecond: (total * 10.5) / seconds,
  };
  await client.close();
  console.error(
    `  ${name}: p99 ${results[name].p99Ms.toFixed(2)} ms, max ${results[name].maxMs.toFixed(2)} ms`,
  );
}
fs.rmSync(lake, { recursive: true });
console.log(JSON.stringify(results));
