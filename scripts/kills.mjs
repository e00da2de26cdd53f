// Producers with a spool, killed at random moments and started again, and a checker that reads the destination.
//
// Invariants:
// - What counts as promised is what a producer wrote down after `enqueue` had settled, before it was killed.
// - The checker (tests/faults/spool_checker.py) knows nothing of this project's code.
// - The same seed gives the same delays; what a kill meets is up to the machine.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { root } from "./ensure.mjs";

const at = (...parts) => path.join(root, ...parts);
const PYTHON = at(".tools/venv/bin/python");
const PRODUCER = at("tests/faults/children/spooled-producer.mjs");
const CHECKER = at("tests/faults/spool_checker.py");
/** Ids of a run begin so far above those of the run before. */
const RUN_IDS = 1n << 32n;
/** A destination that is there is asked often, or few kills would meet a delivery. */
const COMMIT_INTERVAL_MS = 40;
/**
 * What specs/delivery.md states for the emulator: what was not acknowledged, and what was within a second before. The
 * second begins when the acknowledgement has arrived, and ends with a sync.
 */
const WINDOW_MS = 2_500;
/** What is on its way to the emulator at a kill is committed so much later at most. */
const GRACE_MS = 1_000;

/** Of a start, however much is left: only what hangs takes so long. */
const READY_MS = 120_000;

/** The destinations, each with what a run of it may hold twice. */
export const DESTINATIONS = { delta, flight, zerobus };

/**
 * Kills so many producers, drains the spool, and has the destination checked.
 *
 * @param {{ into: string, kills: number, seed: number, folder: string, spool?: object | null, windowMs?: number,
 *   refusals?: boolean, say?: (text: string) => void }} given `folder` is empty. `spool`: options beside the
 *   directory; null switches it off, which must lose rows. `refusals`: the table refuses some rows (`delta` alone).
 * @returns What the checker says, and `faults`: in words, what must not be.
 */
export async function torture({
  into,
  kills,
  seed,
  folder,
  spool = {},
  windowMs = WINDOW_MS,
  refusals = false,
  say = () => {},
}) {
  await using destination = await DESTINATIONS[into](folder);
  const acknowledged = path.join(folder, "acknowledged");
  const killed = path.join(folder, "kills");
  fs.writeFileSync(acknowledged, "");
  fs.writeFileSync(killed, "");
  const directory = path.join(folder, "spool");
  const options = { ...destination.options, ...(spool === null ? {} : { spool: { directory, ...spool } }) };
  const random = randomFrom(seed);
  const began = performance.now();
  // How long a start takes here, as it was last seen.
  let startMs = 0;
  let met = 0;
  for (let run = 0; run < kills; run++) {
    const facts = {
      url: destination.url,
      options,
      acknowledged,
      refusals,
      seed: seed + run,
      first: String(BigInt(run) * RUN_IDS),
    };
    const producer = new Producer(facts);
    // Some before they are ready, when what was left is looked through; most soon after, some late.
    const [kind, share] = [random(), random()];
    if (run > 0 && kind < 0.25) await producer.kill(startMs * share);
    else {
      await producer.isReady();
      await producer.kill((kind < 0.95 ? 300 : 1_500) * share);
    }
    fs.appendFileSync(killed, `${Date.now()}\n`);
    startMs = producer.readyMs ?? startMs;
    met += producer.readyMs === undefined ? 0 : 1;
    if ((run + 1) % 100 === 0) say(`${run + 1} kills`);
  }
  const drained = await drain({ url: destination.url, options, acknowledged, refusals });
  const args = [destination.kind, destination.where(), acknowledged];
  if (destination.window)
    args.push("--kills", killed, "--window-ms", String(windowMs), "--grace-ms", String(GRACE_MS));
  if (refusals) args.push("--aside", path.join(directory, "default"));
  const { stdout } = await promisify(execFile)(PYTHON, [CHECKER, ...args], { maxBuffer: 2 ** 26 });
  const found = JSON.parse(stdout);
  const left = spool === null ? null : await leftIn(directory);
  return {
    into,
    kills,
    killsAfterConnect: met,
    seconds: Math.round((performance.now() - began) / 1000),
    ...found,
    ...left,
    faults: faultsOf(found, left, drained, destination.window, refusals),
  };
}

function faultsOf(found, left, drained, window, refusals) {
  const faults = [];
  const must = (what, { count, first }) => {
    if (count > 0) faults.push(`${count} ${what}, such as ${first.join(", ")}`);
  };
  must("rows lost", found.lost);
  must("rows changed", found.changed);
  if (window) must("rows twice outside of the window", found.outside);
  else must("rows twice", found.twice);
  if (found.acknowledged === 0) faults.push("no row was promised: this run proves nothing");
  if (!drained) faults.push("the spool could not be drained");
  if (left?.left > 0) faults.push(`${left.left} rows are still in the spool`);
  if (refusals && found.aside === 0) faults.push("no row was refused: this run proves nothing");
  if (left?.failed > 0 && !refusals) faults.push(`${left.failed} files of failed deliveries or refused rows`);
  return faults;
}

/** @returns Whether it ended well. */
async function drain(facts) {
  const producer = new Producer({ ...facts, seed: 1, first: "0", drain: true });
  const [code] = await producer.ended;
  if (code !== 0) console.error(producer.output);
  return code === 0;
}

async function leftIn(directory) {
  const { inspectSpool } = await import("../dist/index.js");
  const { left, failed, deadLetters } = await inspectSpool(directory);
  return { left: left.rows, failed: failed.length + deadLetters.length };
}

class Producer {
  /** From its start; undefined as long as it is not. */
  readyMs;
  output = "";
  #child;
  #ready;

  constructor(facts) {
    this.#child = spawn(process.execPath, [PRODUCER, JSON.stringify(facts)], {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const { stdout, stderr } = this.#child;
    const began = performance.now();
    this.ended = once(this.#child, "close");
    this.#ready = new Promise((resolve, reject) => {
      stdout.setEncoding("utf8").once("data", () => {
        this.readyMs = performance.now() - began;
        resolve();
      });
      this.ended.then(() => reject(new Error(`a producer ended by itself:\n${this.output}`)), reject);
    });
    this.#ready.catch(() => {});
    stderr.setEncoding("utf8").on("data", (text) => {
      this.output += text;
    });
  }

  /** @throws {Error} if it ends, or does not come so far. */
  async isReady() {
    const hung = sleep(READY_MS, undefined, { ref: false }).then(() => {
      throw new Error(`a producer is not ready after ${READY_MS} ms:\n${this.output}`);
    });
    await Promise.race([this.#ready, hung]);
  }

  /** @throws {Error} if it has ended by itself before. */
  async kill(delayMs) {
    await sleep(delayMs);
    this.#child.kill("SIGKILL");
    const [code, signal] = await this.ended;
    if (signal !== "SIGKILL") throw new Error(`a producer ended by itself with ${code}:\n${this.output}`);
  }
}

async function delta(folder) {
  const table = path.join(folder, "table");
  return {
    url: `delta:${table}`,
    options: { delta: { commitInterval: COMMIT_INTERVAL_MS } },
    kind: "delta",
    where: () => table,
    window: false,
    async [Symbol.asyncDispose]() {},
  };
}

async function flight() {
  const server = spawn(PYTHON, [at("examples/flight-servers/durable_put.py")], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [port] = await once(createInterface({ input: server.stdout }), "line");
  const location = `grpc://127.0.0.1:${port}`;
  return {
    url: `${location}/rows`,
    options: { flight: { acknowledgement: "cumulative" } },
    kind: "flight",
    where: () => `${location}/rows`,
    window: false,
    async [Symbol.asyncDispose]() {
      server.kill("SIGKILL");
      await once(server, "close");
    },
  };
}

async function zerobus(folder) {
  const { startEmulator } = await import("../dist/index.js");
  const lake = path.join(folder, "lake");
  const emulator = await startEmulator({ lake, commitInterval: COMMIT_INTERVAL_MS });
  return {
    url: emulator.url("main.default.rows"),
    options: emulator.options,
    kind: "delta",
    where: () => path.join(lake, "main/default/rows"),
    window: true,
    [Symbol.asyncDispose]: () => emulator.close(),
  };
}

/** Numbers from 0 to 1, the same for the same seed. */
function randomFrom(seed) {
  let state = BigInt(seed);
  return () => {
    state = BigInt.asUintN(64, state * 6_364_136_223_846_793_005n + 1_442_695_040_888_963_407n);
    return Number(state >> 40n) / 2 ** 24;
  };
}
