// A Rust toolchain that builds for another target, and the C compiler and linker for it.
//
// The standard library of the target is rustup's where it is installed (`rustup target add`; nothing here runs that).
// Where it is not, and this machine can have packages of Debian, it is built from source with Debian's own compiler.
// Linker and C compiler are zig's, which knows every glibc by number, so what is linked runs on older systems than this.
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { debian, debianFault, fetched, isFetched } from "./debian.mjs";
import { root, run, say, stop } from "./ensure.mjs";

/** The C library that an addon for glibc must be content with: Red Hat 8, Debian 10, Amazon Linux 2023. */
export const GLIBC_FLOOR = "2.28";

const ZIG = ["ziglang==0.15.2", "cargo-zigbuild==0.24.1"];
const RUST_OF_DEBIAN = { suites: ["bookworm", "bookworm-security"] };
/** Debian's compiler, the sources of its standard library, and what both need. */
const PACKAGES_OF_RUST = [
  ...["rustc-web", "cargo-web", "rust-web-src", "libstd-rust-web-1.96", "libstd-rust-web-dev", "libllvm22"],
  ...["libgit2-1.5", "libhttp-parser2.9", "libmbedcrypto7", "libmbedx509-1", "libmbedtls14"],
];

/** The oldest compiler that the crate allows. */
export function rustVersion() {
  return /^rust-version = "(.+)"/m.exec(fs.readFileSync(path.join(root, "Cargo.toml"), "utf8"))[1];
}

/**
 * What to run for `target`: `env` and `args` for cargo, and in words what compiles. Stops if no compiler can be had, or
 * only one that is too old.
 */
export function toolchain(target) {
  const sysroot = spawnSync("rustc", ["--print", "sysroot"], { encoding: "utf8" });
  const own =
    sysroot.status === 0 && fs.existsSync(path.join(sysroot.stdout.trim(), "lib/rustlib", target, "lib"));
  if (own) return { env: {}, args: [], compiler: assertVersion("rustc", {}), source: "rustup" };
  const fault = faultOfDebian();
  if (fault)
    stop(
      `Rust has no standard library for ${target} here: rustup target add ${target}. ` +
        `(It cannot be built from Debian's sources either: ${fault}.)`,
    );
  return { ...rustOfDebian(), args: ["-Zbuild-std=std,panic_unwind"] };
}

const faultOfDebian = () => (process.arch === "x64" ? debianFault() : "Debian's is fetched for x86_64 alone");

function rustOfDebian() {
  const home = debian("rust", PACKAGES_OF_RUST, RUST_OF_DEBIAN);
  const bin = path.join(home, "usr/bin");
  const libraries = path.join(home, "usr/lib/x86_64-linux-gnu");
  const env = {
    PATH: bin + path.delimiter + process.env.PATH,
    LD_LIBRARY_PATH: [libraries, process.env.LD_LIBRARY_PATH].filter(Boolean).join(path.delimiter),
    RUSTC: path.join(bin, "rustc"),
    CARGO: path.join(bin, "cargo"),
    // The standard library needs what only a nightly compiler allows; so does `-Zbuild-std`.
    RUSTC_BOOTSTRAP: "1",
  };
  return { env, compiler: assertVersion(env.RUSTC, env), source: "Debian's, from source" };
}

/**
 * The same for WebAssembly; `{ fault }` in words where there is none. rustup's own library for it ends the program at
 * a panic, so it is compiled from source here too: from rustup's (`rustup component add rust-src`), or Debian's, which
 * are fetched unless `fetches` says no.
 */
export function wasmToolchain(fetches = true) {
  const args = ["-Zbuild-std=std,panic_unwind", "--target", "wasm32-unknown-unknown"];
  const flags = "-C panic=unwind --cfg alloc_error_hook";
  const linker = wasmLinker();
  if (linker === undefined)
    return {
      fault: "there is no linker for WebAssembly: rustup's Rust has rust-lld, the package lld wasm-ld",
    };
  const env = { RUSTFLAGS: flags, CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER: linker, RUSTC_BOOTSTRAP: "1" };
  if (fs.existsSync(path.join(sysroot(), "lib/rustlib/src/rust/library/std/Cargo.toml")))
    return { env, args, compiler: assertVersion("rustc", {}), source: "its own, from source" };
  const fault =
    fetches || isFetched("rust", PACKAGES_OF_RUST, RUST_OF_DEBIAN)
      ? faultOfDebian()
      : "Debian's were not fetched";
  if (fault)
    return {
      fault: `the sources of Rust's standard library are missing: rustup component add rust-src (${fault})`,
    };
  const rust = rustOfDebian();
  return { ...rust, env: { ...rust.env, ...env }, args };
}

const sysroot = () => spawnSync("rustc", ["--print", "sysroot"], { encoding: "utf8" }).stdout?.trim() ?? "";

/** The linker that rustup's Rust brings, or LLVM's. Debian's Rust has none. */
function wasmLinker() {
  const said = spawnSync("rustc", ["--version", "--verbose"], { encoding: "utf8" }).stdout ?? "";
  const host = /^host: (.+)$/m.exec(said)?.[1] ?? "";
  const name = process.platform === "win32" ? "rust-lld.exe" : "rust-lld";
  const own = path.join(sysroot(), "lib/rustlib", host, "bin", name);
  if (fs.existsSync(own)) return own;
  return spawnSync("wasm-ld", ["--version"]).status === 0 ? "wasm-ld" : undefined;
}

function assertVersion(rustc, env) {
  const found = spawnSync(rustc, ["--version"], { encoding: "utf8", env: { ...process.env, ...env } });
  if (found.status !== 0) stop(`${rustc} does not run: ${found.error?.message ?? found.stderr}`);
  const fault = versionFault(found.stdout, rustVersion());
  if (fault) stop(fault);
  return found.stdout.trim();
}

/** Why a compiler cannot be used, or undefined. Exported for its test. */
export function versionFault(said, wanted) {
  const have = /^rustc (\d+)\.(\d+)/.exec(said);
  const need = /^(\d+)\.(\d+)/.exec(wanted);
  if (have === null) return `a compiler that does not say its version: ${said.trim()}`;
  if (have[1] * 1000 + +have[2] >= need[1] * 1000 + +need[2]) return undefined;
  return `${said.trim()} is too old: Cargo.toml wants Rust ${wanted}.`;
}

/** cargo-zigbuild with a zig of its own: the program, and the environment it wants. */
export function zigbuild() {
  const python = fromPypi("zig", ZIG);
  const found = spawnSync(
    python,
    ["-c", "import ziglang, os; print(os.path.join(os.path.dirname(ziglang.__file__), 'zig'))"],
    { encoding: "utf8" },
  );
  return {
    program: path.join(path.dirname(python), "cargo-zigbuild"),
    env: { CARGO_ZIGBUILD_ZIG_PATH: found.stdout.trim() },
  };
}

/** The Python of a folder in `.tools` that has these packages. */
export function fromPypi(name, packages) {
  const programs = process.platform === "win32" ? "Scripts" : "bin";
  const home = fetched(name, packages, (folder) => {
    const python = ["python3", "python"].find((name) => spawnSync(name, ["--version"]).status === 0);
    if (python === undefined) stop(`Python 3 was not found: ${packages.join(", ")} come from PyPI.`);
    say(`fetching ${packages.join(" and ")}`);
    run(python, ["-m", "venv", folder], { advice: "On Debian: apt-get install python3-venv" });
    const own = path.join(folder, programs, "python");
    run(own, ["-m", "pip", "install", "-q", "--disable-pip-version-check", ...packages]);
  });
  return path.join(home, programs, "python");
}
