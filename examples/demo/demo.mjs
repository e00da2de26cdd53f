// Three million real flights, out of JavaScript memory into a Delta Lake table on this disk, and back again
// through a reader that has never heard of us.
//
//   npm run demo                         every run starts from an empty ./lake/flights
//   npm run demo -- --handoff copy       auto (default), pin, copy, ipc
//   npm run demo -- --batch-rows 1024    rows of a record batch
import * as fs from "node:fs";
import * as path from "node:path";
import { isDeepStrictEqual, parseArgs } from "node:util";
import { tableFromIPC } from "apache-arrow";
import { connect } from "arrow-ingest";
import { ParquetFile } from "parquet-wasm";
import { readBack, Sums } from "./readback.mjs";

const { values: options } = parseArgs({
  options: {
    handoff: { type: "string", default: "auto" },
    "batch-rows": { type: "string", default: "8192" },
  },
});
const source = path.resolve("node_modules/vega-datasets/data/flights-3m.parquet");
const table = path.resolve("lake/flights");
const live = process.stdout.isTTY;
const count = (number) => Math.round(number).toLocaleString("en-US");
const seconds = (since) => (performance.now() - since) / 1000;

// 1. The records, as apache-arrow record batches in JavaScript memory.
let start = performance.now();
const { batches, given } = await readFlights();
const rows = batches.reduce((sum, batch) => sum + batch.numRows, 0);
console.log(
  `read     ${count(rows)} rows in ${count(batches.length)} batches (${seconds(start).toFixed(1)} s)`,
);

// 2. Into the table.
fs.rmSync(table, { recursive: true, force: true });
const statuses = {};
const ways = {};
let settled = 0;
let bytes = 0;
let sent = 0;
let peak = 0;
let shown = 0;
start = performance.now();
{
  await using client = await connect(`delta:${path.relative(".", table)}`, {
    handoff: { mode: options.handoff },
  });
  const timer = setInterval(() => progress(client.stats()), 50);
  try {
    for await (const result of client.sendAll(countingWhatIsTaken(batches))) {
      result.orThrow();
      settled += result.rows;
      bytes += result.batchBytes;
      statuses[result.status] = (statuses[result.status] ?? 0) + 1;
      ways[result.handoff] = (ways[result.handoff] ?? 0) + 1;
    }
  } finally {
    clearInterval(timer);
    progress(client.stats(), true);
  }
}
const took = seconds(start);

// 3. What is in the table, says somebody else.
start = performance.now();
const found = new Sums();
const read = await readBack(table, (column, values) => found.add(column, values));
const same = read.rows === rows && isDeepStrictEqual(found, given);

const list = (counts) => Object.entries(counts).map(([name, n]) => `${count(n)} ${name}`);
console.log(`
table       ${path.relative(".", table)}
rows        ${count(settled)} in ${count(read.commits)} commits and ${count(read.files)} files
throughput  ${count(settled / took)} rows/s, ${count(bytes / 1e6 / took)} MB/s (${took.toFixed(2)} s)
in flight   ${count(peak / 1e6)} MB at most
handoff     ${list(ways).join(", ")}
results     ${list(statuses).join(", ")}
read back   ${count(read.rows)} rows by hyparquet in ${seconds(start).toFixed(1)} s: ${same ? "every count and sum agrees" : "IT DIFFERS"}`);
if (!same) {
  console.error("given:", given, "\nfound:", found);
  process.exitCode = 1;
}

async function readFlights() {
  const file = await ParquetFile.fromFile(new Blob([fs.readFileSync(source)]));
  const batches = [];
  const given = new Sums();
  // Group by group: the whole file at once would need its size in WebAssembly memory twice over.
  for (let group = 0; group < file.metadata().numRowGroups(); group++) {
    const part = await file.read({ rowGroups: [group], batchSize: Number(options["batch-rows"]) });
    for (const batch of tableFromIPC(part.intoIPCStream()).batches) {
      for (const field of batch.schema.fields) given.add(field.name, batch.getChild(field.name));
      batches.push(batch);
    }
  }
  return { batches, given };
}

/** Back-pressure is seen here: a batch is taken only when there is room for it. */
function* countingWhatIsTaken(batches) {
  for (const batch of batches) {
    sent += batch.numRows;
    yield batch;
  }
}

function progress(stats, last = false) {
  const inFlight = stats.bytes.inFlight;
  peak = Math.max(peak, inFlight);
  // A file or a CI log wants a line now and then; a person wants to see it move.
  if (!last && performance.now() - shown < (live ? 50 : 1000)) return;
  shown = performance.now();
  const [full, half] = [settled, sent].map((n) => Math.round((30 * n) / rows));
  const bar = "\u2588".repeat(full).padEnd(half, "\u2592").padEnd(30, "\u2591");
  const line =
    `${live ? bar : "sending "} ${count(sent)} rows sent, ${count(settled)} in the table, ` +
    `${count(bytes / 1e6 / seconds(start))} MB/s, ${count(inFlight / 1e6)} MB in flight`;
  if (live) process.stdout.write(`\r${line}\x1b[K${last ? "\n" : ""}`);
  else console.log(line);
}
