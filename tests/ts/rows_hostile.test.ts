// R-62 R-63: rows that lie, throw, are wide or many: none is lost without a word, none is bent, none hurts another.
import { type DataType, Decimal, Field, Int8, List, Schema, Struct } from "apache-arrow";
import { describe, expect, test } from "vitest";
import { inferSchema, t, tableFromRows } from "../../dist/index.js";
import { encode, faults } from "./support/rows.js";

const transfer = (buffer: ArrayBuffer): void => void structuredClone(buffer, { transfer: [buffer] });

/** A view whose memory is gone. */
function gone<View extends ArrayBufferView>(view: View): View {
  transfer(view.buffer as ArrayBuffer);
  return view;
}

/** A view of memory that was cut away below it. */
function cut<View>(make: (buffer: ArrayBuffer) => View): View {
  const buffer = new ArrayBuffer(16, { maxByteLength: 16 });
  const view = make(buffer);
  buffer.resize(4);
  return view;
}

class Lying extends Uint8Array {
  override get byteLength(): number {
    throw new Error("no");
  }
}

const arrow = (name: string, type: DataType): { toArrow(): Schema } => {
  const schema = new Schema([new Field(name, type, false)]);
  return { toArrow: () => schema };
};

describe.each([
  ["compiled", true],
  ["closures", false],
])("R-62 %s", (_name, compile) => {
  test("a row whose value cannot even be described is refused and told like any other", () => {
    const schema = t.schema({ a: t.int8() });
    const throwing = {
      get a(): unknown {
        throw new Lying(3);
      },
    };
    const detached = new ArrayBuffer(8);
    transfer(detached);
    const rows = [
      { a: gone(new DataView(new ArrayBuffer(8))) },
      { a: cut((buffer) => new DataView(buffer, 8)) },
      { a: new Lying(3) },
      { a: detached },
      throwing,
      { a: 1 },
    ];
    const found = encode(schema, rows, { compile });
    expect(faults(found)).toEqual([
      "0 a VALUE_TYPE",
      "1 a VALUE_TYPE",
      "2 a VALUE_TYPE",
      "3 a VALUE_TYPE",
      "4 a VALUE_THREW",
    ]);
    expect(found.rejections.map(({ message }) => message.split(",")[0])).toEqual([
      "a: a view without its memory was given",
      "a: a view without its memory was given",
      "a: a view of 3 bytes was given",
      "a: a buffer without its memory was given",
      "a: a view of 3 bytes was thrown",
    ]);
    expect(found.rows).toEqual([{ a: 1 }]);
  });

  test("bytes and items whose memory is gone are none of no length", () => {
    const schema = t.schema({
      b: t.binary().nullable(),
      l: t.list(t.float32()).nullable(),
      f: t.fixedSizeList(0, t.float32()).nullable(),
    });
    const floats = (): Float32Array => gone(new Float32Array([1, 2, 3]));
    const rows = [
      { b: gone(new DataView(new ArrayBuffer(8))) },
      { b: cut((buffer) => new Uint8Array(buffer, 8, 8)) },
      { b: cut((buffer) => new DataView(buffer, 8)) },
      { l: floats() },
      { l: cut((buffer) => new Float32Array(buffer, 8, 2)) },
      { f: floats() },
      { b: new Uint8Array(0), l: new Float32Array(0), f: new Float32Array(0) },
    ];
    const found = encode(schema, rows, { compile });
    expect(faults(found)).toEqual([
      "0 b VALUE_MALFORMED",
      "1 b VALUE_MALFORMED",
      "2 b VALUE_MALFORMED",
      "3 l VALUE_MALFORMED",
      "4 l VALUE_MALFORMED",
      "5 f VALUE_MALFORMED",
    ]);
    expect(found.rows).toEqual([{ b: "", l: [], f: [] }]);
  });

  test("objects whose contents are elsewhere are no maps and no intervals of nothing", () => {
    class Private {
      get days(): number {
        return 5;
      }
    }
    const schema = t.schema({
      m: t.map(t.utf8(), t.utf8()).nullable(),
      v: t.interval("day-time").nullable(),
    });
    const liar = new Proxy([["a", "b"]], {
      get: (target, key) => (key === "length" ? "1" : Reflect.get(target, key)),
    });
    const rows = [
      { m: new Headers({ a: "b" }) },
      { m: new URLSearchParams("a=b") },
      { m: new Proxy(new Map([["a", "b"]]), {}) },
      { m: liar },
      { v: { [Symbol.toStringTag]: "Temporal.Instant" } },
      { v: new URL("http://localhost/") },
      { v: new Private() },
      { m: {}, v: {} },
      { m: Object.create(null), v: Object.create(null) },
    ];
    const found = encode(schema, rows, { compile });
    expect(faults(found)).toEqual(
      rows.slice(0, 7).map((row, index) => `${index} ${Object.keys(row)[0]} VALUE_TYPE`),
    );
    const nothing = { m: [], v: [0, 0] };
    expect(found.rows).toEqual([nothing, nothing]);
  });

  test("objects whose contents are elsewhere are no rows and no structs of nothing", () => {
    class Tagged {
      get [Symbol.toStringTag](): string {
        return "Tagged";
      }
      get a(): number {
        return 5;
      }
    }
    const schema = t.schema({ a: t.int8().nullable(), s: t.struct({ a: t.int8().nullable() }).nullable() });
    const opaque = [
      new Headers({ a: "1" }),
      new URLSearchParams("a=1"),
      new Proxy(new Map([["a", 1]]), {}),
      Object.create({ [Symbol.toStringTag]: "Temporal.Instant" }) as object,
      new WeakRef({ a: 1 }),
      [1].values(),
    ];
    const rows = [{}, ...opaque, ...opaque.map((s) => ({ s })), new Tagged(), { s: new Tagged() }];
    const found = encode(schema, rows, { compile });
    expect(faults(found)).toEqual([
      ...opaque.map((_, index) => `${index + 1} ROW_TYPE`),
      ...opaque.map((_, index) => `${index + 7} s VALUE_TYPE`),
    ]);
    expect(found.rows).toEqual([
      { a: null, s: null },
      { a: 5, s: null },
      { a: null, s: { a: 5 } },
    ]);
  });

  test("a map of apache-arrow is one, also where it is empty", async () => {
    const schema = t.schema({ m: t.map(t.utf8(), t.int8()) });
    const { table } = await tableFromRows([{ m: { a: 1 } }, { m: {} }], schema);
    const found = encode(schema, table.toArray(), { compile });
    expect(found.rejections).toEqual([]);
    expect(found.rows).toEqual([{ m: [["a", 1]] }, { m: [] }]);
  });

  test("a decimal holds what its scale and its bits do, whatever its schema claims", () => {
    const negative = encode(
      arrow("d", new Decimal(-3, 5, 128)),
      [{ d: 99_999_000n }, { d: -99_999_000n }, { d: 99_999_000 }, { d: 1n }, { d: 10n ** 8n }],
      { compile },
    );
    expect(faults(negative)).toEqual(["3 d VALUE_INEXACT", "4 d VALUE_RANGE"]);
    expect(negative.rows.map(({ d }) => d)).toEqual([99_999n, -99_999n, 99_999n]);
    const claimed = encode(
      arrow("d", new Decimal(0, 60, 128)),
      [{ d: 2n ** 127n }, { d: 2n ** 127n - 1n }, { d: "1e50" }],
      { compile },
    );
    expect(faults(claimed)).toEqual(["0 d VALUE_RANGE", "2 d VALUE_RANGE"]);
    expect(claimed.rows).toEqual([{ d: 2n ** 127n - 1n }]);
  });

  test("what is told as given is what was given", () => {
    const schema = t.schema({ d: t.duration("ms") });
    const [rejection] = encode(schema, [{ d: "P999999999999999999D" }], { compile }).rejections;
    expect([rejection!.code, rejection!.value]).toEqual(["VALUE_RANGE", "P999999999999999999D"]);
  });

  test("values of refused rows are in no dictionary, and fill none", () => {
    const schema = t.schema({
      k: t.dictionary(t.utf8(), t.int8()).nullable(),
      l: t.list(t.dictionary(t.float64(), t.int8())),
      n: t.int32(),
    });
    const rows = Array.from({ length: 1_000 }, (_, n) => ({
      k: n % 11 === 0 ? null : `k${n % 5 === 0 ? n % 100 : n}`,
      l: n % 7 === 0 ? [] : [n % 5 === 0 ? n % 50 : n, -0],
      n: n % 5 === 0 && n >= 300 ? n : "bad",
    }));
    const kept = rows.filter(({ n }) => n !== "bad");
    const found = encode(schema, rows, { compile });
    expect(found.rejections.every(({ code, path }) => code === "VALUE_TYPE" && path === "n")).toBe(true);
    expect(found.rows).toEqual(kept);
    expect(found.batches).toHaveLength(2);
    const texts = found.batches.map((batch) => batch.data.children[0]!.dictionary!.toArray() as string[]);
    for (const values of texts) {
      expect(new Set(values).size).toBe(values.length);
      expect(values.every((value) => kept.some(({ k }) => k === value))).toBe(true);
    }
  });

  test("dictionaries within dictionaries are whole, whichever rows are refused", () => {
    const schema = t.schema({
      d: t.dictionary(t.map(t.dictionary(t.utf8(), t.int8()), t.int32())),
      n: t.int32(),
    });
    const rows = Array.from({ length: 500 }, (_, n) => ({
      d: [
        [`k${n % 20}`, n],
        [`k${n % 7}`, n],
      ],
      n: n % 3 === 0 ? "bad" : n,
    }));
    const found = encode(schema, rows, { compile });
    expect(found.rows).toEqual(rows.filter(({ n }) => n !== "bad"));
  });

  test("nulls at every place, and views of every length, are what was given", () => {
    const schema = t.schema({ n: t.int8().nullable(), v: t.utf8View(), b: t.binaryView().nullable() });
    for (const length of [0, 1, 7, 8, 9, 16, 200]) {
      const rows = Array.from({ length }, (_, n) => {
        const text = "abcdefghijklmnopqrst".slice(n % 5, (n % 5) + (n % 16));
        return { n: (n * 7) % 5 < 2 ? null : n % 100, v: text, b: n % 3 === 0 ? null : Buffer.from(text) };
      });
      const found = encode(schema, rows, { compile });
      expect(found.rows).toEqual(rows.map((row) => ({ ...row, b: row.b?.toString("hex") ?? null })));
      const nulls = found.batches.map((batch) => batch.data.children[0]!.nullCount);
      expect(nulls.reduce((sum, count) => sum + count, 0)).toBe(rows.filter(({ n }) => n === null).length);
      // Arrow wants zeros behind a value in its view.
      for (const batch of found.batches) {
        const views = batch.data.children[1]!.values as Uint8Array;
        rows.forEach(({ v }, i) => {
          const rest = v.length > 12 ? [] : [...views.subarray(16 * i + 4 + v.length, 16 * i + 16)];
          expect(rest.every((byte) => byte === 0)).toBe(true);
        });
      }
    }
  });

  test("a chunk that held too much ends no batch", () => {
    const bytes = Buffer.alloc(30_000, 7);
    const rows = Array.from({ length: 1_100 }, (_, n) => ({ n, bytes }));
    const found = encode(t.schema({ n: t.int32(), bytes: t.binary() }), rows, { compile });
    expect(found.rejections).toEqual([]);
    expect(found.rows.map(({ n }) => n)).toEqual(rows.map(({ n }) => n));
    // 33 MB in batches of 16 MiB.
    expect(found.batches.length).toBeLessThanOrEqual(3);
  });

  test("rows that are wide whatever they hold take the memory of a batch, not of 65,536 rows", () => {
    const wide = t.schema({ b: t.fixedSizeBinary(2_000_000).nullable() });
    const rows = Array.from({ length: 1_000 }, (_, n) => ({ b: n % 100 === 0 ? null : 5 }));
    const found = encode(wide, rows, { compile });
    expect([found.rejections.length, found.rows.length]).toEqual([990, 10]);
    expect(Math.max(...found.batches.map(({ numRows }) => numRows))).toBe(8);
    for (const batch of found.batches)
      expect(batch.data.children[0]!.values.buffer.byteLength).toBeLessThanOrEqual(16 << 20);
    const widest = 2 ** 31 - 1;
    const huge = t.schema({ b: t.fixedSizeBinary(widest).nullable(), n: t.int8() });
    expect(
      faults(
        encode(
          huge,
          [
            { b: new Uint8Array(1), n: 1 },
            { b: null, n: 300 },
          ],
          { compile },
        ),
      ),
    ).toEqual(["0 b VALUE_RANGE", "1 n VALUE_RANGE"]);
    const items = t.schema({ l: t.list(t.struct({ b: t.fixedSizeBinary(widest) })) });
    expect(faults(encode(items, [{ l: [] }, { l: [{}, {}] }, { l: [] }], { compile }))).toEqual([
      "1 ROW_TOO_LARGE",
    ]);
  });

  test("what a null takes in a dictionary without values is no chunk that holds too much", () => {
    const schema = t.schema({ d: t.dictionary(t.fixedSizeList(40_000, t.int8())).nullable() });
    const found = encode(schema, [{ d: null }, {}], { compile });
    expect(found.rows).toEqual([{ d: null }, { d: null }]);
  });
});

describe("R-62 names", () => {
  test("a name that UTF-8 does not hold is refused: it would pass for another", () => {
    const int8 = new Int8();
    const half = new Schema([new Field("\ud800", int8)]);
    const inside = new Schema([new Field("s", new Struct([new Field("\udc00", int8)]))]);
    const why = "has a surrogate without its other half";
    expect(() => t.schema([["\ud800", t.int8()]])).toThrow(`t.schema: the name "\\ud800" ${why}`);
    expect(() => t.struct({ "a\udc00": t.int8() })).toThrow(why);
    expect(() => t.fromArrow(half)).toThrow(`t.fromArrow: the name "\\ud800" ${why}`);
    expect(() => t.fromArrow(inside)).toThrow(why);
    expect(t.schema({ "\ud83c\udf89": t.int8() }).fields[0]!.name).toBe("🎉");
  });

  test("metadata is text that UTF-8 holds, by text", () => {
    const schema = (metadata: unknown) => () => t.schema({ a: t.int8() }, metadata as never);
    expect(schema({ k: "\ud800" })).toThrow("metadata has a surrogate without its other half");
    expect(schema(new Map([["\ud800", "v"]]))).toThrow("metadata has a surrogate without its other half");
    expect(schema("ab")).toThrow("metadata is an object or a Map of text by text");
    expect(schema(["ab"])).toThrow("metadata is an object or a Map of text by text");
  });

  test("a decimal that the notation does not make has none", () => {
    const decimals = [new Decimal(2, 9, 32), new Decimal(-2, 9, 128), new Decimal(9, 2, 128)];
    for (const type of decimals)
      expect(String(t.fromArrow(new Schema([new Field("d", type)])))).not.toContain("t.decimal");
  });

  test("members of one name are refused, wherever their struct is", () => {
    const twice = new Struct([new Field("a", new Int8()), new Field("a", new Int8())]);
    const good = t.schema({ l: t.list(t.int8()), m: t.map(t.utf8(), t.int8()), d: t.dictionary(t.utf8()) });
    expect(t.fromArrow(good).fields).toHaveLength(3);
    const inList = new List(new Field("item", twice));
    for (const type of [twice, inList])
      expect(() => t.fromArrow(new Schema([new Field("s", type)]))).toThrow('two columns have the name "a"');
  });
});

describe("R-60 tableFromRows", () => {
  test("an array of rows that lies about its length is refused", async () => {
    const schema = t.schema({ a: t.int8() });
    for (const length of ["1", Number.NaN, -1, 1.5, Number.POSITIVE_INFINITY]) {
      const rows = new Proxy([{ a: 1 }], {
        get: (target, key) => (key === "length" ? length : Reflect.get(target, key)),
      });
      await expect(tableFromRows(rows, schema)).rejects.toMatchObject({ code: "BATCH_INVALID" });
    }
  });

  test("rows are what the array holds, not what a slice method of its own says", async () => {
    const rows = Object.assign([{ a: 1 }], { slice: () => [{ a: 5 }] });
    const { table } = await tableFromRows(rows, t.schema({ a: t.int8() }));
    expect(table.get(0)!.a).toBe(1);
  });
});

describe("R-61 inferSchema", () => {
  test("a name that UTF-8 does not hold fits no schema", () => {
    const call = () => inferSchema([{ a: { "\ud800": 1 } }]);
    expect(call).toThrow('the name a["\\ud800"] has a surrogate without its other half');
    expect(call).toThrow(expect.objectContaining({ code: "BATCH_INVALID" }));
  });

  test("objects whose contents are elsewhere are no rows and no structs", () => {
    expect(() => inferSchema([new Headers({ a: "b" })])).toThrow(
      "row 0 is an object and no object with keys",
    );
    expect(() => inferSchema([{ u: new URL("http://localhost/") }])).toThrow(
      "u is an object in row 0, which no column holds",
    );
  });

  test("objects that hold one object twice, many levels deep, end", () => {
    let shared: object = { end: 1 };
    for (let level = 0; level < 18; level++) shared = { left: shared, right: shared };
    expect(() => inferSchema([shared])).toThrow("there are more than 100000 columns, members and items");
  });
});
