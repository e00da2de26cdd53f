// the gate fails when a file falls below the floor, and names it.
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

let root: string;
beforeEach(() => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-gate-"));
});
afterEach(() => {
  fs.rmSync(root, { recursive: true, force: true });
});

test("ninety per cent of every file passes, and the badge says the total", () => {
  source("src-ts/a.ts", "export const a = 1;");
  source("src-rs/b.rs", "pub fn b() {}");
  const gate = run({ "src-ts/a.ts": [10, 10], "src-rs/b.rs": [9, 10] });
  expect(gate.status, gate.stderr).toBe(0);
  expect(badge()).toEqual({ schemaVersion: 1, label: "coverage", message: "95 %", color: "brightgreen" });
});

test("a file at eighty per cent fails and is named, however good the total is", () => {
  source("src-ts/large.ts", "export const a = 1;");
  source("src-rs/small.rs", "pub fn b() {}");
  const gate = run({ "src-ts/large.ts": [1000, 1000], "src-rs/small.rs": [8, 10] });
  expect(gate.status).toBe(1);
  expect(gate.stderr).toContain("src-rs/small.rs");
  expect(gate.stderr).not.toContain("large.ts");
  expect(badge().message).toBe("99 %");
});

test("a file with code that no report knows of fails", () => {
  source("src-ts/a.ts", "export const a = 1;");
  source("src-rs/binding/mod.rs", "pub fn forgotten() {\n}");
  const gate = run({ "src-ts/a.ts": [10, 10] });
  expect(gate.status).toBe(1);
  expect(gate.stderr).toContain("src-rs/binding/mod.rs");
});

test("files of declarations need no measurement", () => {
  source("src-ts/a.ts", "export const a = 1;");
  source("src-ts/types.ts", "/** const in a comment */\nexport interface Options { maxRows?: number }");
  source("src-rs/lib.rs", "//! fn in a comment {\npub mod handoff;");
  expect(run({ "src-ts/a.ts": [10, 10] }).status).toBe(0);
});

test("two reports of one file are added up", () => {
  source("src-rs/b.rs", "pub fn b() {}");
  fs.writeFileSync(path.join(root, "unit.info"), "SF:src-rs/b.rs\nDA:1,1\nDA:2,0\nend_of_record\n");
  const gate = run({ "src-rs/b.rs": [0, 1] }, "unit.info");
  expect(gate.status).toBe(1);
  fs.writeFileSync(path.join(root, "host.info"), "SF:src-rs/b.rs\nDA:1,0\nDA:2,7\nend_of_record\n");
  expect(run({}, "unit.info", "host.info").status).toBe(0);
});

test("comments and blank lines do not count as covered", () => {
  const talk = "// a line of talk\n".repeat(90);
  source(
    "src-ts/a.ts",
    `${talk}export function a(n: number) {\n  if (n) {\n    return 1;\n  }\n  return 2;\n}\n`,
  );
  const tsc = [
    "src-ts/a.ts",
    "--outDir",
    "dist",
    "--rootDir",
    "src-ts",
    "--sourceMap",
    "--module",
    "nodenext",
  ];
  spawnSync(path.resolve("node_modules/.bin/tsc"), [...tsc, "--ignoreConfig"], { cwd: root });
  // As c8 would say it: everything but line 93, `return 1`.
  const lines = Array.from({ length: 96 }, (_, i) => `DA:${i + 1},${i === 92 ? 0 : 1}`);
  fs.writeFileSync(path.join(root, "c8.info"), `SF:src-ts/a.ts\n${lines.join("\n")}\nend_of_record\n`);
  const gate = run({}, "c8.info");
  expect(gate.stdout).toMatch(/src-ts\/a\.ts +83\.3 % +5\/6/);
  expect(gate.status).toBe(1);
});

test("no source at all is no success", () => {
  const gate = run({});
  expect(gate.status).toBe(1);
  expect(gate.stderr).toContain("no source file");
});

function source(name: string, text: string): void {
  fs.mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
  fs.writeFileSync(path.join(root, name), text);
}

/** Runs the gate on a report that says, for each file, how many of how many lines were hit. */
function run(files: Record<string, [hit: number, found: number]>, ...more: string[]) {
  const records = Object.entries(files).map(([file, [hit, found]]) => {
    const lines = Array.from({ length: found }, (_, i) => `DA:${i + 1},${i < hit ? 3 : 0}`);
    // One tool writes absolute paths, the other relative ones.
    const name = file.startsWith("src-rs") ? path.join(root, file) : file;
    return `TN:\nSF:${name}\n${lines.join("\n")}\nend_of_record\n`;
  });
  fs.writeFileSync(path.join(root, "lcov.info"), records.join(""));
  const reports = ["lcov.info", ...more].map((name) => path.join(root, name));
  return spawnSync(process.execPath, ["scripts/coverage_gate.mjs", "--root", root, ...reports], {
    encoding: "utf8",
  });
}

function badge(): { message: string } {
  return JSON.parse(fs.readFileSync(path.join(root, "coverage/badge.json"), "utf8"));
}
