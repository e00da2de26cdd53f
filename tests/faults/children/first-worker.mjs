// The thread that loads the addon first is a worker, and ends; threads that come after it may get its memory.
import { Worker } from "node:worker_threads";
import { check, survived } from "./support.mjs";

const code = `
  import { parentPort } from "node:worker_threads";
  import { batchOver, connect } from ${JSON.stringify(new URL("./support.mjs", import.meta.url).href)};
  const client = await connect("discard:");
  const { status } = await client.send(batchOver({ ints: new Int32Array(1_000) }));
  await client.close();
  parentPort.postMessage(status);
`;
for (let turn = 0; turn < 12; turn++) {
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`));
  const ended = new Promise((resolve) => worker.once("exit", resolve));
  const told = await new Promise((resolve, reject) => {
    worker.once("error", reject);
    worker.once("message", resolve);
  });
  check(told === "acknowledged", `worker ${turn} was told ${told}`);
  await (turn % 2 === 0 ? worker.terminate() : ended);
}
survived();
