// Runs a client for as long as it is told, samples what it takes, and fails if anything of it grows.
//
//   npm run soak -- --minutes 10 [--target delta|flight|zerobus|discard] [--rate 200]
//
// Without --target all four run, one after the other. The client is a process of its own, so are the servers: what is
// sampled is the client's. Results are `results/<date>-soak.json` and `.md`.

import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { FEWEST, trend } from "./trend.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(here, "..");

/** What is sampled, and how much more of it at the end is no trend: absolute, and as a share of the median. */
export const METERS = {
  rssMiB: { title: "memory", unit: "MiB", more: 24, share: 0.1 },
  cpuUsPerDelivery: { title: "CPU for a delivery", unit: "µs", more: 20, share: 0.25 },
  descriptors: { title: "descriptors", unit: "", more: 8, share: 0.1 },
  threads: { title: "threads", unit: "", more: 4, share: 0.1 },
  delayP99Ms: { title: "event-loop delay, p99", unit: "ms", more: 5, share: 0.5 },
};

const servers = { delta, flight, zerobus, discard };

async function main() {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string", default: "10" },
      target: { type: "string" },
      rate: { type: "string", default: "200" },
      results: { type: "string", default: path.join(here, "results") },
      // For the test of this file: so many MiB kept for ever, in each second.
      plant: { type: "string", default: "0" },
    },
  });
  const numbers = [values.minutes, values.rate].map(Number);
  if (numbers.some((number) => !(number > 0)) || (values.target && !servers[values.target])) {
    console.error(
      "soak: --minutes and --rate are positive numbers, --target is delta, flight, zerobus or discard",
    );
    process.exit(2);
  }
  const [minutes, rate] = numbers;
  const soaked = {};
  for (const name of values.target ? [values.target] : Object.keys(servers)) {
    console.error(`› ${name}, ${minutes} min`);
    soaked[name] = await soak(name, { minutes, rate, plant: Number(values.plant) });
    for (const [meter, row] of Object.entries(soaked[name].meters))
      console.error(`  ${meter}: ${shown(row.first)} → ${shown(row.last)}${row.grows ? "  ✗ grows" : ""}`);
  }
  const date = new Date().toISOString().slice(0, 10);
  const results = {
    date,
    machine: { cpu: os.cpus()[0]?.model ?? "unknown", cores: os.cpus().length, node: process.version },
    minutes,
    rate,
    targets: soaked,
  };
  fs.mkdirSync(values.results, { recursive: true });
  const stem = path.join(values.results, `${date}-soak${values.target ? `-${values.target}` : ""}`);
  fs.writeFileSync(`${stem}.json`, `${JSON.stringify(results, null, 2)}\n`);
  fs.writeFileSync(`${stem}.md`, table(results));
  console.log(table(results));
  const grows = Object.entries(soaked).filter(([, { meters }]) =>
    Object.values(meters).some((row) => row.grows),
  );
  process.exit(grows.length > 0 ? 1 : 0);
}

async function soak(name, { minutes, rate, plant }) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), `soak-${name}-`));
  const server = await servers[name](folder);
  try {
    const given = JSON.stringify({
      url: server.url,
      options: server.options,
      seconds: minutes * 60,
      rate,
      plant,
    });
    const child = spawn(process.execPath, [path.join(here, "soak_client.mjs"), given], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const samples = [];
    const ended = new Promise((resolve) => child.on("close", resolve));
    for await (const line of createInterface({ input: child.stdout })) samples.push(JSON.parse(line));
    const code = await ended;
    if (code !== 0) throw new Error(`the client to ${name} ended with ${code}`);
    return { deliveries: samples.at(-1)?.deliveries ?? 0, meters: judged(samples), samples };
  } finally {
    server.end?.();
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** The first third is not judged: caches fill, pools grow to their size, code is compiled. Neither is what was sampled
 * too seldom to be, as what there was no delivery or no folder for; then the ends of its line are null. */
export function judged(samples) {
  const late = samples.slice(Math.floor(samples.length / 3));
  return Object.fromEntries(
    Object.entries(METERS).map(([meter, { more, share }]) => {
      const points = late
        .filter((sample) => Number.isFinite(sample[meter]))
        .map((sample) => [sample.second, sample[meter]]);
      if (points.length < FEWEST) return [meter, { first: null, last: null, grows: false }];
      return [meter, trend(points, { more, share })];
    }),
  );
}

function table({ date, machine, minutes, rate, targets }) {
  const lines = [`# ${date}: soak`, ""];
  lines.push(
    `${machine.cpu}, ${machine.cores} cores, Node ${machine.node}. ${minutes} minutes each, ${rate} deliveries of 100 rows a second. From the first third's end to the end, as the line through the samples has it.`,
    "",
  );
  lines.push("| to | deliveries | what | from | to | grows |", "|---|---|---|---|---|---|");
  for (const [name, { deliveries, meters }] of Object.entries(targets))
    for (const [meter, row] of Object.entries(meters)) {
      const { title, unit } = METERS[meter];
      const value = (number) => `${shown(number)} ${unit}`.trim();
      lines.push(
        `| ${name} | ${deliveries.toLocaleString("en")} | ${title} | ${value(row.first)} | ${value(row.last)} | ${row.grows ? "**yes**" : "no"} |`,
      );
    }
  return `${lines.join("\n")}\n`;
}

const shown = (number) => number?.toFixed(1) ?? "too few samples";

function delta(folder) {
  return { url: `delta:${path.join(folder, "table")}` };
}

function discard() {
  return { url: "discard:" };
}

/** A pyarrow server that answers each part. */
async function flight() {
  const python = path.join(root, ".tools/venv/bin/python");
  const child = spawn(python, [path.join(here, "cases/flight_server.py"), "--answers"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const port = await firstLine(child);
  return {
    url: `grpc://127.0.0.1:${port}/soak`,
    options: { flight: { acknowledgement: "part" } },
    end: () => child.kill(),
  };
}

/** The emulator, which counts rows and keeps none. */
async function zerobus() {
  const table = "bench.default.soak";
  const given = JSON.stringify({ tables: { [table]: COLUMNS } });
  const child = spawn(process.execPath, [path.join(here, "cases/zerobus_server.mjs"), given], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const { url, options } = JSON.parse(await firstLine(child));
  return { url: url + table, options, end: () => child.kill() };
}

const COLUMNS = [
  { name: "id", type: "BIGINT", nullable: true },
  { name: "value", type: "DOUBLE", nullable: true },
  { name: "name", type: "STRING", nullable: true },
];

async function firstLine(child) {
  for await (const line of createInterface({ input: child.stdout })) return line;
  throw new Error(`${child.spawnfile} did not start`);
}

// Last: everything above is there by then.
if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await main();
