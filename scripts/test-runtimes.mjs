// Every runtime and tool of docs/runtimes.md, each in a folder of its own with the packed package installed:
//
//   npm run test:runtimes [-- --write | --list] [NAME …]
//
// NAME keeps the rows whose name contains it. --write keeps what was found in bench/results. It fetches runtimes,
// compilers and bundlers of some hundred megabytes, so it is no part of `npm test`; tests/package has what is cheap.
// A row that this machine cannot run is skipped and said. It packs the addon that `npm run build` left.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { parseArgs } from "node:util";
import { root, stop } from "./ensure.mjs";
import { startRegistry } from "./registry.mjs";

const { values, positionals } = parseArgs({
  options: { write: { type: "boolean", default: false }, list: { type: "boolean", default: false } },
  allowPositionals: true,
});
const manifest = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8"));
const programs = path.join(root, "tests/package/runtimes");
const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-runtimes-"));
process.once("exit", () => {
  spawnSync("chmod", ["-R", "u+w", home]);
  fs.rmSync(home, { recursive: true, force: true });
});
// Somebody else runs what is installed read-only.
fs.chmodSync(home, 0o755);

/** Which packages the registry has. */
let published = () => true;
let own = "";

const NODES = {
  oldest: manifest.engines.node.replace(">=", ""),
  22: "22",
  24: "24",
  26: "26",
};
const BOTH = { discard: "acknowledged 3", delta: "acknowledged 3" };
const TYPESCRIPT = ["5.4", "5.5", "5.6", "5.7", "5.8", "5.9", "6.0", "7.0"];
const ARROWS = ["15", "16", "17", "18", "19", "20", "21"];

/** Name of the row → what is done; a string that is returned is a remark for the table. */
const rows = {};

for (const [name, version] of Object.entries(NODES))
  rows[`Node ${name === "oldest" ? `${version}, the oldest` : name}: import and require`] = async (app) => {
    await app.npm(`node@${version}`);
    const node = app.bin("node");
    const { stdout } = await app.ok(node, ["--version"]);
    await app.works(node, ["program.mjs"]);
    await app.works(node, ["program.cjs"]);
    return stdout.trim();
  };
rows["Node's own TypeScript"] = async (app) => {
  await app.npm();
  await app.works("node", ["program.ts"]);
};
rows["Jest with ts-jest"] = async (app) => {
  await app.npm("jest@30", "ts-jest@29", "typescript@5.9", "@types/jest@30", "@types/node@24");
  app.write("package.json", { private: true, jest: { preset: "ts-jest", testRegex: "ingest\\.jest\\.ts$" } });
  app.write("tsconfig.json", {
    compilerOptions: { ...STRICT, module: "node16", types: ["node", "jest"], skipLibCheck: true },
  });
  return passes(await app.ok("npx", ["--no-install", "jest", "--ci"]), /1 passed, 1 total/);
};
rows["Jest with babel-jest"] = async (app) => {
  await app.npm("jest@30", "babel-jest@30", "@babel/core@7", "@babel/preset-env@7");
  app.write("babel.config.json", { presets: [["@babel/preset-env", { targets: { node: "current" } }]] });
  app.write("package.json", { private: true, jest: { testRegex: "ingest\\.jest\\.js$" } });
  return passes(await app.ok("npx", ["--no-install", "jest", "--ci"]), /1 passed, 1 total/);
};
for (const pool of ["threads", "forks"])
  rows[`Vitest, pool ${pool}`] = async (app) => {
    await app.npm("vitest@5", "vite");
    const args = ["--no-install", "vitest", "run", "--pool", pool, "ingest.vitest.ts"];
    fs.renameSync(app.at("ingest.vitest.ts"), app.at("ingest.test.ts"));
    return passes(await app.ok("npx", [...args.slice(0, -1), "ingest.test.ts"]), /1 passed/);
  };
rows.tsx = async (app) => {
  await app.npm("tsx@4");
  await app.works(app.bin("tsx"), ["program.ts"]);
};
rows["ts-node, CommonJS"] = async (app) => {
  await app.npm("ts-node@10", "typescript@5.9", "@types/node@24");
  app.write("package.json", { private: true });
  const options = { ...STRICT, module: "node16", moduleResolution: "node16", skipLibCheck: true };
  app.write("tsconfig.json", { compilerOptions: options });
  await app.works(app.bin("ts-node"), ["program.ts"]);
};
rows.Bun = async (app) => {
  await app.npm("bun@1");
  const bun = app.bin("bun");
  const { stdout } = await app.ok(bun, ["--version"]);
  await app.works(bun, ["program.mjs"]);
  await app.works(bun, ["program.cjs"]);
  await app.works(bun, ["program.ts"]);
  return stdout.trim();
};
rows["Bun, installed by it"] = async (app) => {
  await app.npm("bun@1");
  app.fresh();
  app.write("package.json", { private: true, dependencies: { "arrow-ingest": "*", "apache-arrow": "*" } });
  await app.ok(app.tool("bun"), ["install", "--no-save"]);
  await app.works(app.tool("bun"), ["program.mjs"]);
};
rows.Deno = async (app) => {
  await app.npm("deno@2");
  const deno = app.bin("deno");
  const { stdout } = await app.ok(deno, ["--version"]);
  const manual = ["run", "--node-modules-dir=manual"];
  const rights = ["--allow-ffi", "--allow-read", "--allow-env", "--allow-sys", "--allow-write"];
  await app.works(deno, [...manual, ...rights, "program.mjs"]);
  const denied = await app.says(deno, [
    ...manual,
    "--no-prompt",
    "--allow-read",
    "--allow-env",
    "program.mjs",
  ]);
  expect(denied.failed, /NATIVE_UNAVAILABLE .*run Deno with --allow-ffi/);
  return stdout.split("\n")[0];
};
rows.pnpm = async (app) => {
  await app.npm("pnpm@10");
  app.fresh();
  app.write("package.json", { private: true, dependencies: { "arrow-ingest": "*", "apache-arrow": "*" } });
  await app.ok(app.tool("pnpm"), ["install", "--no-frozen-lockfile", "--store-dir", app.at("store")]);
  await app.works("node", ["program.mjs"]);
};
rows["yarn 1"] = async (app) => {
  await app.npm("yarn@1");
  app.fresh();
  app.write("package.json", { private: true, dependencies: { "arrow-ingest": "*", "apache-arrow": "*" } });
  await app.ok(app.tool("yarn"), ["install", "--registry", registry.url, "--cache-folder", app.at("cache")]);
  await app.works("node", ["program.mjs"]);
};
for (const linker of ["node-modules", "pnp"])
  rows[`yarn 4, ${linker}`] = async (app) => {
    await app.npm("@yarnpkg/cli-dist@4");
    app.fresh();
    app.write("package.json", { private: true, dependencies: { "arrow-ingest": "*", "apache-arrow": "*" } });
    app.write("yarn.lock", "");
    app.write(
      ".yarnrc.yml",
      `nodeLinker: ${linker}\nnpmRegistryServer: ${registry.url}\nunsafeHttpWhitelist: ["127.0.0.1"]\n` +
        `enableTelemetry: false\nenableGlobalCache: false\nenableImmutableInstalls: false\n`,
    );
    const yarn = path.join(app.tools, "node_modules/@yarnpkg/cli-dist/bin/yarn.js");
    await app.ok("node", [yarn, "install"]);
    await app.works("node", linker === "pnp" ? [yarn, "node", "program.mjs"] : ["program.mjs"]);
  };
rows["npm, the other platforms' packages not published"] = async (app) => {
  published = (name) => name === "arrow-ingest" || name === own;
  try {
    await app.npm();
  } finally {
    published = () => true;
  }
  app.platforms([own]);
  await app.works("node", ["program.mjs"]);
};
rows["npm, with the other platforms' packages published"] = async (app) => {
  await app.npm();
  app.platforms([own]);
  await app.ok("npm", ["ci", "--no-audit", "--no-fund", "--prefer-offline"]);
  await app.works("node", ["program.mjs"]);
};
rows["npm --ignore-scripts"] = async (app) => {
  await app.npm("--ignore-scripts");
  await app.works("node", ["program.mjs"]);
};
rows["npm --omit=optional"] = async (app) => {
  await app.npm("--omit=optional");
  app.platforms([]);
  expect((await app.says("node", ["program.mjs"])).failed, /NATIVE_UNAVAILABLE .*--include=optional/);
  return "`NATIVE_UNAVAILABLE`, which names the package and `--include=optional`";
};

/** Per bundler: what it installs, and how it makes dist/ of program.mjs, with the package inside or outside. */
const BUNDLERS = {
  esbuild: {
    packages: ["esbuild@0.28"],
    file: "dist/program.mjs",
    make: (app, external) =>
      app.ok(app.bin("esbuild"), [
        ...["program.mjs", "--bundle", "--platform=node", "--format=esm", "--outfile=dist/program.mjs"],
        ...["--loader:.node=copy", "--log-level=error", ...external.map((name) => `--external:${name}`)],
        `--banner:js=import { createRequire as r } from "node:module"; const require = r(import.meta.url);`,
      ]),
  },
  webpack: {
    packages: ["webpack@5", "webpack-cli@6"],
    file: "dist/main.cjs",
    make: (app, external) => {
      app.write(
        "webpack.config.cjs",
        `module.exports = {
          mode: "production", target: "node22", entry: "./program.cjs",
          output: { filename: "main.cjs", path: ${JSON.stringify(app.at("dist"))} },
          externals: ${JSON.stringify(Object.fromEntries(external.map((name) => [name, `commonjs ${name}`])))},
          module: { rules: [{ test: /\\.node$/, type: "asset/resource" }] },
        };`,
      );
      return app.ok(app.bin("webpack"), ["--stats", "errors-only"]);
    },
  },
  Rollup: {
    packages: [
      "rollup@4",
      "@rollup/plugin-node-resolve@16",
      "@rollup/plugin-commonjs@28",
      "@rollup/plugin-json@6",
    ],
    file: "dist/program.mjs",
    make: (app, external) => {
      app.write(
        "rollup.config.mjs",
        `import commonjs from "@rollup/plugin-commonjs";
        import json from "@rollup/plugin-json";
        import resolve from "@rollup/plugin-node-resolve";
        export default {
          input: "program.mjs", external: [...${JSON.stringify(external)}, /^node:/, /\\.node$/],
          output: { dir: "dist", format: "esm", entryFileNames: "[name].mjs" },
          plugins: [resolve({ preferBuiltins: true }), commonjs(), json()],
        };`,
      );
      return app.ok(app.bin("rollup"), ["-c", "--silent"]);
    },
  },
  ncc: {
    packages: ["@vercel/ncc@0.45"],
    file: "dist/index.cjs",
    make: (app, external) =>
      app.ok(app.bin("ncc"), [
        ...["build", "program.cjs", "-o", "dist", "-q"],
        ...external.flatMap((name) => ["-e", name]),
      ]),
  },
};
for (const [name, { packages, file, make }] of Object.entries(BUNDLERS)) {
  rows[`${name}, the package external`] = async (app) => {
    await app.npm(...packages);
    await make(app, ["arrow-ingest", "apache-arrow"]);
    await app.works("node", [file]);
  };
  rows[`${name}, the package in the bundle`] = async (app) => {
    await app.npm(...packages);
    await make(app, ["apache-arrow"]);
    // A user ships the bundle and leaves node_modules behind; that of apache-arrow stays. Not below the folder that
    // was bundled in: Node would find its node_modules.
    const to = app.shipped;
    fs.mkdirSync(path.join(to, "node_modules"), { recursive: true });
    fs.cpSync(app.at("dist"), path.join(to, "dist"), { recursive: true });
    for (const entry of fs
      .readdirSync(app.at("node_modules"))
      .filter((entry) => !/^arrow-ingest/.test(entry)))
      fs.cpSync(app.at("node_modules", entry), path.join(to, "node_modules", entry), {
        recursive: true,
        verbatimSymlinks: true,
      });
    fs.writeFileSync(path.join(to, "package.json"), '{ "private": true }');
    const said = await app.says("node", [path.join(to, file)]);
    if (said.failed === undefined) {
      equal(said, BOTH);
      return "works: the bundler ships the addon as well";
    }
    expect(said.failed, /NATIVE_UNAVAILABLE .*leave arrow-ingest out of it/);
    return "`NATIVE_UNAVAILABLE`, which says to leave it out";
  };
}

rows["Node's permission model"] = async (app) => {
  await app.npm();
  const files = ["--allow-fs-read=*", "--allow-fs-write=*"];
  await app.works("node", ["--permission", "--allow-addons", "--allow-worker", ...files, "program.mjs"]);
  const without = await app.says("node", ["--permission", ...files, "program.mjs"]);
  expect(without.failed, /NATIVE_UNAVAILABLE .*--allow-addons/);
  const folder = fs.realpathSync(app.at("."));
  await app.says("node", [
    "--permission",
    "--allow-addons",
    `--allow-fs-read=${folder}`,
    "program.mjs",
    "discard:",
  ]);
  return "with `--allow-addons`; without it `NATIVE_UNAVAILABLE`, which names it";
};
rows["a read-only install, another user"] = async (app) => {
  await app.npm();
  fs.mkdirSync(app.at("lake"));
  await app.ok("chmod", ["-R", "a-w,a+rX", "."]);
  const nobody = process.getuid() === 0 ? { uid: 65_534, gid: 65_534 } : {};
  const node = fs.realpathSync(execFileSync("node", ["-p", "process.execPath"], { encoding: "utf8" }).trim());
  // The machine's Node may lie below root's folder, which nobody else enters.
  const copy = path.join(home, "node");
  if (!fs.existsSync(copy)) fs.copyFileSync(node, copy);
  const lake = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-lake-"));
  fs.chmodSync(lake, 0o777);
  try {
    const said = await app.says(copy, ["program.mjs", `delta:${lake}/table`], nobody);
    equal(said, BOTH);
  } finally {
    fs.rmSync(lake, { recursive: true, force: true });
  }
};
rows["a file system that is mounted noexec"] = async (app) => {
  const mount = (...script) => ["--mount", "sh", "-ec", script.join("\n")];
  const may = spawnSync("unshare", mount(`mount --bind ${home} ${home}`));
  if (may.status !== 0) return skip("it takes the right to mount");
  await app.npm();
  const { stdout } = await app.ok(
    "unshare",
    mount(
      `mount --bind ${app.at(".")} ${app.at(".")}`,
      `mount -o remount,bind,noexec ${app.at(".")}`,
      `cd ${app.at(".")}`,
      "node program.mjs",
    ),
  );
  expect(JSON.parse(stdout).failed, /NATIVE_UNAVAILABLE .*mounted noexec/);
  return "`NATIVE_UNAVAILABLE`, which says so";
};
rows["importing it, beyond apache-arrow"] = async (app) => {
  await app.npm();
  app.write(
    "time.mjs",
    `await import("apache-arrow");
    const [start, used] = [performance.now(), process.cpuUsage()];
    await import("arrow-ingest");
    const { user, system } = process.cpuUsage(used);
    console.log(JSON.stringify({ wall: performance.now() - start, cpu: (user + system) / 1000 }));`,
  );
  const times = [];
  for (let i = 0; i < 15; i++) times.push(await app.says("node", ["time.mjs"]));
  const median = (key) =>
    times
      .map((time) => time[key])
      .sort((a, b) => a - b)[7]
      .toFixed(1);
  return `median of 15: ${median("wall")} ms, ${median("cpu")} ms of processor time`;
};

const STRICT = { strict: true, noEmit: false, target: "es2022", lib: ["es2022"], types: ["node"] };
/** Per module system: the module and its resolution, as TypeScript wants them together. */
const RESOLUTIONS = [
  ["node16", "node16"],
  ["nodenext", "nodenext"],
  ["esnext", "bundler"],
  ["commonjs", "node10"],
];
for (const version of TYPESCRIPT)
  rows[`TypeScript ${version}`] = async (app) => {
    await app.npm(`typescript@~${version}.0`, "@types/node@22");
    const major = Number(version.split(".")[0]);
    const tried = RESOLUTIONS.filter(([, resolution]) => resolution !== "node10" || major < 6);
    for (const [module, resolution] of tried) await typesPass(app, module, resolution);
    return `${tried.map(([, resolution]) => resolution).join(", ")}; no DOM`;
  };
for (const version of ARROWS)
  rows[`apache-arrow ${version} of the user's own`] = async (app) => {
    await app.npm(`apache-arrow@${version}`, "typescript@~5.9.0", "@types/node@22");
    await typesPass(app, "nodenext", "nodenext");
    await app.works("node", ["program.mjs"]);
    return `and at run time; the package has its own ${app.version("arrow-ingest/node_modules/apache-arrow") ?? "the same one"}`;
  };

/** Strict in every way. Errors in the declarations of others are theirs. */
async function typesPass(app, module, moduleResolution) {
  const flags = { exactOptionalPropertyTypes: true, skipLibCheck: false, noUncheckedIndexedAccess: true };
  const libraries = { lib: ["es2022"], types: ["node"], target: "es2022", noEmit: true, strict: true };
  app.write("tsconfig.json", {
    compilerOptions: { ...flags, ...libraries, module, moduleResolution },
    // The same program as a module of either kind.
    files: moduleResolution === "node10" ? ["types.ts"] : ["types.ts", "types.mts"],
  });
  fs.copyFileSync(app.at("types.ts"), app.at("types.mts"));
  const checked = await app.run(app.bin("tsc"), ["-p", "tsconfig.json"]);
  const errors = checked.stdout
    .split("\n")
    .filter((line) => /^(types\.m?ts|node_modules\/arrow-ingest\/(?!node_modules)|error )/.test(line));
  if (errors.length > 0) throw new Error(`${moduleResolution}: ${errors.slice(0, 3).join(" | ")}`);
}

if (values.list) {
  console.log(Object.keys(rows).join("\n"));
  process.exit(0);
}
const chosen = Object.entries(rows).filter(
  ([name]) => positionals.length === 0 || positionals.some((part) => name.includes(part)),
);
if (chosen.length === 0) stop(`no row has such a name; there are\n  ${Object.keys(rows).join("\n  ")}`);
/** The real addon of this machine, and stand-ins for other platforms, which must not be installed here. */
const addons = path.join(home, "addons");
fs.mkdirSync(addons);
const [addon] = fs.readdirSync(path.join(root, "src-ts/generated")).filter((name) => name.endsWith(".node"));
if (addon === undefined) stop("there is no addon: npm run build.");
own = `arrow-ingest-${addon.split(".")[1]}`;
fs.symlinkSync(path.join(root, "src-ts/generated", addon), path.join(addons, addon));
for (const name of ["darwin-arm64", "linux-arm64-musl", "win32-x64-msvc"])
  fs.writeFileSync(path.join(addons, `${manifest.napi.binaryName}.${name}.node`), "");
const tarballs = path.join(home, "tarballs");
execFileSync("node", ["scripts/pack.mjs", "--addons", addons, "--out", tarballs], { cwd: root });
const registry = await startRegistry(tarballs, (name) => published(name));
const environment = { ...process.env, NODE_OPTIONS: "", npm_config_registry: registry.url };
for (const name of Object.keys(environment))
  if (/^npm_(?!config_registry$)/.test(name)) delete environment[name];
const found = [];
for (const [index, [name, row]] of chosen.entries()) {
  const app = application(`app-${index}`);
  const start = performance.now();
  let [state, remark] = ["works", ""];
  try {
    const told = await row(app);
    if (told?.skipped) [state, remark] = ["skipped", told.skipped];
    else remark = told ?? "";
  } catch (error) {
    [state, remark] = ["fails", error.message.replaceAll(home, "").replaceAll("\n", " ").slice(0, 600)];
  }
  const seconds = ((performance.now() - start) / 1000).toFixed(0);
  console.log(
    `${state === "works" ? "\u2713" : state === "fails" ? "\u2717" : "-"} ${name} (${seconds} s) ${remark}`,
  );
  found.push({ name, state, remark });
  app.remove();
}
await registry.close();
const count = (state) => found.filter((row) => row.state === state).length;
if (values.write) {
  const date = new Date().toISOString().slice(0, 10);
  const lines = found.map(
    ({ name, state, remark }) => `| ${name} | ${state} | ${remark.replaceAll("|", "\\|")} |`,
  );
  const text = `# Runtimes and tools

\`npm run test:runtimes -- --write\` on ${own.replace("arrow-ingest-", "")}. Each row installed the packed package in an empty folder from a registry on this machine, and ran there what \`tests/package/runtimes\` has: a batch to \`discard:\` and one into a Delta table.

| runtime or tool | found | remark |
|---|---|---|
${lines.join("\n")}
`;
  const to = path.join("bench/results", `${date}-runtimes.md`);
  fs.writeFileSync(path.join(root, to), text);
  console.log(to);
}
console.log(`${count("works")} passed, ${count("fails")} failed, ${count("skipped")} skipped`);
process.exit(count("fails") > 0 || count("works") === 0 ? 1 : 0);

function skip(why) {
  return { skipped: why };
}

function passes({ stdout, stderr }, pattern) {
  if (!pattern.test(stdout + stderr)) throw new Error(`no test passed: ${stdout}${stderr}`);
}

function expect(text, pattern) {
  if (!pattern.test(text ?? "")) throw new Error(`${JSON.stringify(text)} is not ${pattern}`);
}

function equal(said, wanted) {
  if (JSON.stringify(said) !== JSON.stringify(wanted)) throw new Error(`it said ${JSON.stringify(said)}`);
}

/** A folder with the programs in it, and what can be done there. */
function application(name) {
  const folder = path.join(home, name);
  const at = (...parts) => path.join(folder, ...parts);
  const tools = path.join(home, `${name}-tools`);
  const shipped = path.join(home, `${name}-shipped`);
  fs.cpSync(programs, folder, { recursive: true });
  fs.writeFileSync(at("package.json"), '{ "private": true }');
  const app = {
    at,
    tools,
    shipped,
    bin: (command) => at("node_modules/.bin", command),
    /** The same after `fresh`. */
    tool: (command) => path.join(tools, "node_modules/.bin", command),
    write: (file, content) =>
      fs.writeFileSync(at(file), typeof content === "string" ? content : JSON.stringify(content)),
    version(module) {
      const file = at("node_modules", module, "package.json");
      return fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, "utf8")).version : undefined;
    },
    run: (command, args, options = {}) => run(command, args, { cwd: folder, ...options }),
    async ok(command, args, options) {
      const done = await app.run(command, args, options);
      if (done.status === 0) return done;
      const text = `${done.stdout}\n${done.stderr}`.trim().slice(-900);
      throw new Error(
        `${path.basename(command)} ${args[0]}: ${done.signal ?? `exit code ${done.status}`}: ${text}`,
      );
    },
    /** Installs the package, apache-arrow beside it, and what else is asked for. */
    npm(...packages) {
      const arrow = packages.some((asked) => asked.startsWith("apache-arrow@")) ? [] : ["apache-arrow@21"];
      const flags = ["--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error", "--legacy-peer-deps"];
      return app.ok("npm", ["install", ...flags, "arrow-ingest", ...arrow, ...packages]);
    },
    /** Moves what npm installed aside: another installer begins with an empty folder. */
    fresh() {
      fs.mkdirSync(tools);
      for (const entry of ["node_modules", "package-lock.json"])
        fs.renameSync(at(entry), path.join(tools, entry));
    },
    platforms(wanted) {
      const there = fs.readdirSync(at("node_modules")).filter((entry) => /^arrow-ingest-/.test(entry));
      if (there.join() !== wanted.join()) throw new Error(`installed: ${there.join(", ") || "none"}`);
    },
    async says(command, args, options) {
      return JSON.parse((await app.ok(command, args, options)).stdout.trim().split("\n").at(-1));
    },
    async works(command, args) {
      fs.rmSync(at("lake"), { recursive: true, force: true });
      equal(await app.says(command, args), BOTH);
    },
    remove() {
      spawnSync("chmod", ["-R", "u+w", folder]);
      for (const gone of [folder, tools, shipped]) fs.rmSync(gone, { recursive: true, force: true });
    },
  };
  return app;
}

/** Not spawnSync: the registry answers from this process. */
function run(command, args, options) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      env: environment,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: 300_000,
      ...options,
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
