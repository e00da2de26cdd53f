// The long form of the spool's model test: `npm run torture [-- --sequences N --actions N]`, 10,000 of 64 unless asked
// otherwise. What was run, and how it ended, goes to bench/results. A sequence that fails is kept in
// proptest-regressions/, shrunk, and every later run begins with it.
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { parseArgs } from "node:util";
import { root, say } from "./ensure.mjs";

const { values } = parseArgs({
  options: {
    sequences: { type: "string", default: "10000" },
    actions: { type: "string", default: "64" },
  },
});
const env = {
  ...process.env,
  SPOOL_SEQUENCES: positive("sequences"),
  SPOOL_ACTIONS: positive("actions"),
};
say(`${values.sequences} sequences of ${values.actions} actions`);
const began = performance.now();
const code = await run(
  "cargo",
  ["test", "--no-default-features", "--features=emulator", "--test", "spool", "model"],
  env,
);
const seconds = Math.round((performance.now() - began) / 1000);
const date = new Date().toISOString().slice(0, 10);
const result = {
  date,
  machine: { cpu: os.cpus()[0]?.model ?? "unknown", cores: os.cpus().length, node: process.version },
  spool: { sequences: +values.sequences, actions: +values.actions, seconds, passed: code === 0 },
};
const folder = path.join(root, "bench/results");
fs.mkdirSync(folder, { recursive: true });
fs.writeFileSync(path.join(folder, `${date}-torture.json`), `${JSON.stringify(result, null, 2)}\n`);
const outcome = code === 0 ? "nothing lost, nothing twice" : "FAILED";
fs.writeFileSync(
  path.join(folder, `${date}-torture.md`),
  [
    `# ${date}: torture`,
    "",
    "| what | sequences | actions of each | seconds | outcome |",
    "|---|---|---|---|---|",
    `| the spool's log against its model, on a disk that loses, fails and fills up | ${values.sequences} | ${values.actions} | ${seconds} | ${outcome} |`,
    "",
  ].join("\n"),
);
process.exit(code);

function positive(name) {
  if (/^[1-9]\d{0,8}$/.test(values[name])) return values[name];
  console.error(`✗ --${name} takes a whole number above zero`);
  process.exit(2);
}

/** @returns The exit code; 1 if it was ended by a signal, or ran no test. */
function run(command, args, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, env, stdio: ["ignore", "pipe", "inherit"] });
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text) => {
      output += text;
      process.stdout.write(text);
    });
    child.on("error", reject);
    // A filter that fits no test ends well, and proves nothing.
    child.on("close", (code) => resolve(/ [1-9]\d* passed/.test(output) ? (code ?? 1) : code || 1));
  });
}
