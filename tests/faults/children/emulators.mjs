// Workers that run an emulator, a client of it, a question for headers and dead letters are terminated at every
// moment; in the end the process exits with one of its own running.
import * as fs from "node:fs";
import { Worker } from "node:worker_threads";
import { startEmulator } from "../../../dist/index.js";
import { batchOver, check, connect, scratch, survived } from "./support.mjs";

const turns = Number(process.argv[2]);
const folder = scratch();
const letters = `${folder}/letters`;
const script = new URL("./emulator-worker.mjs", import.meta.url);
let busy = 0;
for (let turn = 0; turn < turns; turn += 2) await Promise.all([turn, turn + 1].map((number) => live(number)));
check(busy > turns / 4, `only ${busy} workers had batches in flight when they were ended`);
const tasks = fs.readdirSync("/proc/self/task").length;
check(tasks < 200, `${tasks} threads are left`);

const emulator = await startEmulator({ faults: ["reject:column=i,equals=77"] });
const client = await connect(emulator.url("a.b.c"), {
  ...emulator.options,
  zerobus: { ...emulator.options.zerobus, atomicRefusals: true },
  deadLetter: { directory: letters },
});
for (let turn = 0; turn < 20; turn++)
  await client.enqueue(batchOver({ ints: new Int32Array(100).map((_, row) => row) }));
survived();
process.exit(0);

async function live(number) {
  const worker = new Worker(script, {
    workerData: { lake: number % 2 ? `${folder}/lake-${number}` : undefined, letters },
  });
  let sent = false;
  worker.on("message", () => {
    sent = true;
  });
  worker.on("error", (error) => {
    console.error(error);
    process.exitCode = 1;
  });
  if (number % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 30 + (number % 60)));
  else {
    await new Promise((resolve) => {
      worker.once("message", resolve);
      worker.once("exit", resolve);
    });
    await new Promise((resolve) => setTimeout(resolve, number % 17));
  }
  if (sent) busy++;
  await worker.terminate();
}
