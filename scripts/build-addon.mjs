#!/usr/bin/env node
// `npx arrow-ingest-build`: builds the addon from the Rust sources in this package, for platforms without a
// prebuilt one, and puts it where the loader looks first. Never run by npm itself: an install that silently
// compiles for ten minutes, or fails for want of a compiler, is worse than one that says what is missing.
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const target = path.resolve(process.env.CARGO_TARGET_DIR ?? path.join(root, "target"));

console.error("\u203a building the arrow-ingest addon with cargo: ten minutes or so");
// A cdylib alone: beside an rlib, cargo would not optimise over all crates.
const library = ["--lib", "--crate-type", "cdylib", "--profile", "addon"];
const args = ["rustc", "--locked", ...library, "--target-dir", target];
const env = { ...process.env };
// Rust links a program of musl statically, and makes no library that Node could load, unless it is told otherwise.
if (platform().endsWith("-musl"))
  env.RUSTFLAGS = `${env.RUSTFLAGS ?? ""} -C target-feature=-crt-static`.trim();
const built = spawnSync("cargo", args, { cwd: root, env, stdio: ["ignore", "inherit", "inherit"] });
if (built.error?.code === "ENOENT") {
  console.error("\u2717 cargo was not found: install Rust with rustup (see rust-lang.org) and try again.");
  process.exit(1);
}
if (built.status !== 0) process.exit(built.status ?? 1);

const file = {
  win32: "arrow_ingest.dll",
  darwin: "libarrow_ingest.dylib",
}[process.platform];
const addon = path.join(root, "dist/generated", `arrow-ingest.${platform()}.node`);
fs.copyFileSync(path.join(target, "addon", file ?? "libarrow_ingest.so"), addon);
console.log(addon);

/** As napi names it; the loader looks for exactly this. */
function platform() {
  const { platform, arch, report } = process;
  if (platform === "win32") return `win32-${arch}-msvc`;
  if (platform !== "linux") return `${platform}-${arch}`;
  return `linux-${arch}-${report.getReport().header.glibcVersionRuntime ? "gnu" : "musl"}`;
}
