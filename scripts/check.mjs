// Everything that can be said about the code without running it. All of it runs, then the verdict falls:
// who fixes a warning wants to see the other nine too.
import { spawnSync } from "node:child_process";
import { root } from "./ensure.mjs";

const clippy = ["clippy", "--quiet", "--all-targets"];
const checks = [
  ["biome", "check", "."],
  ["tsc", "--noEmit", "-p", "tsconfig.json"],
  ["cargo", "fmt", "--check"],
  // With the drivers of the benchmarks: nothing else compiles them before somebody wants to measure.
  ["cargo", ...clippy, "--features=bench", "--", "-D", "warnings"],
  // An unwrap in the library is a panic in somebody's process; in a test it is the assertion.
  ["cargo", "clippy", "--quiet", "--lib", "--", "-D", "warnings", "-D", "clippy::unwrap_used"],
  // Nothing outside `mod binding` may know of Node: this is the build that proves it.
  ["cargo", ...clippy, "--no-default-features", "--features=client", "--", "-D", "warnings"],
  // Nothing of what WebAssembly has may know of sockets, disks or threads.
  ["cargo", "clippy", "--quiet", "--lib", "--no-default-features", "--", "-D", "warnings"],
];

const failed = [];
for (const [command, ...args] of checks) {
  const line = [command, ...args].join(" ");
  const start = performance.now();
  const { status } = spawnSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${status === 0 ? "\u2713" : "\u2717"} ${line} (${seconds} s)`);
  if (status !== 0) failed.push(line);
}
if (failed.length > 0) {
  console.error(
    `\n${failed.length} of ${checks.length} checks failed: npm run fix mends what a tool can mend.`,
  );
  process.exit(1);
}
