// Terminates workers in which a function was asked for something and has not answered: headers, or another try.
import { Worker } from "node:worker_threads";
import { check, survived } from "./support.mjs";

const [, , url, which] = process.argv;
const script = new URL("./terminate-asked-worker.mjs", import.meta.url);
let asked = 0;
for (let turn = 0; turn < 20; turn++) await Promise.all([live(), live()]);
check(asked === 40, `only ${asked} workers were asked anything`);
survived();

async function live() {
  const worker = new Worker(script, { workerData: { url, which } });
  worker.on("error", (error) => {
    console.error(error);
    process.exitCode = 1;
  });
  await new Promise((resolve) => {
    worker.once("message", resolve);
    worker.once("exit", resolve);
    worker.once("message", () => asked++);
  });
  await worker.terminate();
}
