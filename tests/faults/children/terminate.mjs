// Terminates workers at every moment of their lives: while they load the addon, connect, send, and wait.
import { Worker } from "node:worker_threads";
import { check, scratch, survived } from "./support.mjs";

const turns = Number(process.argv[2]);
const lake = scratch();
const script = new URL("./terminate-worker.mjs", import.meta.url);
let busy = 0;
for (let turn = 0; turn < turns; turn += 2) {
  // Two at a time: an environment that ends must not disturb its neighbour.
  await Promise.all([turn, turn + 1].map((number) => live(number)));
}
check(busy > turns / 4, `only ${busy} workers had batches in flight when they were ended`);
survived();

async function live(number) {
  // The table is shared by a few, so that commits of the dying and the living meet.
  const target = number % 2 ? `delta:${lake}/table-${number % 3}` : "discard:";
  const worker = new Worker(script, { workerData: { target } });
  let sent = false;
  worker.on("message", () => {
    sent = true;
  });
  worker.on("error", (error) => {
    console.error(error);
    process.exitCode = 1;
  });
  // From before the addon is loaded until well into the sending.
  const moment = number % 5 === 0 ? number % 40 : 0;
  if (moment > 0) await new Promise((resolve) => setTimeout(resolve, moment));
  else {
    await new Promise((resolve) => {
      worker.once("message", resolve);
      worker.once("exit", resolve);
    });
    await new Promise((resolve) => setTimeout(resolve, number % 7));
  }
  if (sent) busy++;
  await worker.terminate();
}
