// Batches into a pyarrow Flight server, from JavaScript memory through the package, and from Python memory through
// pyarrow's own client: in turn, against the same server, each client a process of its own whose CPU time is counted
// without the server's. The Rust half alone (flight.rs) goes along, to tell the costs of its parts from those of
// Node; and for the latency of one small batch, tonic with the encoder of arrow-flight.
//
// Every value of every turn is kept; ratios are medians of the turns' ratios.
import { execFile, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { median } from "../data.mjs";
import { buildDriver } from "../driver.mjs";
import { asked, inTurn, TURNS } from "../turns.mjs";

// Rows of a batch, batches a turn, batches that take turns: more than fits into the caches, for large ones.
const THROUGHPUT = {
  "9.5 MB batches": { rows: 198_000, count: 330, ring: 8 },
  "1,000-row batches": { rows: 1_000, count: 30_000, ring: 64 },
  "10-row batches": { rows: 10, count: 100_000, ring: 64 },
};
const LATENCY = { rows: 100, count: 500, warmUp: 200, ring: 8 };
const MEMORY = { rows: 87_381, ring: 8, budgetMiB: 64, streamMiB: 640 };
const MEMORY_WAYS = {
  "the same eight batches": {},
  "new memory for each batch": { fresh: true },
  "new memory for each batch, and a turn of the event loop after it": { fresh: true, yields: true },
  "new memory for each batch; nothing sent, the newest kept that fit into the budget": {
    fresh: true,
    idle: true,
  },
};

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(here, "../..");
const python = path.join(root, ".tools/venv/bin/python");
const rust = buildDriver("flight");
const ours = [process.execPath, "--expose-gc", path.join(here, "flight_client.mjs")];

const children = [];
try {
  const loadBefore = os.loadavg()[0];
  const [quiet, answering, slow] = await Promise.all([serve(), serve("--answers"), serve("--pause", "20")]);
  const node = asked(ours, children);
  const pyarrow = asked([python, path.join(here, "flight_peer.py")], children);
  const results = {
    throughput: await throughput(quiet, node, pyarrow),
    latency: await latency(answering, node, pyarrow),
    memory: await memory({ "as fast as it can": quiet, "20 ms a part": slow }),
  };
  const load = [loadBefore, os.loadavg()[0]];
  console.log(JSON.stringify({ turns: TURNS, load, congestionControl: congestionControl(), ...results }));
} finally {
  for (const child of children) child.kill();
}

/** Ours is another on loopback where this one paces, and pyarrow's is not: a part of the ratios is that. */
function congestionControl() {
  const file = "/proc/sys/net/ipv4/tcp_congestion_control";
  return fs.existsSync(file) ? fs.readFileSync(file, "utf8").trim() : "unknown";
}

async function throughput(port, node, pyarrow) {
  const results = {};
  for (const [name, size] of Object.entries(THROUGHPUT)) {
    const job = { job: "throughput", port, ...size };
    const given = [`grpc://127.0.0.1:${port}/a/b`, String(size.rows), String(size.count), "{}"];
    const clients = {
      enqueue: () => node({ ...job, way: "enqueue" }),
      sendAll: () => node({ ...job, way: "sendAll" }),
      pyarrow: () => pyarrow(job),
      transmitter: () => run(rust, given),
      session: () => run(rust, [...given, "session"]),
    };
    const runs = await inTurn(name, clients, async (client) => {
      // Who is fast because rows are missing is not fast.
      const { rows } = await pyarrow({ job: "rows", port });
      if (rows !== size.rows * size.count) throw new Error(`${client}: ${rows} rows of ${name} arrived`);
    });
    const speed = (run) => run.bytes / run.seconds / 1e9;
    const cost = (run) => run.cpu / (run.bytes / 1e9);
    results[name] = Object.fromEntries(
      Object.entries(runs).map(([client, turns]) => [
        client,
        {
          throughputOverPyarrow: median(turns.map((turn, i) => speed(turn) / speed(runs.pyarrow[i]))),
          cpuOverPyarrow: median(turns.map((turn, i) => cost(turn) / cost(runs.pyarrow[i]))),
          gigabytesPerSecond: median(turns.map(speed)),
          cpuSecondsPerGigabyte: median(turns.map(cost)),
          batchesPerSecond: median(turns.map((turn) => turn.batches / turn.seconds)),
          turns,
        },
      ]),
    );
  }
  return results;
}

async function latency(port, node, pyarrow) {
  const { rows, count, warmUp, ring } = LATENCY;
  const job = { job: "latency", port, rows, ring, count: count + warmUp };
  const given = [`grpc://127.0.0.1:${port}/a/b`, String(rows), String(count + warmUp), "{}", "tonic"];
  const runs = await inTurn("latency", {
    send: () => node(job),
    tonic: () => run(rust, given),
    pyarrow: () => pyarrow(job),
  });
  const results = {};
  for (const [client, turns] of Object.entries(runs))
    results[client] = {
      turns: turns.map(({ us }) => {
        const sorted = us.slice(warmUp).sort((a, b) => a - b);
        return { p50Us: sorted[count / 2], p99Us: sorted[Math.floor(count * 0.99)], maxUs: sorted.at(-1) };
      }),
    };
  for (const mine of Object.values(results))
    for (const percentile of ["p50Us", "p99Us"]) {
      const over = (turn, i) => turn[percentile] / results.tonic.turns[i][percentile];
      mine[`${percentile.slice(0, 3)}OverTonic`] = median(mine.turns.map(over));
      mine[percentile] = median(mine.turns.map((turn) => turn[percentile]));
    }
  return results;
}

/** A process for each: what one has left in the heap would be the next one's start. */
async function memory(servers) {
  const results = {};
  for (const [name, port] of Object.entries(servers))
    for (const [what, way] of Object.entries(MEMORY_WAYS)) {
      const turns = [];
      // Slow servers need time and not turns.
      for (let turn = 0; turn < 3; turn++) {
        const once = asked(ours, children);
        turns.push(await once({ job: "memory", port, ...MEMORY, ...way }));
        once.end();
      }
      const above = median(turns.map((turn) => turn.aboveMiB));
      const key = `${name}, ${what}`;
      results[key] = { aboveMiB: above, budgetMiB: MEMORY.budgetMiB, streamedMiB: MEMORY.streamMiB, turns };
      console.error(`  ${key}: ${above.toFixed(0)} MiB above the start, budget ${MEMORY.budgetMiB} MiB`);
    }
  return results;
}

async function run(command, given) {
  const { stdout } = await promisify(execFile)(command, given, { maxBuffer: 2 ** 26 });
  return JSON.parse(stdout);
}

/** The server's port. */
async function serve(...given) {
  const script = path.join(here, "flight_server.py");
  const server = spawn(python, [script, ...given], { stdio: ["ignore", "pipe", "inherit"] });
  children.push(server);
  server.on("exit", (code, signal) => {
    if (!server.killed) console.error(`  the server ${given.join(" ")} ended: ${code ?? signal}`);
  });
  return (await createInterface({ input: server.stdout })[Symbol.asyncIterator]().next()).value;
}
