// A worker with an emulator, a client of it whose headers are asked for and whose rows are refused and kept, and a
// client that is never told its headers.
import { parentPort, workerData } from "node:worker_threads";
import { startEmulator } from "../../../dist/index.js";
import { batchOver, connect } from "./support.mjs";

const { lake, letters } = workerData;
const emulator = await startEmulator({
  lake,
  commitInterval: 5,
  tokens: ["t0ken"],
  faults: ["reject:column=i,equals=77", "rotate:after=5000rows,grace=10ms,times=always"],
  onEvent: () => {},
});
connect(emulator.url("a.b.d"), { headers: () => new Promise(() => {}) }).catch(() => {});
const client = await connect(emulator.url("a.b.c"), {
  zerobus: { atomicRefusals: true },
  deadLetter: { directory: letters },
  headers: async () => ({ authorization: "Bearer t0ken" }),
});
for (let turn = 0; ; turn++) {
  const delivery = await client.enqueue(batchOver({ ints: new Int32Array(300).map((_, row) => row) }));
  delivery.result.catch(() => {});
  if (turn === 3) parentPort.postMessage("sending");
}
