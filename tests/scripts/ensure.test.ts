// The first thing that somebody sees of this repository must not be a stack trace.
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { nodeFault } from "../../scripts/ensure.mjs";

let bin: string;
beforeEach(() => {
  bin = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-ensure-"));
});
afterEach(() => {
  fs.rmSync(bin, { recursive: true, force: true });
});

test("a machine without Rust is told what to install", () => {
  const done = ensure({}, "addon");
  expect(done.status).toBe(1);
  expect(done.stderr).toContain("No Rust toolchain was found. Install Rust ");
});

test("a Rust that is too old is named", () => {
  tool("cargo", "cargo 1.80.0");
  tool("rustc", "rustc 1.80.0 (stand-in)");
  const done = ensure({}, "addon");
  expect(done.status).toBe(1);
  expect(done.stderr).toContain("rustc 1.80.0 (stand-in) is too old. Install Rust ");
});

test("a Node that is too old is named, and so is the oldest that package.json names", () => {
  const { engines } = JSON.parse(fs.readFileSync("package.json", "utf8"));
  expect(nodeFault("v20.20.2", engines.node)).toContain(
    `Node v20.20.2 is too old, ${engines.node} is needed`,
  );
  expect(nodeFault("v22.11.0", ">=22.12.0")).toContain("too old");
  for (const version of ["v22.12.0", "v22.13.1", "v24.0.0"])
    expect(nodeFault(version, ">=22.12.0")).toBe(undefined);
  expect(nodeFault(process.version, engines.node)).toBe(undefined);
});

test("a step that does not exist is refused before anything is done", () => {
  const done = ensure({}, "adon", "--", "true");
  expect(done.status).toBe(1);
  expect(done.stderr).toContain("no step is called adon");
});

test("without a browser CI says what to install and stops, and anybody else goes on", () => {
  const ci = ensure({ CI: "true" }, "browser", "--", process.execPath, "-e", "");
  expect(ci.stderr).toContain("the test of the site in a browser needs it. On Debian: apt-get install");
  expect(ci.status).toBe(1);
  const anybody = ensure({ CI: "" }, "browser", "--", process.execPath, "-e", "");
  expect(anybody.stderr).toContain("the test of the site in a browser is skipped");
  expect(anybody.status).toBe(0);
  tool("chromium", "Chromium");
  expect(ensure({ CI: "true" }, "browser", "--", process.execPath, "-e", "").stderr).toBe("");
});

test("the exit code of the command is the exit code", () => {
  expect(ensure({}, "--", process.execPath, "-e", "process.exit(7)").status).toBe(7);
});

function tool(name: string, version: string): void {
  fs.writeFileSync(path.join(bin, name), `#!/bin/sh\necho "${version}"\n`, { mode: 0o755 });
}

function ensure(variables: NodeJS.ProcessEnv, ...args: string[]) {
  return spawnSync(process.execPath, ["scripts/ensure.mjs", ...args], {
    encoding: "utf8",
    // Alone: a distribution may keep its cargo in /usr/bin.
    env: { ...process.env, ...variables, PATH: bin },
  });
}

test("a step starts our own scripts as programs: one that it imported would wait for ensure.mjs, and that for it", () => {
  const text = fs.readFileSync("scripts/ensure.mjs", "utf8");
  expect(text).not.toMatch(/\bimport\(["'`]\./);
});
