// R-38: the command line: what it takes, what it says, how it ends.
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { type Table, tableFromArrays, tableToIPC } from "apache-arrow";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { bytes, explain, seconds, table, withoutCredentials } from "../../dist/cli/text.js";
import { ConfigError, ConnectionError } from "../../dist/index.js";
import { readBack } from "../../examples/demo/readback.mjs";
import { run, start } from "./support/cli.js";
import { FlightServer, INVALID_ARGUMENT } from "./support/flight-server.js";

let home = "";
const at = (...parts: string[]): string => path.join(home, ...parts);
const lake = (): string => `delta:${at("lake")}`;

beforeEach(() => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-cli-"));
});
afterEach(() => {
  fs.rmSync(home, { recursive: true, force: true });
});

const numbers = (rows: number, from = 0): Table =>
  tableFromArrays({ n: Int32Array.from({ length: rows }, (_, i) => from + i) });

function file(name: string, content: Table | string, format: "file" | "stream" = "file"): string {
  fs.writeFileSync(at(name), typeof content === "string" ? content : tableToIPC(content, format));
  return at(name);
}

async function read(column: string): Promise<number[]> {
  const values: number[] = [];
  await readBack(at("lake"), (name: string, chunk: Iterable<number>) => {
    if (name === column) values.push(...chunk);
  });
  return values.sort((a, b) => a - b);
}

const upTo = (rows: number): number[] => Array.from({ length: rows }, (_, i) => i);

describe("R-38 help and version", () => {
  test("--help, -h and help say the same, on standard output", async () => {
    const [first, ...others] = await Promise.all([run(["--help"]), run(["-h"]), run(["help"])]);
    expect(first).toMatchObject({ code: 0, stderr: "" });
    expect(first?.stdout).toContain("arrow-ingest send <target> <file>...");
    for (const other of others) expect(other).toEqual(first);
  });

  test.each(["send", "check", "config", "emulator", "deadletter"])(
    "%s has help of its own, with examples",
    async (name) => {
      const asked = await run(["help", name]);
      expect(asked.code).toBe(0);
      expect(asked.stdout).toMatch(new RegExp(`^arrow-ingest ${name}: `));
      expect(asked.stdout).toContain("\nExample");
      expect(asked.stdout).toContain("\nUsage");
      for (const line of asked.stdout.split("\n")) expect(line.length, line).toBeLessThanOrEqual(110);
      expect(await run([name, "--help"])).toEqual(asked);
      expect(await run([name, "-h"])).toEqual(asked);
      expect((await run(["help"])).stdout).toContain(`arrow-ingest ${name} `);
    },
  );

  test("R-39 --version names everything that a report should", async () => {
    const { version } = JSON.parse(fs.readFileSync("package.json", "utf8"));
    const said = await run(["--version"]);
    expect(said).toMatchObject({ code: 0, stderr: "" });
    expect(said.stdout).toContain(`arrow-ingest ${version} (`);
    expect(said.stdout).toContain(`Node ${process.versions.node}`);
    expect(await run(["-V"])).toEqual(said);
    expect(await run(["-v"])).toEqual(said);
  });
});

describe("R-38 misuse gives 2, says why on standard error, and does nothing", () => {
  const wrong: [string, string[], string | RegExp][] = [
    ["no command", [], "a command is needed"],
    [
      "an unknown command",
      ["sned"],
      /there is no command "sned" \(did you mean send\?\)\nTry: arrow-ingest help\n/,
    ],
    [
      "a command like no other",
      ["transmogrify-all-of-this"],
      /there is no command "transmogrify-all-of-this"\n/,
    ],
    ["help for a misspelt command", ["help", "emulater"], "did you mean emulator?"],
    ["a misspelt word of deadletter", ["deadletter", "resned"], "not resned (did you mean resend?)"],
    [
      "an object of JavaScript",
      ["send", "discard:", "-", "--set", "logger=x"],
      "logger is an object of JavaScript",
    ],
    ["another one", ["check", "discard:", "--set", "signal=x"], "signal is an object of JavaScript"],
    [
      "one that is a group",
      ["send", "discard:", "-", "--set", "listeners.onFailed=x"],
      "listeners is an object",
    ],
    ["a command that every object has", ["toString"], "there is no command"],
    ["help for nothing", ["help", "me"], 'there is no command "me"'],
    ["send to nowhere", ["send"], "needs a target"],
    ["send of nothing", ["send", "discard:"], "at least one file"],
    ["standard input twice", ["send", "discard:", "-", "-"], "only once"],
    [
      "an unknown option",
      ["send", "discard:", "-", "--fast"],
      /Unknown option '--fast'[\s\S]*Try: arrow-ingest help send/,
    ],
    ["an option without its value", ["send", "discard:", "-", "--set"], /--set/],
    ["--set without =", ["send", "discard:", "-", "--set", "batching"], "--set takes path=value"],
    ["--set with an empty step", ["send", "discard:", "-", "--set", "batching..x=1"], "not a path"],
    ["--set of a prototype", ["send", "discard:", "-", "--set", "__proto__.x=1"], "not a path"],
    [
      "--set within a value",
      ["send", "discard:", "-", "--set", "handoff=pin", "--set", "handoff.mode=pin"],
      "no group",
    ],
    [
      "--set of a variable that is not there",
      ["send", "discard:", "-", "--set", "tls.ca=@env:NOPE"],
      "NOPE is not set",
    ],
    [
      "--set of a file that is not there",
      ["send", "discard:", "-", "--set", "tls.ca=@file:/nope"],
      "/nope cannot be read",
    ],
    ["--header without a value", ["send", "discard:", "-", "--header", "x"], '--header takes "name: value"'],
    [
      "--header into a value",
      ["send", "discard:", "-", "--set", "headers=1", "--header", "a: b"],
      "no group",
    ],
    [
      "options that are not there",
      ["send", "discard:", "-", "--options", "/nope.json"],
      "--options /nope.json",
    ],
    ["a file that is not there", ["send", "discard:", "/nope.arrow"], "/nope.arrow cannot be read"],
    ["a directory", ["send", "discard:", os.tmpdir()], "is a directory"],
    ["a target that is none", ["send", "nowhere:x", "-"], /CONFIG_INVALID[\s\S]*nowhere/],
    [
      "an option of the client that is none",
      ["send", "discard:", "-", "--set", "batching.maxRow=1"],
      "did you mean maxRows?",
    ],
    ["check of nothing", ["check"], "check needs a target"],
    ["check of two", ["check", "discard:", "discard:"], "check takes one target"],
    ["check with a wrong option", ["check", "discard:", "--set", "retry.attempts=none"], "retry.attempts"],
  ];
  test.each(wrong)("%s", async (_, argv, says) => {
    const ended = await run(argv);
    expect(ended).toMatchObject({ code: 2, stdout: "" });
    expect(ended.stderr).toMatch(says);
  });

  test("options in a file that is no JSON, or no object; the text is not shown", async () => {
    const broken = await run(["send", "discard:", "-", "--options", file("a.json", `{ "hush": hush }`)]);
    expect(broken).toMatchObject({ code: 2 });
    expect(broken.stderr).toContain("it is not JSON");
    expect(broken.stderr).not.toContain("hush");
    const list = await run(["send", "discard:", "-", "--options", file("b.json", "[]")]);
    expect(list.stderr).toContain("must hold a JSON object");
  });

  test("files that hold no Arrow IPC are told apart, before anything is sent", async () => {
    const whole = tableToIPC(numbers(10), "file");
    fs.writeFileSync(at("cut.arrow"), whole.subarray(0, whole.length - 5));
    fs.writeFileSync(at("cut.arrows"), tableToIPC(numbers(1_000), "stream").subarray(0, 3_000));
    const kinds = {
      [file("t.parquet", "PAR1----PAR")]: "it was cut off",
      [file("t.feather", "FEA1----FEA1")]: "Feather file of version 1",
      [file("t.txt", "a,b,c\n1,2,3\n")]: "give --format json, csv or parquet",
      [at("cut.arrow")]: "it was cut off",
      [at("cut.arrows")]: "was cut off",
      [file("empty.arrow", "")]: "is empty",
    };
    const good = file("good.arrow", numbers(3));
    for (const [name, says] of Object.entries(kinds)) {
      const ended = await run(["send", lake(), good, name]);
      expect(ended).toMatchObject({ code: 2, stdout: "" });
      expect(ended.stderr).toContain(says);
      expect(ended.stderr).toContain(name);
    }
    expect(fs.existsSync(at("lake"))).toBe(false);
  });
});

describe("R-44 secrets", () => {
  const secret = "hush-7c1f";
  test.each([
    ["--set", `zerobus.clientSecret=${secret}`],
    ["--set", `flight.auth.password=${secret}`],
    ["--set", `delta.storage.aws_secret_access_key=${secret}`],
    ["--set", `delta.storage.azure_storage_account_key=${secret}`],
    ["--set", `delta.storage.AWS_SECRET_ACCESS_KEY=${secret}`],
    ["--set", `delta.storage.AZURE_STORAGE_ACCOUNT_KEY=${secret}`],
    ["--set", `delta.storage.AZURE_STORAGE_SAS_KEY=${secret}`],
    ["--set", `delta.storage.Aws_Session_Token=${secret}`],
    ["--set", `delta.storage.accessKey=${secret}`],
    ["--set", `delta.storage.passphrase=${secret}`],
    ["--set", `delta.storage.aws_server_side_encryption_customer_key_base64=${secret}`],
    ["--set", `delta={"storage":{"AWS_SECRET_ACCESS_KEY":"${secret}"}}`],
    ["--set", `tls.key=${secret}`],
    ["--set", `Headers.authorization=${secret}`],
    ["--set", `headers.apikey=${secret}`],
    ["--header", `apikey: ${secret}`],
    ["--header", `X-ApiKey: ${secret}`],
    ["--header", `x-session-id: ${secret}`],
    ["--header", `x-credential: ${secret}`],
    ["--set", `headers.authorization=${secret}`],
    ["--set", `headers.X-Api-Key=${secret}`],
    ["--set", `headers={"authorization":"${secret}"}`],
    ["--set", `delta={"storage":{"aws_secret_access_key":"${secret}"}}`],
    ["--header", `authorization: Bearer ${secret}`],
    ["--header", `x-api-key: ${secret}`],
  ])("%s %s is refused on the command line, and not repeated", async (flag, value) => {
    const ended = await run(["send", "discard:", "-", flag, value]);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toContain("@env:NAME");
    expect(ended.stderr).not.toContain(secret);
  });

  test.each([
    ["--set", "delta.storage.AWS_ACCESS_KEY_ID=id"],
    ["--set", "delta.storage.aws_web_identity_token_file=/none"],
    ["--set", "delta.storage.aws_sse_kms_key_id=id"],
    ["--header", "x-tenant: blue"],
  ])("%s %s is none", async (flag, value) => {
    const ended = await run(["send", "discard:", "-", flag, value], {}, tableToIPC(numbers(1), "stream"));
    expect(ended.stderr).not.toContain("@env:NAME");
  });

  test("come from the environment or a file, and are never shown", async () => {
    const env = { KEY: secret };
    const flags = [
      ["--set", "delta.storage.aws_secret_access_key=@env:KEY"],
      ["--set", `delta.storage.aws_session_token=@file:${file("token", `${secret}\n`)}`],
      ["--header", "authorization: @env:KEY"],
      ["--verbose"],
    ];
    const ended = await run(["send", lake(), file("a.arrow", numbers(3)), ...flags.flat()], { env });
    expect(ended.code).toBe(0);
    expect(ended.stdout + ended.stderr).not.toContain(secret);
  });

  test("in a target they are not shown either", async () => {
    expect(withoutCredentials(`grpc://me:${secret}@host:1/a`)).toBe("grpc://…@host:1/a");
    const ended = await run(["check", `grpc://me:${secret}@127.0.0.1:1/a`, "--json"]);
    expect(ended.code).not.toBe(0);
    expect(ended.stdout + ended.stderr).not.toContain(secret);
  });
});

describe("R-38 send", () => {
  test("files and streams arrive in the table, whole", async () => {
    const files = [file("a.arrow", numbers(1_000)), file("b.arrows", numbers(500, 1_000), "stream")];
    const ended = await run(["send", lake(), ...files]);
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    expect(ended.stdout).toMatch(
      /^1,500 rows \(.+\) in 2 deliveries to delta:.+\n {2}acknowledged {2}1,500, version \d+\n$/,
    );
    expect(await read("n")).toEqual(upTo(1_500));
  });

  test("- is standard input, a stream or a file", async () => {
    const mark = Buffer.from("ARROW1\0\0");
    expect(await run(["send", lake(), "-"], {}, tableToIPC(numbers(10), "stream"))).toMatchObject({
      code: 0,
    });
    expect(
      await run(
        ["send", lake(), "-"],
        {},
        Buffer.concat([mark, tableToIPC(numbers(10, 10), "stream"), mark]),
      ),
    ).toMatchObject({
      code: 0,
    });
    expect(await read("n")).toEqual(upTo(20));
  });

  test("--json is one line on standard output, and --quiet none", async () => {
    const input = file("a.arrow", numbers(7));
    const json = await run(["send", lake(), input, "--json", "--quiet"]);
    expect(json.stdout.trim().split("\n").length).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject({
      target: lake(),
      success: true,
      interrupted: false,
      deliveries: { acknowledged: 1, partial: 0, failed: 0, unknown: 0 },
      rows: { sent: 7, acknowledged: 7, rejected: 0, failed: 0, unknown: 0 },
      position: { kind: "version" },
      rejections: [],
      failures: [],
      error: null,
    });
    expect(await run(["send", "discard:", input, "-q"])).toEqual({ code: 0, stdout: "", stderr: "" });
  });

  test("--set, --options and --header reach the client; --set goes on top", async () => {
    const options = file("o.json", `{ "delta": { "partitionBy": ["x"], "compression": "zstd" } }`);
    const flags = ["--options", options, "--set", 'delta.partitionBy=["n"]', "--header", "x-tenant: blue"];
    const input = tableFromArrays({ n: Int32Array.of(0, 1, 2), x: Int32Array.of(5, 5, 5) });
    const ended = await run(["send", lake(), file("a.arrow", input), ...flags, "--set", "handoff=copy"]);
    expect(ended).toMatchObject({ code: 0 });
    expect(
      fs
        .readdirSync(at("lake"))
        .filter((name) => name.startsWith("n="))
        .sort(),
    ).toEqual(["n=0", "n=1", "n=2"]);
    const texts = file("texts.json", `{ "batching": { "maxBytes": "8MiB" } }`);
    const set = ["--set", "batching.maxBytes=1MiB", "--set", 'inflight.maxBytes="64MiB"'];
    expect(await run(["send", "discard:", at("a.arrow"), "--options", texts, ...set])).toMatchObject({
      code: 0,
    });
  });

  test("rows that the destination cannot hold: 1, and the summary says which and why", async () => {
    const other = tableFromArrays({ n: ["not", "a", "number"] });
    const files = [file("good.arrow", numbers(5)), file("bad.arrow", other)];
    const ended = await run(["send", lake(), ...files, "--set", "retry.attempts=1"]);
    expect(ended.code).toBe(1);
    expect(ended.stdout).toMatch(
      /8 rows .+\n {2}acknowledged {2}5.*\n {2}failed {8}3\n {4}SCHEMA_MISMATCH × 1 delivery: first .*bad\.arrow from row 0: /,
    );
    const json = JSON.parse((await run(["send", lake(), at("bad.arrow"), "--json"])).stdout);
    expect(json).toMatchObject({ success: false, rows: { sent: 3, acknowledged: 0, failed: 3 } });
    expect(json.failures).toMatchObject([
      { status: "failed", code: "SCHEMA_MISMATCH", deliveries: 1, rows: 3 },
    ]);
  });

  test("an input that breaks off: what came before is sent, and 1", async () => {
    const stream = tableToIPC(numbers(100), "stream");
    const ended = await run(
      ["send", lake(), "-", "--json"],
      {},
      Buffer.concat([stream.subarray(0, -8), stream.subarray(0, 20)]),
    );
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(/standard input: the input ends in the midst of the message/);
    expect(JSON.parse(ended.stdout)).toMatchObject({
      success: false,
      rows: { acknowledged: 100 },
      error: { code: null },
    });
    expect(await read("n")).toEqual(upTo(100));
  });

  test("a destination that is not there: 1, with the error and whether trying again helps", async () => {
    const ended = await run([
      "send",
      "grpc://127.0.0.1:1/x",
      "-",
      "--set",
      "retry.attempts=2",
      "--set",
      "retry.baseDelay=1",
    ]);
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(/arrow-ingest: UNAVAILABLE: .*\(2 attempts[\s\S]*trying again may help/);
    expect(ended.stdout).toContain("0 rows");
  });

  test("progress is drawn on a terminal, and wiped", async () => {
    const stream = tableToIPC(numbers(100), "stream");
    const running = start(["send", "discard:", "-"], { terminal: { columns: 60 } });
    running.stdin.write(stream.subarray(0, -8));
    await running.says("100 rows  ");
    running.stdin.end(stream.subarray(-8));
    expect(await running.code).toBe(0);
    const drawn = running.stderr().split("\r");
    expect(drawn.at(-1)).toBe("\u001b[K");
    for (const line of drawn) expect(line.length).toBeLessThanOrEqual(60 + 3);
    const quiet = start(["send", "discard:", "-", "--quiet"], { terminal: { columns: 60 } });
    quiet.stdin.end(stream);
    expect(await quiet.code).toBe(0);
    expect(quiet.stderr()).toBe("");
  });

  test("R-18 SIGINT reads no more, delivers what was admitted, and says so", async () => {
    const running = start(["send", lake(), "-", "--json", "--set", "delta.commitInterval=10ms"]);
    running.stdin.write(tableToIPC(numbers(50), "stream").subarray(0, -8));
    await vi.waitFor(
      () => expect(fs.existsSync(at("lake/_delta_log/00000000000000000001.json"))).toBe(true),
      20_000,
    );
    running.signal("SIGINT");
    expect(await running.code).toBe(130);
    expect(running.stderr()).toContain("once more stops at once");
    expect(JSON.parse(running.stdout())).toMatchObject({
      success: false,
      interrupted: true,
      rows: { sent: 50, acknowledged: 50 },
      error: null,
    });
    expect(running.stdin.destroyed).toBe(true);
    expect(running.listeners()).toBe(0);
    expect(running.exits).toEqual([]);
  });

  test("R-18 an interruption while connecting gives up connecting", async () => {
    const argv = [
      "send",
      "grpc://127.0.0.1:1/x",
      "-",
      "--set",
      "retry.baseDelay=1h",
      "--set",
      "retry.maxDelay=1h",
      "--set",
      "retry.deadline=1d",
    ];
    const running = start(argv);
    // Listening is the first thing that it does; what it does next cannot be over yet.
    await vi.waitFor(() => expect(running.listeners()).toBe(1), { timeout: 30_000 });
    running.signal("SIGTERM");
    expect(await running.code).toBe(143);
    expect(running.stdout()).toContain("interrupted");
  });

  test("R-18 a second signal stops at once", async () => {
    const running = start(["send", "discard:", "-"]);
    await vi.waitFor(() => expect(running.listeners()).toBe(1), { timeout: 30_000 });
    running.signal("SIGINT");
    running.signal("SIGINT");
    expect(running.exits).toEqual([130]);
    expect(running.stderr()).toContain("stopped at once");
    await running.code;
  });
});

describe("R-38 check", () => {
  test("says what is there, and writes nothing", async () => {
    const missing = await run(["check", lake()]);
    expect(missing).toMatchObject({ code: 0, stderr: "" });
    expect(missing.stdout).toContain("the table is missing and would be made");
    expect(fs.existsSync(at("lake/_delta_log"))).toBe(false);
    await run(["send", lake(), file("a.arrow", numbers(3))]);
    const before = fs.readdirSync(at("lake/_delta_log"));
    const there = await run(["check", lake()]);
    expect(there).toMatchObject({ code: 0 });
    expect(there.stdout).toContain("is there, and would take rows");
    const json = JSON.parse((await run(["check", lake(), "--json"])).stdout);
    expect(json).toMatchObject({ target: lake(), success: true, missing: false, error: null });
    expect(fs.readdirSync(at("lake/_delta_log"))).toEqual(before);
    expect(await run(["check", "discard:", "--quiet"])).toEqual({ code: 0, stdout: "", stderr: "" });
  });

  test("a table that must be there, and is not: 1", async () => {
    const ended = await run(["check", lake(), "--set", "createIfMissing=false", "--json"]);
    expect(ended.code).toBe(1);
    expect(JSON.parse(ended.stdout)).toMatchObject({ success: false, error: { code: "NOT_FOUND" } });
    expect(ended.stderr).toContain("NOT_FOUND");
  });

  test("a server that is not there: 1 after a single try", async () => {
    const ended = await run(["check", "grpc://127.0.0.1:1/x"]);
    expect(ended).toMatchObject({ code: 1, stdout: "" });
    expect(ended.stderr).toContain("UNAVAILABLE");
    expect(ended.stderr).not.toContain("attempts");
  });
});

describe("R-38 inputs of another kind", () => {
  const other = [
    ["CSV", "carrier,delay\nAA,5\n", "by option format|--format json, csv or parquet"],
    ["CSV of one letter", "l", "ends in the midst|cut off"],
    ["Parquet", "PAR1\u0015\u0004\u0015", "damaged, or was cut off|it was cut off"],
  ] as const;
  test.each(other)("%s on standard input is told what can be read", async (_, text, said) => {
    const ended = await run(["send", lake(), "-"], {}, Buffer.from(text));
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(new RegExp(said));
  });

  test.each(other)("%s in a file is told before anything is sent", async (_, text, said) => {
    const name = path.join(home, "other");
    fs.writeFileSync(name, text);
    const ended = await run(["send", lake(), file("a.arrow", numbers(1)), name]);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(new RegExp(said));
  });
});

describe("R-38 what the client logs", () => {
  const wrong = () => file("wrong.arrow", tableFromArrays({ n: ["no number"] }));

  test("is a line for people, and everything with --verbose", async () => {
    const target = lake();
    const short = await run(["send", target, file("a.arrow", numbers(3)), wrong()]);
    expect(short.code).toBe(1);
    expect(short.stderr).toMatch(
      /^error: the destination refused for good: SCHEMA_MISMATCH: the table .+ \(destination delta, .+\)\n$/,
    );
    expect(short.stderr).not.toContain("{");
    const long = await run(["send", target, wrong(), "--verbose"]);
    expect(long.stderr).toMatch(/error: the destination refused for good \{.*"code":"SCHEMA_MISMATCH"/);
  });
});

describe("R-38 texts for people", () => {
  test("amounts and times have units", () => {
    expect([1, 2, 1_500, 1.5e6, 2e9, 3e12].map(bytes)).toEqual([
      "1 byte",
      "2 bytes",
      "1.5 kB",
      "1.5 MB",
      "2.0 GB",
      "3.0 TB",
    ]);
    expect([12, 1_500, 600e3, 8e6].map(seconds)).toEqual(["12 ms", "1.5 s", "10 min", "2 h"]);
  });

  test("a table is no wider than it may be, unless its columns are as narrow as they get", () => {
    const rows = [
      ["a", "reason"],
      ["1", "x".repeat(100)],
    ];
    for (const line of table(rows, 40).trimEnd().split("\n")) expect(line.length).toBeLessThanOrEqual(40);
    expect(table(rows, 40)).toContain("…");
    expect(table(rows, 3)).toBe("a  rea…\n1  xxx…\n");
    expect(table([["a", "b"], ["cc"]], 40)).toBe("a   b\ncc\n");
    expect(table([], 40)).toBe("");
  });

  test("what stands in a cell stays in its cell, whatever it is", () => {
    const moves = "\u001b[2Ja\u009bb\r\nc\u2028d\u202ee";
    expect(table([["name\u001b[1m"], [moves]], 40)).toBe("name [1m\n [2Ja b c d e\n");
  });

  test("a table may have as many rows and columns as there are", () => {
    const rows = Array.from({ length: 700_000 }, (_, n) => [String(n)]);
    expect(table(rows, 40).split("\n").length).toBe(rows.length + 1);
    const columns = Array.from({ length: 130_000 }, () => "name");
    expect(table([columns], 40).length).toBe(130_000 * 6 - 1);
  });

  test("what a server or a file says moves no cursor", async () => {
    const moves = "\u001b[2Jgone\u009b\nnext";
    const cause = new Error(moves);
    const error = new ConnectionError({ code: "UNAVAILABLE", message: moves, cause });
    expect(explain(error)).toBe("arrow-ingest: UNAVAILABLE:  [2Jgone next\n  because  [2Jgone next\n");
    const issues = [{ path: moves, message: moves, suggestion: moves }];
    const wrong = new ConfigError({ code: "CONFIG_INVALID", message: "", issues });
    expect(explain(wrong).split("\n")).toEqual([
      "arrow-ingest: CONFIG_INVALID: the options are wrong",
      "   [2Jgone next  [2Jgone next (did you mean  [2Jgone next?)",
      "",
    ]);
    expect(explain(new Error(moves))).toBe("arrow-ingest:  [2Jgone next\n");
    const refusal = [INVALID_ARGUMENT, "no%1B[2J such%C2%9B rows"] as const;
    await using server = await FlightServer.start(({ method }) => (method === "DoPut" ? refusal : undefined));
    const ended = await run(["send", server.url, file("a.arrow", numbers(3)), "--verbose"]);
    expect(ended.code).toBe(1);
    expect(ended.stdout).toMatch(/no.+such.+rows/);
    expect((ended.stdout + ended.stderr).replaceAll("\n", "")).not.toMatch(/\p{Cc}/u);
  });
});

describe("R-18 an outcome that is owed", () => {
  const silent = () => FlightServer.start(({ method }) => (method === "DoPut" ? "silence" : undefined));

  test("does not hold up the end after a signal", async () => {
    await using server = await silent();
    const running = start(["send", server.url, "-", "--json"], { patienceMs: 300 });
    running.stdin.write(tableToIPC(numbers(50), "stream").subarray(0, -8));
    await expect
      .poll(() => server.calls.some(({ method }) => method === "DoPut"), { timeout: 20_000 })
      .toBe(true);
    running.signal("SIGTERM");
    expect(await running.code).toBe(143);
    expect(JSON.parse(running.stdout())).toMatchObject({
      interrupted: true,
      deliveries: { acknowledged: 0, unknown: 1 },
      error: null,
    });
  });

  test("nor does what waits for room behind it", async () => {
    await using server = await silent();
    const argv = ["send", server.url, file("n.arrow", numbers(100)), file("m.arrow", numbers(100))];
    const running = start([...argv, "--json", "--set", "inflight.maxBytes=1"], { patienceMs: 300 });
    await expect
      .poll(() => server.calls.some(({ method }) => method === "DoPut"), { timeout: 20_000 })
      .toBe(true);
    running.signal("SIGINT");
    expect(await running.code).toBe(130);
    expect(JSON.parse(running.stdout())).toMatchObject({ interrupted: true, error: null });
  });
});

describe("R-38 the program", () => {
  const program = (argv: string[]): ChildProcess =>
    spawn(process.execPath, [path.resolve("dist/cli.js"), ...argv], { stdio: "pipe" });

  async function ended(
    child: ChildProcess,
  ): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const text = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const)
      child[name]!.setEncoding("utf8").on("data", (chunk: string) => {
        text[name] += chunk;
      });
    const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
    return { code, ...text };
  }

  test("sends what is piped into it, and ends by itself", async () => {
    const child = program(["send", lake(), "-", "--json"]);
    child.stdin!.end(tableToIPC(numbers(5), "stream"));
    const done = await ended(child);
    expect(done).toMatchObject({ code: 0, stderr: "" });
    expect(JSON.parse(done.stdout)).toMatchObject({ rows: { acknowledged: 5 } });
    expect(await read("n")).toEqual(upTo(5));
  });

  test("gives 2 to misuse", async () => {
    expect(await ended(program(["sned"]))).toMatchObject({ code: 2, stdout: "" });
  });

  test("R-18 a real SIGINT ends it well", async () => {
    const child = program(["send", lake(), "-", "--set", "delta.commitInterval=10ms"]);
    const done = ended(child);
    child.stdin!.write(tableToIPC(numbers(5), "stream").subarray(0, -8));
    await vi.waitFor(
      () => expect(fs.existsSync(at("lake/_delta_log/00000000000000000001.json"))).toBe(true),
      20_000,
    );
    child.kill("SIGINT");
    const { code, stdout } = await done;
    expect(code).toBe(130);
    expect(stdout).toMatch(/acknowledged {2}5, version 1\n {2}interrupted/);
  });

  test("a reader that stops reading is no error to show", async () => {
    const child = program(["help", "send"]);
    child.stdout!.destroy();
    const { code, stderr } = await ended(child);
    expect(stderr).toBe("");
    expect([0, 1]).toContain(code);
  });
});
