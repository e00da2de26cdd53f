// The long forms of what proves that a spool loses nothing. What was run, and how it ended, goes to bench/results.
//
//   npm run torture                                    both models: the log's, and that of delivering from it
//   npm run torture -- --model log [--sequences N --actions N]
//                                                      the spool's log against its model, 10,000 of 64
//   npm run torture -- --model delivery [--disks N --seed N]
//                                                      a client's lives on 10,000 disks, the first of this seed
//   npm run torture -- --kills N [--into delta|refusals|flight|zerobus] [--seed N]
//                                                      producers that are killed; into each in turn unless one is named;
//                                                      `refusals` is a Delta table that refuses some rows
//
// A sequence that fails is kept in proptest-regressions/, shrunk, and every later run begins with it. A disk that fails
// is named by its seed: `--disks 1 --seed N` tells its lives again, as near as clocks allow. What a run of kills has left on the disk stays where the last lines say, if something was wrong with it.
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
    disks: { type: "string", default: "10000" },
    model: { type: "string" },
    kills: { type: "string" },
    into: { type: "string" },
    seed: { type: "string", default: "1" },
  },
});
const date = new Date().toISOString().slice(0, 10);
const folder = path.join(root, "bench/results");
/** By the name that `--model` takes. */
const MODELS = { log, delivery };
/** A kind of `--into`. */
const REFUSALS = "refusals";
process.exit(values.kills === undefined ? await models() : await kills());

async function models() {
  const { model } = values;
  if (model !== undefined && !Object.hasOwn(MODELS, model)) {
    console.error(`✗ --model takes one of ${Object.keys(MODELS).join(", ")}`);
    return 2;
  }
  let code = 0;
  for (const one of model === undefined ? Object.keys(MODELS) : [model]) code ||= await MODELS[one]();
  return code;
}

async function log() {
  const [sequences, actions] = [positive("sequences"), positive("actions")];
  say(`${sequences} sequences of ${actions} actions`);
  const ended = await test("model", { SPOOL_SEQUENCES: sequences, SPOOL_ACTIONS: actions });
  write({ spool: { sequences: +sequences, actions: +actions, ...ended } });
  return ended.passed ? 0 : 1;
}

async function delivery() {
  const [disks, seed] = [positive("disks"), positive("seed")];
  say(`lives on ${disks} disks, from seed ${seed}`);
  const filter = "what_was_durable_is_delivered_or_put_aside";
  const ended = await test(filter, { SPOOL_LIVES: disks, SPOOL_SEED: seed });
  write({ delivery: { disks: +disks, seed: +seed, ...ended } });
  return ended.passed ? 0 : 1;
}

async function test(filter, env) {
  const began = performance.now();
  const code = await run(
    "cargo",
    ["test", "--no-default-features", "--features=emulator", "--test", "spool", filter],
    { ...process.env, ...env },
  );
  return { seconds: Math.round((performance.now() - began) / 1000), passed: code === 0 };
}

async function kills() {
  const count = Number(positive("kills"));
  const seed = Number(positive("seed"));
  const { into } = values;
  const kinds = ["delta", REFUSALS, ...Object.keys(DESTINATIONS).filter((name) => name !== "delta")];
  if (into !== undefined && !kinds.includes(into)) {
    console.error(`✗ --into takes one of ${kinds.join(", ")}`);
    return 2;
  }
  // An addon that is named is the one to try.
  if (process.env.ARROW_INGEST_ADDON === undefined)
    runStep("node", ["scripts/ensure.mjs", "addon", "dist", "python"]);
  let code = 0;
  for (const into of values.into === undefined ? kinds : [values.into]) {
    say(`${count} kills, into ${into}`);
    const scratch = fs.mkdtempSync(path.join(os.tmpdir(), `arrow-ingest-torture-${into}-`));
    const refusals = into === REFUSALS;
    const result = await torture({
      into: refusals ? "delta" : into,
      kills: count,
      seed,
      folder: scratch,
      refusals,
      say,
    });
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

function described({ spool, delivery, kills }) {
  const lines = [`# ${date}: torture`, ""];
  const outcome = ({ passed }, told) => (passed ? told : "FAILED");
  if (spool !== undefined)
    lines.push(
      "| what | sequences | actions of each | seconds | outcome |",
      "|---|---|---|---|---|",
      `| the spool's log against its model, on a disk that loses, fails and fills up | ${spool.sequences} | ${spool.actions} | ${spool.seconds} | ${outcome(spool, "nothing lost, nothing twice")} |`,
      "",
    );
  if (delivery !== undefined)
    lines.push(
      "| what | disks | lives on each | actions of each life | first seed | seconds | outcome |",
      "|---|---|---|---|---|---|---|",
      `| delivering from the spool: refusals, rotations, outages, lost answers and aborts, a disk that fails and is full, and lives that end by close, a kill or a power cut | ${delivery.disks} | 2 to 6 | up to 15 | ${delivery.seed} | ${delivery.seconds} | ${outcome(delivery, "nothing lost; nothing twice where the destination keeps positions")} |`,
      "",
    );
  if (kills !== undefined) {
    lines.push(
      "A producer with a spool, killed with SIGKILL at a random moment and started again, so many times; then one run delivers what is left, and a checker in Python compares ids and hashes. Rows: those that the producer was told to be durable.",
      "",
      "| into | kills | of these when connected | seconds | rows promised | rows there | rows put aside | lost | twice | twice outside of the window | outcome |",
      "|---|---|---|---|---|---|---|---|---|---|---|",
    );
    for (const [into, one] of Object.entries(kills))
      lines.push(
        `| ${into} | ${one.kills} | ${one.killsAfterConnect} | ${one.seconds} | ${one.acknowledged} | ${one.rows} | ${one.aside ?? "–"} | ${one.lost.count} | ${one.twice.count} | ${one.outside?.count ?? "–"} | ${one.faults.length === 0 ? "as promised" : `FAILED: ${one.faults.join("; ")}`} |`,
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
