// A Rust toolchain that builds for another target, and the C compiler and linker for it.
//
// The standard library of the target is rustup's where it is installed (`rustup target add`; nothing here runs that).
// Where it is not, and this machine can have packages of Debian, it is built from source with Debian's own compiler.
// Linker and C compiler are zig's, which knows every glibc by number, so what is linked runs on older systems than this.
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { debian, debianFault, fetched } from "./debian.mjs";
import { root, run, say, stop } from "./ensure.mjs";

/** The C library that an addon for glibc must be content with: Red Hat 8, Debian 10, Amazon Linux 2023. */
export const GLIBC_FLOOR = "2.28";

const ZIG = ["ziglang==0.15.2", "cargo-zigbuild==0.24.1"];
const RUST_OF_DEBIAN = { suites: ["bookworm", "bookworm-security"] };

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
  const fault = process.arch === "x64" ? debianFault() : "Debian's is fetched for x86_64 alone";
  if (fault)
    stop(
      `Rust has no standard library for ${target} here: rustup target add ${target}. ` +
        `(It cannot be built from Debian's sources either: ${fault}.)`,
    );
  const home = debian("rust", packagesOfRust(), RUST_OF_DEBIAN);
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
  const compiler = assertVersion(env.RUSTC, env);
  return { env, args: ["-Zbuild-std=std,panic_unwind"], compiler, source: "Debian's, from source" };
}

/** Debian's compiler, what it needs, and the sources of its standard library. */
function packagesOfRust() {
  const compiler = ["rustc-web", "cargo-web", "rust-web-src", "libstd-rust-web-1.96", "libstd-rust-web-dev"];
  const libraries = ["libllvm22", "libgit2-1.5", "libhttp-parser2.9"];
  return [...compiler, ...libraries, "libmbedcrypto7", "libmbedx509-1", "libmbedtls14"];
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
  const home = fetched("zig", ZIG, (folder) => {
    const python = ["python3", "python"].find((name) => spawnSync(name, ["--version"]).status === 0);
    if (python === undefined)
      stop("Python 3 was not found: zig, the linker for other targets, comes from PyPI.");
    say(`fetching ${ZIG.join(" and ")}`);
    run(python, ["-m", "venv", folder], { advice: "On Debian: apt-get install python3-venv" });
    run(path.join(folder, "bin/python"), [
      "-m",
      "pip",
      "install",
      "-q",
      "--disable-pip-version-check",
      ...ZIG,
    ]);
  });
  const found = spawnSync(
    path.join(home, "bin/python"),
    ["-c", "import ziglang, os; print(os.path.join(os.path.dirname(ziglang.__file__), 'zig'))"],
    { encoding: "utf8" },
  );
  return {
    program: path.join(home, "bin/cargo-zigbuild"),
    env: { CARGO_ZIGBUILD_ZIG_PATH: found.stdout.trim() },
  };
}
