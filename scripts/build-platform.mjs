// Builds the addon for one of the platforms of package.json (`napi.targets`), and looks at what came of it:
//
//   npm run build:platform -- [--debug] TARGET [TARGET …]
//
// --debug compiles without optimising, which takes a third of the time: to see whether it loads there.
// What it makes lies in target/addons, where `npm run pack -- --all` and `npm run test:platforms` take it from. Any
// Linux target is built on any Linux machine; macOS and Windows each on their own. docs/platforms.md has the rest.
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { addonFault } from "./elf.mjs";
import { root, say, stop } from "./ensure.mjs";
import { GLIBC_FLOOR, toolchain, zigbuild } from "./toolchain.mjs";

export const addons = path.join(root, "target/addons");

/** Each platform: the target of Rust, and the name that npm and napi have for it. */
export async function platforms() {
  const { parseTriple } = await import("@napi-rs/cli");
  const { napi } = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8"));
  return napi.targets.map((target) => {
    const { platformArchABI } = parseTriple(target);
    return { target, name: platformArchABI, file: `${napi.binaryName}.${platformArchABI}.node` };
  });
}

async function build({ target, file }, profile) {
  const linux = target.includes("-linux-");
  if (linux !== (process.platform === "linux")) {
    const where = linux ? "a Linux machine" : target.includes("-windows-") ? "Windows" : "macOS";
    stop(`${target} is built on ${where}; docs/platforms.md says what can be checked here.`);
  }
  const rust = toolchain(target);
  say(`${target}: ${rust.compiler}, standard library: ${rust.source}`);
  const folder = path.join(root, "target/platforms");
  // A cdylib alone: beside an rlib, cargo would not optimise over all crates.
  const library = ["--lib", "--crate-type", "cdylib", "--profile", profile];
  const args = ["--locked", ...library, "--target-dir", folder, ...rust.args];
  const zig = linux ? zigbuild() : undefined;
  const program = zig?.program ?? "cargo";
  // zig takes the version of the C library from here; the rest of the tools never see it.
  const wanted = target.endsWith("-gnu") && linux ? `${target}.${GLIBC_FLOOR}` : target;
  const env = { ...process.env, ...rust.env, ...zig?.env };
  // Node loads a shared library, which a target of musl does not make unless it is told so.
  const flags = target.endsWith("-musl") ? "-C target-feature=-crt-static" : "";
  if (flags) env.RUSTFLAGS = `${env.RUSTFLAGS ?? ""} ${flags}`.trim();
  const built = spawnSync(program, ["rustc", "--target", wanted, ...args], {
    cwd: root,
    env,
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (built.error || built.status !== 0)
    stop(`${target} was not built: ${built.error?.message ?? built.signal ?? `exit code ${built.status}`}`);

  const made = target.includes("-windows-")
    ? "arrow_ingest.dll"
    : linux
      ? "libarrow_ingest.so"
      : "libarrow_ingest.dylib";
  const from = path.join(folder, target, profile === "dev" ? "debug" : profile, made);
  if (linux) {
    const fault = addonFault(from, target);
    if (fault) stop(`${target} was built and cannot be used: ${fault}`);
  }
  fs.mkdirSync(addons, { recursive: true });
  const to = path.join(addons, file);
  fs.copyFileSync(from, to);
  console.log(`${path.relative(root, to)}  ${(fs.statSync(to).size / 1e6).toFixed(1)} MB`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const known = await platforms();
  const asked = process.argv.slice(2).filter((argument) => argument !== "--debug");
  const profile = process.argv.includes("--debug") ? "dev" : "addon";
  const unknown = asked.filter((target) => !known.some((platform) => platform.target === target));
  if (asked.length === 0 || unknown.length > 0)
    stop(
      `${unknown.length ? `unknown: ${unknown.join(", ")}. ` : ""}npm run build:platform -- TARGET, which is one of\n` +
        known.map(({ target }) => `  ${target}`).join("\n"),
    );
  for (const target of asked)
    await build(
      known.find((platform) => platform.target === target),
      profile,
    );
}
