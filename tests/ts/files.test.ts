// JSON, CSV and Parquet go in as bytes; nothing is bent, and what does not fit is refused alone, by its line.
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { Readable } from "node:stream";
import { pathToFileURL } from "node:url";
import * as zlib from "node:zlib";
import { Decimal, Field, Schema, type Table, tableFromArrays, tableFromIPC, tableToIPC } from "apache-arrow";
import { Compression, Table as WasmTable, WriterPropertiesBuilder, writeParquet } from "parquet-wasm/node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type BytesResult,
  type BytesSource,
  connect,
  type DecodeOptions,
  decodeBytes,
  InputError,
  type LineRejection,
  t,
  tableFromRows,
} from "../../dist/index.js";
import { run, start } from "./support/cli.js";

let home = "";
beforeAll(() => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-files-"));
});
afterAll(() => fs.rmSync(home, { recursive: true, force: true }));
const at = (name: string): string => path.join(home, name);
function file(name: string, content: string | Uint8Array): string {
  fs.writeFileSync(at(name), content);
  return at(name);
}

interface Found {
  readonly rows: Record<string, unknown>[];
  readonly lines: (number | null)[];
  readonly rejections: LineRejection[];
  readonly parts: number;
  readonly error: unknown;
}

/** All of an input, and what ended it. */
async function decode(source: BytesSource | string, options?: DecodeOptions): Promise<Found> {
  const rows: Record<string, unknown>[] = [];
  const lines: (number | null)[] = [];
  const rejections: LineRejection[] = [];
  let parts = 0;
  let error: unknown = null;
  try {
    for await (const part of decodeBytes(source, options)) {
      expect(part.firstRow).toBe(rows.length);
      const table = tableFromIPC(part.batch);
      expect(table.numRows).toBe(part.rows);
      for (let row = 0; row < part.rows; row++) lines.push(part.lineOf(row));
      expect(part.lineOf(part.rows)).toBe(null);
      rows.push(...table.toArray().map((row) => row.toJSON()));
      rejections.push(...part.rejections);
      parts += 1;
    }
  } catch (reason) {
    error = reason;
  }
  return { rows, lines, rejections, parts, error };
}

const text = (content: string): Uint8Array => Buffer.from(content);
const codes = ({ rejections }: Found): string[] =>
  rejections.map(({ line, path, code }) => `${line} ${path} ${code}`);
const plain = (value: unknown): string =>
  JSON.stringify(value, (_, inner) => (typeof inner === "bigint" ? `${inner}n` : inner));

const pair = t.schema({ id: t.int64(), name: t.utf8().nullable() });

describe("R-64 lines", () => {
  test("a wrong line is refused alone, by its physical number", async () => {
    const found = await decode(
      text(
        '{"id":1,"name":"a"}\r\n\n{"id":1.5}\nno\n  {"name":null,"id":2} \n[1]\n7\n{"id":3,"id":4}\n{"id":9',
      ),
      { schema: pair },
    );
    expect(plain(found.rows)).toBe('[{"id":"1n","name":"a"},{"id":"2n","name":null}]');
    expect(found.lines).toEqual([1, 5]);
    expect(codes(found)).toEqual([
      "3 id VALUE_INEXACT",
      "4  LINE_MALFORMED",
      "6  ROW_TYPE",
      "7  ROW_TYPE",
      "8 id VALUE_MALFORMED",
      "9  LINE_MALFORMED",
    ]);
    expect(found.rejections.map(({ row }) => row)).toEqual([1, 2, 4, 5, 6, 7]);
    expect(found.error).toBe(null);
  });

  test("how bytes are cut changes nothing; a source may be anything that gives bytes", async () => {
    const lines = Array.from({ length: 100 }, (_, i) => `{"id":${i},"name":"é${"x".repeat(3 * i)}"}`);
    lines[50] = "{";
    const bytes = text(lines.join("\n"));
    const expected = plain((await decode(bytes, { schema: pair })).rows);
    const name = file("cut.json", bytes);
    const pieces = (size: number) =>
      Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
        bytes.subarray(i * size, (i + 1) * size),
      );
    const sources: BytesSource[] = [
      pieces(1_000),
      pieces(61),
      Readable.from(pieces(511)),
      new Blob([bytes]),
      new Blob([bytes]).stream(),
      Uint8Array.from(bytes).buffer,
      new DataView(Uint8Array.from(bytes).buffer),
      name,
      pathToFileURL(name),
      fs.createReadStream(name, { highWaterMark: 100 }),
      file(
        "cut.json.gz",
        Buffer.concat([zlib.gzipSync(bytes.subarray(0, 900)), zlib.gzipSync(bytes.subarray(900))]),
      ),
      [...zlib.gzipSync(bytes)].map((byte) => Uint8Array.of(byte)),
      text(`\ufeff${bytes}`),
    ];
    if (typeof zlib.zstdCompressSync === "function")
      sources.push(file("cut.zst", zlib.zstdCompressSync(bytes)));
    for (const source of sources) {
      const found = await decode(source, { schema: pair });
      expect(codes(found)).toEqual(["51  LINE_MALFORMED"]);
      expect(plain(found.rows)).toBe(expected);
    }
    expect(expected).toContain('"99n"');
  });

  test("an array of objects, on as many lines as it likes", async () => {
    const found = await decode(
      text('\n [ {"id": 1,\n "name": "]},{"},\n{"id": "x"}\n, {"id": 2, "name": "\\"\\\\"} , 5 ] \n'),
      { schema: pair },
    );
    expect(plain(found.rows)).toBe('[{"id":"1n","name":"]},{"},{"id":"2n","name":"\\"\\\\"}]');
    expect(found.lines).toEqual([2, 5]);
    expect(codes(found)).toEqual(["4 id VALUE_TYPE", "5  ROW_TYPE"]);
    expect((await decode(text("[]"), { schema: pair })).rows).toEqual([]);
    for (const [wrong, rows] of [
      ['[{"id":1}', 1],
      ['[{"id":1},', 1],
      ['[{"id":1', 0],
      ['[{"id":1}] {"id":2}', 1],
      ['[{"id":1};{"id":2}]', 1],
    ] as const) {
      const broken = await decode(text(wrong), { schema: pair });
      expect(broken.error).toMatchObject({ code: "INPUT_INVALID" });
      expect(broken.rows.length).toBe(rows);
    }
  });

  test("a million wrong lines take as long as they are many, and memory for a thousand", async () => {
    const lines = text('{"id":"no"}\n'.repeat(20_000));
    let most = 0;
    let count = 0;
    for await (const { rejections, rows } of decodeBytes(lines, { schema: pair })) {
      most = Math.max(most, rejections.length);
      count += rejections.length;
      expect(rows).toBe(0);
    }
    expect(count).toBe(20_000);
    expect(most).toBeLessThan(1_100);
  });

  test("a line that is too long is refused alone; an element, or a record in quotes, ends the input", async () => {
    const long = "x".repeat(2_000_000);
    const lines = text(
      `{"id":1}\n{"id":2,"name":"${long}"}\n{"id":3}\n{"id":4,"name":"${"y".repeat(900)}"}\n{"id":5}`,
    );
    const found = await decode(lines, { schema: pair, maxRecordBytes: 500 });
    expect(found.rows.map(({ id }) => id)).toEqual([1n, 3n, 5n]);
    expect(codes(found)).toEqual(["2  ROW_TOO_LARGE", "4  ROW_TOO_LARGE"]);
    const array = await decode(text(`[{"id":1},{"id":2,"name":"${long}"}]`), {
      schema: pair,
      maxRecordBytes: 500,
    });
    expect(array.error).toMatchObject({ code: "INPUT_TOO_LARGE" });
    expect(array.rows.length).toBe(1);
    const csv = { schema: pair, maxRecordBytes: 500, format: "csv" } as const;
    const open = await decode(text(`id,name\n1,a\n2,"${long}`), csv);
    expect(open.error).toMatchObject({ code: "INPUT_TOO_LARGE" });
    expect(open.rows.length).toBe(1);
    const wide = await decode(text(`id,name\n1,a\n2,${long}\n3,${"z".repeat(800)}\n4,b\n`), csv);
    expect(codes(wide)).toEqual(["3  ROW_TOO_LARGE", "4  ROW_TOO_LARGE"]);
    expect(wide.lines).toEqual([2, 5]);
    const last = await decode(text(`id,name\n1,a\n2,${long}`), csv);
    expect(codes(last)).toEqual(["3  ROW_TOO_LARGE"]);
  });
});

const everything = t.schema({
  bool: t.bool().nullable(),
  int8: t.int8().nullable(),
  uint16: t.uint16().nullable(),
  int32: t.int32().nullable(),
  uint64: t.uint64().nullable(),
  float16: t.float16().nullable(),
  float32: t.float32().nullable(),
  float64: t.float64().nullable(),
  decimal: t.decimal(30, 4).nullable(),
  utf8: t.utf8().nullable(),
  large: t.largeUtf8().nullable(),
  view: t.utf8View().nullable(),
  binary: t.binary().nullable(),
  bytesView: t.binaryView().nullable(),
  uuid: t.fixedSizeBinary(16).nullable(),
  date: t.date().nullable(),
  dateMs: t.date("ms").nullable(),
  time: t.time("us").nullable(),
  timeS: t.time("s").nullable(),
  at: t.timestamp("us", "UTC").nullable(),
  local: t.timestamp("ms").nullable(),
  duration: t.duration("ms").nullable(),
  dictionary: t.dictionary(t.utf8()).nullable(),
  list: t.list(t.int32()).nullable(),
  large_list: t.largeList(t.utf8().nullable()).nullable(),
  fixed: t.fixedSizeList(2, t.float32()).nullable(),
  struct: t.struct({ a: t.int32(), b: t.utf8().nullable() }).nullable(),
  map: t.map(t.utf8(), t.int32().nullable()).nullable(),
  nothing: t.null(),
});

/** The same value as text of JSON and as a value of JavaScript. */
const values: Record<string, readonly (readonly [string, unknown])[]> = {
  bool: [
    ["true", true],
    ["false", false],
  ],
  int8: [
    ["-128", -128],
    ["1.2e1", 12],
    ["12.0", 12],
    ["-0", 0],
  ],
  uint16: [["65535", 65535]],
  int32: [["-2147483648", -2147483648]],
  uint64: [
    ["18446744073709551615", 18446744073709551615n],
    ["9007199254740993", 9007199254740993n],
  ],
  float16: [["1.5", 1.5]],
  float32: [
    ["0.1", 0.1],
    ["1e-50", 1e-50],
  ],
  float64: [
    ["0.1", 0.1],
    ["1e-400", 0],
    ["-1.7976931348623157e308", -1.7976931348623157e308],
  ],
  decimal: [
    ["9007199254740993.0001", "9007199254740993.0001"],
    ['"-0.1"', "-0.1"],
    ["1e3", "1000"],
    ["0.10000", "0.1"],
  ],
  utf8: [
    ['"a\\u00e9\\ud83d\\ude00\\n\\t\\b\\f\\r\\/"', "aé😀\n\t\b\f\r/"],
    ['""', ""],
  ],
  large: [['"x"', "x"]],
  view: [['"a text of more than twelve bytes"', "a text of more than twelve bytes"]],
  binary: [
    ['"AAEC"', Uint8Array.of(0, 1, 2)],
    ['""', new Uint8Array(0)],
  ],
  bytesView: [['"AAEC"', Uint8Array.of(0, 1, 2)]],
  uuid: [['"00000000-0000-0000-0000-0000000000ff"', "00000000-0000-0000-0000-0000000000ff"]],
  date: [
    ['"2026-11-29"', "2026-11-29"],
    ["-1", -1],
  ],
  dateMs: [
    ['"1969-12-31"', "1969-12-31"],
    ["86400000", 86400000],
  ],
  time: [
    ['"13:37:00.000001"', "13:37:00.000001"],
    ["1", 1],
  ],
  timeS: [['"13:37"', "13:37"]],
  at: [
    ['"2026-11-29T01:02:03.000004+01:00"', "2026-11-29T01:02:03.000004+01:00"],
    ["7", 7],
  ],
  local: [['"2026-11-29 01:02:03"', "2026-11-29 01:02:03"]],
  duration: [
    ['"PT1M0.5S"', "PT1M0.5S"],
    ["-5", -5],
  ],
  dictionary: [
    ['"red"', "red"],
    ['"blue"', "blue"],
    ['"red"', "red"],
  ],
  list: [
    ["[]", []],
    ["[1, 2,3]", [1, 2, 3]],
  ],
  large_list: [['["a",null]', ["a", null]]],
  fixed: [["[1,2]", [1, 2]]],
  struct: [
    ['{"b":null,"a":1}', { a: 1, b: null }],
    ['{"a":2}', { a: 2 }],
  ],
  map: [
    [
      '{"x":1,"y":null}',
      new Map<string, unknown>([
        ["x", 1],
        ["y", null],
      ]),
    ],
    ['[["z",3]]', new Map([["z", 3]])],
    ["{}", new Map()],
  ],
  nothing: [["null", null]],
};

describe("R-64 values", () => {
  test("what JSON says is what rows say, of every type", async () => {
    const cases = Object.entries(values).flatMap(([name, list]) =>
      list.map((one) => [name, ...one] as const),
    );
    const found = await decode(text(cases.map(([name, json]) => `{"${name}":${json}}`).join("\n")), {
      schema: everything,
    });
    expect(found.rejections).toEqual([]);
    const { table, rejections } = await tableFromRows(
      cases.map(([name, , value]) => ({ [name]: value })) as never[],
      everything,
    );
    expect(rejections).toEqual([]);
    const expected = table.toArray().map((row) => row.toJSON());
    expect(found.rows.length).toBe(expected.length);
    for (const [index, row] of found.rows.entries())
      expect(plain(row), cases[index]!.join(" ")).toBe(plain(expected[index]));
  });

  const wrong: Record<string, readonly (readonly [string, string])[]> = {
    bool: [
      ["1", "VALUE_TYPE"],
      ['"true"', "VALUE_TYPE"],
    ],
    int8: [
      ["128", "VALUE_RANGE"],
      ["1.5", "VALUE_INEXACT"],
      ['"1"', "VALUE_TYPE"],
      ["true", "VALUE_TYPE"],
      ["1e40", "VALUE_RANGE"],
      ["[]", "VALUE_TYPE"],
      ["{}", "VALUE_TYPE"],
    ],
    uint64: [
      ["-1", "VALUE_RANGE"],
      ["18446744073709551616", "VALUE_RANGE"],
    ],
    float16: [["70000", "VALUE_RANGE"]],
    float32: [["1e39", "VALUE_RANGE"]],
    float64: [
      ["1e400", "VALUE_RANGE"],
      ['"1"', "VALUE_TYPE"],
    ],
    decimal: [
      ["0.00001", "VALUE_INEXACT"],
      ["1e30", "VALUE_RANGE"],
      ['"1,5"', "VALUE_MALFORMED"],
      ['"1e30"', "VALUE_RANGE"],
    ],
    utf8: [
      ["1", "VALUE_TYPE"],
      ['"\\ud800"', "VALUE_MALFORMED"],
      ['"\\ud800\\u0041"', "VALUE_MALFORMED"],
    ],
    binary: [['"***"', "VALUE_MALFORMED"]],
    uuid: [
      ['"AAEC"', "VALUE_RANGE"],
      ['"not a uuid"', "VALUE_MALFORMED"],
    ],
    date: [
      ['"2026-02-30"', "VALUE_MALFORMED"],
      ["1e12", "VALUE_RANGE"],
      ['"+999999-01-01"', ""],
    ],
    dateMs: [["1", "VALUE_INEXACT"]],
    time: [
      ['"24:00"', "VALUE_MALFORMED"],
      ["86400000000", "VALUE_RANGE"],
      ['"00:00:00.0000001"', "VALUE_INEXACT"],
    ],
    at: [
      ['"2026-11-29T01:02:03"', "VALUE_MALFORMED"],
      ['"2026-11-29T01:02:03.0000001Z"', "VALUE_INEXACT"],
      ["1e30", "VALUE_RANGE"],
    ],
    local: [['"2026-11-29T01:02:03Z"', "VALUE_MALFORMED"]],
    duration: [['"P1M"', "VALUE_MALFORMED"]],
    fixed: [
      ["[1]", "VALUE_RANGE"],
      ["[1,2,3]", "VALUE_RANGE"],
    ],
    nothing: [["1", "VALUE_TYPE"]],
    unknown: [
      ["1", "KEY_UNKNOWN"],
      ['{"a":[1,"\\n",{}]}', "KEY_UNKNOWN"],
    ],
  };
  test("what rows refuse is refused, with the same word, and everything else stays", async () => {
    const cases = Object.entries(wrong).flatMap(([name, list]) => list.map((one) => [name, ...one] as const));
    const lines = cases.flatMap(([name, json]) => [
      `{"view":"before","list":[1,2],"${name === "utf8" ? "large" : "int32"}":${name === "utf8" ? '"x"' : 7},"${name}":${json}}`,
      '{"int32":1}',
    ]);
    const found = await decode(text(lines.join("\n")), { schema: everything });
    expect(found.rejections.map(({ line, path, code }) => [line, path, code])).toEqual(
      cases.flatMap(([name, , code], index) => (code === "" ? [] : [[2 * index + 1, name, code]])),
    );
    expect(found.rows.filter(({ int32 }) => int32 === 1).length).toBe(cases.length);
    for (const { message } of found.rejections) expect(message).not.toContain("not a uuid");
  });

  test("paths lead into what is nested", async () => {
    const schema = t.schema({
      a: t.list(t.struct({ "x y": t.map(t.utf8(), t.int8()) })),
      pairs: t.map(t.utf8(), t.int8()).nullable(),
    });
    const found = await decode(
      text(
        [
          '{"a":[{"x y":{"k":1}},{"x y":{"k":300}}]}',
          '{"a":[{"z":1}]}',
          '{"a":[null]}',
          '{"a":[{"x y":[["k"]]}]}',
          '{"a":[{"x y":[["k",1,2]]}]}',
          '{"a":[{"x y":[7]}]}',
          '{"a":[],"pairs":[["k",null]]}',
          '{"a":[],"pairs":{"k":"v"}}',
          '{"a":null}',
          "{}",
        ].join("\n"),
      ),
      { schema },
    );
    expect(codes(found)).toEqual([
      '1 a[1]["x y"].value VALUE_RANGE',
      "2 a[0].z KEY_UNKNOWN",
      "3 a[0] VALUE_MISSING",
      '4 a[0]["x y"] VALUE_TYPE',
      '5 a[0]["x y"] VALUE_TYPE',
      '6 a[0]["x y"] VALUE_TYPE',
      "7 pairs.value VALUE_MISSING",
      "8 pairs.value VALUE_TYPE",
      "9 a VALUE_MISSING",
      "10 a VALUE_MISSING",
    ]);
  });

  test("names that the schema does not have are left out on request", async () => {
    const options = { schema: pair, unknownKeys: "drop" } as const;
    const found = await decode(
      text(
        '{"x":{"y":[1,null,true,false,"s",-1.5e2,{},[]]},"id":1}\n{"id":2,"x":01}\n{"id":3,"x":[1,}\n{"id":4,"\\u0078":1}',
      ),
      options,
    );
    expect(found.rows.map(({ id }) => id)).toEqual([1n, 4n]);
    expect(codes(found)).toEqual(["2  LINE_MALFORMED", "3  LINE_MALFORMED"]);
    const csv = await decode(text("x,id,y\n1,2,3\n"), { ...options, format: "csv" });
    expect(plain(csv.rows)).toBe('[{"id":"2n","name":null}]');
  });

  test("what is no JSON is none", async () => {
    const wrong = [
      "{'id':1}",
      '{"id":1,}',
      '{"id":01}',
      '{"id":+1}',
      '{"id":.5}',
      '{"id":1.}',
      '{"id":1e}',
      '{"id":-}',
      '{"id":NaN}',
      '{"id":tru}',
      '{"id" 1}',
      '{"id":1 "name":"a"}',
      '{"id":1}}',
      '{"id":1} x',
      '{"name":"\t"}',
      '{"name":"\\x"}',
      '{"name":"\\u12"}',
      '{"name":"open',
      '{"name":"open\\',
      "{",
      '{"id":',
      '{"id"',
      "{id:1}",
      "nul",
      `{"z":${"[".repeat(200)}`,
    ];
    const found = await decode(text(wrong.join("\n")), { schema: pair });
    expect(codes(found)).toEqual(wrong.map((_, index) => `${index + 1}  LINE_MALFORMED`));
    const notUtf8 = await decode(
      Buffer.concat([text('{"id":1,"name":"'), Uint8Array.of(0xff), text('"}\n{"id":2}')]),
      { schema: pair },
    );
    expect(codes(notUtf8)).toEqual(["1  LINE_MALFORMED"]);
    expect(notUtf8.rows.length).toBe(1);
  });

  test("decimals of 256 bits", async () => {
    const schema = new Schema([new Field("x", new Decimal(2, 70, 256), false)]);
    const digits = "-12345678901234567890123456789012345678901234567890123456789012345678";
    const found = await decode(text(`{"x":${digits}.12}\n{"x":"1e80"}\n`), { schema });
    const words = found.rows[0]!.x as Uint32Array;
    const units = words.reduceRight((sum, word) => (sum << 32n) | BigInt(word), 0n);
    expect(BigInt.asIntN(256, units)).toBe(BigInt(`${digits}12`));
    expect(codes(found)).toEqual(["2 x VALUE_RANGE"]);
  });

  test("a dictionary that is full ends a batch", async () => {
    const schema = t.schema({ word: t.dictionary(t.utf8(), t.int8()) });
    const found = await decode(text(Array.from({ length: 1_000 }, (_, i) => `{"word":"${i}"}`).join("\n")), {
      schema,
    });
    expect(found.rows.map(({ word }) => word)).toEqual(Array.from({ length: 1_000 }, (_, i) => String(i)));
  });

  test("types without a text are refused by name", async () => {
    const interval = await decode(text("{}"), { schema: t.schema({ x: t.interval("year-month") }) });
    expect(interval.error).toMatchObject({ code: "SCHEMA_MISMATCH", field: "x" });
    const list = await decode(text("x\n1\n"), { schema: t.schema({ x: t.list(t.int8()) }), format: "csv" });
    expect(list.error).toMatchObject({ code: "SCHEMA_MISMATCH" });
  });
});

describe("R-64 CSV", () => {
  const schema = t.schema({
    id: t.int64(),
    price: t.decimal(10, 2).nullable(),
    note: t.utf8(),
    ok: t.bool().nullable(),
    x: t.float64().nullable(),
    at: t.timestamp("s", "UTC").nullable(),
    took: t.duration("s").nullable(),
  });
  test("fields are read by their text, quotes and line ends within them kept", async () => {
    const found = await decode(
      text(
        '\ufeffnote,id,price,ok,x,at,took\r\n"a, ""b""\nc",1,0.10,TRUE,NaN,2026-11-29T00:00Z,5\r\n\n,2.0,,false,-inf,,PT1M\r\nit"s,3,"1",,1e3,,\r\n"",4,,,,,',
      ),
      { schema, format: "csv" },
    );
    expect(found.rejections).toEqual([]);
    expect(found.rows.map(({ id, note, ok, x }) => [id, note, ok, x])).toEqual([
      [1n, 'a, "b"\nc', true, Number.NaN],
      [2n, "", false, Number.NEGATIVE_INFINITY],
      [3n, 'it"s', null, 1000],
      [4n, "", null, null],
    ]);
    expect(found.lines).toEqual([2, 5, 6, 7]);
  });

  test("a wrong record is refused alone", async () => {
    const found = await decode(
      text('id,note\n1,a\n2\n3,a,b\n"4"x,a\n"5\n5"y,"b"\nx,a\n1.5,a\n,a\n6,"ok"\n'),
      { schema, format: "csv" },
    );
    expect(found.rows.map(({ id }) => id)).toEqual([1n, 6n]);
    expect(codes(found)).toEqual([
      "3  LINE_MALFORMED",
      "4  LINE_MALFORMED",
      "5  LINE_MALFORMED",
      "6  LINE_MALFORMED",
      "8 id VALUE_MALFORMED",
      "9 id VALUE_INEXACT",
      "10 id VALUE_MISSING",
    ]);
    expect(found.lines).toEqual([2, 11]);
  });

  test("a quote that is never closed ends the input, after all before it", async () => {
    const found = await decode(text('id,note\n1,a\n2,"b\n3,c\n'), { schema, format: "csv" });
    expect(found.rows.length).toBe(1);
    expect(found.error).toMatchObject({ code: "INPUT_INVALID", message: expect.stringContaining("line 3") });
  });

  test.each([
    ["a column twice", "id,id,note\n", "twice"],
    ["a column that is not known", "id,note,zip\n", "zip"],
    ["not a column that cannot be null", "id\n", "note"],
  ])("a header that names %s", async (_, header, says) => {
    const found = await decode(text(header), { schema, format: "csv" });
    expect(found.error).toMatchObject({ code: "SCHEMA_MISMATCH", message: expect.stringContaining(says) });
  });

  test("delimiter, no header, other texts for null; the format by name", async () => {
    const found = await decode(file("a.tsv", "id\tname\n1\ta,b\n"), { schema: pair });
    expect(plain(found.rows)).toBe('[{"id":"1n","name":"a,b"}]');
    const bare = await decode(text('1;NA\n2;\n3;"NA"\n'), {
      schema: pair,
      format: "csv",
      csv: { delimiter: ";", header: false, nulls: ["NA"] },
    });
    expect(bare.rows.map(({ name }) => name)).toEqual([null, "", "NA"]);
    const zipped = await decode(file("b.csv.gz", zlib.gzipSync("id,name\n1,a\n")), { schema: pair });
    expect(zipped.rows.length).toBe(1);
    expect((await decode(text(""), { schema: pair, format: "csv" })).error).toMatchObject({
      code: "INPUT_INVALID",
    });
  });
});

function parquet(table: Table, groupRows = 1_000): Uint8Array {
  const properties = new WriterPropertiesBuilder()
    .setMaxRowGroupSize(groupRows)
    .setCompression(Compression.SNAPPY)
    .build();
  return writeParquet(WasmTable.fromIPCStream(tableToIPC(table, "stream")), properties);
}

describe("R-64 Parquet", () => {
  const table = tableFromArrays({
    n: Int32Array.from({ length: 5_500 }, (_, i) => i),
    s: Array.from({ length: 5_500 }, (_, i) => `text ${i}`),
  });

  test("from a path, bytes and a stream, in order", async () => {
    const bytes = parquet(table);
    for (const source of [
      file("a.parquet", bytes),
      bytes,
      Readable.from([bytes.slice(0, 9), bytes.slice(9)]),
      new Blob([bytes]),
    ] as BytesSource[]) {
      const found = await decode(source);
      expect(found.error).toBe(null);
      expect(found.rows.map(({ n }) => n)).toEqual(Array.from({ length: 5_500 }, (_, i) => i));
      expect(found.rows[5_499]).toMatchObject({ s: "text 5499" });
      expect(found.lines.every((line) => line === null)).toBe(true);
    }
  });

  test("a schema says which columns, and their types", async () => {
    const bytes = parquet(table);
    const found = await decode(bytes, {
      schema: t.schema({ s: t.dictionary(t.utf8(), t.int32()).nullable(), n: t.int32().nullable() }),
    });
    const plainText = await decode(bytes, { schema: t.schema({ s: t.utf8().nullable() }) });
    // parquet-wasm keeps dictionaries or not: one of the two has the type.
    const good = found.error === null ? found : plainText;
    expect(good.error).toBe(null);
    expect(Object.keys(good.rows[0]!)[0]).toBe("s");
    for (const [schema, says] of [
      [t.schema({ n: t.int64() }), "Int32"],
      [t.schema({ zip: t.int64() }), "missing"],
    ] as const)
      expect((await decode(bytes, { schema })).error).toMatchObject({
        code: "SCHEMA_MISMATCH",
        message: expect.stringContaining(says),
      });
  });

  test("what lies, breaks off or is damaged is an error, and never the end of the process", async () => {
    const bytes = parquet(table);
    for (const length of [4, 11, 12, 1_000, bytes.length - 1]) {
      const { error } = await decode(bytes.slice(0, length));
      expect(error, String(length)).toMatchObject({ code: "INPUT_INVALID" });
    }
    // Every byte of the footer in turn is another; whatever comes of it is rows, or an error with a code.
    const footer = Buffer.from(bytes).readInt32LE(bytes.length - 8);
    for (let from = bytes.length - 8 - footer; from < bytes.length; from += 41) {
      const other = Uint8Array.from(bytes);
      other[from] = other[from]! ^ 0xff;
      const { error } = await decode(other);
      if (error !== null) expect((error as InputError).code).toMatch(/^(INPUT_|SCHEMA_|UNSUPPORTED)/);
    }
    for (let from = 4; from < bytes.length - 8 - footer; from += 9_973) {
      const other = Uint8Array.from(bytes).fill(0xff, from, from + 16);
      const { error } = await decode(other);
      if (error !== null) expect(error).toMatchObject({ code: "INPUT_INVALID" });
    }
  });

  test("a stream goes to the disk within a bound", async () => {
    const { error } = await decode(new Blob([parquet(table)]), { maxTemporaryBytes: 10_000 });
    expect(error).toMatchObject({
      code: "INPUT_TOO_LARGE",
      message: expect.stringContaining("maxTemporaryBytes"),
    });
    const random = tableFromArrays({
      n: BigInt64Array.from({ length: 1_200_000 }, (_, i) => BigInt(i) * 0x9e37_79b9_7f4an),
    });
    let rows = 0;
    for await (const part of decodeBytes(new Blob([parquet(random, 1_200_000)]))) rows += part.rows;
    expect(rows).toBe(1_200_000);
  });
});

describe("R-64 hostile inputs", () => {
  test("what breaks off under compression, after all before it", async () => {
    const lines = Array.from(
      { length: 50_000 },
      (_, i) => `{"id":${i},"name":"${(i * 2654435761) % 65_537}"}`,
    ).join("\n");
    const zipped = zlib.gzipSync(lines);
    const found = await decode(zipped.subarray(0, zipped.length / 2), { schema: pair });
    expect(found.error).toMatchObject({ code: "INPUT_INVALID", message: expect.stringContaining("Gzip") });
    expect(found.rows.length).toBeGreaterThan(1_000);
    const damaged = Buffer.concat([zlib.gzipSync('{"id":1}\n'), text("rest")]);
    expect(await decode(damaged, { schema: pair })).toMatchObject({ error: { code: "INPUT_INVALID" } });
    if (typeof zlib.zstdCompressSync !== "function") return;
    const { error } = await decode(zlib.zstdCompressSync(lines).subarray(0, 1_000), { schema: pair });
    expect(error).toMatchObject({ code: "INPUT_INVALID", message: expect.stringContaining("Zstandard") });
  });

  test("bombs are bounded", async () => {
    const bomb = zlib.gzipSync(Buffer.alloc(17 << 20, 0x20));
    const found = await decode(bomb, {
      schema: pair,
      format: "json",
      maxExpansion: 10,
      maxRecordBytes: 1_000,
    });
    expect(found.error).toMatchObject({
      code: "INPUT_TOO_LARGE",
      message: expect.stringContaining("maxExpansion"),
    });
  });

  test.each([
    ["Arrow IPC", tableToIPC(tableFromArrays({ n: Int32Array.of(1) }), "stream"), "Arrow IPC"],
    ["an Arrow file", tableToIPC(tableFromArrays({ n: Int32Array.of(1) }), "file"), "Arrow IPC"],
    ["UTF-16", Buffer.from("\ufeff{}", "utf16le"), "UTF-16"],
    ["ORC", text("ORC\u0008\u0003\u0010\u0001\u0000"), "ORC"],
    ["Avro", text("Obj\u0001\u0004\u0014"), "Avro"],
    ["ZIP", text("PK\u0003\u0004\u0000\u0000"), "ZIP"],
    ["bzip2", text("BZh91AY&SY"), "bzip2"],
    ["xz", Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0), "xz"],
    ["nothing that is known", text("a,b\n"), "format"],
    ["nothing", text(""), "format"],
  ])("%s is named", async (_, bytes, says) => {
    expect((await decode(bytes, { schema: pair })).error).toMatchObject({
      code: "INPUT_INVALID",
      message: expect.stringContaining(says),
    });
  });

  test("a format that is not the content's", async () => {
    const bytes = parquet(tableFromArrays({ n: Int32Array.of(1) }));
    expect((await decode(bytes, { schema: pair, format: "json" })).error).toMatchObject({
      code: "INPUT_INVALID",
    });
    expect((await decode(text("{}"), { format: "parquet" })).error).toMatchObject({ code: "INPUT_INVALID" });
    expect((await decode(text("{}"))).error).toMatchObject({ code: "SCHEMA_REQUIRED" });
  });

  test("paths that cannot be read; a pipe is read as a stream", async () => {
    expect((await decode(at("missing.json"), { schema: pair })).error).toBeInstanceOf(InputError);
    expect((await decode(home, { schema: pair })).error).toMatchObject({
      message: expect.stringContaining("directory"),
    });
    expect((await decode('{"id":1}', { schema: pair })).error).toMatchObject({
      message: expect.stringContaining("of text"),
    });
    if (process.getuid?.() !== 0) {
      fs.chmodSync(file("secret.json", "{}"), 0);
      expect((await decode(at("secret.json"), { schema: pair })).error).toMatchObject({
        code: "INPUT_INVALID",
      });
    }
    execFileSync("mkfifo", [at("pipe")]);
    const decoded = decode(at("pipe"), { schema: pair });
    await fs.promises.writeFile(at("pipe"), '{"id":1}\n');
    expect((await decoded).rows.length).toBe(1);
  });

  test("what is no source, no chunk or no option is refused by name", async () => {
    expect(() => decodeBytes(7 as never)).toThrow(/a path, bytes/);
    expect(() => decodeBytes({} as never)).toThrow(/a path, bytes/);
    expect(() => decodeBytes(new URL("https://example.com"))).toThrow(/https:/);
    expect((await decode(["{}"] as never, { schema: pair })).error).toMatchObject({
      code: "BATCH_INVALID",
      message: expect.stringContaining("setEncoding"),
    });
    const options = {
      format: "xml",
      unknownKeys: "keep",
      csv: { delimiter: "ab", header: 1, nulls: [1], quote: "'" },
      maxRecordBytes: 0,
      maxExpansion: 1.5,
      maxTemporaryBytes: "1",
      signal: {},
      zip: 1,
    };
    expect(() => decodeBytes(text(""), { zip: 1 } as never)).toThrow(/zip is not an option/);
    const { zip, ...known } = options;
    expect(zip).toBe(1);
    try {
      decodeBytes(text(""), known as never);
      expect.unreachable();
    } catch (error) {
      expect((error as InputError).issues.map(({ path }) => path).sort()).toEqual([
        "csv.delimiter",
        "csv.header",
        "csv.nulls",
        "csv.quote",
        "format",
        "maxExpansion",
        "maxRecordBytes",
        "maxTemporaryBytes",
        "signal",
        "unknownKeys",
      ]);
    }
    expect(() => decodeBytes(text(""), { csv: 1 } as never)).toThrow(/csv must be an object/);
    expect(() => decodeBytes(text(""), { schema: {} } as never)).toThrow(/schema must be/);
  });

  test("what the source throws comes after the rows before it, and it is let go of", async () => {
    let returned = 0;
    async function* broken(): AsyncGenerator<Uint8Array> {
      try {
        yield text('{"id":1}\n{"id":2}\n');
        throw new Error("the line went dead");
      } finally {
        returned += 1;
      }
    }
    const found = await decode(broken(), { schema: pair });
    expect(found.rows.length).toBe(2);
    expect(found.error).toMatchObject({ message: "the line went dead" });
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(text('{"id":1}\n'.repeat(1_000))),
      cancel: () => {
        returned += 1;
      },
    });
    for await (const part of decodeBytes(endless, { schema: pair })) {
      expect(part.rows).toBeGreaterThan(0);
      break;
    }
    await expect.poll(() => returned).toBe(2);
  });

  test("rows of a slow source do not wait for others; a signal ends a wait", async () => {
    const controller = new AbortController();
    let release: () => void = () => {};
    async function* slow(): AsyncGenerator<Uint8Array> {
      yield text('{"id":1}\n');
      await new Promise<void>((resolve) => {
        release = resolve;
      });
    }
    const parts = decodeBytes(slow(), { schema: pair, signal: controller.signal });
    expect((await parts.next()).value).toMatchObject({ rows: 1 });
    const next = parts.next();
    controller.abort(new Error("enough"));
    await expect(next).rejects.toThrow("enough");
    release();
    const never = decodeBytes(text(""), { schema: pair, signal: AbortSignal.abort() });
    await expect(never.next()).rejects.toThrow();
  });
});

describe("R-64 sendBytes", () => {
  async function all(results: AsyncIterable<BytesResult>): Promise<BytesResult[]> {
    const list: BytesResult[] = [];
    for await (const one of results) list.push(one);
    return list;
  }

  test("rows go to the table, refused lines to the caller", async () => {
    await using client = await connect(`delta:${at("lake")}`, { schema: pair });
    const [first, ...others] = await all(client.sendBytes(text('{"id":1,"name":"a"}\n{}\n{"id":2}\n')));
    expect(others).toEqual([]);
    expect(first).toMatchObject({ firstRow: 0, result: { status: "acknowledged", rows: 2 } });
    expect(first!.rejections).toMatchObject([{ line: 2, row: 1, code: "VALUE_MISSING", path: "id" }]);
    expect([first!.lineOf(0), first!.lineOf(1), first!.lineOf(2), first!.lineOf(0.5)]).toEqual([
      1,
      3,
      null,
      null,
    ]);
    expect(first!.bytesRead).toBe(32);
    expect(first!.result.acceptedBatch()?.numRows).toBe(2);
    await expect(all(client.sendBytes(text("{"), { format: "yaml" } as never))).rejects.toThrow(/format/);
  });

  test("the table's own schema serves where no other is given, also on the command line", async () => {
    const target = `delta:${at("known")}`;
    {
      await using client = await connect(target, { schema: pair });
      await all(client.sendBytes(text('{"id":1,"name":"a"}\n')));
    }
    await using client = await connect(target);
    const [found] = await all(client.sendBytes(text('{"id":2}\n{"zip":1}\n')));
    expect(found).toMatchObject({
      result: { status: "acknowledged", rows: 1 },
      rejections: [{ path: "zip" }],
    });
    const ended = await run(["send", target, file("known.csv", "name,id\nb,3\n"), "--json"]);
    expect(ended.stderr).toBe("");
    expect(JSON.parse(ended.stdout)).toMatchObject({ success: true, rows: { acknowledged: 1 } });
  });

  test("results come for nothing but refused lines, too, and no more than a bound are ahead", async () => {
    await using client = await connect("discard:");
    let pulled = 0;
    function* wrong(): Generator<Uint8Array> {
      for (let i = 0; i < 60; i++) {
        pulled += 1;
        yield text("no\n".repeat(1_000));
      }
    }
    const results = client.sendBytes(wrong(), { schema: pair, format: "json" });
    const one = await results.next();
    expect(one.value).toMatchObject({ result: { rows: 0, status: "acknowledged" } });
    const rest = await all(results);
    const count = [one.value as BytesResult, ...rest].reduce(
      (sum, { rejections }) => sum + rejections.length,
      0,
    );
    expect(count).toBe(60_000);
    expect(pulled).toBe(60);
  });

  test("without a schema anywhere it is SCHEMA_REQUIRED; leaving the loop ends the reading", async () => {
    await using client = await connect("discard:", { inflight: { maxBytes: "1MiB" } });
    await expect(all(client.sendBytes(text("{}")))).rejects.toMatchObject({ code: "SCHEMA_REQUIRED" });
    let ended = false;
    async function* endless(): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield text('{"id":1}\n'.repeat(10_000));
      } finally {
        ended = true;
      }
    }
    for await (const { result } of client.sendBytes(endless(), { schema: pair })) {
      expect(result.batchBytes).toBeLessThan(1 << 20);
      break;
    }
    await expect.poll(() => ended).toBe(true);
  });
});

describe("R-38 files on the command line", () => {
  const order =
    "import { t } from 'arrow-ingest'; export default t.schema({ id: t.int64(), name: t.utf8().nullable() });";
  const moduleOf = (name: string, content: string): string =>
    file(
      name,
      content.replace("'arrow-ingest'", JSON.stringify(pathToFileURL(path.resolve("dist/index.js")).href)),
    );

  test("formats by content, then by name; refused lines are summed up with their number", async () => {
    const table = tableFromArrays({ id: BigInt64Array.of(10n, 11n) });
    const names = [
      file("c.parquet", parquet(table)),
      file("c.ndjson.gz", zlib.gzipSync('{"id":1}\n{"id":"two"}\n')),
      file("c.csv", "id,name\n3,a\n4\n"),
      file("c.arrow", tableToIPC(table, "file")),
    ];
    const argv = ["send", "discard:", ...names, "-", "--json", "--schema", moduleOf("order.mjs", order)];
    const ended = await run(argv, {}, text(' [{"id":5},{"id":6}]'));
    expect(ended.stderr).toBe("");
    expect(ended.code).toBe(1);
    expect(JSON.parse(ended.stdout)).toMatchObject({
      success: false,
      rows: { sent: 10, acknowledged: 8, rejected: 2 },
      rejections: [
        { code: "VALUE_TYPE", rows: 1, first: { file: names[1], row: 1, line: 2 } },
        { code: "LINE_MALFORMED", rows: 1, first: { file: names[2], row: 1, line: 3 } },
      ],
    });
    const people = await run(["send", "discard:", names[1]!, "--schema", names[3]!]);
    expect(people.stdout).toContain("c.ndjson.gz line 2: id: text of 3 characters was given");
    const good = await run(
      ["send", "discard:", "-", "--format", "csv", "--schema", names[3]!],
      {},
      text("id\n1\n"),
    );
    expect(good).toMatchObject({ code: 0 });
  });

  test("--schema and --format that are wrong; a schema that nobody gives", async () => {
    const csv = file("d.csv", "id\n1\n");
    for (const [flags, says] of [
      [["--format", "xml"], "json, csv, parquet"],
      [["--schema", at("none.arrow")], "none.arrow"],
      [["--schema", moduleOf("empty.mjs", "export const x = 1;")], "exports no default"],
      [["--schema", file("no.arrow", "no")], "no.arrow"],
    ] as const) {
      const ended = await run(["send", "discard:", csv, ...flags]);
      expect(ended).toMatchObject({ code: 2, stdout: "" });
      expect(ended.stderr).toContain(says);
    }
    const ended = await run(["send", "discard:", csv]);
    expect(ended.code).toBe(1);
    expect(ended.stderr).toContain("SCHEMA_REQUIRED");
    const broken = await run([
      "send",
      "discard:",
      file("e.csv", 'id\n1\n"'),
      "--schema",
      moduleOf("e.mjs", order),
    ]);
    expect(broken.code).toBe(1);
    expect(broken.stderr).toContain("INPUT_INVALID");
    expect(broken.stdout).toContain("1 row ");
  });

  test("progress has a bar, and an interruption ends a wait for more", async () => {
    const running = start(["send", "discard:", "-", "--schema", moduleOf("f.mjs", order)], {
      terminal: { columns: 100 },
    });
    running.stdin.write('{"id":1}\n');
    await running.says("1 rows  ");
    running.signal("SIGINT");
    expect(await running.code).toBe(130);
    const { progressLine } = await import("../../dist/cli/progress.js");
    const stats = { rows: { accepted: 5, rejected: 1 }, bytes: { accepted: 2e6, inFlight: 0 } } as never;
    expect(progressLine({ stats, read: 25, total: 100 }, 1_000)).toBe(
      "[#####---------------] 25 %  5 rows  2.0 MB/s  3.0 s left  0 bytes in flight  1 refused",
    );
    expect(progressLine({ stats, read: 25, total: null }, 1_000)).toMatch(/^5 rows/);
  });
});
