// Uses the addons of target/addons as their users would: packs them, installs the tarballs in an empty folder for the
// platform, and runs tests/package/consumer/platform.mjs with a Node of that C library and processor.
//
//   npm run test:platforms [-- --write]
//
// --write keeps what it found in bench/results. A platform that is not built, or that cannot be run here, is skipped
// and said; one that fails ends this with an error, and so does finding none to run.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { addons, platforms } from "./build-platform.mjs";
import { addonFault, needsOf } from "./elf.mjs";
import { python, root, say, stop } from "./ensure.mjs";
import { nodeFor } from "./nodes.mjs";
import { startRegistry } from "./registry.mjs";

const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-platforms-"));
process.once("exit", () => fs.rmSync(home, { recursive: true, force: true }));
const tarballs = path.join(home, "tarballs");
const rows = [];
const skipped = [];

if (python() === undefined) stop("the Flight server is Python's: npm test installs it into .tools/venv.");
execFileSync("node", ["scripts/pack.mjs", "--all", "--out", tarballs], {
  cwd: root,
  stdio: ["ignore", "inherit", "inherit"],
});
const registry = await startRegistry(tarballs);
const server = await flightServer();
try {
  for (const platform of await platforms()) {
    const { name, target, file } = platform;
    if (!target.includes("-linux-")) skipped.push(`${name}: it is no Linux`);
    else if (!fs.existsSync(path.join(addons, file)))
      skipped.push(`${name}: it is not built (npm run build:platform -- ${target})`);
    else rows.push(await use(platform));
  }
} finally {
  server.child.kill();
  await registry.close();
}

const table = [
  "| platform | addon, MB | packed, MB | glibc | run by | seconds | what happened |",
  "|---|---:|---:|---|---|---:|---|",
  ...rows.map(
    (row) =>
      `| ${row.name} | ${row.size} | ${row.packed} | ${row.glibc ?? "\u2013"} | ${row.how} | ${row.seconds} | ${row.fault ?? "works"} |`,
  ),
].join("\n");
const left = skipped.map((line) => `- skipped: ${line}\n`).join("");
console.log(`\n${table}\n\n${left}`);
if (process.argv.includes("--write")) {
  const date = new Date().toISOString().slice(0, 10);
  const text = [
    "# Platforms",
    "`npm run test:platforms -- --write`. Each package was installed by npm in an empty folder and used there: a Delta " +
      "table, a Flight server of pyarrow, the emulator with a stream that it closes, and five workers that ended with " +
      "batches in flight; then an addon of the other C library was put in its place, and the error names that. Seconds are of the whole program; an emulated processor is slower, and says nothing of speed.",
    table,
    left.trim(),
  ];
  const to = path.join(root, "bench/results", `${date}-platforms.md`);
  fs.writeFileSync(to, `${text.filter(Boolean).join("\n\n")}\n`);
  console.log(path.relative(root, to));
}
const failed = rows.filter(({ fault }) => fault !== undefined);
console.log(`${rows.length - failed.length} passed, ${failed.length} failed, ${skipped.length} skipped`);
process.exit(failed.length > 0 || rows.length === 0 ? 1 : 0);

async function use({ name, target, file }) {
  const addon = path.join(addons, file);
  const node = nodeFor(name);
  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
  const tarball = fs.readdirSync(tarballs).find((entry) => entry.startsWith(`arrow-ingest-${name}-`));
  const found = {
    name,
    size: megabytes(fs.statSync(addon).size),
    packed: megabytes(fs.statSync(path.join(tarballs, tarball)).size),
    glibc: needsOf(addon).glibc,
    how: node.how,
    seconds: "",
  };
  say(`${name}: ${node.how}`);
  const fault = addonFault(addon, target) ?? undefinedSymbols(addon, node);
  if (fault !== undefined) return { ...found, fault };

  const app = path.join(home, name);
  fs.mkdirSync(app);
  fs.writeFileSync(path.join(app, "package.json"), '{ "private": true, "type": "module" }');
  const flags = ["--no-audit", "--no-fund", "--prefer-offline", `--registry=${registry.url}`];
  const installed = await run("npm", ["install", ...flags, ...node.install, "arrow-ingest"], { cwd: app });
  if (installed.status !== 0) return { ...found, fault: `npm: ${lastLine(installed.stderr)}` };
  const there = fs
    .readdirSync(path.join(app, "node_modules"))
    .filter((entry) => /^arrow-ingest-/.test(entry));
  if (there.join() !== `arrow-ingest-${name}`)
    return { ...found, fault: `npm installed ${there.join(", ") || "no platform package"}` };

  fs.copyFileSync(path.join(root, "tests/package/consumer/platform.mjs"), path.join(app, "platform.mjs"));
  const start = performance.now();
  const [command, ...args] = node.command;
  const ran = await run(command, [...args, "platform.mjs", server.location], { cwd: app, env: node.env });
  found.seconds = ((performance.now() - start) / 1000).toFixed(1);
  if (ran.status !== 0)
    return { ...found, fault: `${ran.signal ?? `exit code ${ran.status}`}: ${lastLine(ran.stderr)}` };
  const wanted = {
    delta: "acknowledged 100000",
    flight: "acknowledged 100000",
    zerobus: "acknowledged 100000",
    emulated: 100_000,
    workers: 5,
  };
  const said = JSON.parse(ran.stdout);
  const other = Object.keys(wanted).filter((key) => said[key] !== wanted[key]);
  if (other.length > 0) return { ...found, fault: other.map((key) => `${key}: ${said[key]}`).join("; ") };
  return { ...found, fault: await withOtherLibrary(app, name, file, node) };
}

/** What is wrong with the error for an addon of the other C library in the place of this platform's, or undefined. */
async function withOtherLibrary(app, name, file, node) {
  const [, own] = /-(gnu|musl)$/.exec(name);
  const other = file.replace(own, own === "gnu" ? "musl" : "gnu");
  const from = [addons, path.join(root, "src-ts/generated")]
    .map((folder) => path.join(folder, other))
    .find((candidate) => fs.existsSync(candidate));
  if (from === undefined) {
    skipped.push(`${name}: what is said of an addon of the other C library, because ${other} is not built`);
    return undefined;
  }
  fs.copyFileSync(from, path.join(app, "node_modules", `arrow-ingest-${name}`, file));
  const program =
    'await (await import("arrow-ingest")).connect("discard:").catch((e) => console.log(e.code, e.message))';
  const [command, ...args] = node.command;
  const ran = await run(command, [...args, "--input-type=module", "--eval", program], {
    cwd: app,
    env: node.env,
  });
  if (/^NATIVE_UNAVAILABLE .* was built for another C library \(/.test(ran.stdout)) return undefined;
  return `with an addon of the other C library: ${lastLine(ran.stdout || ran.stderr) || (ran.signal ?? ran.status)}`;
}

/** Symbols without a version, as musl's are, which no library of that system defines. */
function undefinedSymbols(addon, { libraries }) {
  if (libraries.length === 0) return undefined;
  const defined = new Set();
  for (const library of libraries) {
    const read = spawnSync("readelf", ["--wide", "--dyn-syms", library], {
      encoding: "utf8",
      maxBuffer: 2 ** 26,
    });
    for (const [, name] of read.stdout.matchAll(/ (?:GLOBAL|WEAK) +\w+ +\d+ (\S+)$/gm)) defined.add(name);
  }
  const missing = needsOf(addon).symbols.filter(({ name }) => !defined.has(name));
  return missing.length === 0 ? undefined : `nobody defines ${missing.map(({ name }) => name).join(", ")}`;
}

async function flightServer() {
  const child = spawn(python(), [path.join(root, "tests/interop/flight_server.py")], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(createInterface({ input: child.stdout }), "line");
  return { child, location: `grpc://127.0.0.1:${line}` };
}

/** Not spawnSync: the registry answers from this process. */
function run(command, args, { cwd, env }) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, NODE_OPTIONS: "", ...env },
      stdio: ["ignore", "pipe", "pipe"],
      timeout: 600_000,
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk) => {
      stdout += chunk;
    });
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
    });
    child.on("error", (error) => resolve({ status: 1, stdout, stderr: error.message }));
    child.on("close", (status, signal) => resolve({ status, signal, stdout, stderr }));
  });
}

function lastLine(text) {
  return text.trim().split("\n").filter(Boolean).slice(-3).join(" ").slice(0, 300);
}
