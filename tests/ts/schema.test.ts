// the short notation of schemas: every type, there and back, whatever the names; and the types of its rows.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import {
  Binary,
  DateMillisecond,
  Decimal,
  Dictionary,
  Field,
  Int8,
  Int32,
  IntervalMonthDayNano,
  Schema,
  SparseUnion,
  TimestampMicrosecond,
  Utf8,
} from "apache-arrow";
import { Field as OldField, Schema as OldSchema, Utf8 as OldUtf8 } from "apache-arrow-15";
import { describe, expect, test } from "vitest";
import { planOf } from "../../dist/handoff/plan.js";
import { type AnyColumn, connect, IngestError, type RowOf, t } from "../../dist/index.js";

const EVERY: Record<string, AnyColumn> = {
  null: t.null(),
  bool: t.bool(),
  int8: t.int8(),
  int16: t.int16(),
  int32: t.int32(),
  int64: t.int64(),
  uint8: t.uint8(),
  uint16: t.uint16(),
  uint32: t.uint32(),
  uint64: t.uint64(),
  float16: t.float16(),
  float32: t.float32(),
  float64: t.float64(),
  decimal: t.decimal(18, 4),
  wide: t.decimal(76, 10, 256),
  utf8: t.utf8(),
  largeUtf8: t.largeUtf8(),
  utf8View: t.utf8View(),
  binary: t.binary(),
  largeBinary: t.largeBinary(),
  binaryView: t.binaryView(),
  uuid: t.fixedSizeBinary(16),
  day: t.date(),
  dayMs: t.date("ms"),
  ...Object.fromEntries(
    (["s", "ms", "us", "ns"] as const).flatMap((unit) => [
      [`time_${unit}`, t.time(unit)],
      [`wall_${unit}`, t.timestamp(unit)],
      [`instant_${unit}`, t.timestamp(unit, "Europe/Berlin")],
      [`duration_${unit}`, t.duration(unit)],
    ]),
  ),
  yearMonth: t.interval("year-month"),
  dayTime: t.interval("day-time"),
  monthDayNano: t.interval("month-day-nano"),
  list: t.list(t.utf8().nullable()),
  largeList: t.largeList(t.int8()),
  fixedSizeList: t.fixedSizeList(3, t.float32().nullable()),
  struct: t.struct({ a: t.int8(), inner: t.struct({ "b c": t.bool().nullable() }).nullable() }),
  map: t.map(t.utf8(), t.list(t.int64()).nullable()),
  dictionary: t.dictionary(t.utf8()),
  smallDictionary: t.dictionary(t.timestamp("us", "UTC"), t.uint8()).nullable(),
  described: t.utf8().withMetadata({ unit: 'm"s', "a\nb": "ü" }).nullable(),
  // `withMetadata` keeps what `nullable` said, and the other way round.
  nullable: t.int8().nullable().withMetadata({ a: "b" }),
};

/** What Rust knows a schema by. */
const canonical = (schema: unknown): string => planOf(schema as Schema).key;

const pasted = (text: string): ReturnType<typeof t.schema> => new Function("t", `return ${text}`)(t);

describe("R-61 the notation", () => {
  test.each(Object.entries(EVERY))("%s: what it says of itself makes the same again", (_name, type) => {
    const schema = t.schema({ a: type }, { of: "the schema" });
    expect(canonical(pasted(String(schema)))).toBe(canonical(schema));
    expect(canonical(t.fromArrow(schema.toArrow()))).toBe(canonical(schema));
    expect(String(t.fromArrow(schema.toArrow()))).toBe(String(schema));
    expect(String(pasted(`t.schema({ a: ${type} })`))).toBe(String(t.schema({ a: type })));
  });

  test("types are those of apache-arrow", () => {
    const of = (type: AnyColumn): string => String(type.type);
    expect(of(t.decimal(10, 2))).toBe(String(new Decimal(2, 10)));
    expect(of(t.timestamp("us", "UTC"))).toBe(String(new TimestampMicrosecond("UTC")));
    expect(of(t.date("ms"))).toBe(String(new DateMillisecond()));
    expect(of(t.interval("month-day-nano"))).toBe(String(new IntervalMonthDayNano()));
    expect(of(t.dictionary(t.utf8(), t.int8()))).toBe(String(new Dictionary(new Utf8(), new Int8())));
    expect(of(t.binary())).toBe(String(new Binary()));
    expect(of(t.time("s"))).toBe("Time32<SECOND>");
    expect(of(t.time("us"))).toBe("Time64<MICROSECOND>");
  });

  test("columns keep their order, nullability and metadata", () => {
    const schema = t.schema({ b: t.int8(), a: t.utf8().nullable().withMetadata({ k: "v" }) }, { s: "m" });
    expect(schema.fields.map(({ name, nullable }) => [name, nullable])).toEqual([
      ["b", false],
      ["a", true],
    ]);
    expect(schema.fields[1]!.metadata).toEqual(new Map([["k", "v"]]));
    expect(schema.metadata).toEqual(new Map([["s", "m"]]));
    expect(schema.toArrow()).toBe(schema.toArrow());
    expect(schema.toArrow()).toBeInstanceOf(Schema);
  });

  test("whatever names are, they come back as they were and run no code", () => {
    const names = [
      "__proto__",
      "constructor",
      "1",
      "0",
      "",
      'a"b',
      "a'b`$" + "{globalThis.ran = true}`",
      "new\nline",
      "\u2028",
      "*/ globalThis.ran = true /*",
      '"]: 0, [globalThis.ran = true] : 0, ["',
      "ünï🎉",
    ];
    const schema = t.schema(names.map((name) => [name, t.int8()] as const));
    const again = pasted(String(schema));
    expect(again.fields.map((field) => field.name)).toEqual(names);
    expect("ran" in globalThis).toBe(false);
    const inner = t.schema({ s: t.struct(names.map((name) => [name, t.struct({}).nullable()] as const)) });
    expect(canonical(pasted(String(inner)))).toBe(canonical(inner));
    const plain = t.schema(Object.fromEntries(names.slice(4).map((name) => [name, t.int8()])));
    expect(canonical(pasted(String(plain)))).toBe(canonical(plain));
  });

  test("a Schema of another version of apache-arrow becomes one of ours", () => {
    const old = new OldSchema([new OldField("a", new OldUtf8(), true)]);
    expect(String(t.fromArrow(old as never))).toBe("t.schema({\n  a: t.utf8().nullable(),\n})");
  });

  test("a union has no notation, and is kept", () => {
    const union = new SparseUnion([0], [new Field("a", new Int32(), true)]);
    const schema = t.fromArrow(new Schema([new Field("u", union, true)]));
    expect(String(schema)).toContain("u: Union<Int32>");
  });

  test("a column or schema never changes", () => {
    expect(Object.isFrozen(t.int8())).toBe(true);
    expect(Object.isFrozen(t.schema({ a: t.int8() }))).toBe(true);
    const plain = t.int8();
    plain.nullable();
    plain.withMetadata({ a: "b" });
    expect([plain.isNullable, plain.metadata.size]).toEqual([false, 0]);
  });

  test("R-61 connect takes it where it takes a Schema, and makes the table by it", async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "rows-schema-"));
    try {
      const schema = t.schema({ id: t.int64(), note: t.utf8().nullable() });
      await using client = await connect(`delta:${folder}/t`, { schema });
      await client.check();
      const log = fs.readFileSync(path.join(folder, "t/_delta_log/00000000000000000000.json"), "utf8");
      expect(log).toContain('\\"name\\":\\"id\\",\\"type\\":\\"long\\",\\"nullable\\":false');
      expect(log).toContain('\\"name\\":\\"note\\",\\"type\\":\\"string\\",\\"nullable\\":true');
    } finally {
      fs.rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe("R-33 a mistake in a schema is told when it is made", () => {
  const type = t.int8() as never;
  const wrong: [string, () => unknown, string][] = [
    ["no columns", () => t.schema(undefined as never), "an object of columns is needed, not undefined"],
    ["no type", () => t.schema({ a: "int8" as never }), 'a type such as t.utf8() is needed, not "int8"'],
    ["a function", () => t.schema({ a: t.int8 as never }), "t.utf8() is needed"],
    ["an index", () => t.schema({ 7: type }), 'does not keep "7" in its place: give pairs [name, type]'],
    ["__proto__", () => t.schema({ x: type, __proto__: type }), '"__proto__" is given as a pair'],
    ["no pair", () => t.schema([["a"]] as never), "columns are pairs of a name and a type"],
    [
      "a name twice",
      () =>
        t.schema([
          ["a", type],
          ["a", type],
        ]),
      'two columns have the name "a"',
    ],
    [
      "a name twice, of Arrow",
      () => t.fromArrow(new Schema([new Field("a", new Int8()), new Field("a", new Utf8())])),
      'two columns have the name "a"',
    ],
    ["no schema", () => t.fromArrow({ fields: [{}] }), "a Schema of apache-arrow is needed"],
    ["metadata", () => t.schema({}, { a: 1 as never }), "metadata is text by text, not 1"],
    ["field metadata", () => t.int8().withMetadata({ a: {} as never }), "metadata is text by text"],
    ["precision", () => t.decimal(39), "its precision is a whole number from 1 to 38, not 39"],
    ["scale", () => t.decimal(4, 5), "its scale is a whole number from 0 to 4, not 5"],
    ["bits", () => t.decimal(4, 2, 64 as never), "a decimal has 128 or 256 bits, not 64"],
    ["width", () => t.fixedSizeBinary(0), "its width is a whole number from 1 to"],
    ["unit", () => t.time("m" as never), 'its unit is one of s, ms, us, ns, not "m"'],
    ["inherited unit", () => t.timestamp("constructor" as never), "its unit is one of"],
    ["date", () => t.date("s" as never), "its unit is one of day, ms"],
    [
      "interval",
      () => t.interval("month" as never),
      "its unit is one of year-month, day-time, month-day-nano",
    ],
    ["zone", () => t.timestamp("us", "" as never), "its zone must be text that is not empty"],
    ["size", () => t.fixedSizeList(-1, type), "its size is a whole number from 0"],
    ["item", () => t.list({} as never), "t.list: a type such as t.utf8() is needed, not an object"],
    ["nullable keys", () => t.map(t.utf8().nullable() as never, type), "its keys cannot be nullable"],
    ["nullable values", () => t.dictionary(t.utf8().nullable() as never), "its values cannot be nullable"],
    ["a dictionary of one", () => t.dictionary(t.dictionary(t.utf8())), "cannot be a dictionary themselves"],
    ["keys", () => t.dictionary(t.utf8(), t.utf8() as never), "its keys must be integers"],
  ];
  test.each(wrong)("%s", (_name, make, message) => {
    let thrown: unknown;
    try {
      make();
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(IngestError);
    const { code, issues, message: said } = thrown as IngestError;
    expect([code, issues.length]).toEqual(["CONFIG_INVALID", 1]);
    expect(said).toContain(message);
  });
});

// Held by the compiler: this file is checked with every strict option.
type Same<A, B> = (<X>() => X extends A ? 1 : 2) extends <X>() => X extends B ? 1 : 2 ? true : false;

test("R-61 R-35 RowOf says which keys are needed and what their values are", () => {
  const order = t.schema({
    id: t.int64(),
    name: t.utf8(),
    note: t.utf8().nullable(),
    tags: t.list(t.utf8()),
    at: t.timestamp("us", "UTC"),
    wall: t.timestamp("us"),
    place: t.struct({ x: t.float64(), label: t.utf8().nullable() }),
    counts: t.map(t.utf8(), t.int32().nullable()),
    key: t.dictionary(t.utf8()),
    flag: t.bool().withMetadata({ a: "b" }),
    uuid: t.fixedSizeBinary(16),
    hash: t.fixedSizeBinary(32),
  });
  type Order = RowOf<typeof order>;
  const id: Same<Order["id"], number | bigint> = true;
  const name: Same<Order["name"], string> = true;
  const note: Same<Order["note"], string | null | undefined> = true;
  const key: Same<Order["key"], string> = true;
  const flag: Same<Order["flag"], boolean> = true;
  const place: Same<Order["place"], { x: number | bigint; label?: string | null | undefined }> = true;
  expect([id, name, note, key, flag, place]).not.toContain(false);

  const row: Order = {
    id: 1n,
    name: "a",
    tags: ["x"],
    at: new Date(),
    wall: "2026-11-29T00:00:00",
    place: { x: 1 },
    counts: { a: 1, b: null },
    key: "k",
    flag: true,
    uuid: "00000000-0000-0000-0000-000000000000",
    hash: new Uint8Array(32),
  };
  const given: Order = {
    ...row,
    note: undefined,
    counts: new Map([["a", 1]]),
    place: { x: 1n, label: null },
  };
  expect(given.id).toBe(1n);
  // @ts-expect-error: a required column is missing
  const missing: Order = { ...row, id: undefined };
  // @ts-expect-error: text is no integer
  const text: Order = { ...row, id: "1" };
  // @ts-expect-error: a null in a column that is not nullable
  const none: Order = { ...row, name: null };
  // @ts-expect-error: an item of the wrong kind
  const item: Order = { ...row, tags: [1] };
  // @ts-expect-error: a key that the schema does not know
  const extra: Order = { ...row, extra: 1 };
  // @ts-expect-error: no UUID, but any 32 bytes
  const hash: Order = { ...row, hash: "00000000-0000-0000-0000-000000000000" };
  expect([missing, text, none, item, extra, hash]).toHaveLength(6);

  const pairs = t.schema([
    ["1", t.int8()],
    ["__proto__", t.utf8().nullable()],
  ]);
  const paired: RowOf<typeof pairs> = { 1: 5 };
  // @ts-expect-error: "1" is required
  const unpaired: RowOf<typeof pairs> = {};
  const any: RowOf<ReturnType<typeof t.fromArrow>> = { whatever: Symbol() };
  expect([paired, unpaired, any]).toHaveLength(3);
});
