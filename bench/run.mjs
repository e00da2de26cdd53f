// Runs the cases, each in a process of its own: a heap or a just-in-time compiler that one case has warmed up
// would flatter the next. Writes what they print as JSON, and a table that a person can read.
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { picture } from "./picture.mjs";
import { table } from "./table.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const all = [
  "import",
  "handoff",
  "delta",
  "delta-scale",
  "loop",
  "memory",
  "growth",
  "rows",
  "service",
  "files",
  "flight",
  "zerobus",
  "spool",
  "spooling",
  "telemetry",
];
const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !all.includes(name));
if (unknown.length > 0) {
  console.error(`no such case: ${unknown.join(", ")}; there are ${all.join(", ")}`);
  process.exit(2);
}

const results = {
  date: new Date().toISOString().slice(0, 10),
  machine: {
    cpu: os.cpus()[0]?.model ?? "unknown",
    cores: os.cpus().length,
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    system: `${os.type()} ${os.release()}`,
    node: process.version,
  },
  cases: {},
};
for (const name of asked.length > 0 ? asked : all) {
  console.error(`› ${name}`);
  results.cases[name] = await runCase(name);
}

const folder = path.join(here, "results");
fs.mkdirSync(folder, { recursive: true });
const stem = path.join(folder, asked.length > 0 ? `${results.date}-${asked.join("-")}` : results.date);
fs.writeFileSync(`${stem}.json`, `${JSON.stringify(results, null, 2)}\n`);
if (results.cases.handoff) {
  const five = results.cases.handoff.rows.filter((row) => row.columns === 5);
  fs.writeFileSync(path.join(folder, "handoff.svg"), picture(five));
}
const text = table(results);
fs.writeFileSync(`${stem}.md`, text);
console.log(text);

/** The last line that a case prints is its result. */
function runCase(name) {
  const script = path.join(here, "cases", `${name}.mjs`);
  const child = spawn(process.execPath, ["--expose-gc", "--max-old-space-size=8192", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text) => {
    output += text;
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      if (code !== 0) reject(new Error(`case ${name} ended with ${code}`));
      else resolve(JSON.parse(output.trim().split("\n").at(-1)));
    });
  });
}
