// R-15 R-38: refused rows from the command line. What a server refuses is in tests/interop/cli.test.ts.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import {
  Binary,
  type Data,
  type DataType,
  DateMillisecond,
  Decimal,
  DenseUnion,
  Dictionary,
  Field,
  FixedSizeList,
  Float64,
  Int32,
  Int64,
  IntervalDayTime,
  List,
  Map_,
  makeData,
  makeVector,
  Null,
  RecordBatch,
  RecordBatchFileWriter,
  Schema,
  Struct,
  Table,
  TimestampMicrosecond,
  TimestampMillisecond,
  tableFromArrays,
  tableFromIPC,
  tableToIPC,
  Uint64,
  Utf8,
  type Vector,
  vectorFromArray,
} from "apache-arrow";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { connect, listDeadLetters, readDeadLetter, t } from "../../dist/index.js";
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
  return lettersOf(
    name,
    ids,
    word,
    [new Field("id", new Int64(), true), new Field("name", new Utf8(), true)],
    [
      vectorFromArray(ids, new Int64()),
      vectorFromArray(
        ids.map((id) => `${word} ${id}`),
        new Utf8(),
      ),
    ],
  );
}

function lettersOf(
  name: string,
  ids: readonly bigint[],
  word: string,
  own: readonly Field[],
  values: readonly Vector[],
  even = "EVEN",
): string {
  const columns: [string, DataType, readonly unknown[]][] = [
    ["_rejection_reason", new Utf8(), ids.map((id) => `${word}:\n\u001b[2Jtoo ${id}`)],
    ["_rejection_code", new Utf8(), ids.map((id) => (id % 2n === 0n ? even : "ODD"))],
    ["_rejection_sequence", new Uint64(), ids.map(() => 7n)],
    ["_rejection_row", new Uint64(), ids],
    ["_rejection_time", new TimestampMillisecond("UTC"), ids.map(() => 1_700_000_000_000)],
  ];
  const fields = [...own, ...columns.map(([name, type]) => new Field(name, type, true))];
  const metadata = new Map([["arrow-ingest.dead-letter.prefix", "_rejection_"]]);
  const schema = new Schema(fields, metadata);
  const children = [...values, ...columns.map(([, type, values]) => vectorFromArray(values, type))].map(
    ({ data }) => data[0]!,
  );
  const data = makeData({ type: new Struct(fields), length: ids.length, children });
  const file = at("refused", name);
  const batch = new RecordBatch(schema, data as never);
  fs.writeFileSync(file, RecordBatchFileWriter.writeAll([batch]).toUint8Array(true));
  return file;
}

const FIRST = "rejected-1700000000000000-aa.arrow";
const SECOND = "rejected-1700000000000001-bb.arrow";
const THIRD = "rejected-1700000000000002-cc.arrow";

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
    fs.copyFileSync(at("refused", FIRST), at("refused", THIRD));
    const { code, stdout } = await run(["deadletter", "ls", at("refused")]);
    expect(code).toBe(1);
    expect(stdout).toMatch(new RegExp(`${SECOND} +\\? `));
    // The others are shown all the same.
    const shown = await run(["deadletter", "show", at("refused")]);
    expect(shown.code).toBe(1);
    expect(shown.stderr).toContain(`${SECOND} is no Arrow file`);
    expect(shown.stdout).toContain(FIRST);
    expect(shown.stdout).toContain(THIRD);
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

  test("names of columns and codes move no cursor either", async () => {
    const own = [new Field("id\u001b[1m", new Int64(), true)];
    lettersOf(FIRST, [2n], "word", own, [vectorFromArray([2n], new Int64())], "EV\u001b[2J\u009bEN");
    for (const what of ["ls", "show"]) {
      const { code, stdout } = await run(["deadletter", what, at("refused")]);
      expect(code).toBe(0);
      expect(stdout).toMatch(/EV.+EN/);
      expect(stdout.replaceAll("\n", "")).not.toMatch(/\p{Cc}/u);
    }
  });

  test("R-03 exotic values are shown as their number, and keep no other row from being shown", async () => {
    const far = BigInt64Array.of(9_223_372_036_854_775_807n, -9_223_372_036_854_775_808n);
    const column = (type: DataType, more: object): Vector =>
      makeVector(makeData({ type, length: 2, ...more } as never));
    const list = (type: DataType, child: Data): Vector =>
      column(type, { child, valueOffsets: Int32Array.of(0, 1, 2) });
    const instants = column(new TimestampMicrosecond(), { data: far });
    const inner = new Struct([new Field("at", new TimestampMicrosecond(), true)]);
    const struct = column(inner, { children: [instants.data[0]!] });
    const entry = new Struct([
      new Field("key", new Utf8(), false),
      new Field("value", new TimestampMicrosecond(), true),
    ]);
    const entries = column(entry, {
      children: [vectorFromArray(["a", "b"], new Utf8()).data[0]!, instants.data[0]!],
    });
    const money = new Decimal(2, 38, 128);
    const union = new DenseUnion(Int32Array.of(3), [new Field("at", new TimestampMicrosecond(), true)]);
    const vectors: Record<string, Vector> = {
      instant: instants,
      date: column(new DateMillisecond(), { data: far }),
      struct,
      list: list(new List(new Field("item", new TimestampMicrosecond(), true)), instants.data[0]!),
      pair: column(new FixedSizeList(1, new Field("item", new TimestampMicrosecond(), true)), {
        child: instants.data[0]!,
      }),
      map: list(new Map_(new Field("entries", entry, false) as never), entries.data[0]!),
      union: column(union, {
        typeIds: Int8Array.of(3, 4),
        valueOffsets: Int32Array.of(1, 0),
        children: [instants.data[0]!],
      }),
      word: column(new Dictionary(new TimestampMicrosecond(), new Int32(), 1), {
        data: Int32Array.of(1, 0),
        dictionary: instants,
      }),
      money: column(money, { data: new Uint32Array(BigInt64Array.of(-5n, -1n, 12_345n, 0n).buffer) }),
      many: column(new Decimal(-2, 38, 128), {
        data: new Uint32Array(BigInt64Array.of(7n, 0n, -7n, -1n).buffer),
      }),
      float: vectorFromArray([Number.NaN, Number.NEGATIVE_INFINITY], new Float64()),
      interval: column(new IntervalDayTime(), { data: Int32Array.of(1, 2, 3, 4) }),
      bytes: vectorFromArray([Uint8Array.of(1, 2), null], new Binary()),
      nothing: vectorFromArray([null, null], new Null()),
    };
    // A file each: the library's writer mixes up the buffers of some of these types when they are together.
    Object.entries(vectors).forEach(([name, vector], at) => {
      lettersOf(
        `rejected-${1_700_000_000_000_100 + at}-aa.arrow`,
        [1n, 2n],
        "far",
        [new Field(name, vector.type, true)],
        [vector],
      );
    });
    letters(SECOND, [3n], "near");
    const shown = await run(["deadletter", "show", "--json", at("refused")]);
    expect(shown).toMatchObject({ code: 0, stderr: "" });
    const lines = shown.stdout.trim().split("\n");
    const values: [string, unknown][][] = lines.map((line) => JSON.parse(line).values);
    const third = Object.fromEntries(values.shift()!);
    const [first, second] = [0, 1].map((row) =>
      Object.fromEntries(values.flatMap((cells, line) => (line % 2 === row ? cells : []))),
    );
    const [most, least] = [String(far[0]), String(far[1])];
    expect(first).toEqual({
      instant: most,
      date: most,
      struct: { at: most },
      list: [most],
      pair: [most],
      map: [["a", most]],
      union: least,
      word: least,
      money: "-0.05",
      many: "700",
      float: "NaN",
      interval: [1, 2],
      bytes: "AQI=",
      nothing: null,
    });
    expect(second).toMatchObject({
      money: "123.45",
      many: "-700",
      float: "-Infinity",
      union: null,
      bytes: null,
    });
    expect(third).toEqual({ id: "3", name: "near 3" });
    const table = await run(["deadletter", "show", at("refused")], { terminal: { columns: 400 } });
    expect(table.code).toBe(0);
    expect(table.stdout).toContain(most);
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

  test("a dry run removes nothing: discard: keeps no row", async () => {
    letters(FIRST, [1n, 2n], "x");
    const ended = await run(["deadletter", "resend", at("refused"), "discard:"]);
    expect(ended.code).toBe(0);
    expect(ended.stdout).toMatch(/files +0 removed, 1 kept/);
    expect(fs.readdirSync(at("refused"))).toEqual([FIRST]);
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

  test("rows that are no Arrow values are shown as JSON, and go through rows again", async () => {
    const schema = t.schema({ id: t.int32(), at: t.timestamp("ms", "UTC").nullable() });
    const wrong = [{ id: "1", at: new Date(5), $x: 1n }, { id: 2 ** 40 }, 7];
    const client = await connect("discard:", { deadLetter: { directory: at("refused") } });
    await client.send(wrong as never, { schema, unknownKeys: "drop" });
    await client.close();
    const shown = await run(["deadletter", "show", at("refused"), "--json"]);
    const lines = shown.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.map(({ code, values }) => [code, values[0][1]])).toEqual([
      ["VALUE_TYPE", '{"id":"1","at":{"$date":"1970-01-01T00:00:00.005Z"},"$$x":{"$bigint":"1"}}'],
      ["VALUE_RANGE", '{"id":1099511627776}'],
      ["ROW_TYPE", "7"],
    ]);
    letters("rejected-9-9.arrow", [1n], "word");
    // They do not fit now either, and are kept anew; the other file's rows arrive.
    const said = await run(["deadletter", "resend", at("refused"), `delta:${at("lake")}`, "--json"]);
    expect(said.code).toBe(1);
    const summary = JSON.parse(said.stdout);
    expect(summary.rows).toMatchObject({ sent: 4, acknowledged: 1, rejected: 3 });
    const again = await listDeadLetters(at("refused"));
    const contents = await Promise.all(again.map(readDeadLetter));
    expect(contents.flatMap(({ unfit }) => unfit?.rows ?? [])).toEqual(wrong);
    expect(contents.map(({ unfit }) => unfit?.reading.unknownKeys)).toEqual(["drop"]);
  });

  test("a file of such rows whose schema or rows are damaged says so", async () => {
    const file = lettersOf(
      "rejected-1-1.arrow",
      [1n],
      "word",
      [new Field("text", new Utf8(), true)],
      [vectorFromArray(["no JSON"], new Utf8())],
    );
    const table = tableFromIPC(fs.readFileSync(file));
    for (const [schema, says] of [
      ["", "the schema of its rows cannot be read"],
      ["bm9wZQ==", "cannot be read"],
      [Buffer.from(tableToIPC(tableFromArrays({ id: [1] }), "stream")).toString("base64"), "cannot be read"],
    ] as const) {
      const metadata = new Map(table.schema.metadata);
      metadata.set("arrow-ingest.dead-letter.rows", "json").set("arrow-ingest.dead-letter.schema", schema);
      const whole = new Schema(table.schema.fields, metadata);
      const marked = new Table(table.batches.map(({ data }) => new RecordBatch(whole, data as never)));
      fs.writeFileSync(file, RecordBatchFileWriter.writeAll(marked).toUint8Array(true));
      const { stderr } = await run(["deadletter", "show", at("refused")]);
      expect(stderr).toContain(says);
    }
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
