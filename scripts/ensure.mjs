// Makes what a command needs, then runs the command:
//
//   node scripts/ensure.mjs [addon | addon:debug | addon:packed | addon:tests] [dist] [python] [servers] [site] [browser]
//     [wasm | wasm:fetched] [-- command …]
//
// `npm run demo` and `npm test` are typed right after `git clone`, by somebody who has Node and Rust and
// nothing else, so this file imports nothing that has to be installed first. It never decides that the
// addon is fresh: cargo and tsc know that better.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const at = (...parts) => path.join(root, ...parts);
const windows = process.platform === "win32";

// The Node that the `node` package brings has to come before the machine's own, which may be too old for
// the tools. npm does the same, but not for somebody who calls this file directly.
process.env.PATH = at("node_modules/.bin") + path.delimiter + process.env.PATH;

const steps = {
  addon: () => buildAddon("--release"),
  "addon:debug": () => buildAddon(),
  // `npm run pack -- --all` packs what `build:platform` has made, and needs no other.
  "addon:packed": () => (process.argv.includes("--all") ? undefined : buildAddon("--release")),
  "addon:tests": buildTestAddon,
  dist: buildDist,
  python: installPython,
  servers: buildServers,
  site: installSite,
  browser: needBrowser,
  // Nobody's machine but CI's fetches a compiler by running tests, unless it is for these alone.
  wasm: () => buildWasm(process.env.CI !== undefined),
  "wasm:fetched": () => buildWasm(true),
};

export function say(text) {
  console.error(`\u203a ${text}`);
}

export function stop(message) {
  console.error(`\n\u2717 ${message}`);
  process.exit(1);
}

/** Runs a command in the repository, its output shown; stops everything if it fails. */
export function run(command, args, { advice = "" } = {}) {
  execute(command, args, "inherit", process.env, advice);
}

/** The same for a command that is asked something: what it writes on its standard output is returned. */
function read(command, args, env = {}) {
  return execute(command, args, "pipe", { ...process.env, ...env }, "").stdout;
}

function execute(command, args, output, env, advice) {
  const done = spawnSync(command, args, {
    cwd: root,
    stdio: ["ignore", output, "inherit"],
    env,
    encoding: "utf8",
    maxBuffer: 2 ** 28,
    shell: windows, // npm and the tools in .bin are .cmd files there
  });
  if (done.error || done.status !== 0) {
    const why = done.error?.message ?? (done.signal ? `ended by ${done.signal}` : `exit code ${done.status}`);
    stop(`${command} ${args.join(" ")}: ${why}${advice && `\n  ${advice}`}`);
  }
  return done;
}

/** Why a Node cannot be worked with, or undefined; `engines` of package.json is what it has to be. */
export function nodeFault(version, engines) {
  const parts = (text) => /(\d+)\.(\d+)/.exec(text).slice(1).map(Number);
  const [[major, minor], [least, leastMinor]] = [parts(version), parts(engines)];
  if (major > least || (major === least && minor >= leastMinor)) return undefined;
  return (
    `Node ${version} is too old, ${engines} is needed. The package \`node\` of the development dependencies ` +
    `brings one and it is not there: install a newer Node, and try again.`
  );
}

/** The Node that tools and tests run with, whichever has started this file. */
function needNode() {
  const { engines } = JSON.parse(fs.readFileSync(at("package.json"), "utf8"));
  const found = spawnSync("node", ["--version"], { encoding: "utf8", shell: windows });
  const fault = nodeFault(found.status === 0 ? found.stdout.trim() : process.version, engines.node);
  if (fault) stop(fault);
}

function installPackages() {
  // npm leaves a copy of what it installed; comparing entries finds a lockfile that has moved on.
  const wanted = JSON.parse(fs.readFileSync(at("package-lock.json"), "utf8")).packages;
  let installed = {};
  try {
    installed = JSON.parse(fs.readFileSync(at("node_modules/.package-lock.json"), "utf8")).packages;
  } catch {}
  const stale = Object.entries(wanted).find(
    ([name, entry]) => name && !entry.optional && installed[name]?.version !== entry.version,
  );
  // A `node` package whose own install step did not run leaves the machine's old Node in charge.
  if (!stale && fs.existsSync(at("node_modules/node/bin"))) return;
  const why = fs.existsSync(at("node_modules")) && stale ? `: ${stale[0]} is missing or outdated` : "";
  say(`installing npm packages${why}`);
  // Not `npm ci`: it refuses a lockfile that lacks entries for other platforms' optional packages, and npm
  // leaves those out when the registry at hand does not carry them. This takes the locked versions too.
  run("npm", ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"], {
    advice: "Is the npm registry reachable?",
  });
}

/** The target that this machine's Rust builds for. */
function needRust() {
  const wanted = /^rust-version = "(.+)"/m.exec(fs.readFileSync(at("Cargo.toml"), "utf8"))[1];
  const advice = `Install Rust ${wanted} or later with rustup (see rust-lang.org), open a new shell, and try again.`;
  const found = spawnSync("rustc", ["--version", "--verbose"], { encoding: "utf8" });
  const cargo = spawnSync("cargo", ["--version"], { encoding: "utf8" });
  if (found.error || cargo.error || found.status || cargo.status)
    stop(`No Rust toolchain was found. ${advice}`);
  const [have, need] = [/(\d+)\.(\d+)/.exec(found.stdout), /(\d+)\.(\d+)/.exec(wanted)];
  if (have[1] * 1000 + +have[2] < need[1] * 1000 + +need[2])
    stop(`${found.stdout.split("\n")[0]} is too old. ${advice}`);
  return /^host: (.+)$/m.exec(found.stdout)[1];
}

/**
 * The addon by cargo, and what Node loads it with by napi's own functions. Not `napi build`: the first time that it
 * compiles, it gives the build script a variable with the time of day, so the second build compiles the crate again.
 */
async function buildAddon(...release) {
  const host = needRust();
  const profile = release.length ? "release" : "debug";
  const cold = !fs.existsSync(at("target", host, profile, "deps"));
  say(`building the native addon${cold ? " (the first time takes several minutes)" : ""}`);

  // The macros of napi write here what they export, while the crate compiles.
  const definitions = at("target/napi-rs", profile);
  const { name, version, napi } = JSON.parse(fs.readFileSync(at("package.json"), "utf8"));
  // Always with a target, so that builds without this variable have a folder of their own: cargo compiles the crate
  // again whenever the variable changes.
  const which = ["--target", host, ...release];
  if (!fs.existsSync(path.join(definitions, name))) {
    fs.mkdirSync(definitions, { recursive: true });
    run("cargo", ["clean", "--quiet", "--package", name, ...which]);
  }
  const locked = process.env.CI ? ["--locked"] : [];
  const messages = read(
    "cargo",
    ["build", "--lib", ...which, ...locked, "--message-format", "json-render-diagnostics"],
    {
      NAPI_TYPE_DEF_TMP_FOLDER: definitions,
      // A library of musl is not linked statically.
      ...(host.endsWith("musl") && {
        RUSTFLAGS: `${process.env.RUSTFLAGS ?? ""} -C target-feature=-crt-static`.trim(),
      }),
    },
  );
  await putAddon(host, messages);

  const { generateTypeDef, writeJsBinding } = await import("@napi-rs/cli");
  const folder = at("src-ts/generated");
  const written = ["index.js", "index.d.ts"].map((name) => path.join(folder, name));
  const texts = () => written.map((file) => (fs.existsSync(file) ? fs.readFileSync(file, "utf8") : ""));
  const before = texts();
  const types = await generateTypeDef({ typeDefDir: definitions, cwd: root, declareBindingTarget: true });
  fs.writeFileSync(written[1], types.dts);
  await writeJsBinding({
    ...{ platform: true, format: "esm", outputDir: folder, idents: types.exports },
    ...{ binaryName: napi.binaryName, packageName: name, version },
  });
  const loader = fs.readFileSync(written[0], "utf8");
  fs.writeFileSync(written[0], askNodeFirst(loader));
  // The generated files are committed so that a change of the boundary is seen in review.
  const after = texts();
  const drifted = written.filter((_, i) => before[i] !== after[i]).map((file) => path.relative(root, file));
  if (drifted.length === 0) return;
  if (process.env.CI)
    stop(`${drifted.join(" and ")} did not match the Rust code. Build, and commit the result.`);
  say(`${drifted.join(" and ")} changed with the Rust code: commit the result.`);
}

/**
 * napi's loader asks the machine for its C library first: a Node of musl on a machine that has glibc's `ldd` beside it
 * would load the addon of glibc. What Node itself is linked to comes before that. Exported for its test.
 */
export function askNodeFirst(loader) {
  const asksMachine = "    musl = isMuslFromFilesystem()\n";
  if (loader.split(asksMachine).length !== 2) stop("napi's loader has changed: see askNodeFirst.");
  return loader
    .replace(
      asksMachine,
      `    musl = isMuslFromNode()
    if (musl === null) {
      musl = isMuslFromFilesystem()
    }
`,
    )
    .replace(
      "const isMuslFromFilesystem = ",
      `const isMuslFromNode = () => {
  try {
    process.report.excludeNetwork = true
    return process.report.getReport().header.glibcVersionRuntime ? false : isMuslFromReport() || null
  } catch {
    // Runtimes that only resemble Node have no report, or want a right for it.
    return null
  }
}

const isMuslFromFilesystem = `,
    );
}

/**
 * The addon that cargo builds beside the Rust tests, so that who runs both compiles the crate once. It has the
 * features of `npm run build:debug`; `src-ts/generated/index.*` stay as they are.
 */
async function buildTestAddon() {
  const host = needRust();
  say("building the Rust tests and the addon beside them");
  await putAddon(host, read("cargo", ["test", "--no-run", "--message-format", "json-render-diagnostics"]));
}

/** Puts the library that cargo's `messages` speak of where it is loaded from. */
async function putAddon(host, messages) {
  const library = messages
    .split("\n")
    .filter(Boolean)
    .map(JSON.parse)
    .filter(({ target, profile }) => target?.kind.includes("cdylib") && !profile.test)
    .flatMap(({ filenames }) => filenames)
    .find((file) => /\.(so|dylib|dll)$/.test(file));
  const { parseTriple } = await import("@napi-rs/cli");
  const { napi } = JSON.parse(fs.readFileSync(at("package.json"), "utf8"));
  fs.mkdirSync(at("src-ts/generated"), { recursive: true });
  const name = `${napi.binaryName}.${parseTriple(host).platformArchABI}.node`;
  put(library, at("src-ts/generated", name));
}

/** Copied aside and renamed: writing over an addon that a running process has mapped kills that process. */
function put(from, to) {
  const aside = path.join(path.dirname(to), `.${path.basename(to)}.${process.pid}`);
  fs.copyFileSync(from, aside, fs.constants.COPYFILE_FICLONE);
  fs.renameSync(aside, to);
}

function buildDist() {
  say("building dist");
  run("tsc", ["-p", "tsconfig.build.json"]);
  const [from, to] = [at("src-ts/generated"), at("dist/generated")];
  fs.mkdirSync(to, { recursive: true });
  for (const name of fs.existsSync(from) ? fs.readdirSync(from) : [])
    put(path.join(from, name), path.join(to, name));
  // A module that was deleted from src-ts would go on passing its tests here, and only here.
  for (const name of fs.readdirSync(at("dist"), { recursive: true })) {
    const source = /^(?!generated)(.+?)(\.d)?\.[jt]s(\.map)?$/.exec(name)?.[1];
    if (source && !fs.existsSync(at("src-ts", `${source}.ts`))) fs.rmSync(at("dist", name));
  }
}

/** The interpreter with the libraries that the interop tests compare with, or undefined. */
export function python() {
  const file = at(".tools/venv", windows ? "Scripts/python.exe" : "bin/python");
  return fs.existsSync(file) ? file : undefined;
}

function installPython() {
  const requirements = at("tests/interop/requirements.txt");
  if (!fs.existsSync(requirements)) return;
  const stale = staleness(".tools/venv", [requirements]);
  if (!stale) return;
  const found = ["python3", "python"].find((name) => spawnSync(name, ["--version"]).status === 0);
  if (!found) {
    const missing = "Python 3 was not found: the tests against other readers and writers of Delta Lake";
    if (process.env.CI) stop(`${missing} need it.`);
    return say(`${missing} are skipped.`);
  }
  say("installing the Python libraries that the interop tests compare with");
  fs.rmSync(at(".tools/venv"), { recursive: true, force: true });
  run(found, ["-m", "venv", at(".tools/venv")], { advice: "On Debian: apt-get install python3-venv" });
  run(python(), ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]);
  stale.settle();
}

/** Undefined if what is in `folder` was made of `sources` as they are; else how to say that it is, once made. */
function staleness(folder, sources) {
  const hash = createHash("sha256");
  for (const source of sources) hash.update(path.basename(source)).update(fs.readFileSync(source));
  const digest = hash.digest("hex");
  const mark = at(folder, "installed");
  if (fs.existsSync(mark) && fs.readFileSync(mark, "utf8") === digest) return undefined;
  return { settle: () => fs.writeFileSync(mark, digest) };
}

/** The Flight servers in Go and Java that the interop tests talk to; without Go or Java they are skipped. */
function buildServers() {
  if (!fs.existsSync(at("tests/interop/go"))) return;
  buildWith("Go", [["go", "version"]], ".tools/go", goSources(), (files) => {
    // With their go.mod, so that the example is compiled with the versions that are pinned there.
    const build = ["build", "-C", at("tests/interop/go"), "-o", at(".tools/go/")];
    run("go", [...build, "./keep", "./sql"]);
    run("go", [...build, files.at(-1)]);
  });
  const pom = at("tests/interop/java/pom.xml");
  const java = [at("tests/interop/java/PutServer.java"), at("examples/flight-servers/DurablePut.java")];
  const tools = [
    ["javac", "-version"],
    ["mvn", "-version"],
  ];
  buildWith("Java with Maven", tools, ".tools/java", [pom, ...java], () => {
    const quiet = ["--quiet", "--batch-mode", "--file", pom, `-Dmaven.repo.local=${at(".tools/m2")}`];
    run("mvn", [...quiet, "dependency:copy-dependencies", `-DoutputDirectory=${at(".tools/java/lib")}`]);
    run("javac", ["-cp", at(".tools/java/lib/*"), "-d", at(".tools/java/classes"), ...java]);
  });
}

function goSources() {
  const all = fs.readdirSync(at("tests/interop/go"), { recursive: true });
  const ours = all.filter((name) => /\.(go|mod|sum)$/.test(name)).sort();
  return [...ours.map((name) => at("tests/interop/go", name)), at("examples/flight-servers/durable_put.go")];
}

function buildWith(language, tools, folder, sources, build) {
  const stale = staleness(folder, sources);
  if (!stale) return;
  // What is left of older sources must not be what the tests talk to.
  fs.rmSync(at(folder), { recursive: true, force: true });
  if (tools.some(([tool, flag]) => spawnSync(tool, [flag]).status !== 0)) {
    const missing = `${language} was not found: the tests against Flight servers made with it`;
    if (process.env.CI) stop(`${missing} need it.`);
    return say(`${missing} are skipped.`);
  }
  say(`building Flight servers with ${language} (the first time takes a minute or two)`);
  fs.mkdirSync(at(folder), { recursive: true });
  build(sources);
  stale.settle();
}

/** What builds the site of the documentation: packages apart from ours, for `site/package.json` says why. */
function installSite() {
  if (!fs.existsSync(at("site"))) return;
  const stale = staleness("site/node_modules", [at("site/package-lock.json")]);
  if (!stale) return;
  say("installing what builds the site of the documentation");
  const quiet = ["--no-save", "--no-audit", "--no-fund", "--loglevel=error"];
  run("npm", ["install", "--prefix", at("site"), ...quiet], { advice: "Is the npm registry reachable?" });
  stale.settle();
}

/** The core of the client for WebAssembly, as its tests take it. A process of its own: it imports this file. */
function buildWasm(fetches) {
  needRust();
  run("node", ["scripts/wasm.mjs", "--debug", ...(fetches ? [] : ["--no-fetching"])]);
}

/** The browser that the site is opened in by its test, or undefined. */
export function browser() {
  const names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
  const folders = process.env.PATH.split(path.delimiter);
  return names
    .flatMap((name) => folders.map((folder) => path.join(folder, name)))
    .find((file) => fs.existsSync(file));
}

/** Nobody's machine but CI's gets a browser by running tests. */
function needBrowser() {
  if (browser()) return;
  const missing = "Chromium was not found: the test of the site in a browser";
  if (!process.env.CI) return say(`${missing} is skipped.`);
  const advice = `${missing} needs it. On Debian: apt-get install chromium`;
  if (process.getuid?.() !== 0 || spawnSync("apt-get", ["--version"]).status !== 0) stop(advice);
  say("installing Chromium");
  run("apt-get", ["update", "-qq"]);
  run("apt-get", ["install", "-qq", "-y", "--no-install-recommends", "chromium"]);
  if (!browser()) stop(advice);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2);
  const split = args.includes("--") ? args.indexOf("--") : args.length;
  const unknown = args.slice(0, split).find((name) => !(name in steps));
  if (unknown) stop(`ensure: no step is called ${unknown}; there are ${Object.keys(steps).join(", ")}.`);
  installPackages();
  needNode();
  for (const name of args.slice(0, split)) await steps[name]();
  const [command, ...rest] = args.slice(split + 1);
  if (command) {
    const done = spawnSync(command, rest, { cwd: root, stdio: "inherit", shell: windows });
    if (done.error) stop(`${command}: ${done.error.message}`);
    process.exit(done.status ?? 1);
  }
}
