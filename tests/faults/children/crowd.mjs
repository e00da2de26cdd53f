import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { batchOver, check, connect, scratch, survived } from "./support.mjs";

const SENDERS = 300;
const EACH = 10;

if (isMainThread) {
  const lake = scratch();
  const target = `delta:${lake}/table`;
  // The table is there before the crowd is: creating it is not what this is about.
  await using first = await connect(target, { retry: { attempts: 20 } });
  await first.send(batchOver({ ints: new Int32Array(1) }));
  const workers = [0, 1, 2].map(
    (number) => new Worker(new URL(import.meta.url), { workerData: { target, number } }),
  );
  const totals = workers.map(
    (worker) =>
      new Promise((resolve, reject) => {
        worker.on("message", resolve);
        worker.on("error", reject);
      }),
  );
  const own = await crowd(first);
  const others = await Promise.all(totals);
  check(
    [own, ...others].every((rows) => rows === SENDERS * EACH * 7),
    `rows: ${own}, ${others}`,
  );
  survived();
} else {
  const client = await connect(workerData.target, {
    retry: { attempts: 20 },
    inflight: { maxBytes: "64KiB" },
  });
  const rows = await crowd(client);
  await client.close();
  parentPort.postMessage(rows);
}

async function crowd(client) {
  let rows = 0;
  await Promise.all(
    Array.from({ length: SENDERS }, async (_, sender) => {
      for (let turn = 0; turn < EACH; turn++) {
        const result = await client.send(batchOver({ ints: new Int32Array(7).fill(sender) }));
        rows += result.orThrow().acceptedRows;
      }
    }),
  );
  return rows;
}
