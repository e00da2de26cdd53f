// Compiles the addon, its C parts included, for the platforms that this machine can neither link nor run:
//
//   npm run check:platforms [-- TARGET …]
//
// Windows is checked for its GNU environment: zig has no headers of MSVC, so that one is checked by its workflow alone.
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { root, say, stop } from "./ensure.mjs";
import { toolchain, zigbuild } from "./toolchain.mjs";

const TARGETS = ["x86_64-pc-windows-gnu", "aarch64-apple-darwin", "x86_64-apple-darwin"];

const asked = process.argv.slice(2);
const unknown = asked.filter((target) => !TARGETS.includes(target));
if (unknown.length > 0) stop(`unknown: ${unknown.join(", ")}. There are ${TARGETS.join(", ")}.`);
const failed = [];
for (const target of asked.length > 0 ? asked : TARGETS) {
  const rust = toolchain(target);
  const zig = zigbuild();
  say(`${target}: ${rust.compiler}, standard library: ${rust.source}`);
  const folder = path.join(root, "target/platforms");
  const args = ["check", "--target", target, "--lib", "--locked", "--target-dir", folder, ...rust.args];
  // napi looks for the library of Node that a program of GNU's Windows links to. Nothing is linked here.
  const stand = path.join(folder, "libnode");
  fs.mkdirSync(stand, { recursive: true });
  fs.writeFileSync(path.join(stand, "libnode.dll"), "");
  const env = { ...process.env, LIBNODE_PATH: stand, ...rust.env, ...zig.env };
  const { status } = spawnSync(zig.program, args, {
    cwd: root,
    env,
    stdio: ["ignore", "inherit", "inherit"],
  });
  console.log(`${status === 0 ? "\u2713" : "\u2717"} ${target}`);
  if (status !== 0) failed.push(target);
}
if (failed.length > 0) stop(`${failed.join(", ")} did not compile.`);
