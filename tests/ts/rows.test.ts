// R-60 R-62 R-63: rows into tables: which go and which are told, whatever they do while they are read.
import { execFileSync } from "node:child_process";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import {
  type DataType,
  Decimal,
  DenseUnion,
  Dictionary,
  Field,
  FixedSizeList,
  Int8,
  Int32,
  LargeList,
  List,
  Map_,
  Null,
  RecordBatch,
  Schema,
  SparseUnion,
  Struct,
  Table,
  Utf8,
} from "apache-arrow";
import { Field as OldField, Int32 as OldInt32, Schema as OldSchema } from "apache-arrow-15";
import { describe, expect, test } from "vitest";
import { connect, type IngestError, inferSchema, type RowOf, t, tableFromRows } from "../../dist/index.js";
import { compiledLoops, forgetLoops, loopsOf } from "../../dist/rows/compile.js";
import { encode, faults } from "./support/rows.js";

const order = t.schema({
  id: t.int32(),
  name: t.utf8(),
  tags: t.list(t.struct({ name: t.utf8(), size: t.int8().nullable() })),
  labels: t.map(t.utf8(), t.int8()),
  place: t.struct({ "x y": t.float64(), inner: t.struct({ deep: t.bool() }).nullable() }).nullable(),
  key: t.dictionary(t.utf8()).nullable(),
  pair: t.fixedSizeList(2, t.int8()).nullable(),
});
type Order = RowOf<typeof order>;
const good = (id: number): Order => ({
  id,
  name: `n${id}`,
  tags: [{ name: "a" }],
  labels: { l: 1 },
  key: `k${id % 3}`,
});
const stored = (id: number): object => ({
  id,
  name: `n${id}`,
  tags: [{ name: "a", size: null }],
  labels: [["l", 1]],
  place: null,
  key: `k${id % 3}`,
  pair: null,
});

const codeOf = (call: () => unknown): unknown => {
  try {
    call();
    return "nothing was thrown";
  } catch (error) {
    return (error as IngestError).code;
  }
};

describe.each([
  ["compiled", true],
  ["closures", false],
])("R-62 %s", (_name, compile) => {
  const run = (rows: readonly unknown[], unknownKeys?: "reject" | "drop") =>
    encode(order, rows, { compile, unknownKeys });

  test("a row that does not fit is told by its path, and the others go in their order", () => {
    const wrong: [object, string][] = [
      [{ ...good(0), id: 1.5 }, "id VALUE_INEXACT"],
      [{ ...good(0), tags: [{ name: "a" }, { name: "b", size: 300 }] }, "tags[1].size VALUE_RANGE"],
      [{ ...good(0), tags: [{ name: "a" }, null] }, "tags[1] VALUE_MISSING"],
      [{ ...good(0), tags: [{ name: "a" }, { size: 1 }] }, "tags[1].name VALUE_MISSING"],
      [{ ...good(0), tags: [{ name: "a", no: 1 }] }, "tags[0].no KEY_UNKNOWN"],
      [{ ...good(0), labels: { a: 1, b: "2" } }, "labels[1].value VALUE_TYPE"],
      [{ ...good(0), labels: [[5, 1]] }, "labels[0].key VALUE_TYPE"],
      [{ ...good(0), labels: new Map([[null, 1]]) }, "labels[0].key VALUE_MISSING"],
      [{ ...good(0), place: { "x y": "1" } }, 'place["x y"] VALUE_TYPE'],
      [{ ...good(0), place: { "x y": 1, inner: { deep: 1 } } }, "place.inner.deep VALUE_TYPE"],
      [{ ...good(0), key: 5 }, "key VALUE_TYPE"],
      [{ ...good(0), pair: [1, 2, 3] }, "pair VALUE_RANGE"],
      [{ ...good(0), pair: [1, null] }, "pair[1] VALUE_MISSING"],
      [{ ...good(0), "un known": 1 }, '["un known"] KEY_UNKNOWN'],
    ];
    // Good ones in between, of which the first and the last row are.
    const rows = [good(0), ...wrong.flatMap(([row], index) => [row, good(index + 1)])];
    const found = run(rows);
    expect(faults(found)).toEqual(wrong.map(([, fault], index) => `${2 * index + 1} ${fault}`));
    expect(found.rows).toEqual(Array.from({ length: wrong.length + 1 }, (_, id) => stored(id)));
  });

  test("what was given and what was wanted is said, and no text of it", () => {
    const secret = { ...good(0), id: "s3cret", name: 5, tags: "s3cret" };
    const [rejection] = run([secret]).rejections;
    expect(rejection).toEqual({
      row: 0,
      path: "id",
      code: "VALUE_TYPE",
      message: "id: text of 6 characters was given, t.int32() is wanted",
      value: "s3cret",
    });
    expect(run([{ ...good(0), place: "s3cret" }]).rejections[0]!.message).toBe(
      'place: text of 6 characters was given, t.struct({\n    "x y": t.float64(),\n    inner: t.struct({\n      deep: t.bool(),\n    }).nullable(),\n  }) or null is wanted',
    );
  });

  test("of many wrong rows each has the message that it has alone", () => {
    const { id, ...others } = good(1);
    const thrown = (what: unknown): object => ({
      ...others,
      get id() {
        throw what;
      },
    });
    const wrong = [
      { id: "a", ...others },
      { id: "b", ...others },
      { id: "bc", ...others },
      thrown("bc"),
      thrown("bc"),
      { id: "bc", ...others },
      { ...good(1), name: 5 },
      { ...good(1), tags: [{ name: 5 }] },
      { ...good(1), tags: [{ name: "a" }, { name: 5 }] },
      { ...good(1), tags: [{ name: "a" }, { name: 5 }] },
      { ...good(1), tags: [{ name: "a", size: 500 }] },
      { ...good(1), tags: [{ name: "a", size: 500.5 }] },
      { ...good(1), tags: [{ name: "a", size: 500 }] },
      "bc",
      5,
      { ...others },
      { id, ...others, more: 1 },
    ];
    const alone = wrong.map((row) => run([row]).rejections[0]!.message);
    expect(new Set(alone).size).toBe(12);
    expect(run(wrong).rejections.map(({ message }) => message)).toEqual(alone);
    // One column tells of many rows before the next one has its turn.
    const many = Array.from({ length: 50 }, () => wrong).flat();
    expect(run(many).rejections.map(({ message }) => message)).toEqual(
      many.map((_, at) => alone[at % alone.length]),
    );
  });

  test("what is no object is no row", () => {
    const rows = [
      null,
      undefined,
      5,
      "row",
      [],
      [good(1)],
      new Map(),
      new Date(),
      () => 1,
      Symbol("s"),
      good(0),
      new Set(),
      /x/,
    ];
    const found = run(rows);
    expect(found.rejections.map(({ row, code }) => [row, code])).toEqual(
      rows.flatMap((_row, index) => (index === 10 ? [] : [[index, "ROW_TYPE"]])),
    );
    expect(found.rows).toEqual([stored(0)]);
  });

  test("keys that the schema does not know are refused, or dropped on request, also in structs", () => {
    const rows = [{ ...good(0), extra: 1 }, { ...good(1), tags: [{ name: "a", extra: 1 }] }, good(2)];
    expect(faults(run(rows))).toEqual(["0 extra KEY_UNKNOWN", "1 tags[0].extra KEY_UNKNOWN"]);
    expect(run(rows, "drop").rows).toEqual([stored(0), stored(1), stored(2)]);
    // Known keys in whatever order, and fewer of them, are known.
    const { id, name, tags, labels, key } = good(3);
    expect(
      run([{ key, labels, tags, name, id }, good(2), { id, name, tags, labels, key }]).rejections,
    ).toEqual([]);
  });

  test("rows may be of a class, without a prototype, frozen; symbols and what is not enumerable are no keys", () => {
    class Event {
      readonly #name: string;
      readonly tags: unknown = [{ name: "a" }];
      readonly labels = { l: 1 };
      readonly key = "k1";
      constructor(readonly id: number) {
        this.#name = `n${id}`;
      }
      get name(): string {
        return this.#name;
      }
      save(): void {}
    }
    const hidden = Object.defineProperty({ ...good(4), [Symbol("s")]: 1 }, "hidden", { value: 1 });
    const rows = [
      new Event(1),
      Object.assign(Object.create(null), good(2)),
      Object.freeze(good(3)),
      hidden,
      Object.create(good(5)),
    ];
    const found = run(rows);
    expect(found.rejections).toEqual([]);
    expect(found.rows).toEqual([1, 2, 3, 4, 5].map(stored));
  });

  test("a getter is called once, a proxy is asked, and what throws refuses its own row alone", () => {
    let calls = 0;
    const counting = Object.defineProperty(good(0), "name", {
      enumerable: true,
      get: () => `n${calls++}`,
    });
    const thrown = new Error("no");
    const throwing = (key: string) =>
      Object.defineProperty(good(0), key, {
        enumerable: true,
        get() {
          throw thrown;
        },
      });
    const asked = new Proxy(good(1), {});
    const evil = new Proxy(good(0), {
      get: () => {
        throw thrown;
      },
    });
    const keyless = new Proxy(good(0), {
      ownKeys: () => {
        throw thrown;
      },
    });
    const items = new Proxy([{ name: "a" }, { name: "b" }], {
      get: (target, key, self) => {
        if (key === "1") throw thrown;
        return Reflect.get(target, key, self);
      },
    });
    const revoked = Proxy.revocable({}, {});
    revoked.revoke();
    const rows = [
      counting,
      throwing("id"),
      asked,
      throwing("place"),
      evil,
      good(2),
      keyless,
      { ...good(0), tags: items },
      revoked.proxy,
      { ...good(0), place: evil },
      { ...good(0), labels: evil },
      good(3),
    ];
    const found = run(rows);
    expect(calls).toBe(1);
    expect(faults(found)).toEqual([
      "1 id VALUE_THREW",
      "3 place VALUE_THREW",
      "4 id VALUE_THREW",
      "6 VALUE_THREW",
      "7 tags VALUE_THREW",
      "8 VALUE_THREW",
      "9 place.id KEY_UNKNOWN",
      "10 labels VALUE_THREW",
    ]);
    expect(found.rejections[0]!.value).toBe(thrown);
    expect(found.rejections[0]!.message).toBe(
      "id: an error was thrown, t.int32() is wanted: reading it threw",
    );
    expect(found.rows).toEqual([0, 1, 2, 3].map(stored));
  });

  test("arrays that lie about their length, or change it, hurt nobody", () => {
    const lying = (length: unknown) =>
      new Proxy([{ name: "a" }], {
        get: (target, key) => (key === "length" ? length : Reflect.get(target, key)),
      });
    const shrinking: unknown[] = [];
    Object.defineProperty(shrinking, 0, {
      enumerable: true,
      get: () => {
        shrinking.length = 1;
        return { name: "a" };
      },
    });
    shrinking.length = 3;
    const rows = [
      good(0),
      { ...good(0), tags: lying("2") },
      { ...good(0), tags: lying(-1) },
      { ...good(0), tags: lying(1.5) },
      { ...good(0), tags: lying(2) },
      { ...good(0), tags: lying(2 ** 40) },
      { ...good(0), tags: shrinking },
      good(1),
    ];
    const found = run(rows);
    expect(faults(found)).toEqual([
      "1 tags VALUE_TYPE",
      "2 tags VALUE_TYPE",
      "3 tags VALUE_TYPE",
      "4 tags[1] VALUE_MISSING",
      "5 ROW_TOO_LARGE",
      "6 tags[1] VALUE_MISSING",
    ]);
    expect(found.rows).toEqual([stored(0), stored(1)]);
  });

  test("rows of which one takes more than all are split off, and what holds itself ends", () => {
    const nested = t.schema({ a: t.list(t.list(t.utf8())), b: t.int8() });
    const wide = new Array<string>(50_000).fill("x");
    const endless = new Array(20_000).fill(new Array(20_000).fill("x"));
    const rows = [
      { a: [["p"]], b: 1 },
      { a: [wide], b: 2 },
      { a: endless, b: 3 },
      { a: [wide, wide], b: 300 },
      { a: [["q"]], b: 5 },
    ];
    const found = encode(nested, rows, { compile });
    expect(faults(found)).toEqual(["2 ROW_TOO_LARGE", "3 b VALUE_RANGE"]);
    expect(found.rows.map(({ a, b }) => [(a as unknown[][])[0]!.length, b])).toEqual([
      [1, 1],
      [50_000, 2],
      [1, 5],
    ]);
    const itself: Record<string, unknown> = { ...good(0) };
    itself.place = itself;
    expect(faults(run([itself, good(0)]))).toEqual(["0 place.id KEY_UNKNOWN"]);
  });

  test("long text and bytes are split over chunks and batches and stay what they are", () => {
    const schema = t.schema({ s: t.utf8(), b: t.binary().nullable() });
    const long = "é".repeat(400_000);
    const rows = Array.from({ length: 40 }, (_, i) => ({
      s: `${i}${long}`,
      b: i % 2 ? Buffer.alloc(600_000, i) : null,
    }));
    const found = encode(schema, rows, { compile });
    expect(found.rejections).toEqual([]);
    expect(found.batches.length).toBeGreaterThan(1);
    expect(found.rows.map(({ s }) => (s as string).length)).toEqual(rows.map(({ s }) => s.length));
    expect(found.rows.every(({ s }, i) => s === rows[i]!.s)).toBe(true);
    expect((found.rows[3]!.b as string).slice(0, 4)).toBe("0303");
  });

  test("text is what it was, short or long, of ASCII or not, one after the other; halves of pairs are refused alone", () => {
    const kinds = [
      (n: number) => `${n}`,
      (n: number) => `${n}${"long ".repeat(20)}`,
      (n: number) => `${n}${"é🎉".repeat(20)}`,
      (n: number) => (n % 10 === 0 ? `${n}\ud83c` : n % 10 === 1 ? `\udf89${n}` : `${n}ﬀ`),
      () => "",
    ];
    const schema = t.schema({ s: t.utf8() });
    const rows = Array.from({ length: 20_000 }, (_, n) => ({
      s: kinds[Math.floor(n / 700) % kinds.length]!(n),
    }));
    const found = encode(schema, rows, { compile });
    const whole = rows.filter(({ s }) => !/\p{Surrogate}/u.test(s));
    expect(whole.length).toBeLessThan(rows.length);
    expect(found.rejections.length).toBe(rows.length - whole.length);
    expect(
      found.rejections.every(
        ({ row, code }) => code === "VALUE_MALFORMED" && /\p{Surrogate}/u.test(rows[row]!.s),
      ),
    ).toBe(true);
    expect(found.rows).toEqual(whole);
  });

  test("a dictionary that is full begins a new batch with a new one", () => {
    const schema = t.schema({ k: t.dictionary(t.utf8(), t.int8()), n: t.int32() });
    const rows = Array.from({ length: 1_000 }, (_, n) => ({ k: `k${n % 300}`, n }));
    const found = encode(schema, rows, { compile });
    expect(found.rejections).toEqual([]);
    expect(found.rows.map(({ k }) => k)).toEqual(rows.map(({ k }) => k));
    expect(found.batches.length).toBeGreaterThan(3);
    const many = encode(
      t.schema({ l: t.list(t.dictionary(t.int32(), t.int8())) }),
      [{ l: Array.from({ length: 129 }, (_, i) => i) }, { l: [1] }],
      { compile },
    );
    expect(faults(many)).toEqual(["0 ROW_TOO_LARGE"]);
    expect(many.rows).toEqual([{ l: [1] }]);
  });

  test("a dictionary without a value has rows of null", () => {
    const schema = t.schema({
      k: t.dictionary(t.utf8()).nullable(),
      s: t.struct({ k: t.dictionary(t.utf8()) }).nullable(),
    });
    expect(encode(schema, [{ k: null, s: null }, {}], { compile }).rows).toEqual([
      { k: null, s: null },
      { k: null, s: null },
    ]);
  });

  test("names of every kind are keys: those that all objects inherit, quotes, line ends, code", () => {
    const names = [
      "__proto__",
      "constructor",
      "toString",
      "hasOwnProperty",
      "",
      "1",
      'a"b',
      "a'b",
      "new\nline",
      "\u2028",
      "\ud83c\udf89",
      "`$" + "{x}`",
      "*/",
      '"]; throw 1; ["',
      "ünï",
    ];
    const schema = t.schema(
      names.map((name, index) => [name, index < 4 ? t.int32().nullable() : t.int32()] as const),
    );
    const row = (from: number): object =>
      Object.fromEntries(names.slice(from).map((name, index) => [name, index + from]));
    const found = encode(schema, [row(0), row(4), JSON.parse('{"__proto__": "text"}')], { compile });
    expect(faults(found)).toEqual(["2 __proto__ VALUE_TYPE"]);
    expect(found.rows.map((one) => Object.entries(one).length)).toEqual([15, 15]);
    const [first, second] = found.batches[0]!.data.children.slice(0, 2);
    expect([first!.values[0], second!.values[0]]).toEqual([0, 1]);
    expect([first!.getValid(1), second!.getValid(1)]).toEqual([false, false]);
    expect(found.batches[0]!.schema.fields.map((field) => field.name)).toEqual(names);
    expect(found.batches[0]!.data.children.map(({ values }) => values[0])).toEqual(
      names.map((_, index) => index),
    );
  });

  test("batches have as many rows as they should, and no row twice or never", () => {
    const schema = t.schema({ n: t.int32(), l: t.list(t.int32()), s: t.utf8() });
    const rows = Array.from({ length: 5_000 }, (_, n) => ({
      n: n % 7 === 3 ? null : n,
      l: [n, n],
      s: n % 5 ? "é" : `${n}`,
    }));
    const found = encode(schema, rows, { compile, maxRows: 1_000 });
    const kept = rows.filter(({ n }) => n !== null);
    expect(found.batches.slice(0, -1).every(({ numRows }) => numRows === 1_000)).toBe(true);
    expect(found.rows).toEqual(kept);
    expect(found.rejections.length).toBe(rows.length - kept.length);
    expect(found.rejections.every(({ row }) => rows[row]!.n === null)).toBe(true);
  });
});

describe("R-63 compiled functions", () => {
  test("their number is bounded, of one schema and of all", () => {
    const wide = t.schema(Array.from({ length: 1_500 }, (_, index) => [`c${index}`, t.int8()] as const));
    const row = Object.fromEntries(wide.fields.map(({ name }) => [name, 1]));
    const before = compiledLoops();
    expect(encode(wide, [row], { compile: true }).rejections).toEqual([]);
    expect(compiledLoops() - before).toBe(1_024);
    for (let n = 0; n < 60; n++) {
      const schema = t.schema(
        Array.from({ length: 100 }, (_, index) => [`s${n}c${index}`, t.int8()] as const),
      );
      encode(schema, [], { compile: true });
    }
    expect(compiledLoops()).toBeGreaterThan(3_000);
    expect(compiledLoops()).toBeLessThanOrEqual(4_096);
    forgetLoops();
    expect(compiledLoops()).toBeGreaterThan(3_000);
  });

  test("one schema is compiled once, however often it is made", () => {
    const make = () => t.schema({ once: t.int8(), twice: t.utf8() });
    encode(make(), [], { compile: true });
    const before = compiledLoops();
    encode(make(), [], { compile: true });
    expect(compiledLoops()).toBe(before);
    expect(loopsOf("a key that nobody has", false).compiled).toBe(0);
  });

  test("where the runtime compiles nothing, closures do the same", () => {
    const dist = pathToFileURL(path.resolve(import.meta.dirname, "../../dist"));
    const program = `
      import { t } from "${dist}/schema.js";
      import { CAN_COMPILE } from "${dist}/rows/compile.js";
      import { tableFromRows } from "${dist}/rows.js";
      const { table, rejections } = await tableFromRows([{ a: 1 }, { a: 300 }], t.schema({ a: t.int8() }));
      console.log(JSON.stringify([CAN_COMPILE, table.numRows, rejections.length]));
    `;
    const run = (...flags: string[]) =>
      JSON.parse(
        execFileSync(process.execPath, [...flags, "--input-type=module"], {
          input: program,
          encoding: "utf8",
        }),
      );
    expect(run("--disallow-code-generation-from-strings")).toEqual([false, 1, 1]);
    expect(run()).toEqual([true, 1, 1]);
  });
});

describe("R-60 tableFromRows", () => {
  test("what it gives can be sent, and refused rows count what was given", async () => {
    await using client = await connect("discard:", { schema: order });
    const rows: Order[] = [good(0), { ...good(1), id: 2 ** 40 }, good(2)];
    const { table, rejections } = await tableFromRows(rows, order);
    expect(table).toBeInstanceOf(Table);
    expect(table.batches[0]).toBeInstanceOf(RecordBatch);
    expect(rejections.map(({ row, path, code, value }) => [row, path, code, value])).toEqual([
      [1, "id", "VALUE_RANGE", 2 ** 40],
    ]);
    for (const handoff of ["auto", "copy", "ipc"] as const)
      expect(await client.send(table, { handoff })).toMatchObject({ status: "acknowledged", rows: 2 });
  });

  test("of no rows, and of none that fits, the table is empty and has the schema", async () => {
    await using client = await connect("discard:");
    for (const rows of [[], [{}]]) {
      const { table, rejections } = await tableFromRows(rows as never, order);
      expect([table.numRows, table.schema.fields.length, rejections.length]).toEqual([0, 7, rows.length]);
      expect((await client.send(table)).status).toBe("acknowledged");
    }
  });

  test("takes a Schema of apache-arrow, of this and another version", async () => {
    const schema = new Schema([new Field("a", new Int8(), true)]);
    const { table, rejections } = await tableFromRows([{ a: 1 }, {}, { a: 200 }], schema);
    expect([table.numRows, rejections.length, table.schema.fields[0]!.type.toString()]).toEqual([
      2,
      1,
      "Int8",
    ]);
    const old = new OldSchema([new OldField("a", new OldInt32(), false)]);
    expect((await tableFromRows([{ a: 1 }], old)).table.toArray()).toHaveLength(1);
  });

  test("R-36 many rows, half of them wrong, leave timers their turn while they are read", async () => {
    const schema = t.schema({ id: t.int32(), name: t.utf8().nullable() });
    const rows = Array.from({ length: 300_000 }, (_, id) => (id % 2 ? { id, name: "x" } : { id: "x" }));
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const { table, rejections } = await tableFromRows(rows as never, schema);
    clearInterval(timer);
    expect([table.numRows, rejections.length, rejections.at(-1)!.row]).toEqual([150_000, 150_000, 299_998]);
    // Without turns of the event loop there would be none at all.
    expect(turns).toBeGreaterThan(3);
  });

  test("rows are read as they are when their turn comes; more that are pushed meanwhile are not", async () => {
    const schema = t.schema({ id: t.int32() });
    const rows: { id: unknown }[] = Array.from({ length: 200_000 }, (_, id) => ({ id }));
    const last = rows.at(-1)!;
    const made = tableFromRows(rows as never, schema);
    last.id = "changed";
    rows.push({ id: 1 });
    const { table, rejections } = await made;
    expect([table.numRows, rejections.map(({ row }) => row)]).toEqual([199_999, [199_999]]);
  });

  test("an array that throws ends the call with what it threw; one that lies about its slices is read one by one", async () => {
    const schema = t.schema({ id: t.int32() });
    const thrown = new Error("no");
    const throwing = new Proxy([{ id: 1 }], {
      get: (target, key, self) => {
        if (key === "0") throw thrown;
        return Reflect.get(target, key, self);
      },
    });
    await expect(tableFromRows(throwing, schema)).rejects.toBe(thrown);
    const lying = Object.assign([{ id: 1 }, { id: 2 }], { constructor: { [Symbol.species]: () => [] } });
    expect((await tableFromRows(lying as never, schema)).table.numRows).toBe(2);
    class Rows extends Array<{ id: number }> {}
    expect((await tableFromRows(Rows.from([{ id: 1 }]), schema)).table.numRows).toBe(1);
  });

  test("a signal ends it between two rows", async () => {
    const schema = t.schema({ id: t.int32() });
    const rows = Array.from({ length: 500_000 }, (_, id) => ({ id }));
    const controller = new AbortController();
    const made = tableFromRows(rows, schema, { signal: controller.signal });
    setImmediate(() => controller.abort(new Error("enough")));
    await expect(made).rejects.toThrow("enough");
    await expect(
      tableFromRows([], schema, { signal: AbortSignal.abort(new Error("before")) }),
    ).resolves.toBeDefined();
  });

  test("R-33 misuse is told before a row is read", async () => {
    const schema = t.schema({ a: t.int8() });
    const call = async (...args: unknown[]): Promise<string> => {
      try {
        await (tableFromRows as (...args: unknown[]) => Promise<unknown>)(...args);
        return "nothing was thrown";
      } catch (error) {
        return `${(error as IngestError).code}: ${(error as IngestError).message}`;
      }
    };
    expect(await call({ a: 1 }, schema)).toBe(
      "BATCH_INVALID: an array of rows is needed; an object was given",
    );
    expect(await call([], undefined)).toBe(
      "CONFIG_INVALID: schema must be t.schema(…), a Schema of apache-arrow or a Standard JSON Schema; nothing was given",
    );
    expect(await call([], { fields: 1 })).toContain("CONFIG_INVALID: schema must be");
    expect(await call([], schema, { unknown: 1 })).toBe("CONFIG_INVALID: unknown is not an option");
    expect(await call([], schema, { unknownKeys: "keep" })).toContain(
      'CONFIG_INVALID: unknownKeys must be "reject" or "drop"',
    );
    expect(await call([], schema, { signal: {} })).toContain("CONFIG_INVALID: signal must be an AbortSignal");
    expect(await call([], schema, 5)).toContain("CONFIG_INVALID: options must be an object");
  });

  test("R-62 every type that a Schema can name is filled, or refused by its column before a row is read", async () => {
    const field = (name: string, type: DataType): Field => new Field(name, type, true);
    const entries = (key: DataType, value: DataType): DataType =>
      new Map_(
        new Field(
          "entries",
          new Struct([new Field("key", key, false), field("value", value)]),
          false,
        ) as never,
      );
    const text = new Utf8();
    const numbered = (values: DataType): DataType => new Dictionary(values, new Int32());
    const never: (readonly [path: string, type: DataType, why: string])[] = [];
    for (const union of [
      new SparseUnion([0, 1], [field("a", new Int8()), field("b", text)]),
      new DenseUnion([0, 1], [field("a", new Int8()), field("b", text)]),
    ] as DataType[]) {
      const why = "is of type Union<Int8 | Utf8>, and rows do not say what a value of a union is";
      never.push(
        ["c", union, why],
        ["c[]", new List(field("item", union)), why],
        ["c[]", new LargeList(field("item", union)), why],
        ["c[]", new FixedSizeList(2, field("item", union)), why],
        ['c["x y"]', new Struct([field("x y", union)]), why],
        ["c[].key", entries(union, text), why],
        ["c[].value", entries(text, union), why],
        ["c", numbered(union), why],
        ["c[].m[]", new List(field("item", new Struct([field("m", new List(field("item", union)))]))), why],
      );
    }
    const nested = "is a dictionary of a dictionary, which Arrow's messages do not have";
    never.push(
      ["c", numbered(numbered(text)), nested],
      ["c[]", new List(field("item", numbered(numbered(text)))), nested],
    );
    await using client = await connect("discard:");
    const throwing = new Proxy({}, { get: () => expect.unreachable("a row was read") });
    for (const [path, type, why] of never) {
      const schema = new Schema([field("id", new Int8()), field("c", type)]);
      const refused = { code: "SCHEMA_MISMATCH", field: path, message: `column ${path} ${why}` };
      await expect(tableFromRows([throwing], schema)).rejects.toMatchObject(refused);
      await expect(client.send([{ id: 1 }], { schema })).rejects.toMatchObject(refused);
      // Not at the first row.
      expect(() => client.rows(schema)).toThrow(expect.objectContaining(refused));
    }
    // Of a later version of the library, or of none.
    for (const type of [{ typeId: 22, children: [] }, { typeId: 0 }]) {
      const inner = { name: "item", type, nullable: true, metadata: new Map() };
      const list = { typeId: 12, children: [inner] };
      const schema = {
        fields: [{ name: "l", type: list, nullable: true, metadata: new Map() }],
        metadata: new Map(),
      };
      const message = `t.fromArrow: column l.item is of apache-arrow's type ${type.typeId}, which is not known here`;
      const refused = { code: "CONFIG_INVALID", message };
      await expect(tableFromRows([{}], schema as never)).rejects.toMatchObject(refused);
      expect(() => t.fromArrow(schema as never)).toThrow(expect.objectContaining(refused));
    }
    // What the notation does not name, and rows fill: other decimals.
    const others = new Schema([
      field("d32", new Decimal(2, 9, 32)),
      field("d64", new Decimal(2, 18, 64)),
      field("hundreds", new Decimal(-2, 9, 128)),
      field("nothing", numbered(new Null())),
    ]);
    const row = { d32: "1.25", d64: "-12345678901234.56", hundreds: 1_200, nothing: null };
    const { rejections, rows } = encode(t.fromArrow(others), [row]);
    expect(rejections).toEqual([]);
    expect(rows).toEqual([{ d32: 125n, d64: -1_234_567_890_123_456n, hundreds: 12n, nothing: null }]);
    expect(await client.send([row], { schema: others })).toMatchObject({ status: "acknowledged", rows: 1 });
  });
});

describe("R-61 inferSchema", () => {
  const of = (...rows: object[]): string => String(inferSchema(rows));

  test("one type for each kind of value, and nothing guessed from text", () => {
    const temporal = (name: string): object => ({ [Symbol.toStringTag]: `Temporal.${name}` });
    const text = of({
      flag: true,
      int: 5,
      float: 1.5,
      nan: Number.NaN,
      unsafe: 2 ** 60,
      big: 5n,
      unsigned: 2n ** 63n,
      huge: 10n ** 30n,
      text: "2026-11-29",
      at: new Date(),
      bytes: Buffer.from("a"),
      view: new DataView(new ArrayBuffer(1)),
      list: [1, null],
      none: [],
      typed: new Float64Array([0.5]),
      map: new Map([["a", 1]]),
      emptyMap: new Map(),
      object: { "a b": 1, __proto__: null },
      nothing: null,
      instant: temporal("Instant"),
      zoned: temporal("ZonedDateTime"),
      day: temporal("PlainDate"),
      clock: temporal("PlainTime"),
      wall: temporal("PlainDateTime"),
      span: temporal("Duration"),
    });
    expect(text).toBe(`t.schema({
  flag: t.bool(),
  int: t.int64(),
  float: t.float64(),
  nan: t.float64(),
  unsafe: t.float64(),
  big: t.int64(),
  unsigned: t.uint64(),
  huge: t.decimal(38, 0),
  text: t.utf8(),
  at: t.timestamp("ms", "UTC"),
  bytes: t.binary(),
  view: t.binary(),
  list: t.list(t.int64().nullable()),
  none: t.list(t.null()),
  typed: t.list(t.float64()),
  map: t.map(t.utf8(), t.int64()),
  emptyMap: t.map(t.utf8(), t.null()),
  object: t.struct({
    "a b": t.int64(),
  }),
  nothing: t.null(),
  instant: t.timestamp("ns", "UTC"),
  zoned: t.timestamp("ns", "UTC"),
  day: t.date(),
  clock: t.time("ns"),
  wall: t.timestamp("ns"),
  span: t.interval("month-day-nano"),
})`);
  });

  test("rows are taken together: nullable where a key is missing or null, floats where one is a fraction", () => {
    expect(
      of({ a: 1, s: { x: 1, y: null } }, { a: 0.5, b: null, s: { x: 2 } }, { a: 1, b: "t" }),
    ).toBe(`t.schema({
  a: t.float64(),
  s: t.struct({
    x: t.int64(),
    y: t.null(),
  }).nullable(),
  b: t.utf8().nullable(),
})`);
    expect(of({ a: [{ x: 1 }, {}] }, { a: [{ x: 2n ** 63n }] })).toContain("x: t.uint64().nullable()");
  });

  test("the rows that it was made of fit it", async () => {
    const rows = [
      {
        a: 1,
        b: [1n, null],
        c: { d: new Date(0) },
        e: new Map([["k", { f: true }]]),
        "1": "index",
        __proto__: null,
      },
      { a: 0.5, b: [], c: { d: new Date(1), x: null }, e: new Map() },
    ];
    const schema = inferSchema(rows);
    const { rejections, table } = await tableFromRows(rows as never, schema);
    expect([rejections, table.numRows]).toEqual([[], 2]);
  });

  test("where no type takes all values, the two rows are named", () => {
    const why = (...rows: unknown[]): string => {
      try {
        return String(inferSchema(rows as object[]));
      } catch (error) {
        expect((error as IngestError).code).toBe("BATCH_INVALID");
        return (error as IngestError).message.replace("no schema can be inferred: ", "");
      }
    };
    expect(why({ a: 1 }, {}, { a: "1" })).toBe("a is a number in row 0 and text in row 2");
    expect(why({ a: { b: [1, true] } })).toBe("a.b[] is a number in row 0 and true or false in row 0");
    expect(why({ a: 5n }, { a: 0.5 })).toBe("a is a bigint in row 0 and a fraction in row 1");
    expect(
      why({
        a: new Map<unknown, unknown>([
          ["a", 1],
          [2, 1],
        ]),
      }),
    ).toContain("a[].key is text in row 0 and a number");
    expect(why({ a: new Map([[null, 1]]) })).toBe("a has a key that is null");
    expect(why({ a: Symbol("s") })).toBe("a is a symbol in row 0, which no column holds");
    expect(why({ a: new Set() })).toBe("a is a Set in row 0, which no column holds");
    expect(why({ a: 10n ** 40n })).toBe("a holds bigints of more than 38 digits");
    expect(why()).toBe("there are no rows to look at");
    expect(why({}, 5)).toBe("row 1 is the number 5 and no object with keys");
    const itself: Record<string, unknown> = {};
    itself.a = itself;
    expect(why(itself)).toContain("lies deeper than 32");
    const thrown = Object.defineProperty({}, "a", {
      enumerable: true,
      get: () => Math.floor(Number(Symbol())),
    });
    expect(why(thrown)).toBe("reading row 0 threw");
    expect(codeOf(() => inferSchema({} as never))).toBe("BATCH_INVALID");
  });

  test("no more than 1,000 rows and 1,000 items of each list are looked at", () => {
    const rows: object[] = Array.from({ length: 1_000 }, () => ({ a: 1, l: [] }));
    rows.push({ a: "text", l: [] });
    const l = new Array<unknown>(1_000).fill(1);
    expect(of(...rows)).toContain("a: t.int64()");
    expect(of({ l: [...l, "text"] })).toContain("l: t.list(t.int64())");
    const map = new Map<unknown, unknown>(l.map((_, index) => [index, 1]));
    expect(of({ m: map.set("text", 1) })).toContain("m: t.map(t.int64(), t.int64())");
  });
});
