// the program as a process: what becomes of its output, and of its exit code.
import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { tableFromArrays, tableToIPC } from "apache-arrow";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-cli-process-"));
const node = path.resolve("node_modules/.bin/node");
const program = `'${node}' '${path.resolve("dist/cli.js")}'`;
beforeAll(() => {
  const rows = tableFromArrays({ n: Int32Array.of(1, 2, 3) });
  fs.writeFileSync(path.join(home, "rows.arrow"), tableToIPC(rows, "file"));
});
afterAll(() => fs.rmSync(home, { recursive: true, force: true }));

function shell(line: string) {
  return spawnSync("bash", ["-c", `set -o pipefail; ${line}`], {
    cwd: home,
    encoding: "utf8",
    timeout: 60_000,
  });
}

describe("R-38 standard output", () => {
  test("that its reader closes changes nothing: rows are delivered, and the exit code is theirs", () => {
    const sent = shell(`${program} send delta:./lake rows.arrow | head -0`);
    expect(sent).toMatchObject({ status: 0, stderr: "" });
    expect(fs.readdirSync(path.join(home, "lake/_delta_log"))).toContain("00000000000000000001.json");
    expect(shell(`${program} help send | head -1`)).toMatchObject({ status: 0, stderr: "" });
    const refused = shell(`${program} send grpc://127.0.0.1:1/x rows.arrow --set retry.attempts=1 | head -0`);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain("UNAVAILABLE");
  });

  test.skipIf(!fs.existsSync("/dev/full"))("that cannot be written is 1, and a line without a stack", () => {
    for (const command of ["help", "--version", "send discard: rows.arrow"]) {
      const full = shell(`${program} ${command} > /dev/full`);
      expect(full.status, command).toBe(1);
      expect(full.stderr).toMatch(/^arrow-ingest: standard output cannot be written: .*ENOSPC.*\n$/);
    }
  });
});

test("R-38 an empty standard input is 1: a producer that failed has sent nothing", () => {
  const ended = shell(`true | ${program} send discard: -`);
  expect(ended.status).toBe(1);
  expect(ended.stderr).toContain("standard input: it is empty");
});

test("R-37 a Node that is too old gets a line", () => {
  const old = path.join(home, "old.cjs");
  fs.writeFileSync(
    old,
    `Object.defineProperty(process, "versions", { value: { ...process.versions, node: "20.20.2" } });`,
  );
  const ended = spawnSync(node, ["--require", old, path.resolve("dist/cli.js"), "help"], {
    encoding: "utf8",
  });
  expect(ended).toMatchObject({
    status: 1,
    stdout: "",
    stderr: "arrow-ingest: arrow-ingest needs Node 22.12 or later; this is Node 20.20.2\n",
  });
  // And a program that imports the package.
  const main = path.join(home, "main.mjs");
  fs.writeFileSync(main, `import ${JSON.stringify(path.resolve("dist/index.js"))};`);
  expect(() => execFileSync(node, ["--require", old, main], { stdio: "pipe" })).toThrow(
    "arrow-ingest needs Node 22.12 or later; this is Node 20.20.2",
  );
});
