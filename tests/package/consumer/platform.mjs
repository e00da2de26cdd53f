// What a platform has to be able to do before its package counts: a table, a Flight server, the emulator, and a worker
// that ends with batches in flight. Its argument is the location of the Flight server. Prints one line of JSON.
import { Worker } from "node:worker_threads";
import { tableFromArrays } from "apache-arrow";
import { connect, startEmulator } from "arrow-ingest";

const rows = 100_000;
const table = tableFromArrays({
  id: Int32Array.from({ length: rows }, (_, i) => i),
  price: Float64Array.from({ length: rows }, (_, i) => i / 4),
  name: Array.from({ length: rows }, (_, i) => `row ${i}`),
});

const said = { native: undefined };
await usingClient("delta:./lake/platform", { delta: { compression: "zstd" } }, async (client) => {
  said.native = client.version().native.target;
  said.delta = told(await client.send(table));
});
await usingClient(`${process.argv[2]}/platform/rows`, {}, async (client) => {
  said.flight = told(await client.send(table));
});

const emulator = await startEmulator({ lake: "./lake/emulated", faults: ["close:after=2rows"] });
await usingClient(emulator.url("main.test.rows"), emulator.options, async (client) => {
  said.zerobus = told(await client.send(table));
});
said.emulated = await emulator.rows("main.test.rows");
await emulator.close();

const program = `
  const { parentPort, workerData } = require("node:worker_threads");
  const { tableFromArrays } = require("apache-arrow");
  const { connect } = require("arrow-ingest");
  (async () => {
    const client = await connect("delta:./lake/worker-" + workerData);
    for (let sent = 0; ; sent++) {
      const delivery = await client.enqueue(tableFromArrays({ n: new Float64Array(65_536) }));
      delivery.result.catch(() => {});
      if (sent === 4) parentPort.postMessage("in flight");
    }
  })();
`;
said.workers = 0;
for (let i = 0; i < 5; i++) {
  const worker = new Worker(program, { eval: true, workerData: i });
  await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
  await worker.terminate();
  said.workers++;
}
console.log(JSON.stringify(said));

async function usingClient(target, options, use) {
  const client = await connect(target, options);
  try {
    await use(client);
  } finally {
    await client.close();
  }
}

function told({ status, rows, error }) {
  return error ? `${status}: ${error.message}` : `${status} ${rows}`;
}
