// Time of the JavaScript thread for handing one batch over, by way, size and number of columns.
//
// `discard:` takes everything at once, so nothing but the handoff is on the clock: from the call of `enqueue`
// until it returns its promise. Fresh batches each time, as a producer has them: what is paid once per
// ArrayBuffer (looking it up, marking it) is paid.
import { connect } from "../../dist/index.js";
import { median, mixedBatch } from "../data.mjs";

const KB = 1024;
const MB = 1024 * KB;
const shapes = [
  ...[KB, 16 * KB, 256 * KB, MB, 10 * MB, 100 * MB].map((bytes) => ({ bytes, columns: 5 })),
  ...[20, 100, 1_000].map((columns) => ({ bytes: MB, columns })),
];
const modes = ["pin", "copy", "ipc"];
const budget = { inflight: { maxBytes: "2GiB", maxPinnedBytes: "8GiB" } };
const clients = {};
for (const mode of modes) clients[mode] = await connect("discard:", { ...budget, handoff: mode });

const rows = [];
for (const shape of shapes) {
  const count = Math.max(5, Math.min(200, Math.floor((200 * MB) / shape.bytes)));
  const times = { pin: [], copy: [], ipc: [] };
  const warmUp = shape.bytes > 10 * MB ? 1 : 30;
  for (let turn = 0; turn < count + warmUp; turn++) {
    // In turn, so that a noisy second hits all three alike.
    for (const mode of modes) {
      if (mode === "ipc" && turn >= warmUp + 40) continue;
      const batch = mixedBatch(shape.bytes, shape.columns);
      const start = performance.now();
      const admitted = clients[mode].enqueue(batch);
      const took = (performance.now() - start) * 1_000;
      if (turn >= warmUp) times[mode].push(took);
      const delivery = await admitted;
      const result = (await delivery.result).orThrow();
      const expected = { pin: "pinned", copy: "copied", ipc: "ipc" }[mode];
      if (result.handoff !== expected)
        throw new Error(`${mode} went ${result.handoff}: ${result.handoffReason}`);
    }
    if (shape.bytes >= 10 * MB) globalThis.gc?.();
  }
  const us = Object.fromEntries(modes.map((mode) => [mode, median(times[mode])]));
  rows.push({ ...shape, us, ipcOverPin: us.ipc / us.pin, ipcOverCopy: us.ipc / us.copy });
  console.error(
    `  ${shape.columns} columns, ${shape.bytes} B: ${modes.map((mode) => `${mode} ${us[mode].toFixed(1)} µs`).join(", ")}`,
  );
}
for (const mode of modes) await clients[mode].close();
console.log(JSON.stringify({ rows }));
