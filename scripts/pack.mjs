// Makes the tarballs that `npm publish` would send: the main package and one package per platform whose
// addon lies in FOLDER (by default where a build leaves it, so this machine's alone).
//
//   node scripts/pack.mjs [--addons FOLDER] [--out FOLDER]
//
// Works on copies: what is only true of a published package (its optional dependencies on the platform
// packages, which do not exist before it does) never gets into the repository's package.json.
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { parseArgs } from "node:util";
import { root } from "./ensure.mjs";

const { values } = parseArgs({
  options: {
    addons: { type: "string", default: path.join(root, "src-ts/generated") },
    out: { type: "string", default: path.join(root, "target/pack") },
  },
});
const out = path.resolve(values.out);
const staging = path.join(out, "staging");
fs.rmSync(out, { recursive: true, force: true });
fs.mkdirSync(staging, { recursive: true });

const manifest = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8"));
const inRoot = { cwd: root, stdio: ["ignore", "ignore", "inherit"] };
execFileSync(
  "napi",
  ["create-npm-dirs", "--npm-dir", path.relative(root, path.join(staging, "npm"))],
  inRoot,
);
const platforms = fs.readdirSync(path.join(staging, "npm")).sort();

for (const platform of platforms) {
  const addon = path.join(values.addons, `${manifest.napi.binaryName}.${platform}.node`);
  if (!fs.existsSync(addon)) continue;
  const folder = path.join(staging, "npm", platform);
  fs.copyFileSync(addon, path.join(folder, path.basename(addon)));
  pack(folder);
}

const main = path.join(staging, "main");
fs.mkdirSync(main);
// Its own dist: the one in the repository may hold addons, and leftovers of deleted modules.
execFileSync("tsc", ["-p", "tsconfig.build.json", "--outDir", path.join(main, "dist")], inRoot);
fs.mkdirSync(path.join(main, "dist/generated"), { recursive: true });
for (const name of ["index.js", "index.d.ts"]) {
  fs.copyFileSync(path.join(root, "src-ts/generated", name), path.join(main, "dist/generated", name));
}
for (const entry of [...manifest.files, "LICENSE"]) {
  const from = path.join(root, entry);
  if (entry === "dist" || entry.startsWith("!") || !fs.existsSync(from)) continue;
  fs.cpSync(from, path.join(main, entry), { recursive: true, filter: (file) => !file.endsWith(".node") });
}
const { devDependencies, scripts, ...published } = manifest;
published.optionalDependencies = Object.fromEntries(
  platforms.map((platform) => [`${manifest.name}-${platform}`, manifest.version]),
);
fs.writeFileSync(path.join(main, "package.json"), `${JSON.stringify(published, null, 2)}\n`);
pack(main);

function pack(folder) {
  const args = ["pack", folder, "--pack-destination", out, "--json", "--loglevel=error"];
  const [made] = JSON.parse(execFileSync("npm", args, { cwd: root, encoding: "utf8" }));
  console.log(`${path.join(out, made.filename)}  ${(made.size / 1e6).toFixed(1)} MB`);
}
