// The client that soak.mjs runs: deliveries at a steady rate, one in ten by `send`; a line of samples now and then.
import * as fs from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { Data, Field, Float64, Int64, LargeUtf8, RecordBatch, Schema, Struct } from "apache-arrow";
import { connect } from "../dist/index.js";

const { url, options, seconds, rate, plant } = JSON.parse(process.argv[2]);
const ROWS = 100;
/** Enough of them for a trend, and none shorter than a commit or two takes. */
const period = Math.max(0.25, Math.min(5, seconds / 40));
const planted = [];

const client = await connect(url, options);
const delay = monitorEventLoopDelay({ resolution: 5 });
delay.enable();
const start = performance.now();
const elapsed = () => (performance.now() - start) / 1e3;
let deliveries = 0;
let settled = 0;
let failure;
let cpu = process.cpuUsage();
let counted = 0;
const sampler = setInterval(sample, period * 1e3);

// Ten turns a second, each with its share: a producer that comes back from time to time.
while (elapsed() < seconds && !failure) {
  const due = Math.ceil(elapsed() * rate);
  while (deliveries < due && !failure) {
    if (deliveries % 10 === 0) watch(client.send(batch(deliveries)));
    else watch((await client.enqueue(batch(deliveries))).result);
    deliveries++;
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
}
clearInterval(sampler);
await client.close();
if (failure) throw failure;
if (settled !== deliveries) throw new Error(`${settled} of ${deliveries} deliveries were settled`);

function watch(outcome) {
  outcome.then(
    (result) => {
      settled++;
      if (!result.success) failure ??= result.error ?? new Error(result.status);
    },
    (error) => {
      failure ??= error;
    },
  );
}

function sample() {
  const { user, system } = process.cpuUsage(cpu);
  cpu = process.cpuUsage();
  const [done, count] = [settled, settled - counted];
  counted = done;
  if (plant > 0) planted.push(Buffer.alloc(plant * period * 2 ** 20, 1));
  console.log(
    JSON.stringify({
      second: elapsed(),
      deliveries: done,
      rssMiB: process.memoryUsage.rss() / 2 ** 20,
      cpuUsPerDelivery: count > 0 ? (user + system) / count : null,
      descriptors: entries("/proc/self/fd"),
      threads: entries("/proc/self/task"),
      // The histogram counts its own sampling interval.
      delayP99Ms: delay.percentile(99) / 1e6,
    }),
  );
  delay.reset();
}

/** Where there is no such folder, there is nothing to sample. */
function entries(folder) {
  return fs.existsSync(folder) ? fs.readdirSync(folder).length : null;
}

function batch(number) {
  const names = new Uint8Array(ROWS * 8).fill(97 + (number % 26));
  const columns = [
    [
      "id",
      new Int64(),
      [undefined, BigInt64Array.from({ length: ROWS }, (_, row) => BigInt(number * ROWS + row))],
    ],
    ["value", new Float64(), [undefined, Float64Array.from({ length: ROWS }, (_, row) => row / 3)]],
    ["name", new LargeUtf8(), [BigInt64Array.from({ length: ROWS + 1 }, (_, row) => BigInt(row * 8)), names]],
  ];
  const schema = new Schema(columns.map(([name, type]) => new Field(name, type, true)));
  const children = columns.map(([, type, buffers]) => new Data(type, 0, ROWS, 0, buffers));
  return new RecordBatch(schema, new Data(new Struct(schema.fields), 0, ROWS, 0, [], children));
}
