// the packed tarballs install and work in an empty folder, on a machine without Rust; where the
// prebuilt addon is missing, the error says so and the source build mends it.
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { tableFromArrays, tableToIPC } from "apache-arrow";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const root = process.cwd();
const consumer = path.join(root, "tests/package/consumer");
let folder: string;
let main: string;
let platform: string;

/** Node and a shell: no cargo, no rustc, nothing of this repository. */
let bare: string;

beforeAll(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-package-"));
  const packed = run("node", ["scripts/pack.mjs", "--out", path.join(folder, "tarballs")], { cwd: root });
  expect(packed.status, packed.stderr).toBe(0);
  const tarballs = fs.readdirSync(path.join(folder, "tarballs")).filter((name) => name.endsWith(".tgz"));
  main = tarballs.find((name) => /^arrow-ingest-\d/.test(name)) ?? "";
  platform = tarballs.find((name) => name !== main) ?? "";
  expect(tarballs.sort()).toEqual([main, platform].sort());

  const node = path.join(folder, "bin");
  fs.mkdirSync(node);
  for (const name of ["node", "npm", "npx", "sh"]) fs.symlinkSync(which(name), path.join(node, name));
  bare = node;

  fs.mkdirSync(path.join(folder, "app"));
  fs.writeFileSync(path.join(folder, "app/package.json"), `{ "private": true, "type": "module" }`);
  const files = [main, platform].map((name) => path.join(folder, "tarballs", name));
  const installed = inApp("npm", ["install", "--no-audit", "--no-fund", "--prefer-offline", ...files]);
  expect(installed.status, installed.stderr).toBe(0);
  fs.cpSync(consumer, path.join(folder, "app"), { recursive: true });
}, 300_000);

afterAll(() => {
  fs.rmSync(folder, { recursive: true, force: true });
});

test("there is no Rust where the package is installed", () => {
  expect(inApp("cargo", ["--version"]).error).toBeDefined();
  expect(inApp("rustc", ["--version"]).error).toBeDefined();
});

test("R-38 the program `arrow-ingest` is installed, and sends", () => {
  const said = inApp("npx", ["--no-install", "arrow-ingest", "--version"]);
  expect(said.status, said.stderr).toBe(0);
  expect(said.stdout).toMatch(/^arrow-ingest \d+\.\d+\.\d+ \(/);
  const rows = tableFromArrays({ n: Int32Array.of(1, 2, 3) });
  fs.writeFileSync(path.join(folder, "app/rows.arrow"), tableToIPC(rows, "file"));
  const sent = inApp("npx", [
    "--no-install",
    "arrow-ingest",
    "send",
    "delta:./lake/sent",
    "rows.arrow",
    "--json",
  ]);
  expect(sent.status, sent.stderr).toBe(0);
  expect(JSON.parse(sent.stdout)).toMatchObject({ success: true, rows: { acknowledged: 3 } });
});

test.each(["discard:", "delta:./lake/table"])("an installed package sends to %s", (target) => {
  const ran = inApp("node", ["example.mjs", target]);
  expect(ran.status, ran.stderr).toBe(0);
  expect(JSON.parse(ran.stdout)).toMatchObject({ status: "acknowledged", rows: 3 });
});

describe("R-35 the first program of README runs when it is pasted", () => {
  test("on this Node", () => {
    runFirst("node");
  });

  test("R-81 on the oldest Node that `engines` names", () => {
    const { engines } = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8"));
    const oldest = engines.node.replace(">=", "");
    const home = path.join(folder, "oldest");
    fs.mkdirSync(home);
    fs.writeFileSync(path.join(home, "package.json"), `{ "private": true }`);
    const flags = ["--no-audit", "--no-fund", "--prefer-offline"];
    const installed = run("npm", ["install", ...flags, `node@${oldest}`], { cwd: home, env: { PATH: bare } });
    expect(installed.status, installed.stderr).toBe(0);
    const node = path.join(home, "node_modules/node/bin/node");
    expect(run(node, ["--version"]).stdout).toBe(`v${oldest}\n`);
    runFirst(node);
  });

  function runFirst(node: string) {
    const readme = fs.readFileSync(path.join(folder, "app/node_modules/arrow-ingest/README.md"), "utf8");
    const [, program] = /^```js\n(.*?)^```$/ms.exec(readme)!;
    fs.writeFileSync(path.join(folder, "app/first.mjs"), program!);
    // The lake is in the folder where it runs: the second run would be the table's second version.
    fs.rmSync(path.join(folder, "app/lake/flights"), { recursive: true, force: true });
    const ran = inApp(node, ["first.mjs"]);
    expect(ran, ran.stderr).toMatchObject({ status: 0, stderr: "" });
    expect(ran.stdout).toBe("acknowledged 3 { kind: 'version', value: 1n }\n");
  }
});

test("R-37 `require` gives the same package as `import`, and its door for those that know only CommonJS works", () => {
  const facts = { status: "acknowledged", rows: 3, failed: "CONFIG_INVALID" };
  const required = inApp("node", ["door.cjs", "arrow-ingest"]);
  expect(required.status, required.stderr).toBe(0);
  expect(JSON.parse(required.stdout)).toEqual({ ...facts, same: true });
  const door = inApp("node", ["door.cjs", "./node_modules/arrow-ingest/dist/index.cjs"]);
  expect(door.status, door.stderr).toBe(0);
  expect(JSON.parse(door.stdout)).toEqual({ ...facts, same: false });
});

test("R-37 Jest's defaults: a test that requires the package passes", () => {
  const home = path.join(folder, "jest");
  fs.cpSync(path.join(root, "tests/package/jest"), home, { recursive: true });
  fs.writeFileSync(path.join(home, "package.json"), `{ "private": true }`);
  const options = { cwd: home, env: { PATH: bare } };
  const files = [main, platform].map((name) => path.join(folder, "tarballs", name));
  const flags = ["--no-audit", "--no-fund", "--prefer-offline"];
  const installed = run("npm", ["install", ...flags, ...files, "jest@30"], options);
  expect(installed.status, installed.stderr).toBe(0);
  const ran = run("npx", ["--no-install", "jest", "--ci"], options);
  expect(ran.status, ran.stderr).toBe(0);
  expect(ran.stderr).toContain("3 passed, 3 total");
}, 240_000);

test("R-37 only platforms that are packed are listed, so `npm ci` takes the lockfile that installing made", () => {
  const installed = path.join(folder, "app/node_modules/arrow-ingest/package.json");
  const { optionalDependencies, version } = JSON.parse(fs.readFileSync(installed, "utf8"));
  expect(optionalDependencies).toEqual({ [platform.replace(/-\d.*$/, "")]: version });
  const home = path.join(folder, "ci");
  fs.mkdirSync(home);
  for (const name of ["package.json", "package-lock.json"])
    fs.copyFileSync(path.join(folder, "app", name), path.join(home, name));
  const again = run("npm", ["ci", "--no-audit", "--no-fund", "--prefer-offline"], {
    cwd: home,
    env: { PATH: bare },
  });
  expect(again.status, again.stderr).toBe(0);
  expect(fs.existsSync(path.join(home, "node_modules/arrow-ingest/dist/index.js"))).toBe(true);
});

test("R-37 any subset of the platforms can be packed, and is what is listed", () => {
  const addons = path.join(folder, "addons");
  fs.mkdirSync(addons);
  for (const [names, flags, code] of [
    [[], [], 0],
    [["linux-x64-musl", "darwin-arm64"], [], 0],
    [["linux-x64-musl", "darwin-arm64"], ["--complete"], 1],
  ] as const) {
    for (const name of names) fs.writeFileSync(path.join(addons, `arrow-ingest.${name}.node`), "addon");
    const out = path.join(folder, "subset");
    const packed = run("node", ["scripts/pack.mjs", "--addons", addons, "--out", out, ...flags]);
    expect(packed.status, packed.stderr).toBe(code);
    if (code !== 0) continue;
    const manifest = JSON.parse(fs.readFileSync(path.join(out, "staging/main/package.json"), "utf8"));
    expect(Object.keys(manifest.optionalDependencies).sort()).toEqual(
      names.map((name) => `arrow-ingest-${name}`).sort(),
    );
  }
});

test("R-35 README, docs and the types of the package speak of no file that is not in it", () => {
  const home = path.join(folder, "app/node_modules/arrow-ingest");
  const files = fs.readdirSync(home, { recursive: true }).map(String);
  let links = 0;
  for (const name of files.filter((file) => /^(README\.md|docs\/.*\.md)$/.test(file)))
    for (const [, target] of fs
      .readFileSync(path.join(home, name), "utf8")
      .matchAll(/\]\(([^)#:\s]+)(?:#[^)]*)?\)/g)) {
      expect(fs.existsSync(path.join(home, path.dirname(name), target!)), `${name}: ${target}`).toBe(true);
      links++;
    }
  for (const name of files.filter((file) => /^dist\/.*\.d\.c?ts$/.test(file)))
    for (const [target] of fs
      .readFileSync(path.join(home, name), "utf8")
      .matchAll(/\b(?:specs|docs|src-rs|src-ts|tests|bench|examples)\/[\w./-]+\.\w+/g)) {
      expect(fs.existsSync(path.join(home, target)), `${name}: ${target}`).toBe(true);
      links++;
    }
  expect(links).toBeGreaterThan(20);
});

test.each([
  ["types.ts", "nodenext"],
  ["types.cts", "node16"],
  ["types.cts", "nodenext"],
])("the installed types resolve, are strict, and have no error of their own: %s, %s", (file, module) => {
  const flags = ["--strict", "--noEmit", "--exactOptionalPropertyTypes", "--target", "es2023"];
  const libraries = ["--lib", "es2023,esnext.disposable", "--types", "node"];
  const ours = ["--typeRoots", path.join(root, "node_modules/@types"), "--module", module];
  const checked = inApp(path.join(root, "node_modules/.bin/tsc"), [...flags, ...libraries, ...ours, file]);
  // apache-arrow's declarations have errors under these flags; ours and the consumer's must not.
  const errors = checked.stdout
    .split("\n")
    .filter((line) => /^(types\.c?ts|node_modules\/arrow-ingest)/.test(line));
  expect(errors).toEqual([]);
  expect(checked.stdout).not.toContain("error TS5");
});

test("the main package carries no addon, and what it carries names no path of this machine", () => {
  const files = fs.readdirSync(path.join(folder, "app/node_modules/arrow-ingest"), { recursive: true });
  expect(files.filter((name) => String(name).endsWith(".node"))).toEqual([]);
  expect(files).toContain(path.join("dist", "index.d.ts"));
  for (const name of files.map(String).filter((file) => /\.(js|map|json|d\.ts)$/.test(file))) {
    const text = fs.readFileSync(path.join(folder, "app/node_modules/arrow-ingest", name), "utf8");
    expect(text.includes(root), name).toBe(false);
  }
});

test("`import` asks Node for no module that takes long to load, and reads one file of ASCII", () => {
  const text = fs.readFileSync(path.join(folder, "app/node_modules/arrow-ingest/dist/index.js"), "utf8");
  const imported = [...text.matchAll(/^(?:import|export) [^;]*?"([^"]+)";$/gm)].map(([, name]) => name);
  const cheap = ["async_hooks", "diagnostics_channel", "module", "os", "path", "url"];
  expect([...new Set(imported)].sort()).toEqual(["apache-arrow", ...cheap.map((name) => `node:${name}`)]);
  expect(text.match(/.*[^\0-\x7f].*/g) ?? []).toEqual([]);
});

test("without the platform package the error names it, and the source build mends it", () => {
  const name = platform.replace(/-\d.*$/, "");
  const modules = path.join(folder, "app/node_modules");
  fs.renameSync(path.join(modules, name), path.join(folder, name));
  try {
    const failed = inApp("node", ["example.mjs", "discard:"]);
    expect(failed.status).toBe(1);
    expect(failed.stderr).toContain(name);
    expect(failed.stderr).toContain("npx arrow-ingest-build");
    expect(failed.stderr).toContain("NATIVE_UNAVAILABLE");

    const helpless = inApp("npx", ["--no-install", "arrow-ingest-build"]);
    expect(helpless.status).toBe(1);
    expect(helpless.stderr).toContain("cargo was not found");

    // The manifest of the package must stand alone: cargo refuses one whose files are missing.
    const manifest = path.join(modules, "arrow-ingest/Cargo.toml");
    const read = run("cargo", [
      "metadata",
      "--no-deps",
      "--offline",
      "--format-version=1",
      "--manifest-path",
      manifest,
    ]);
    expect(read.status, read.stderr).toBe(0);
    for (const target of JSON.parse(read.stdout).packages[0].targets) {
      expect(fs.existsSync(target.src_path), target.src_path).toBe(true);
    }

    // A stand-in for the ten minutes of cargo: the command is what is tested, not the compiler.
    const built = path.join(
      folder,
      name,
      fs.readdirSync(path.join(folder, name)).find((file) => file.endsWith(".node"))!,
    );
    fs.mkdirSync(path.join(folder, "rust/addon"), { recursive: true });
    fs.writeFileSync(
      path.join(folder, "rust/cargo"),
      `#!/bin/sh\necho "$@" > ${folder}/rust/arguments\ncp ${built} ${folder}/rust/addon/libarrow_ingest.so\n`,
      { mode: 0o755 },
    );
    const mended = inApp("npx", ["--no-install", "arrow-ingest-build"], {
      PATH: [`${folder}/rust`, bare, "/usr/bin", "/bin"].join(path.delimiter),
      CARGO_TARGET_DIR: `${folder}/rust`,
    });
    expect(mended.status, mended.stderr).toBe(0);
    expect(fs.readFileSync(`${folder}/rust/arguments`, "utf8")).toMatch(
      /^rustc --locked --lib --crate-type cdylib --profile addon /,
    );
    const again = inApp("node", ["example.mjs", "discard:"]);
    expect(again.status, again.stderr).toBe(0);
  } finally {
    fs.renameSync(path.join(folder, name), path.join(modules, name));
    const generated = path.join(modules, "arrow-ingest/dist/generated");
    for (const file of fs.readdirSync(generated)) {
      if (file.endsWith(".node")) fs.rmSync(path.join(generated, file));
    }
  }
});

function inApp(command: string, args: string[], env: NodeJS.ProcessEnv = {}) {
  return run(command, args, { cwd: path.join(folder, "app"), env: { PATH: bare, ...env } });
}

function run(command: string, args: string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}) {
  return spawnSync(command, args, {
    encoding: "utf8",
    cwd: options.cwd ?? root,
    // The addon of a coverage run must not stand in for the packed one.
    env: { ...process.env, NODE_OPTIONS: undefined, ...options.env },
    timeout: 240_000,
  });
}

function which(command: string): string {
  const folders = (process.env.PATH ?? "").split(path.delimiter);
  const found = folders.map((name) => path.join(name, command)).find((file) => fs.existsSync(file));
  if (!found) throw new Error(`${command} is not on PATH`);
  return fs.realpathSync(found);
}
