// R-15 R-38: refused rows from the command line. What a server refuses is in tests/interop/cli.test.ts.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import {
  type DataType,
  Field,
  Int64,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  Schema,
  Struct,
  TimestampMillisecond,
  tableFromArrays,
  tableToIPC,
  Uint64,
  Utf8,
  vectorFromArray,
} from "apache-arrow";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { readBack } from "../../examples/demo/readback.mjs";
import { run, start } from "./support/cli.js";

let home = "";
const at = (...parts: string[]): string => path.join(home, ...parts);
beforeEach(() => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-cli-letters-"));
  fs.mkdirSync(at("refused"));
});
afterEach(() => {
  fs.rmSync(home, { recursive: true, force: true });
});

/** As a client writes them: the rows, and why each was refused. */
function letters(name: string, ids: readonly bigint[], word: string): string {
  const columns: [string, DataType, readonly unknown[]][] = [
    ["id", new Int64(), ids],
    ["name", new Utf8(), ids.map((id) => `${word} ${id}`)],
    ["_rejection_reason", new Utf8(), ids.map((id) => `${word}:\n\u001b[2Jtoo ${id}`)],
    ["_rejection_code", new Utf8(), ids.map((id) => (id % 2n === 0n ? "EVEN" : "ODD"))],
    ["_rejection_sequence", new Uint64(), ids.map(() => 7n)],
    ["_rejection_row", new Uint64(), ids],
    ["_rejection_time", new TimestampMillisecond("UTC"), ids.map(() => 1_700_000_000_000)],
  ];
  const fields = columns.map(([name, type]) => new Field(name, type, true));
  const metadata = new Map([["arrow-ingest.dead-letter.prefix", "_rejection_"]]);
  const schema = new Schema(fields, metadata);
  const children = columns.map(([, type, values]) => vectorFromArray(values, type).data[0]!);
  const data = makeData({ type: new Struct(fields), length: ids.length, children });
  const file = at("refused", name);
  const batch = new RecordBatch(schema, data as never);
  fs.writeFileSync(file, RecordBatchFileWriter.writeAll([batch]).toUint8Array(true));
  return file;
}

const FIRST = "rejected-1700000000000000-aa.arrow";
const SECOND = "rejected-1700000000000001-bb.arrow";

describe("R-38 deadletter ls and show", () => {
  test("lists files with rows, size, age and reasons", async () => {
    expect(await run(["deadletter", "ls", at("refused")])).toMatchObject({
      code: 0,
      stdout: "no dead letters\n",
    });
    letters(FIRST, [1n, 2n, 3n], "first");
    letters(SECOND, [4n], "second");
    const hourAgo = new Date(Date.now() - 10_800_000);
    fs.utimesSync(at("refused", FIRST), hourAgo, hourAgo);
    const { code, stdout } = await run(["deadletter", "ls", at("refused")]);
    expect(code).toBe(0);
    const [head, first, second] = stdout.split("\n").map((line) => line.split(/ {2,}/));
    expect(head).toEqual(["file", "rows", "size", "age", "reasons"]);
    expect(first).toEqual([FIRST, "3", expect.stringMatching(/kB$/), "3 h", "ODD × 2, EVEN × 1"]);
    expect(second!.slice(0, 2)).toEqual([SECOND, "1"]);
    const json = await run(["deadletter", "ls", "--json", at("refused")]);
    const lines = json.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines[0]).toMatchObject({ rows: 3, codes: { ODD: 2, EVEN: 1 }, error: null });
    expect(lines.map(({ file }) => path.basename(file))).toEqual([FIRST, SECOND]);
  });

  test("a file that holds something else is said to, and 1", async () => {
    letters(FIRST, [1n], "good");
    fs.writeFileSync(at("refused", SECOND), "ARROW1, or not");
    const { code, stdout } = await run(["deadletter", "ls", at("refused")]);
    expect(code).toBe(1);
    expect(stdout).toMatch(new RegExp(`${SECOND} +\\? `));
    expect((await run(["deadletter", "show", at("refused")])).code).toBe(1);
  });

  test("shows rows with their reasons, no wider than the terminal, and nothing that moves its cursor", async () => {
    letters(FIRST, [1n, 2n, 3n], "a word and many more of them to make it wide");
    const shown = start(["deadletter", "show", at("refused")], { terminal: { columns: 60 } });
    expect(await shown.code).toBe(0);
    const lines = shown.stdout().trimEnd().split("\n");
    expect(lines[0]).toBe(FIRST);
    expect(lines[1]).toMatch(/^row +code +reason +id +name$/);
    expect(lines.length).toBe(5);
    for (const line of lines) expect([...line].length).toBeLessThanOrEqual(60);
    expect(shown.stdout()).not.toContain("\u001b");
  });

  test("--limit and --code choose, and what is left out is counted", async () => {
    letters(FIRST, [1n, 2n, 3n], "x");
    letters(SECOND, [4n, 5n], "y");
    const two = await run(["deadletter", "show", "-n", "2", at("refused")]);
    expect(two.stdout).toContain("and 3 more rows");
    expect(two.stdout).not.toContain(SECOND);
    const even = await run(["deadletter", "show", "--code", "EVEN", "--json", at("refused"), SECOND]);
    expect(JSON.parse(even.stdout)).toEqual({
      file: at("refused", SECOND),
      reason: "y:\n\u001b[2Jtoo 4",
      code: "EVEN",
      sequence: "7",
      row: 4,
      time: "2023-11-14T22:13:20.000Z",
      values: [
        ["id", "4"],
        ["name", "y 4"],
      ],
    });
  });
});

describe("R-38 deadletter resend", () => {
  const target = (): string => `delta:${at("lake")}`;

  test("rows arrive as they were first sent, and their files are removed", async () => {
    letters(FIRST, [1n, 2n], "x");
    letters(SECOND, [3n], "y");
    const ended = await run(["deadletter", "resend", at("refused"), target()]);
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    expect(ended.stdout).toContain("3 rows");
    expect(ended.stdout).toMatch(/files +2 removed, 0 kept/);
    expect(fs.readdirSync(at("refused"))).toEqual([]);
    const found: Record<string, unknown[]> = {};
    await readBack(at("lake"), (name: string, values: Iterable<unknown>) => {
      found[name] = [...(found[name] ?? []), ...values];
    });
    expect(found).toEqual({ id: [1n, 2n, 3n], name: ["x 1", "x 2", "y 3"] });
  });

  test("what fails stays, and what was not named is left alone", async () => {
    letters(FIRST, [1n], "x");
    letters(SECOND, [3n], "y");
    // A table of other columns.
    fs.writeFileSync(at("other.arrow"), tableToIPC(tableFromArrays({ z: Int32Array.of(1) }), "file"));
    expect((await run(["send", target(), at("other.arrow")])).code).toBe(0);
    const argv = ["deadletter", "resend", "--json", at("refused"), target(), FIRST];
    const failed = await run([...argv, "--set", "retry.attempts=1"]);
    expect(failed.code).toBe(1);
    expect(fs.readdirSync(at("refused")).sort()).toEqual([FIRST, SECOND]);
    expect(JSON.parse(failed.stdout)).toMatchObject({
      failures: [{ code: "SCHEMA_MISMATCH", rows: 1 }],
      files: { removed: 0, kept: 1 },
    });
    fs.rmSync(at("lake"), { recursive: true });
    const sent = await run(argv);
    expect(sent.code).toBe(0);
    expect(JSON.parse(sent.stdout)).toMatchObject({
      files: { removed: 1, kept: 0 },
      rows: { acknowledged: 1 },
    });
    expect(fs.readdirSync(at("refused"))).toEqual([SECOND]);
  });

  test("a file that holds something else ends it after those before it, and stays", async () => {
    letters(FIRST, [1n], "x");
    fs.writeFileSync(at("refused", SECOND), "nothing");
    const ended = await run(["deadletter", "resend", at("refused"), target()]);
    expect(ended.code).toBe(1);
    expect(ended.stderr).toContain(SECOND);
    expect(ended.stdout).toMatch(/1 removed, 1 kept/);
    expect(fs.readdirSync(at("refused"))).toEqual([SECOND]);
  });
});

test("R-38 misuse of deadletter is 2", async () => {
  const wrong: [string[], string][] = [
    [[], "does ls, show or resend"],
    [["rm"], "not rm"],
    [["ls"], "needs a directory"],
    [["ls", "/nope"], "/nope cannot be read"],
    [["show", "--limit", "x", "/nope"], "--limit takes a number"],
    [["show", home, "nope.arrow"], "no dead letters called nope.arrow"],
    [["resend", home], "needs a directory and a target"],
    [["resend", home, "nowhere:"], "CONFIG_INVALID"],
  ];
  for (const [argv, says] of wrong) {
    const ended = await run(["deadletter", ...argv]);
    expect(ended, argv.join(" ")).toMatchObject({ code: 2, stdout: "" });
    expect(ended.stderr).toContain(says);
  }
});
