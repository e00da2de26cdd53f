// R-23 R-38: the emulator from the command line.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { tableFromArrays, tableToIPC } from "apache-arrow";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startEmulator } from "../../dist/index.js";
import { readBack } from "../../examples/demo/readback.mjs";
import { run, start } from "./support/cli.js";

let home = "";
const at = (...parts: string[]): string => path.join(home, ...parts);
beforeEach(() => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-cli-emulator-"));
});
afterEach(() => {
  fs.rmSync(home, { recursive: true, force: true });
});

function file(name: string, content: unknown): string {
  fs.writeFileSync(at(name), typeof content === "string" ? content : JSON.stringify(content));
  return at(name);
}

const columns = [{ name: "id", type: "BIGINT" }];

async function token(url: string, user: string): Promise<number> {
  const reply = await fetch(`${url}/oidc/v1/token`, {
    method: "POST",
    headers: { authorization: `Basic ${Buffer.from(user).toString("base64")}` },
    body: new URLSearchParams({ grant_type: "client_credentials", scope: "all-apis" }),
  });
  return reply.status;
}

const urlIn = (text: string): string => /unityCatalogUrl"?: ?"([^"]+)"/.exec(text)![1]!;

describe("R-38 emulator", () => {
  test("prints its URL, the call that reaches it, a line for each event, and a summary", async () => {
    const argv = ["--lake", at("lake"), "--table", `a.b.c=${file("c.json", columns)}`];
    const running = start(["emulator", ...argv, "--fault", "token:status=503"]);
    await running.says("listening on");
    await running.says("clientSecret");
    const url = urlIn(running.stdout());
    expect(running.stdout()).toContain(`Zerobus emulator at zerobus+http://127.0.0.1:`);
    expect(running.stdout()).toContain(`  Zerobus endpoint   ${url}\n  Unity Catalog URL  ${url}\n`);
    expect(running.stdout()).toMatch(/await connect\("zerobus\+http:\/\/127\.0\.0\.1:\d+\/a\.b\.c", \{/);
    expect(fs.existsSync(at("lake/a/b/c/_delta_log"))).toBe(true);
    expect([await token(url, "x:y"), await token(url, "x:y")]).toEqual([503, 200]);
    await running.says(/^\d\d:\d\d:\d\d\.\d{3} token for the table API to "x"/m);
    running.signal("SIGINT");
    expect(await running.code).toBe(0);
    expect(running.stdout()).toContain("\n0 streams, 1 token, 1 fault\n");
    expect(running.stdout()).toMatch(/\na\.b\.c +0 +0 +0 +0 +0\n$/);
    expect(running.listeners()).toBe(0);
    await expect(fetch(url)).rejects.toThrow();
  });

  test("--json is a line of JSON for everything, and SIGTERM ends it too", async () => {
    const options = file("o.json", { tables: { "a.b.c": columns }, faults: ["token"], tls: true });
    const argv = ["--options", options, "--table", `a.b.d=${file("d.json", { schema: columns })}`];
    const running = start(["emulator", "--json", ...argv, "--fault", "token"]);
    await running.says('"ready"');
    running.signal("SIGTERM");
    expect(await running.code).toBe(0);
    const lines = running
      .stdout()
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.map(({ event }) => event)).toEqual(
      expect.arrayContaining(["listening", "ready", "stopped", "summary"]),
    );
    expect(lines.find(({ event }) => event === "ready").ca).toContain("BEGIN CERTIFICATE");
    expect(Object.keys(lines.at(-1).tables)).toEqual(["a.b.c", "a.b.d"]);
  });

  test("R-44 a client's secret comes from outside, and is shown nowhere", async () => {
    const argv = ["emulator", "--client-id", "me", "--client-secret"];
    const refused = await run([...argv, "hush"]);
    expect(refused.code).toBe(2);
    expect(refused.stderr).not.toContain("hush");
    const running = start([...argv, "@env:SECRET"], { env: { SECRET: "hush" } });
    await running.says("clientSecret: process.env.SECRET");
    const url = urlIn(running.stdout());
    expect([await token(url, "me:hush"), await token(url, "me:else")]).toEqual([200, 401]);
    running.signal("SIGINT");
    await running.code;
    const options = file("o.json", { clientId: "me", clientSecret: "hush" });
    const other = start(["emulator", "--options", options, "--quiet"]);
    await other.says('clientSecret: "…"');
    other.signal("SIGINT");
    await other.code;
    for (const { stdout, stderr } of [running, other]) expect(stdout() + stderr()).not.toContain("hush");
    expect(other.stdout()).not.toContain("listening");
  });

  test("--tls prints its authority, or writes it to --ca", async () => {
    const printed = start(["emulator", "--tls"]);
    await printed.says("END CERTIFICATE");
    const written = start(["emulator", "--tls", "--ca", at("ca.pem"), "--host", "localhost"]);
    await written.says(`tls: { ca: readFileSync(${JSON.stringify(at("ca.pem"))}, "utf8") }`);
    expect(fs.readFileSync(at("ca.pem"), "utf8")).toContain("BEGIN CERTIFICATE");
    expect(written.stdout()).not.toContain("CERTIFICATE");
    for (const running of [printed, written]) {
      running.signal("SIGINT");
      expect(await running.code).toBe(0);
    }
  });

  test("--no-auto-create makes no table that is not declared", async () => {
    const rows = tableFromArrays({ id: BigInt64Array.of(1n) });
    fs.writeFileSync(at("rows.arrow"), tableToIPC(rows, "file"));
    const declared = ["--table", `a.b.c=${file("c.json", columns)}`];
    for (const [flags, code] of [
      [["--no-auto-create"], 1],
      [[], 0],
      [declared, 1],
      [[...declared, "--auto-create"], 0],
    ] as const) {
      const running = start(["emulator", "--json", ...flags]);
      await running.says('"ready"');
      const { url, endpoint, unityCatalogUrl } = running
        .stdout()
        .split("\n")
        .filter((line) => line.includes('"ready"'))
        .map((line) => JSON.parse(line))[0];
      expect(endpoint).toBe(unityCatalogUrl);
      const set = ["--set", `zerobus.unityCatalogUrl=${unityCatalogUrl}`, "--set", "zerobus.clientId=me"];
      const env = { SECRET: "any" };
      const argv = [...set, "--set", "zerobus.clientSecret=@env:SECRET", "--set", "retry.attempts=1"];
      const sent = await run(["send", `${url}x.y.z`, at("rows.arrow"), ...argv], { env });
      expect(sent.code, `${flags} ${sent.stdout} ${sent.stderr}`).toBe(code);
      running.signal("SIGINT");
      await running.code;
    }
  });

  test("misuse is 2", async () => {
    const wrong: [string[], string][] = [
      [["--auto-create", "--no-auto-create"], "exclude each other"],
      [["--ca", "x.pem"], "--ca needs --tls"],
      [["--table", "a.b.c"], "--table takes"],
      [["--table", "a.b.c=/nope.json"], "--table a.b.c /nope.json"],
      [["--fault", "rotat"], "did you mean rotate?"],
      [["--port", "x"], "port"],
      [["--options", file("list.json", [])], "must hold a JSON object"],
      [["more"], "more"],
    ];
    for (const [argv, says] of wrong) {
      const ended = await run(["emulator", ...argv]);
      expect(ended, argv.join(" ")).toMatchObject({ code: 2, stdout: "" });
      expect(ended.stderr).toContain(says);
    }
  });

  test("a port that is taken is 1", async () => {
    await using other = await startEmulator();
    const { port } = new URL(other.options.zerobus.unityCatalogUrl);
    const ended = await run(["emulator", "--port", port]);
    expect(ended.code).toBe(1);
    expect(ended.stderr).toContain("UNAVAILABLE");
  });
});

test("R-22 R-23 rows go from a file through the emulator into a Delta table, faults notwithstanding", async () => {
  const argv = [
    "--lake",
    at("lake"),
    "--fault",
    "close:after=100rows",
    "--fault",
    "lose-before-commit:after=300rows",
  ];
  const running = start(["emulator", "--json", ...argv]);
  await running.says('"ready"');
  const url = urlIn(running.stdout());
  const target = `${url.replace("http", "zerobus+http")}/a.b.c`;
  const rows = tableFromArrays({ id: BigInt64Array.from({ length: 500 }, (_, id) => BigInt(id)) });
  fs.writeFileSync(at("rows.arrow"), tableToIPC(rows, "file"));
  const flags = [
    ["--set", `zerobus.unityCatalogUrl=${url}`],
    ["--set", "zerobus.clientId=me"],
    ["--set", "zerobus.clientSecret=@env:SECRET"],
    ["--set", "batching.maxRows=50"],
    ["--set", "retry.baseDelay=1ms"],
    ["--json", "--quiet"],
  ].flat();
  const env = { SECRET: "any" };
  const sent = await run(["send", target, at("rows.arrow"), ...flags], { env });
  expect(sent, sent.stderr).toMatchObject({ code: 0 });
  expect(JSON.parse(sent.stdout)).toMatchObject({ success: true, rows: { acknowledged: 500 } });
  expect(await run(["check", target, ...flags], { env })).toMatchObject({ code: 0 });
  running.signal("SIGINT");
  expect(await running.code).toBe(0);
  const summary = JSON.parse(running.stdout().trim().split("\n").at(-1)!);
  expect(summary).toMatchObject({ faultsFired: 2, tables: { "a.b.c": { rowsDurable: 500 } } });
  const ids: bigint[] = [];
  await readBack(at("lake/a/b/c"), (_: string, values: Iterable<bigint>) => void ids.push(...values));
  expect(ids.map(Number).sort((a, b) => a - b)).toEqual(Array.from({ length: 500 }, (_, id) => id));
});
