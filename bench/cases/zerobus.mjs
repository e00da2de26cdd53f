// Batches onto streams of one and the same emulator, from JavaScript memory through the package, and from Rust memory
// through the official client (zerobus.rs): in turn, each client a process of its own whose CPU time is counted
// without the emulator's. And from JavaScript memory by way of IPC bytes, as clients do that serialise; and through the
// official TypeScript SDK (zerobus_sdk_client.mjs), which is such a client.
//
// Every value of every turn is kept; ratios are medians of the turns' ratios.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { median } from "../data.mjs";
import { buildDriver } from "../driver.mjs";
import { officialSdk } from "../official_sdk.mjs";
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
/** Against the TypeScript SDK, which has no timestamps without a zone. */
const SDK = {
  "9.5 MB batches": { ...LARGE, count: 160, compression: "none", utc: true },
  "1,000-row batches": { ...SMALL, count: 16_000, compression: "none", utc: true },
};
const LATENCY = { rows: 100, ring: 8, count: 700, compression: "none" };
/** Against the official Rust client, and against the TypeScript SDK. */
const parts = process.env.BENCH_PARTS?.split(",") ?? ["rust", "sdk"];
/** The first batches of a stream, which no percentile counts. */
const WARM_UP = 200;

const TABLE = "bench.default.flights";
const UTC_TABLE = "bench.default.flights_utc";
const columns = [
  { name: "id", type: "BIGINT", nullable: false },
  { name: "value", type: "DOUBLE", nullable: false },
  { name: "code", type: "INT", nullable: false },
  { name: "name", type: "STRING", nullable: false },
  { name: "at", type: "TIMESTAMP_NTZ", nullable: false },
];
const utcColumns = columns.map((column) =>
  column.name === "at" ? { ...column, type: "TIMESTAMP" } : column,
);
let tables = 0;
/** Each commit of a table with a history costs more than the one before, and whoever came later would pay for it. */
const freshTable = () => `bench.default.flights_${++tables}`;

const here = path.dirname(fileURLToPath(import.meta.url));

const children = [];
const lake = fs.mkdtempSync(path.join(os.tmpdir(), "bench-zerobus-"));
try {
  const loadBefore = os.loadavg()[0];
  // A commit without a disk costs nothing, and how long the last one waits is not what is measured.
  const counting = await serve({ commitInterval: "5ms" });
  const prompt = await serve({ commitInterval: 0, commitBytes: 1 });
  const keeping = await serve({ lake });
  const node = asked([process.execPath, "--expose-gc", path.join(here, "zerobus_client.mjs")], children);
  const results = {};
  if (parts.includes("rust")) {
    const official = asked([buildDriver("zerobus")], children);
    results.throughput = await throughput({ counting, keeping }, node, official);
    results.latency = await latency(prompt, node, { official });
  }
  const addon = parts.includes("sdk") && officialSdk();
  if (addon) {
    const client = path.join(here, "zerobus_sdk_client.mjs");
    const sdk = asked([process.execPath, "--expose-gc", client, addon], children);
    results.sdk = {
      throughput: await throughputOverSdk(counting, node, sdk),
      latency: await latency(prompt, node, { sdk }, { utc: true, table: UTC_TABLE }),
    };
  }
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
    const runs = await turnsOf(name, size, server, clients);
    results[name] = compare(runs, size, "official");
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

async function throughputOverSdk(server, node, sdk) {
  const results = {};
  for (const [name, size] of Object.entries(SDK)) {
    const job = { job: "throughput", ...server.target, ...size, table: UTC_TABLE };
    const clients = { enqueue: () => node(job), sdk: () => sdk(job) };
    results[name] = compare(await turnsOf(name, size, server, clients), size, "sdk");
    const { enqueue } = results[name];
    console.error(
      `  ${name}: ${enqueue.throughputOverSdk.toFixed(2)} of the TypeScript SDK's throughput, CPU ` +
        `${enqueue.cpuOverSdk.toFixed(2)} of its; event loop busy for ${percent(enqueue.loopUtilization)} and ` +
        `${percent(results[name].sdk.loopUtilization)}; load ${os.loadavg()[0].toFixed(1)}`,
    );
  }
  return results;
}

/** Turns of the clients, of which no row may be missing. */
async function turnsOf(name, size, server, clients) {
  let before = await server.rows();
  return inTurn(name, clients, async (client) => {
    // Who is fast because rows are missing is not fast. One batch more opened the stream.
    const now = await server.rows();
    const rows = now - before;
    before = now;
    if (rows !== size.rows * (size.count + 1))
      throw new Error(`${client}: ${rows} rows of ${name} are durable`);
  });
}

/** Medians of each client's turns, and of their ratios to the same turn of `peer`. */
function compare(runs, size, peer) {
  // As they are given, and so the same for all.
  const gigabytes = (size.count * size.rows * (size.cast ? 48 : 52)) / 1e9;
  const speed = (run) => gigabytes / run.seconds;
  const cost = (run) => run.cpu / gigabytes;
  const over = (turns, one) => median(turns.map((turn, i) => one(turn) / one(runs[peer][i])));
  return Object.fromEntries(
    Object.entries(runs).map(([client, turns]) => [
      client,
      {
        [overPeer("throughput", peer)]: over(turns, speed),
        [overPeer("cpu", peer)]: over(turns, cost),
        gigabytesPerSecond: median(turns.map(speed)),
        cpuSecondsPerGigabyte: median(turns.map(cost)),
        batchesPerSecond: median(turns.map((turn) => size.count / turn.seconds)),
        ...(turns[0].threadUs !== undefined && {
          handoffs: [...new Set(turns.map((turn) => turn.handoff))].join(", "),
          handoffUs: median(turns.map((turn) => turn.handoffUs)),
          threadUs: median(turns.map((turn) => turn.threadUs)),
          loopUtilization: median(turns.map((turn) => turn.loopUtilization)),
        }),
        turns,
      },
    ]),
  );
}

/** `theirs` is one client: the peer. */
async function latency(server, node, theirs, more = {}) {
  const [[peer, client]] = Object.entries(theirs);
  const job = { job: "latency", ...server.target, ...LATENCY, table: TABLE, ...more };
  const runs = await inTurn("latency", { send: () => node(job), [peer]: () => client(job) });
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
      const over = (turn, i) => turn[percentile] / results[peer].turns[i][percentile];
      mine[overPeer(percentile.slice(0, 3), peer)] = median(mine.turns.map(over));
      mine[percentile] = median(mine.turns.map((turn) => turn[percentile]));
    }
  const of = (percentile) => results.send[overPeer(percentile, peer)].toFixed(2);
  console.error(`  latency: p50 ${of("p50")}, p99 ${of("p99")} of the ${peer} client's`);
  return results;
}

/** `throughputOverOfficial`, as results have called it since there are any. */
function overPeer(what, peer) {
  return `${what}Over${peer[0].toUpperCase()}${peer.slice(1)}`;
}

function percent(part) {
  return `${Math.round(part * 100)} %`;
}

/** An emulator: what clients need to reach it, and how many rows it has made durable. */
async function serve(options) {
  const given = JSON.stringify({ ...options, tables: { [TABLE]: columns, [UTC_TABLE]: utcColumns } });
  const ask = asked([process.execPath, path.join(here, "zerobus_server.mjs"), given], children);
  const told = await ask.greeting();
  const target = { ...told, endpoint: told.options.zerobus.unityCatalogUrl };
  const counts = async () => Object.values(await ask({}));
  return { target, rows: async () => (await counts()).reduce((sum, table) => sum + table.rowsDurable, 0) };
}
