// Builds the core of the client for WebAssembly (specs/wasm.md):
//
//   npm run build:wasm [-- --debug]
//
// It lies in target/wasm/arrow_ingest.wasm, or, with --debug, as tests want it, in target/wasm/debug. Both have the
// same features: whatever needs no socket, no disk, no thread and no compiler for C.
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { root, say, stop } from "./ensure.mjs";
import { wasmToolchain } from "./toolchain.mjs";

/** Where the module is, or would be. */
export const moduleFile = (debug) =>
  path.join(root, "target/wasm", debug ? "debug" : "", "arrow_ingest.wasm");

/**
 * Builds it. Without `fetches` no compiler is fetched for it: where there is none, an older module is removed and the
 * tests are skipped.
 */
export function buildWasm({ debug = false, fetches = true } = {}) {
  const rust = wasmToolchain(fetches);
  const to = moduleFile(debug);
  if (rust.fault) {
    fs.rmSync(to, { force: true });
    if (fetches) stop(`WebAssembly cannot be built: ${rust.fault}.`);
    say(`${rust.fault}: the tests of WebAssembly are skipped (npm run test:wasm has them).`);
    return;
  }
  say(`wasm32-unknown-unknown: ${rust.compiler}, standard library: ${rust.source}`);
  const folder = path.join(root, "target/wasm/cargo");
  const args = [
    "--lib",
    "--crate-type",
    "cdylib",
    "--no-default-features",
    "--locked",
    "--target-dir",
    folder,
  ];
  const built = spawnSync(
    "cargo",
    ["rustc", "--profile", debug ? "wasm-tests" : "wasm", ...args, ...rust.args],
    {
      cwd: root,
      env: { ...process.env, ...rust.env },
      stdio: ["ignore", "inherit", "inherit"],
    },
  );
  if (built.status !== 0)
    stop(`WebAssembly was not built: ${built.error?.message ?? built.signal ?? built.status}`);
  const from = path.join(
    folder,
    "wasm32-unknown-unknown",
    debug ? "wasm-tests" : "wasm",
    "arrow_ingest.wasm",
  );
  fs.mkdirSync(path.dirname(to), { recursive: true });
  fs.copyFileSync(from, to);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const debug = process.argv.includes("--debug");
  buildWasm({ debug, fetches: !process.argv.includes("--no-fetching") });
  const file = moduleFile(debug);
  if (fs.existsSync(file))
    console.log(`${path.relative(root, file)}  ${(fs.statSync(file).size / 1e6).toFixed(1)} MB`);
}
