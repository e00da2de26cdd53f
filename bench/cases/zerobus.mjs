// Batches onto streams of one and the same emulator, from JavaScript memory through the package, and from Rust memory
// through the official client (zerobus.rs): in turn, each client a process of its own whose CPU time is counted
// without the emulator's. And from JavaScript memory by way of IPC bytes, as clients do that serialise.
//
// Every value of every turn is kept; ratios are medians of the turns' ratios.
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { median } from "../data.mjs";
import { asked, inTurn, TURNS } from "../turns.mjs";

// Rows of a batch, batches that take turns: more than fits into the caches, for large ones.
const LARGE = { rows: 183_000, ring: 8 };
const SMALL = { rows: 1_000, ring: 64 };
// Batches a turn, for a second or two: compressed ones take several times as long.
const THROUGHPUT = {
  "9.5 MB batches": { ...LARGE, count: 160, compression: "none" },
  "1,000-row batches": { ...SMALL, count: 16_000, compression: "none" },
  "9.5 MB batches, zstd": { ...LARGE, count: 32, compression: "zstd" },
  "1,000-row batches, zstd": { ...SMALL, count: 6_000, compression: "zstd" },
  "9.5 MB batches, text cast": { ...LARGE, count: 160, compression: "none", cast: true },
  "1,000-row batches, text cast": { ...SMALL, count: 16_000, compression: "none", cast: true },
  "9.5 MB batches, into a lake": { ...LARGE, count: 32, compression: "none", lake: true },
  "1,000-row batches, into a lake": { ...SMALL, count: 6_000, compression: "none", lake: true },
};
const LATENCY = { rows: 100, ring: 8, count: 700, compression: "none" };
/** The first batches of a stream, which no percentile counts. */
const WARM_UP = 200;

const TABLE = "bench.default.flights";
const columns = [
  { name: "id", type: "BIGINT", nullable: false },
  { name: "value", type: "DOUBLE", nullable: false },
  { name: "code", type: "INT", nullable: false },
  { name: "name", type: "STRING", nullable: false },
  { name: "at", type: "TIMESTAMP_NTZ", nullable: false },
];
let tables = 0;
/** Each commit of a table with a history costs more than the one before, and whoever came later would pay for it. */
const freshTable = () => `bench.default.flights_${++tables}`;

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(here, "../..");
// With the features of the addon, so that nothing is compiled twice.
const build = ["build", "--release", "--features", "bench", "--bin", "bench-zerobus"];
execFileSync("cargo", build, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });

const children = [];
const lake = fs.mkdtempSync(path.join(os.tmpdir(), "bench-zerobus-"));
try {
  const loadBefore = os.loadavg()[0];
  // A commit without a disk costs nothing, and how long the last one waits is not what is measured.
  const counting = await serve({ commitInterval: "5ms" });
  const prompt = await serve({ commitInterval: 0, commitBytes: 1 });
  const keeping = await serve({ lake });
  const node = asked([process.execPath, "--expose-gc", path.join(here, "zerobus_client.mjs")], children);
  const official = asked([path.join(root, "target/release/bench-zerobus")], children);
  const results = {
    throughput: await throughput({ counting, keeping }, node, official),
    latency: await latency(prompt, node, official),
  };
  console.log(JSON.stringify({ turns: TURNS, load: [loadBefore, os.loadavg()[0]], ...results }));
} finally {
  for (const child of children) child.kill();
  fs.rmSync(lake, { recursive: true, force: true });
}

async function throughput({ counting, keeping }, node, official) {
  const results = {};
  for (const [name, { lake, ...size }] of Object.entries(THROUGHPUT)) {
    const server = lake ? keeping : counting;
    const job = () => ({ job: "throughput", ...server.target, ...size, table: lake ? freshTable() : TABLE });
    const clients = {
      enqueue: () => node(job()),
      ipc: () => node({ ...job(), handoff: "ipc" }),
      official: () => official(job()),
    };
    let before = await server.rows();
    const runs = await inTurn(name, clients, async (client) => {
      // Who is fast because rows are missing is not fast. One batch more opened the stream.
      const now = await server.rows();
      const rows = now - before;
      before = now;
      if (rows !== size.rows * (size.count + 1))
        throw new Error(`${client}: ${rows} rows of ${name} are durable`);
    });
    // As they are given, and so the same for all.
    const gigabytes = (size.count * size.rows * (size.cast ? 48 : 52)) / 1e9;
    const speed = (run) => gigabytes / run.seconds;
    const cost = (run) => run.cpu / gigabytes;
    const over = (turns, one) => median(turns.map((turn, i) => one(turn) / one(runs.official[i])));
    results[name] = Object.fromEntries(
      Object.entries(runs).map(([client, turns]) => [
        client,
        {
          throughputOverOfficial: over(turns, speed),
          cpuOverOfficial: over(turns, cost),
          gigabytesPerSecond: median(turns.map(speed)),
          cpuSecondsPerGigabyte: median(turns.map(cost)),
          batchesPerSecond: median(turns.map((turn) => size.count / turn.seconds)),
          ...(client !== "official" && {
            handoffs: [...new Set(turns.map((turn) => turn.handoff))].join(", "),
            handoffUs: median(turns.map((turn) => turn.handoffUs)),
            threadUs: median(turns.map((turn) => turn.threadUs)),
            loopUtilization: median(turns.map((turn) => turn.loopUtilization)),
          }),
          turns,
        },
      ]),
    );
    const { enqueue, ipc } = results[name];
    enqueue.ipcThreadOverOurs = median(runs.ipc.map((turn, i) => turn.threadUs / runs.enqueue[i].threadUs));
    console.error(
      `  ${name}: ${enqueue.throughputOverOfficial.toFixed(2)} of the official client's throughput, by IPC ` +
        `${ipc.throughputOverOfficial.toFixed(2)}; CPU ${enqueue.cpuOverOfficial.toFixed(2)} and ` +
        `${ipc.cpuOverOfficial.toFixed(2)} of its; thread ${enqueue.threadUs.toFixed(0)} µs a batch (${enqueue.handoffs}) ` +
        `and ${ipc.threadUs.toFixed(0)} µs; load ${os.loadavg()[0].toFixed(1)}`,
    );
  }
  return results;
}

async function latency(server, node, official) {
  const job = { job: "latency", ...server.target, ...LATENCY, table: TABLE };
  const runs = await inTurn("latency", { send: () => node(job), official: () => official(job) });
  const results = {};
  for (const [client, turns] of Object.entries(runs))
    results[client] = {
      turns: turns.map(({ us }) => {
        const sorted = us.slice(WARM_UP).sort((a, b) => a - b);
        const at = (part) => sorted[Math.floor(sorted.length * part)];
        return { p50Us: at(0.5), p99Us: at(0.99), maxUs: sorted.at(-1) };
      }),
    };
  for (const mine of Object.values(results))
    for (const percentile of ["p50Us", "p99Us"]) {
      const over = (turn, i) => turn[percentile] / results.official.turns[i][percentile];
      mine[`${percentile.slice(0, 3)}OverOfficial`] = median(mine.turns.map(over));
      mine[percentile] = median(mine.turns.map((turn) => turn[percentile]));
    }
  const { send } = results;
  console.error(
    `  latency: p50 ${send.p50OverOfficial.toFixed(2)}, p99 ${send.p99OverOfficial.toFixed(2)} of the official client's`,
  );
  return results;
}

/** An emulator: what clients need to reach it, and how many rows it has made durable. */
async function serve(options) {
  const given = JSON.stringify({ ...options, tables: { [TABLE]: columns } });
  const ask = asked([process.execPath, path.join(here, "zerobus_server.mjs"), given], children);
  const told = await ask.greeting();
  const target = { ...told, endpoint: told.options.zerobus.unityCatalogUrl };
  const counts = async () => Object.values(await ask({}));
  return { target, rows: async () => (await counts()).reduce((sum, table) => sum + table.rowsDurable, 0) };
}
