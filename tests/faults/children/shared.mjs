import { Worker } from "node:worker_threads";
import { batchOver, check, connect, scratch, survived, words } from "./support.mjs";

const rows = 50_000;
const shared = new SharedArrayBuffer((rows + 1) * 4);
const bytes = new SharedArrayBuffer(rows * 8);
const offsets = new Int32Array(shared);
offsets.set(words(rows).offsets);
new Uint8Array(bytes).fill(97);
// Another thread writes nonsense over offsets and text the whole time.
const code = `
  const { workerData } = require("node:worker_threads");
  const all = new Int32Array(workerData.shared);
  const text = new Uint8Array(workerData.bytes);
  let x = 1;
  for (;;) { x = (x * 1103515245 + 12345) & 0x7fffffff; all[x % all.length] = x; text[x % text.length] = x; }
`;
const scribbler = new Worker(code, { eval: true, workerData: { shared, bytes } });
for (const target of ["discard:", `delta:${scratch()}/table`]) {
  await using client = await connect(target);
  for (let turn = 0; turn < 100; turn++) {
    offsets.set(words(rows).offsets);
    let outcome;
    try {
      const result = await client.send(batchOver({ text: { offsets, values: new Uint8Array(bytes) } }));
      outcome = result.error?.code ?? result.status;
    } catch (error) {
      outcome = error.code;
    }
    check(outcome === "acknowledged" || outcome === "BATCH_INVALID", `shared memory gave ${outcome}`);
  }
  const steady = await client.send(batchOver({ text: words(10) }));
  check(steady.status === "acknowledged", "the client is spoilt");
}
await scribbler.terminate();
survived();
