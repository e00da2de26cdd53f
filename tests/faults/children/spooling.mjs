// A producer that enqueues into a spool whose destination is away, says how much is on the disk, and ends in the way
// that it is told to.
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { tableFromArrays } from "apache-arrow";
import { connect } from "../../../dist/index.js";

const [way, directory] = isMainThread ? process.argv.slice(2) : workerData;
const AWAY = "grpc://127.0.0.1:1/a";

if (isMainThread && way === "worker") {
  const worker = new Worker(new URL(import.meta.url), { workerData: ["stay", directory] });
  await new Promise((resolve) => worker.once("message", resolve));
  await worker.terminate();
  console.log("SPOOLED 6");
} else {
  const client = await connect(AWAY, { spool: { directory }, retry: { baseDelay: 5, maxDelay: 20 } });
  for (let i = 0; i < 3; i++) await client.enqueue(tableFromArrays({ n: Int32Array.of(2 * i, 2 * i + 1) }));
  // On its way when the process ends: it may be there or not.
  client.enqueue(tableFromArrays({ n: Int32Array.of(6) })).catch(() => {});
  if (parentPort !== null) parentPort.postMessage("there");
  else console.log("SPOOLED 6");
  if (way === "exit") process.exit(0);
  if (way === "throw") throw new Error("nobody catches this");
  if (way === "kill") process.kill(process.pid, "SIGKILL");
  if (way === "sigterm") {
    process.once("SIGTERM", () => void client.close({ deadline: 0 }).then(() => console.log("CLOSED")));
    process.kill(process.pid, "SIGTERM");
  }
}
