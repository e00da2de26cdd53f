// Time of the JavaScript thread for handing one batch over, by way, size and number of columns.
//
// `discard:` takes everything at once, so nothing but the handoff is on the clock: from the call of `enqueue`
// until it returns its promise. Fresh batches each time, as a producer has them: what is paid once per
// ArrayBuffer (looking it up, marking it) is paid.
import { connect } from "../../dist/index.js";
import { another, median, mixedBatch } from "../data.mjs";

const KB = 1024;
const MB = 1024 * KB;
const shapes = [
  ...[KB, 16 * KB, 256 * KB, MB, 10 * MB, 100 * MB].map((bytes) => ({ bytes, columns: 5 })),
  ...[20, 100, 1_000].map((columns) => ({ bytes: MB, columns })),
];
const modes = ["pin", "copy", "ipc"];
/** Batches handed over before the first outcome is awaited. The same for all sizes: the first ones cost more. */
const BURST = 16;
// Rows that linger would have the process sleep between bursts, and measure its waking up.
const budget = { batching: { linger: 0 }, inflight: { maxBytes: "2GiB", maxPinnedBytes: "8GiB" } };
const clients = {};
for (const mode of modes) clients[mode] = await connect("discard:", { ...budget, handoff: mode });

// What runs for months runs optimised: the first thousands of calls are the compiler's, not the handoff's.
for (const mode of modes) {
  const small = mixedBatch(KB, 100);
  for (let turn = 0; turn < (mode === "ipc" ? 20 : 400); turn++) {
    const admitted = Array.from({ length: 16 }, () => clients[mode].enqueue(another(small)));
    for (const delivery of await Promise.all(admitted)) (await delivery.result).orThrow();
  }
}

let sum = 0;
for (let turn = 0; turn < 5_000; turn++) readFields(another(mixedBatch(KB)));
const sweep = { from: new Uint8Array(128 * MB).fill(1), to: new Uint8Array(128 * MB) };
const rows = [];
for (const shape of shapes) {
  const count = Math.max(5, Math.min(50, Math.floor((200 * MB) / shape.bytes)));
  const times = { pin: [], copy: [], ipc: [] };
  const afterPause = [];
  const afterCollection = [];
  const first = mixedBatch(shape.bytes, shape.columns);
  const warmUp = shape.bytes > 10 * MB ? 1 : 10;
  for (let turn = 0; turn < count + warmUp; turn++) {
    // In turn, so that a noisy second hits all three alike; in bursts, as batches stream.
    for (const mode of modes) {
      if (mode === "ipc" && turn >= warmUp + 10) continue;
      const burst = Array.from({ length: BURST }, () => another(first));
      const admitted = [];
      for (const batch of burst) {
        const start = performance.now();
        admitted.push(clients[mode].enqueue(batch));
        const took = (performance.now() - start) * 1_000;
        if (turn < warmUp) continue;
        // The native threads may have fallen asleep, and whoever wakes them pays the operating system for it.
        if (admitted.length > 1) times[mode].push(took);
      }
      for (const delivery of await Promise.all(admitted)) {
        const result = (await delivery.result).orThrow();
        const expected = { pin: "pinned", copy: "copied", ipc: "ipc" }[mode];
        if (result.handoff !== expected)
          throw new Error(`${mode} went ${result.handoff}: ${result.handoffReason}`);
      }
    }
    if (shape.bytes >= 10 * MB) globalThis.gc?.();
  }
  // Large batches make V8 collect, and small ones do not: the same for all sizes tells the two apart.
  for (let turn = 0; turn < (shape.bytes > 10 * MB ? 5 : 25); turn++) {
    const burst = Array.from({ length: 4 }, () => another(first));
    globalThis.gc?.();
    const admitted = [];
    for (const batch of burst) {
      const start = performance.now();
      admitted.push(clients.pin.enqueue(batch));
      if (admitted.length > 1) afterCollection.push((performance.now() - start) * 1_000);
    }
    for (const delivery of await Promise.all(admitted)) (await delivery.result).orThrow();
  }
  // Batches that are sent again: their buffers have been looked up and marked.
  const again = [];
  // As many as a burst has, so that none is handed over while it is still on its way; of the largest, two.
  const known = Array.from({ length: shape.bytes > 10 * MB ? 2 : BURST }, () => another(first));
  for (let turn = 0; turn < (shape.bytes > 10 * MB ? 8 : 40); turn++) {
    const admitted = [];
    for (let index = 0; index < BURST; index++) {
      const start = performance.now();
      admitted.push(clients.pin.enqueue(known[index % known.length]));
      if (admitted.length > 1 && turn > 2) again.push((performance.now() - start) * 1_000);
    }
    for (const delivery of await Promise.all(admitted)) (await delivery.result).orThrow();
  }
  // With as much copied before each burst as the largest caches hold: what is left of a size's own cost when
  // the batches' objects come from memory at every size.
  const cold = [];
  for (let turn = 0; turn < (shape.bytes > 10 * MB ? 5 : 15); turn++) {
    const burst = Array.from({ length: BURST }, () => another(first));
    sweep.to.set(sweep.from);
    const admitted = [];
    for (const batch of burst) {
      const start = performance.now();
      admitted.push(clients.pin.enqueue(batch));
      if (admitted.length > 1) cold.push((performance.now() - start) * 1_000);
    }
    for (const delivery of await Promise.all(admitted)) (await delivery.result).orThrow();
  }
  // And what no handoff can do without, measured the same way: reading the fields of the batch's objects.
  const read = [];
  for (let turn = 0; turn < (shape.bytes > 10 * MB ? 5 : 15); turn++) {
    const burst = Array.from({ length: BURST }, () => another(first));
    sweep.to.set(sweep.from);
    for (const [index, batch] of burst.entries()) {
      const start = performance.now();
      readFields(batch);
      if (index > 0) read.push((performance.now() - start) * 1_000);
    }
  }
  for (let turn = 0; turn < 15; turn++) {
    const batch = another(first);
    await new Promise((resolve) => setTimeout(resolve, 50));
    const start = performance.now();
    const admitted = clients.pin.enqueue(batch);
    afterPause.push((performance.now() - start) * 1_000);
    (await (await admitted).result).orThrow();
  }
  const us = Object.fromEntries(modes.map((mode) => [mode, median(times[mode])]));
  const pinAfterPauseUs = median(afterPause);
  const pinAfterCollectionUs = median(afterCollection);
  const pinAgainUs = median(again);
  const pinColdUs = median(cold);
  const readColdUs = median(read);
  rows.push({
    ...shape,
    us,
    pinAgainUs,
    pinAfterPauseUs,
    pinAfterCollectionUs,
    pinColdUs,
    readColdUs,
    ipcOverPin: us.ipc / us.pin,
    ipcOverCopy: us.ipc / us.copy,
  });
  console.error(
    `  ${shape.columns} columns, ${shape.bytes} B: ${modes.map((mode) => `${mode} ${us[mode].toFixed(1)} µs`).join(", ")}; ` +
      `pin again ${pinAgainUs.toFixed(1)} µs, after a pause ${pinAfterPauseUs.toFixed(1)} µs, after a collection ${pinAfterCollectionUs.toFixed(1)} µs, with caches emptied ${pinColdUs.toFixed(1)} µs, of it reading its fields ${readColdUs.toFixed(1)} µs`,
  );
}
// What a pause does to any call: one that is refused, touches no batch and wakes no thread.
const refused = { warm: [], afterPause: [] };
for (let turn = 0; turn < 300; turn++) {
  if (turn >= 200) await new Promise((resolve) => setTimeout(resolve, 5));
  const start = performance.now();
  clients.pin.enqueue({}).catch(() => {});
  refused[turn >= 200 ? "afterPause" : "warm"].push((performance.now() - start) * 1_000);
}
const refusedUs = { warm: median(refused.warm), afterPause: median(refused.afterPause) };
console.error(
  `  a refused call: warm ${refusedUs.warm.toFixed(1)} µs, after a pause ${refusedUs.afterPause.toFixed(1)} µs`,
);
for (const mode of modes) await clients[mode].close();
console.log(JSON.stringify({ rows, refusedUs, sum }));

/** Where and how long each buffer is, and nothing else. */
function readFields({ data }) {
  for (const { length, offset, nullBitmap, values, valueOffsets } of data.children) {
    sum += length + offset + values.byteOffset + values.byteLength + values.buffer.byteLength;
    if (nullBitmap) sum += nullBitmap.byteLength;
    if (valueOffsets)
      sum += valueOffsets.byteOffset + valueOffsets.byteLength + valueOffsets.buffer.byteLength;
  }
}
