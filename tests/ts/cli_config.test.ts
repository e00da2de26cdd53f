// R-33 R-38: `arrow-ingest config`, and `--config` of the commands that connect.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { tableFromArrays, tableToIPC } from "apache-arrow";
import { afterAll, describe, expect, test } from "vitest";
import { run } from "./support/cli.js";

const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-cli-config-"));
afterAll(() => fs.rmSync(home, { recursive: true, force: true }));
const at = (name: string): string => path.join(home, name);
const SECRET = "hush-7c1f";

fs.writeFileSync(
  at("good.yaml"),
  [
    `url: delta:${at("lake")}?k=${SECRET}`.replace(/\?.*/, ""),
    "batching: {maxRows: 1000, linger: 90s, maxBytes: 1500}",
    "zerobus: {clientSecret: '${env:S}'}",
    "delta: {partitionBy: [day]}",
  ].join("\n"),
);
fs.writeFileSync(at("bad.toml"), `[batching]\nmaxRows = 0\n\n[retri]\nattempts = 1\n`);
const env = { S: SECRET, ARROW_INGEST_INFLIGHT_MAX_BYTES: "64MiB" };

describe("R-33 arrow-ingest config", () => {
  test("print: every option, its value, and where it came from", async () => {
    const { code, stdout, stderr } = await run(
      ["config", "print", at("good.yaml"), "--set", "retry.attempts=9"],
      {
        env,
      },
    );
    expect([code, stderr]).toEqual([0, ""]);
    const rows = stdout.split("\n").map((row) => row.trim().split(/ {2,}/));
    expect(rows).toContainEqual(["batching.maxRows", "1,000", `file ${at("good.yaml")}:2`]);
    expect(rows).toContainEqual(["batching.linger", "1 min 30 s", `file ${at("good.yaml")}:2`]);
    expect(rows).toContainEqual(["batching.maxBytes", "1,500 bytes", `file ${at("good.yaml")}:2`]);
    expect(rows).toContainEqual([
      "inflight.maxBytes",
      "64 MiB",
      "environment ARROW_INGEST_INFLIGHT_MAX_BYTES",
    ]);
    expect(rows).toContainEqual(["inflight.maxPinnedBytes", "256 MiB", "default"]);
    expect(rows).toContainEqual(["retry.attempts", "9", "call"]);
    expect(rows).toContainEqual(["retry.baseDelay", "100 ms", "default"]);
    expect(rows).toContainEqual(["zerobus.clientSecret", "(secret)", `file ${at("good.yaml")}:3`]);
    expect(rows).toContainEqual(["zerobus.clientId", "-", "default"]);
    expect(rows).toContainEqual(["delta.partitionBy", "day", `file ${at("good.yaml")}:4`]);
    expect(stdout).not.toContain(SECRET);
  });

  test("print --changed leaves defaults out; --json is the report", async () => {
    const changed = await run(["config", "print", "--changed", "--config", at("good.yaml")], { env });
    expect(changed.stdout).not.toContain("default");
    expect(changed.stdout.split("\n").length).toBe(9);
    const { code, stdout } = await run(["config", "print", "--json", "--target", "discard:"], { env: {} });
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ url: { value: "discard:", from: "call" }, issues: [] });
    const nothing = await run(["config", "print"], { env: {} });
    expect(nothing.stdout).toContain("delta.partitionBy");
  });

  test("check: every mistake at once, with file and line or the variable", async () => {
    const bad = { ARROW_INGEST_RETRY_ATTEMPTS: "0", ARROW_INGEST_RETRY_ATEMPTS: "1", ARROW_INGEST_PORT: "x" };
    const { code, stdout, stderr } = await run(["config", "check", at("bad.toml")], { env: bad });
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr.split("\n").sort()).toEqual(
      [
        "",
        "ARROW_INGEST_RETRY_ATEMPTS is not the variable of an option (did you mean ARROW_INGEST_RETRY_ATTEMPTS?)",
        "ARROW_INGEST_RETRY_ATTEMPTS: retry.attempts must be a whole number of at least 1, not 0",
        `${at("bad.toml")}:2: batching.maxRows must be a whole number of at least 1, not 0`,
        `${at("bad.toml")}:4: retri is not an option (did you mean retry?)`,
        "not an option, and left alone: ARROW_INGEST_PORT",
      ].sort(),
    );
    const json = await run(["config", "check", "--json", at("bad.toml")], { env: {} });
    expect([json.code, json.stderr]).toEqual([2, ""]);
    expect(JSON.parse(json.stdout)).toMatchObject({ success: false, issues: [{}, {}] });
  });

  test("check without a mistake says so", async () => {
    expect(await run(["config", "check", at("good.yaml")], { env })).toMatchObject({
      code: 0,
      stderr: "",
      stdout: `no mistake: 6 options given, target delta:${at("lake")}\n`,
    });
    expect((await run(["config", "check"], { env: {} })).stdout).toBe(
      "no mistake: 0 options given, no target is given\n",
    );
  });

  test("a command line that is wrong is 2, and says how it would be right", async () => {
    for (const [args, words] of [
      [["config"], "config needs check or print"],
      [["config", "chek"], "did you mean check?"],
      [["config", "check", "a.json", "b.json"], "one file at most"],
      [["config", "check", "a.json", "--config", "b.json"], "given twice"],
    ] as const) {
      const { code, stderr } = await run([...args]);
      expect(code).toBe(2);
      expect(stderr).toContain(words);
    }
  });
});

describe("R-38 --config", () => {
  test("send: flags go before the environment, and that before the file", async () => {
    fs.writeFileSync(at("rows.arrow"), tableToIPC(tableFromArrays({ n: Int32Array.of(1, 2, 3) }), "file"));
    fs.writeFileSync(at("send.json"), '{ "url": "nowhere:", "batching": { "maxRows": 0 } }');
    const args = ["send", "--json", "--config", at("send.json"), "discard:", at("rows.arrow")];
    const wrong = await run(args);
    expect(wrong.code).toBe(2);
    expect(wrong.stderr).toContain(
      `batching.maxRows must be a whole number of at least 1, not 0 (${at("send.json")}:1)`,
    );
    const mended = await run(args, { env: { ARROW_INGEST_BATCHING_MAX_ROWS: "2" } });
    expect(mended.code).toBe(0);
    expect(JSON.parse(mended.stdout)).toMatchObject({ target: "discard:", rows: { acknowledged: 3 } });
    expect((await run([...args, "--set", "batching.maxRows=3"])).code).toBe(0);
  });

  test("check takes its target from the file or from the environment", async () => {
    fs.writeFileSync(at("target.json"), '{ "url": "discard:" }');
    const ofFile = await run(["check", "--config", at("target.json")]);
    expect([ofFile.code, ofFile.stderr]).toEqual([0, ""]);
    expect(ofFile.stdout).toContain("discard: is there");
    expect((await run(["check"], { env: { ARROW_INGEST_URL: "discard:" } })).code).toBe(0);
    const none = await run(["check"]);
    expect(none.code).toBe(2);
    expect(none.stderr).toContain("check needs a target");
    const missing = await run(["check", "--config", at("missing.json")]);
    expect([missing.code, missing.stderr.includes("is not there")]).toEqual([2, true]);
  });
});
