// Peak memory while ten times the byte budget streams: above what the process had before the first batch.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { connect } from "../../dist/index.js";
import { mixedBatch } from "../data.mjs";

const MiB = 2 ** 20;
const budget = 128 * MiB;
const lake = fs.mkdtempSync(path.join(os.tmpdir(), "bench-memory-"));
const batches = Array.from({ length: 8 }, () => mixedBatch(4 * MiB));
globalThis.gc?.();
const results = {};
for (const [name, target] of [
  ["discard", "discard:"],
  ["delta", `delta:${path.join(lake, "table")}`],
]) {
  const before = process.memoryUsage.rss();
  let peak = before;
  const sample = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss());
  }, 5);
  const client = await connect(target, { inflight: { maxBytes: budget } });
  for (let sent = 0; sent < 10 * budget; sent += 4 * MiB) {
    const delivery = await client.enqueue(batches[(sent / MiB / 4) % batches.length]);
    delivery.result.then((result) => result.orThrow());
  }
  await client.close();
  clearInterval(sample);
  results[name] = {
    budgetMiB: budget / MiB,
    streamedMiB: (10 * budget) / MiB,
    aboveMiB: (peak - before) / MiB,
  };
  console.error(
    `  ${name}: ${results[name].aboveMiB.toFixed(0)} MiB above the start, budget ${budget / MiB} MiB`,
  );
}
fs.rmSync(lake, { recursive: true });
console.log(JSON.stringify(results));
