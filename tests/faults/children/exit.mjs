// Ends the process, in the way named, with batches of several kinds in flight.
import { isMainThread, Worker } from "node:worker_threads";
import { batchOver, connect, scratch, words } from "./support.mjs";

const way = process.argv[2];
if (way === "worker-exit" && isMainThread) {
  const worker = new Worker(new URL(import.meta.url), { argv: [way] });
  await new Promise((resolve) => worker.on("exit", resolve));
} else {
  for (const target of ["discard:", `delta:${scratch()}/table`]) {
    const client = await connect(target);
    for (let turn = 0; turn < 5; turn++) {
      await client.enqueue(batchOver({ ints: new Int32Array(500_000), text: words(500_000) }));
    }
  }
  if (way === "throw") throw new Error("as planned");
  process.exit(0);
}
