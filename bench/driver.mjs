// The drivers in Rust: programs of this crate that do in Rust what a client does in Node.
import { execFileSync } from "node:child_process";
import * as path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");

/**
 * Builds `bench-<name>` and returns its path. With the features and the target of the addon: `napi build` names the
 * target, and without it cargo would compile every dependency again into another folder.
 */
export function buildDriver(name) {
  const run = { cwd: root, stdio: ["ignore", "pipe", "inherit"], encoding: "utf8" };
  const triple = /^host: (.+)$/m.exec(execFileSync("rustc", ["-vV"], run))[1];
  const bin = `bench-${name}`;
  const what = ["--release", "--target", triple, "--features", "bench", "--bin", bin];
  const messages = execFileSync("cargo", ["build", ...what, "--message-format", "json-render-diagnostics"], {
    ...run,
    maxBuffer: 2 ** 28,
  });
  const built = messages.split("\n").filter(Boolean).map(JSON.parse);
  return built.find(({ executable, target }) => executable && target.name === bin).executable;
}
