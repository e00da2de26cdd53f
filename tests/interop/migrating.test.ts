// both sides of each migration of docs/migrating.md run as they stand, one after the other, into one table.
import { execFile } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { promisify } from "node:util";
import { tableFromIPC } from "apache-arrow";
import { afterAll, describe, expect, test } from "vitest";
import { officialSdk } from "../../bench/official_sdk.mjs";
import { startEmulator } from "../../dist/index.js";
import { blocks } from "../../scripts/docs.mjs";
import { PYTHON, testWith } from "./support/peer.js";

const root = path.resolve(import.meta.dirname, "../..");
// Below the repository, so that `apache-arrow` and the package itself are found.
fs.mkdirSync(path.join(root, "target"), { recursive: true });
const home = fs.mkdtempSync(path.join(root, "target/migrating-"));
afterAll(() => fs.rmSync(home, { recursive: true, force: true }));

/** The page by its headings: the blocks below each, the first of them before and the last after. */
const page = fs.readFileSync(path.join(root, "docs/migrating.md"), "utf8");
const migrations = new Map(
  page.split(/^## /m).map((section) => {
    const found = blocks(section) as { language: string; text: string }[];
    return [section.split("\n")[0], { before: found[0]!, after: found.at(-1)! }];
  }),
);

const TABLE = "main.sales.orders";
const sdk = officialSdk();
if (sdk === undefined)
  console.warn("SKIPPED: migrating from the official SDK: it has no addon for this machine");

describe.skipIf(sdk === undefined)("R-35 from the official Zerobus SDK for TypeScript", () => {
  test("the program before and the program after bring the same rows", async () => {
    const name = path.join(home, "node_modules/@databricks/zerobus-ingest-sdk");
    fs.mkdirSync(name, { recursive: true });
    fs.writeFileSync(path.join(name, "package.json"), `{ "main": "index.js" }`);
    // The loader that its package lacks.
    const loader = `const addon = require(${JSON.stringify(sdk)});
      module.exports.ArrowDataType = addon.ArrowDataType;
      module.exports.ZerobusSdk = addon.ZerobusSdk;`;
    fs.writeFileSync(path.join(name, "index.js"), loader);
    const columns = [
      { name: "id", type: "INT" },
      { name: "price", type: "DOUBLE" },
    ];
    await using emulator = await startEmulator({ tables: { [TABLE]: columns } });
    const { unityCatalogUrl, clientId, clientSecret } = emulator.options.zerobus;
    const env = {
      ZEROBUS_ENDPOINT: unityCatalogUrl,
      ZEROBUS_TARGET: emulator.url(TABLE),
      DATABRICKS_HOST: unityCatalogUrl,
      DATABRICKS_CLIENT_ID: clientId,
      DATABRICKS_CLIENT_SECRET: clientSecret,
    };
    const { before, after } = migrations.get("From the official Zerobus SDK for TypeScript")!;
    await runTypeScript(before.text, env);
    expect(await emulator.rows(TABLE)).toBe(2);
    expect(await runTypeScript(after.text, env)).toBe("");
    expect(await emulator.rows(TABLE)).toBe(4);
  });
});

testWith(
  PYTHON,
  "R-35 from Python: the table that the program before made is the one that the program after goes on with",
  async () => {
    const { before, after } = migrations.get("From the Python wrapper")!;
    const program = path.join(home, "before.py");
    fs.writeFileSync(program, before.text);
    await run(PYTHON, [program]);
    const said = await runTypeScript(after.text, { PATH: `${path.dirname(PYTHON)}:${process.env.PATH}` });
    expect(said).toBe("acknowledged 3\n");
    // On a busy machine the reader's threads may outlive the interpreter, and end it with an abort.
    const count = `
import os, deltalake
print(deltalake.DeltaTable('./lake/from-python').to_pyarrow_table().num_rows, flush=True)
os._exit(0)`;
    expect(await run(PYTHON, ["-c", count])).toBe("6\n");
  },
);

test("R-35 from apache-arrow by hand: both programs bring their row", async () => {
  const { before, after } = migrations.get("From apache-arrow by hand")!;
  await runTypeScript(before.text);
  const [file] = fs.readdirSync(path.join(home, "upload"));
  expect(tableFromIPC(fs.readFileSync(path.join(home, "upload", file!))).numRows).toBe(1);
  expect(await runTypeScript(after.text)).toBe("acknowledged 0\n");
});

async function runTypeScript(text: string, env: NodeJS.ProcessEnv = {}) {
  const program = path.join(home, "program.mts");
  fs.writeFileSync(program, text);
  return run(process.execPath, [program], env);
}

/** What a program writes on its standard output; its failure is the test's. */
async function run(command: string, args: string[], env: NodeJS.ProcessEnv = {}) {
  const options = { cwd: home, env: { ...process.env, ...env } };
  return (await promisify(execFile)(command, args, options)).stdout;
}
