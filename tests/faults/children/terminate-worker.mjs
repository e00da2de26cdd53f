import { parentPort, workerData } from "node:worker_threads";
import { batchOver, connect, words } from "./support.mjs";

const client = await connect(workerData.target, { inflight: { maxBytes: "16MiB" } });
for (let turn = 0; ; turn++) {
  const delivery = await client.enqueue(batchOver({ ints: new Int32Array(50_000), text: words(50_000) }));
  delivery.result.catch(() => {});
  if (turn === 3) parentPort.postMessage("sending");
}
