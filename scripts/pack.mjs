// Makes the tarballs that `npm publish` would send: the main package and one package per platform whose
// addon lies in FOLDER (by default where a build leaves it, so this machine's alone).
//
//   node scripts/pack.mjs [--all | --addons FOLDER] [--out FOLDER] [--complete]
//
// --all takes the addons that `npm run build:platform` has made, and says which it has not.
// --complete refuses if any platform's addon is missing: what a release wants.
// With either, what has an addon is compressed by libdeflate, which takes 10 s and saves a twentieth over npm.
// Works on copies: what is only true of a published package (its optional dependencies on the platform
// packages, which do not exist before it does) never gets into the repository's package.json. It lists those that
// are packed with it and no others: npm and yarn refuse a lockfile over packages that no registry has.
import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import { makeCommonJs } from "./commonjs.mjs";
import { root, stop } from "./ensure.mjs";
import { makeModules } from "./modules.mjs";
import { fromPypi } from "./toolchain.mjs";

const { values } = parseArgs({
  options: {
    all: { type: "boolean", default: false },
    addons: { type: "string" },
    out: { type: "string", default: path.join(root, "target/pack") },
    complete: { type: "boolean", default: false },
  },
});
const out = path.resolve(values.out);
const addons = values.addons ?? path.join(root, values.all ? "target/addons" : "src-ts/generated");
const staging = path.join(out, "staging");
fs.rmSync(out, { recursive: true, force: true });
fs.mkdirSync(staging, { recursive: true });

const manifest = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8"));
// napi writes only below its package.json.
fs.copyFileSync(path.join(root, "package.json"), path.join(staging, "package.json"));
const quiet = { cwd: staging, stdio: "pipe" };
execFileSync("napi", ["create-npm-dirs", "--npm-dir", "npm"], quiet);
const platforms = fs.readdirSync(path.join(staging, "npm")).sort();

const packed = [];
const missing = [];
for (const platform of platforms) {
  const addon = path.join(addons, `${manifest.napi.binaryName}.${platform}.node`);
  if (!fs.existsSync(addon)) {
    if (values.complete) stop(`the addon for ${platform} is missing: ${addon}`);
    missing.push(platform);
    continue;
  }
  const folder = path.join(staging, "npm", platform);
  fs.copyFileSync(addon, path.join(folder, path.basename(addon)));
  pack(folder, values.all || values.complete);
  packed.push(platform);
}
if (values.all && packed.length === 0) stop("no addon is built: npm run build:platform -- TARGET.");
if (values.all && missing.length > 0) console.log(`not built, and so not packed: ${missing.join(", ")}`);

const main = path.join(staging, "main");
fs.mkdirSync(main);
if (!fs.existsSync(path.join(root, "dist/index.js"))) stop("there is no dist: run `npm run pack`.");
for (const entry of [...manifest.files, "LICENSE"]) {
  const from = path.join(root, entry);
  if (!fs.existsSync(from)) continue;
  // The addon is the platform package's; one in here would be loaded on every platform.
  fs.cpSync(from, path.join(main, entry), { recursive: true, filter: (file) => !file.endsWith(".node") });
}
await makeCommonJs(path.join(main, "dist"));
await makeModules(path.join(main, "dist"));
declareForOlder(path.join(main, "dist"));
const { devDependencies, scripts, ...published } = manifest;
published.optionalDependencies = Object.fromEntries(
  packed.map((platform) => [`${manifest.name}-${platform}`, manifest.version]),
);
fs.writeFileSync(path.join(main, "package.json"), `${JSON.stringify(published, null, 2)}\n`);
pack(main);

/** Type arguments that TypeScript before 5.7 (typed arrays) and 5.6 (iterators) takes for errors in a user's program. */
function declareForOlder(folder) {
  for (const name of fs.readdirSync(folder, { recursive: true }).filter((file) => /\.d\.c?ts$/.test(file))) {
    const file = path.join(folder, name);
    const text = fs.readFileSync(file, "utf8");
    const older = text
      .replaceAll(/\b((?:(?:Big)?(?:Int|Uint)|Float)\d+(?:Clamped)?Array)<\w+>/g, "$1")
      .replaceAll(/\b((?:Async)?IterableIterator<\w+), \w+>/g, "$1>");
    if (older !== text) fs.writeFileSync(file, older);
  }
}

function pack(folder, dense = false) {
  const args = ["pack", folder, "--pack-destination", out, "--json", "--loglevel=error"];
  const [made] = JSON.parse(execFileSync("npm", args, { cwd: root, encoding: "utf8" }));
  const file = path.join(out, made.filename);
  if (dense) compressAgain(file);
  console.log(`${file}  ${(fs.statSync(file).size / 1e6).toFixed(1)} MB`);
}

function compressAgain(file) {
  const tar = gunzipSync(fs.readFileSync(file));
  const program =
    "import sys, deflate; i, o = sys.stdin.buffer, sys.stdout.buffer; o.write(deflate.gzip_compress(i.read(), 12))";
  const python = fromPypi("deflate", ["deflate==0.9.0"]);
  const made = spawnSync(python, ["-c", program], {
    input: tar,
    maxBuffer: 2 ** 30,
    stdio: ["pipe", "pipe", "inherit"],
  });
  if (made.status !== 0)
    stop(`${file} could not be compressed again: ${made.error?.message ?? `exit code ${made.status}`}`);
  if (!gunzipSync(made.stdout).equals(tar)) stop(`${file} is another one once it is compressed again.`);
  fs.writeFileSync(file, made.stdout);
}
