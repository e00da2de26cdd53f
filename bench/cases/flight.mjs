// The same batches into the same pyarrow Flight server: ours against pyarrow's client, in turn, each run a
// process of its own so that CPU time is the client's. Ours is the Rust half alone (bench/cases/flight.rs), through
// the transmitter and, to tell their costs apart, through a session without it.
import { execFileSync, spawn } from "node:child_process";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { median } from "../data.mjs";

const TURNS = 7;
const CASES = { "9.5 MB batches": [198_000, 220], "1,000-row batches": [1_000, 10_000] };
const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(here, "../..");
const python = path.join(root, ".tools/venv/bin/python");
const ours = path.join(root, "target/release/bench-flight");
const build = ["build", "--release", "--no-default-features", "--features", "bench", "--bin", "bench-flight"];
execFileSync("cargo", build, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });

const server = spawn(python, [path.join(root, "tests/interop/flight_server.py"), "--discard"], {
  stdio: ["ignore", "pipe", "inherit"],
});
try {
  const port = (await createInterface({ input: server.stdout })[Symbol.asyncIterator]().next()).value;
  const target = `grpc://127.0.0.1:${port}/a/b`;
  const results = {};
  for (const [name, size] of Object.entries(CASES)) {
    const [rows, batches] = size.map(String);
    const clients = {
      transmitter: [ours, [target, rows, batches, "{}"]],
      session: [ours, [target, rows, batches, "{}", "session"]],
      pyarrow: [python, [path.join(here, "flight_peer.py"), port, rows, batches]],
    };
    const runs = { transmitter: [], session: [], pyarrow: [] };
    for (let turn = 0; turn < TURNS + 1; turn++) {
      for (const [client, [command, given]] of Object.entries(clients)) {
        const run = JSON.parse(execFileSync(command, given, { encoding: "utf8" }));
        // The first turn warms the server up.
        if (turn > 0) runs[client].push(run);
      }
    }
    results[name] = Object.fromEntries(Object.entries(runs).map(([client, all]) => [client, summary(all)]));
    for (const client of ["transmitter", "session"]) {
      const [mine, peer] = [results[name][client], results[name].pyarrow];
      mine.throughputOverPyarrow = mine.gigabytesPerSecond / peer.gigabytesPerSecond;
      mine.cpuOverPyarrow = mine.cpuSecondsPerGigabyte / peer.cpuSecondsPerGigabyte;
    }
  }
  console.log(JSON.stringify(results));
} finally {
  server.kill();
}

function summary(runs) {
  return {
    gigabytesPerSecond: median(runs.map((run) => run.bytes / run.seconds / 1e9)),
    cpuSecondsPerGigabyte: median(runs.map((run) => run.cpu / (run.bytes / 1e9))),
  };
}
