// what docs/deploying.md tells to do is done here, step by step, with the packed package from a registry: the
// instructions of the Dockerfile in a folder, for there is no Docker where tests run; the commands of npm; the handler.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { blocks } from "../../scripts/docs.mjs";
import { startRegistry } from "../../scripts/registry.mjs";

const root = path.resolve(import.meta.dirname, "../..");
const page = fs.readFileSync(path.join(root, "docs/deploying.md"), "utf8");
const all = blocks(page) as { language: string; text: string }[];
const shown = (language: string) =>
  all.filter((block) => block.language === language).map(({ text }) => text);
const [main, handler] = shown("ts");

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-deploying-"));
/** Somebody's repository: their program, their lockfile, and packages that were installed on another machine. */
const repository = path.join(folder, "repository");
let registry: Awaited<ReturnType<typeof startRegistry>>;

beforeAll(async () => {
  // One addon that works here, and one that stands for another platform's.
  const [addons, packed] = [path.join(folder, "addons"), path.join(folder, "packed")];
  fs.mkdirSync(addons);
  const generated = path.join(root, "src-ts/generated");
  for (const name of fs.readdirSync(generated).filter((file) => file.endsWith(".node")))
    fs.copyFileSync(path.join(generated, name), path.join(addons, name));
  const other = path.join(addons, "arrow-ingest.linux-arm64-gnu.node");
  if (!fs.existsSync(other)) fs.writeFileSync(other, "addon");
  await run("node", [path.join(root, "scripts/pack.mjs"), "--addons", addons, "--out", packed], root);
  registry = await startRegistry(packed);

  fs.mkdirSync(repository);
  const manifest = {
    private: true,
    type: "module",
    dependencies: { "arrow-ingest": "*", "apache-arrow": "21" },
  };
  fs.writeFileSync(path.join(repository, "package.json"), JSON.stringify(manifest));
  await run("npm", ["install", "--package-lock-only", "--no-audit", "--no-fund"], repository);
  const send = `
    import { tableFromArrays } from "apache-arrow";
    const result = await client.send(tableFromArrays({ id: Int32Array.of(1, 2, 3) }));
    console.log(result.status);
    setInterval(() => {}, 1000);`;
  fs.writeFileSync(path.join(repository, "main.js"), `${main}${send}`);
  const foreign = path.join(repository, "node_modules/arrow-ingest");
  fs.mkdirSync(foreign, { recursive: true });
  fs.writeFileSync(
    path.join(foreign, "package.json"),
    `{ "name": "arrow-ingest", "main": "of-another-machine" }`,
  );
}, 300_000);

afterAll(() => {
  registry?.close();
  fs.rmSync(folder, { recursive: true, force: true });
});

test("the Dockerfile's instructions make a program that runs, and ends well when it is stopped", async () => {
  const [dockerfile] = shown("dockerfile");
  const [ignored] = shown("dockerignore");
  const image = path.join(folder, "image");
  const made = await build(dockerfile!, ignored!.trim().split("\n"), image);
  const [command, ...args] = made.command;
  const program = spawn(command!, args, { cwd: made.home, env: { ...environment(), ...made.env } });
  const ended = once(program, "exit");
  let [said, failed] = ["", ""];
  program.stderr.on("data", (chunk) => {
    failed += chunk;
  });
  for await (const chunk of program.stdout) {
    said += chunk;
    // What `docker stop` does to the first process.
    if (said.includes("\n")) program.kill("SIGTERM");
  }
  const [code, signal] = await ended;
  expect({ said, failed, code, signal }).toEqual({
    said: "acknowledged\n",
    failed: "",
    code: 0,
    signal: null,
  });
  expect(fs.existsSync(path.join(image, "data/events/_delta_log"))).toBe(true);
}, 240_000);

test("npm's commands bring the package of the platform that they name", async () => {
  const commands = [...page.matchAll(/`(npm (?:ci|install) --os=(\w+) --cpu=(\w+) --libc=glibc)`/g)];
  expect(commands.map(([, , , cpu]) => cpu).sort()).toEqual(["arm64", "x64"]);
  for (const [, command, system, cpu] of commands) {
    const home = path.join(folder, `for-${cpu}`);
    fs.mkdirSync(home);
    for (const name of ["package.json", "package-lock.json"])
      fs.copyFileSync(path.join(repository, name), path.join(home, name));
    await run("sh", ["-c", `${command} --no-audit --no-fund`], home);
    const installed = fs.readdirSync(path.join(home, "node_modules"));
    const addons = installed.filter((name) => name.startsWith("arrow-ingest-"));
    expect(addons, command).toEqual([`arrow-ingest-${system}-${cpu}-gnu`]);
  }
}, 240_000);

test("the handler for Lambda answers call after call by one client, when its rows are durable", async () => {
  const home = path.join(folder, "function");
  fs.mkdirSync(home);
  for (const name of ["package.json", "package-lock.json"])
    fs.copyFileSync(path.join(repository, name), path.join(home, name));
  await run("npm", ["ci", "--no-audit", "--no-fund"], home);
  expect(handler).toContain(`"delta:s3://my-bucket/orders"`);
  fs.writeFileSync(path.join(home, "handler.ts"), handler!.replace("delta:s3://my-bucket/", "delta:./"));
  const calls = `
    import { handler } from "./handler.ts";
    const good = { id: "a", amount: 1 };
    console.log(JSON.stringify(await handler({ records: [good, good] })));
    console.log(JSON.stringify(await handler({ records: [good, { id: 1, amount: "much" }] })));
    process.exit(0); // an instance is taken away, and no function hears of it`;
  fs.writeFileSync(path.join(home, "calls.ts"), calls);
  const said = await run("node", ["calls.ts"], home);
  expect(
    said
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line)),
  ).toEqual([
    { rows: 2, refused: 0 },
    { rows: 1, refused: 1 },
  ]);
  // Made, and written to twice.
  const log = fs.readdirSync(path.join(home, "orders/_delta_log")).filter((name) => name.endsWith(".json"));
  expect(log.length).toBe(3);
}, 240_000);

/** Carries out a Dockerfile below `image`, which stands for the root of its disk. */
async function build(dockerfile: string, ignored: string[], image: string) {
  const { engines } = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8"));
  const oldest = Number(/\d+/.exec(engines.node)![0]);
  const made = { home: image, env: {} as Record<string, string>, command: [] as string[] };
  fs.mkdirSync(image);
  for (const line of dockerfile.trim().split("\n")) {
    const [, instruction, rest] = /^([A-Z]+) (.+)$/.exec(line)!;
    const words = rest!.split(" ");
    if (instruction === "FROM") {
      expect(Number(/^node:(\d+)-slim$/.exec(rest!)![1])).toBeGreaterThanOrEqual(oldest);
    } else if (instruction === "WORKDIR") {
      made.home = path.join(image, rest!);
      fs.mkdirSync(made.home, { recursive: true });
    } else if (instruction === "COPY") {
      const into = path.resolve(made.home, words.at(-1)!);
      for (const source of words.slice(0, -1)) {
        const from = path.join(repository, source);
        const filter = (file: string) => !ignored.includes(path.relative(repository, file));
        const target = fs.statSync(from).isDirectory() ? into : path.join(into, source);
        fs.cpSync(from, target, { recursive: true, filter });
      }
    } else if (instruction === "RUN") {
      await run("sh", ["-c", rest!], made.home);
    } else if (instruction === "ENV") {
      const [name, value] = rest!.split(/=(.*)/s);
      made.env[name!] = value!.replace("delta:/", `delta:${image}/`);
    } else if (instruction === "VOLUME") {
      fs.mkdirSync(path.join(image, rest!), { recursive: true });
    } else if (instruction === "CMD") {
      made.command = JSON.parse(rest!);
    } else throw new Error(`the test does not know what ${instruction} does`);
  }
  return made;
}

function environment(): NodeJS.ProcessEnv {
  // The addon and the options of a test run must not stand in for those of the package.
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(npm_|ARROW_INGEST_|NODE_OPTIONS)/.test(name),
  );
  // npm leaves out, without a word, an optional package that its own Node is too old for.
  const PATH = [path.dirname(process.execPath), process.env.PATH].join(path.delimiter);
  return { ...Object.fromEntries(kept), PATH, npm_config_registry: registry?.url };
}

/** What a command says. Not the synchronous call: the registry is in this process. */
async function run(command: string, args: string[], cwd: string): Promise<string> {
  return (await promisify(execFile)(command, args, { cwd, env: environment() })).stdout;
}
