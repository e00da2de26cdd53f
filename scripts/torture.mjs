// The long forms of what proves that a spool loses nothing. What was run, and how it ended, goes to bench/results.
//
//   npm run torture [-- --sequences N --actions N]     the spool's log against its model, 10,000 of 64
//   npm run torture -- --kills N [--into delta|flight|zerobus] [--seed N]
//                                                      producers that are killed; into each in turn unless one is named
//
// A sequence that fails is kept in proptest-regressions/, shrunk, and every later run begins with it. What a run of
// kills has left on the disk stays where the last lines say, if something was wrong with it.
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { parseArgs } from "node:util";
import { root, run as runStep, say } from "./ensure.mjs";
import { DESTINATIONS, torture } from "./kills.mjs";

const { values } = parseArgs({
  options: {
    sequences: { type: "string", default: "10000" },
    actions: { type: "string", default: "64" },
    kills: { type: "string" },
    into: { type: "string" },
    seed: { type: "string", default: "1" },
  },
});
const date = new Date().toISOString().slice(0, 10);
const folder = path.join(root, "bench/results");
process.exit(values.kills === undefined ? await model() : await kills());

async function model() {
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
  write({ spool: { sequences: +values.sequences, actions: +values.actions, seconds, passed: code === 0 } });
  return code;
}

async function kills() {
  const count = Number(positive("kills"));
  const seed = Number(positive("seed"));
  const { into } = values;
  if (into !== undefined && !Object.hasOwn(DESTINATIONS, into)) {
    console.error(`✗ --into takes one of ${Object.keys(DESTINATIONS).join(", ")}`);
    return 2;
  }
  // An addon that is named is the one to try.
  if (process.env.ARROW_INGEST_ADDON === undefined)
    runStep("node", ["scripts/ensure.mjs", "addon", "dist", "python"]);
  let code = 0;
  for (const into of values.into === undefined ? Object.keys(DESTINATIONS) : [values.into]) {
    say(`${count} kills, into ${into}`);
    const scratch = fs.mkdtempSync(path.join(os.tmpdir(), `arrow-ingest-torture-${into}-`));
    const result = await torture({ into, kills: count, seed, folder: scratch, say });
    write({ kills: { [into]: { seed, ...result } } });
    console.log(JSON.stringify(result));
    if (result.faults.length === 0) fs.rmSync(scratch, { recursive: true, force: true });
    else {
      code = 1;
      console.error(
        `✗ ${into}: ${result.faults.join("; ")}\n  ${scratch} has the spool and what the checker read`,
      );
    }
  }
  return code;
}

/** Beside what was run on the same day. */
function write(what) {
  fs.mkdirSync(folder, { recursive: true });
  const file = path.join(folder, `${date}-torture.json`);
  const before = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, "utf8")) : {};
  const result = {
    date,
    machine: { cpu: os.cpus()[0]?.model ?? "unknown", cores: os.cpus().length, node: process.version },
    ...before,
    ...what,
    ...(what.kills || before.kills ? { kills: { ...before.kills, ...what.kills } } : {}),
  };
  fs.writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`);
  fs.writeFileSync(path.join(folder, `${date}-torture.md`), described(result));
}

function described({ spool, kills }) {
  const lines = [`# ${date}: torture`, ""];
  if (spool !== undefined)
    lines.push(
      "| what | sequences | actions of each | seconds | outcome |",
      "|---|---|---|---|---|",
      `| the spool's log against its model, on a disk that loses, fails and fills up | ${spool.sequences} | ${spool.actions} | ${spool.seconds} | ${spool.passed ? "nothing lost, nothing twice" : "FAILED"} |`,
      "",
    );
  if (kills !== undefined) {
    lines.push(
      "A producer with a spool, killed with SIGKILL at a random moment and started again, so many times; then one run delivers what is left, and a checker in Python compares ids and hashes. Rows: those that the producer was told to be durable.",
      "",
      "| into | kills | of these when connected | seconds | rows promised | rows there | lost | twice | twice outside of the window | outcome |",
      "|---|---|---|---|---|---|---|---|---|---|",
    );
    for (const [into, one] of Object.entries(kills))
      lines.push(
        `| ${into} | ${one.kills} | ${one.killsAfterConnect} | ${one.seconds} | ${one.acknowledged} | ${one.rows} | ${one.lost.count} | ${one.twice.count} | ${one.outside?.count ?? "–"} | ${one.faults.length === 0 ? "as promised" : `FAILED: ${one.faults.join("; ")}`} |`,
      );
    lines.push("");
  }
  return lines.join("\n");
}

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
