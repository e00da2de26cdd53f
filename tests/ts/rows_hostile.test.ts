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
  test("objects that hold one object twice, many levels deep, end", () => {
    let shared: object = { end: 1 };
    for (let level = 0; level < 18; level++) shared = { left: shared, right: shared };
    expect(() => inferSchema([shared])).toThrow("there are more than 100000 columns, members and items");
  });
});
