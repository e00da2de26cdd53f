// NDJSON and CSV: our decoder in Rust against the readers of arrow-json and arrow-csv on the same file (files.rs), and
// the same file by `sendBytes` to `discard:`. Parquet to Delta: the command line against `write_deltalake` of what
// `pyarrow.parquet` reads, both from the start of their process to its end.
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { createRequire } from "node:module";
import * as os from "node:os";
import * as path from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { connect, t } from "../../dist/index.js";
import { median } from "../data.mjs";
import { buildDriver } from "../driver.mjs";

/** `BENCH_SCALE=0.1` is for trying out. */
const SCALE = Number(process.env.BENCH_SCALE ?? 1);
const TURNS = Number(process.env.BENCH_TURNS ?? 5);
const ROWS = Math.round(9_000_000 * SCALE);
const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(here, "../..");
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "bench-files-"));
const schema = t.schema({
  id: t.int64().nullable(),
  x: t.float64().nullable(),
  name: t.utf8().nullable(),
  ok: t.bool().nullable(),
  at: t.timestamp("us", "UTC").nullable(),
});
const time = (row) => new Date(1.7e12 + row * 1_000).toISOString();
const FORMATS = {
  json: (row) =>
    `{"id":${row},"x":${row * 1.5},"name":"name-${row % 1000}","ok":${row % 3 === 0},"at":"${time(row)}"}\n`,
  csv: (row) => `${row},${row * 1.5},name-${row % 1000},${row % 3 === 0},${time(row)}\n`,
};

const results = { turns: TURNS };
try {
  const driver = buildDriver("files");
  for (const format of Object.keys(FORMATS)) results[format] = text(await written(format), format, driver);
  for (const format of Object.keys(FORMATS)) Object.assign(results[format], await client(format));
  results.parquet = parquet();
} finally {
  fs.rmSync(folder, { recursive: true });
}
results.load = os.loadavg()[0];
console.log(JSON.stringify(results));

async function written(format) {
  const file = path.join(folder, `rows.${format}`);
  const handle = await fs.promises.open(file, "w");
  if (format === "csv") await handle.write("id,x,name,ok,at\n");
  for (let row = 0; row < ROWS; ) {
    let chunk = "";
    for (const end = Math.min(ROWS, row + 20_000); row < end; row++) chunk += FORMATS[format](row);
    await handle.write(chunk);
  }
  await handle.close();
  return file;
}

function text(file, format, driver) {
  const { ours, plain, checked } = JSON.parse(
    execFileSync(driver, [format, file, String(TURNS)], { encoding: "utf8" }),
  );
  const over = (others) => median(others.map((seconds, turn) => seconds / ours[turn]));
  return {
    checkedSeconds: median(checked),
    oursOverPlain: over(plain),
    oursOverChecked: over(checked),
  };
}

async function client(format) {
  const file = path.join(folder, `rows.${format}`);
  const megabytes = fs.statSync(file).size / 1e6;
  await using connection = await connect("discard:", { schema });
  const seconds = [];
  const delay = monitorEventLoopDelay({ resolution: 1 });
  const before = process.memoryUsage.rss();
  let most = before;
  for (let turn = 0; turn < TURNS + 1; turn++) {
    if (turn === 1) delay.enable();
    const start = performance.now();
    for await (const { result, rejections } of connection.sendBytes(file)) {
      result.orThrow();
      if (rejections.length > 0) throw new Error(rejections[0].message);
      most = Math.max(most, process.memoryUsage.rss());
    }
    if (turn > 0) seconds.push((performance.now() - start) / 1e3);
  }
  delay.disable();
  return {
    megabytesPerSecond: megabytes / median(seconds),
    clientOverChecked: results[format].checkedSeconds / median(seconds),
    // The histogram counts its own period of a millisecond.
    p99Ms: Math.max(0, delay.percentile(99) / 1e6 - 1),
    aboveMiB: (most - before) / 2 ** 20,
  };
}

function parquet() {
  const source = path.join(
    path.dirname(createRequire(import.meta.url).resolve("vega-datasets")),
    "../data/flights-3m.parquet",
  );
  const python = path.join(root, ".tools/venv/bin/python");
  const program =
    "import sys; import pyarrow.parquet as pq; from deltalake import write_deltalake; " +
    "write_deltalake(sys.argv[2], pq.read_table(sys.argv[1]))";
  const ours = [];
  const theirs = [];
  for (let turn = 0; turn < TURNS + 1; turn++) {
    const lake = path.join(folder, `ours-${turn}`);
    const other = path.join(folder, `theirs-${turn}`);
    const mine = timed(process.execPath, [
      path.join(root, "dist/cli.js"),
      "send",
      `delta:${lake}`,
      source,
      "-q",
    ]);
    const peer = timed(python, ["-c", program, source, other]);
    fs.rmSync(lake, { recursive: true });
    fs.rmSync(other, { recursive: true });
    if (turn === 0) continue;
    ours.push(mine);
    theirs.push(peer);
  }
  return {
    oursSeconds: median(ours),
    peerSeconds: median(theirs),
    oursOverPeer: median(ours.map((seconds, turn) => theirs[turn] / seconds)),
  };
}

function timed(command, args) {
  const start = performance.now();
  execFileSync(command, args, { stdio: "inherit" });
  return (performance.now() - start) / 1e3;
}
