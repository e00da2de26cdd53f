#!/usr/bin/env node
// The program `arrow-ingest`: the process's own streams and signals, handed to cli/main.ts.

import { main } from "./cli/main.js";

// Whoever reads our output may stop, as `head` does: nothing is left to do then, and no error to show.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(1);
});

process.exitCode = await main(process.argv.slice(2), {
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
