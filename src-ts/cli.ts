#!/usr/bin/env node
// The program `arrow-ingest`: the process's own streams and signals, handed to cli/main.ts.
//
// Invariants:
// - Whoever reads standard output may stop, as `head` does. The command goes on to its end, as rows may be under
//   way, and its exit code says what became of them.
// - Standard output that cannot be written for another reason is an error: what was asked for is not there.

const complain = (text: string): void => void process.stderr.write(`arrow-ingest: ${text}\n`);

// Nobody is left to be told of what cannot be written here.
process.stderr.on("error", () => {});
const UNWRITTEN = 1;
let unwritten = false;
process.stdout.on("error", ({ code, message }: NodeJS.ErrnoException) => {
  if (code === "EPIPE" || unwritten) return;
  unwritten = true;
  process.exitCode ||= UNWRITTEN;
  complain(`standard output cannot be written: ${message}`);
});

// Loaded here and not above: a Node that is too old gets a line instead of a stack.
const program = await import("./cli/main.js").catch((error: Error) => complain(error.message));
const code = await program?.main(process.argv.slice(2), {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  onSignal(called) {
    const names = ["SIGINT", "SIGTERM"] as const;
    for (const name of names) process.on(name, called);
    return () => {
      for (const name of names) process.off(name, called);
    };
  },
  exit: (code) => process.exit(code),
});
process.exitCode = (code ?? UNWRITTEN) || (unwritten ? UNWRITTEN : 0);
