import { parentPort, workerData } from "node:worker_threads";
import { batchOver, connect } from "./support.mjs";

const { url, which } = workerData;
const never = () => {
  parentPort.postMessage("asked");
  return new Promise(() => {});
};
const options =
  which === "headers"
    ? { headers: { provider: never, timeout: "1h" } }
    : { retry: { when: never, whenTimeout: "1h" } };
const client = await connect(url, options);
await client.send(batchOver({ ints: new Int32Array(1000) }));
