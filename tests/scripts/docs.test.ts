// R-35 R-53: what README and docs/ show compiles or is what an example runs, and what they link to is in the package.
import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { HELP } from "../../dist/cli/help.js";
import { badges } from "../../scripts/badges.mjs";
import { blocks, links, pages, region } from "../../scripts/docs.mjs";

const root = path.resolve(import.meta.dirname, "../..");
const read = (page: string) => fs.readFileSync(path.join(root, page), "utf8");

/** Below the repository, so that `apache-arrow` and the package itself are found. */
fs.mkdirSync(path.join(root, "target"), { recursive: true });
const scratch = fs.mkdtempSync(path.join(root, "target/docs-"));
afterAll(() => fs.rmSync(scratch, { recursive: true, force: true }));

describe.each(pages())("%s", (page) => {
  test("shows what its examples say", () => {
    for (const { example, text, line } of blocks(read(page))) {
      if (example) expect(text, `${page}:${line}; node scripts/docs.mjs mends it`).toBe(region(example));
    }
  });

  test("links to files that are there, and in the package", () => {
    const { files } = JSON.parse(read("package.json")) as { files: string[] };
    for (const link of links(read(page))) {
      const target = path.posix.join(path.posix.dirname(page), link);
      expect(fs.existsSync(path.join(root, target)), `${page} links to ${target}`).toBe(true);
      const packed = files.some((entry) => target === entry || target.startsWith(`${entry}/`));
      expect(packed || target === "LICENSE", `${target} is in the package`).toBe(true);
    }
  });
});

test("every table has a head: a row behind an empty line would be shown as text", () => {
  for (const page of pages()) {
    const prose = read(page).replaceAll(/^```.*?^```$/gms, "");
    for (const [table] of prose.matchAll(/^\|.*\n(?:\|.*\n?)*/gm))
      expect(table.split("\n")[1], `${page}: ${table.split("\n")[0]}`).toMatch(/^\|(?:\s*:?-+:?\s*\|)+$/);
  }
});

test("every block of TypeScript compiles as it stands, under strict", () => {
  let count = 0;
  for (const page of pages()) {
    for (const { language, text, line } of blocks(read(page))) {
      if (language !== "ts") continue;
      count += 1;
      const name = `${page.replaceAll(/\W/g, "-")}-${line}.ts`;
      // `export` makes a module of a block without imports, so that names of two blocks do not meet.
      fs.writeFileSync(path.join(scratch, name), `${text}\nexport {};\n`);
    }
  }
  expect(count).toBeGreaterThan(8);
  // What migrations come from.
  const sdk = path.join(scratch, "node_modules/@databricks/zerobus-ingest-sdk");
  fs.mkdirSync(sdk, { recursive: true });
  const types = path.join(root, "tests/interop/support/zerobus-ingest-sdk.d.ts");
  fs.copyFileSync(types, path.join(sdk, "index.d.ts"));
  fs.writeFileSync(path.join(sdk, "package.json"), `{ "types": "index.d.ts" }`);
  const config = {
    extends: "../../tsconfig.base.json",
    compilerOptions: {
      noEmit: true,
      noUnusedLocals: false,
      noUnusedParameters: false,
      typeRoots: ["../../node_modules/@types"],
    },
    include: ["./*.ts"],
  };
  fs.writeFileSync(path.join(scratch, "tsconfig.json"), JSON.stringify(config));
  const tsc = path.join(root, "node_modules/.bin/tsc");
  try {
    execFileSync(tsc, ["-p", path.join(scratch, "tsconfig.json")], { encoding: "utf8" });
  } catch (error) {
    throw new Error(`a block does not compile:\n${(error as { stdout: string }).stdout}`);
  }
});

test("every block of Python is Python", () => {
  const python = ["python3", "python"].find((name) => spawnSync(name, ["--version"]).status === 0);
  if (python === undefined) console.warn("SKIPPED: the Python of docs/: there is no interpreter");
  let count = 0;
  for (const page of pages())
    for (const { language, text, line } of blocks(read(page))) {
      if (language !== "python" || python === undefined) continue;
      count += 1;
      const parsed = spawnSync(python, ["-c", "import ast, sys; ast.parse(sys.stdin.read())"], {
        input: text,
      });
      expect(parsed.status, `${page}:${line}: ${parsed.stderr}`).toBe(0);
    }
  if (python !== undefined) expect(count).toBeGreaterThan(1);
});

test("every command of a shell block is one that there is, with flags that it has", () => {
  const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
  let count = 0;
  for (const page of pages())
    for (const { language, text, line } of blocks(read(page))) {
      if (language !== "sh") continue;
      for (const command of text.trim().split("\n")) {
        count += 1;
        const where = `${page}:${line}: ${command}`;
        const [program, first, ...rest] = command.replace(/\s#.*/, "").trim().split(/\s+/);
        if (program === "npm") {
          const script = first === "run" ? rest[0]! : first!;
          expect(["install", ...Object.keys(scripts)], where).toContain(script);
          continue;
        }
        expect([program, first], where).toEqual(["npx", "arrow-ingest"]);
        const help = HELP.get(rest[0]!);
        expect(help, where).toBeDefined();
        for (const flag of rest.filter((word: string) => word.startsWith("--")))
          expect(help, where).toContain(flag);
        // What has commands of its own lists them in its help.
        if (["spool", "deadletter", "config"].includes(rest[0]!))
          expect(help, where).toMatch(new RegExp(`arrow-ingest ${rest[0]} ${rest[1]}\\b`));
      }
    }
  expect(count).toBeGreaterThan(15);
});

test("every configuration in YAML is right, by the program's own word", () => {
  const secret = path.join(scratch, "secret");
  fs.writeFileSync(secret, "hidden", { mode: 0o600 });
  let count = 0;
  for (const page of pages())
    for (const { language, text } of blocks(read(page))) {
      if (language !== "yaml") continue;
      count += 1;
      const file = path.join(scratch, "ingest.yaml");
      fs.writeFileSync(file, text.replaceAll(/\$\{file:[^}]+\}/g, `\${file:${secret}}`));
      const env = { ...process.env, CLIENT_ID: "someone" };
      const done = spawnSync("node", ["dist/cli.js", "config", "check", file], {
        cwd: root,
        env,
        encoding: "utf8",
      });
      expect(done.status, done.stderr).toBe(0);
    }
  expect(count).toBeGreaterThan(0);
});

test("every block of JavaScript can be read, and every one of SQL", async () => {
  const { DuckDBInstance } = await import("@duckdb/node-api");
  const connection = await (await DuckDBInstance.create()).connect();
  for (const page of pages())
    for (const { language, text, line } of blocks(read(page))) {
      const file = path.join(scratch, /\brequire\(/.test(text) ? "block.cjs" : "block.mjs");
      if (language === "sql")
        expect((await connection.extractStatements(text)).count, `${page}:${line}`).toBeGreaterThan(0);
      if (language !== "js") continue;
      fs.writeFileSync(file, text);
      const checked = spawnSync("node", ["--check", file], { encoding: "utf8" });
      expect(checked.status, `${page}:${line}: ${checked.stderr}`).toBe(0);
    }
});

test("a block is of a language that a test looks at", () => {
  const known = ["ts", "js", "python", "sh", "yaml", "sql", "dockerfile", "dockerignore"];
  for (const page of pages())
    for (const { language, line } of blocks(read(page))) expect(known, `${page}:${line}`).toContain(language);
});

test("README is at most 900 words", () => {
  const words = read("README.md")
    .replaceAll(/^```.*?^```$/gms, "")
    .split(/\s+/)
    .filter((word) => /\w/.test(word));
  expect(words.length).toBeLessThanOrEqual(900);
});

test("the badges of README say what holds", () => {
  const shown = links(read("README.md")).filter((link) => link.endsWith(".svg"));
  expect(shown).toEqual(Object.keys(badges()));
  for (const [file, picture] of Object.entries(badges()))
    expect(read(file), "node scripts/badges.mjs makes them anew").toBe(picture);
});

test("every code of specs/errors.md has a line in docs/errors.md, and no other code has", () => {
  const codes = (page: string) =>
    [...read(page).matchAll(/^\| `([A-Z_]+)` \|.*\|.*\|/gm)].map(([, code]) => code).sort();
  const specified = read("specs/errors.md").split("## Codes")[1]?.split("\n## ")[0] ?? "";
  const wanted = [...specified.matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, code]) => code).sort();
  expect(wanted.length).toBeGreaterThan(15);
  expect(codes("docs/errors.md")).toEqual(wanted);
});
