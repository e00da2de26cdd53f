// R-60 R-62: rows of generated schemas, encoded here, are what pyarrow makes of the same values: as they come, and after
// they went through a Delta table and a Flight server.
import { spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { type Dictionary, type Field, type Struct, type Table, tableToIPC } from "apache-arrow";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type AnyColumn, connect, type RowSchema, t, tableFromRows } from "../../dist/index.js";
import { member } from "../../dist/schema/path.js";
import { encode } from "../ts/support/rows.js";
import { base64, describeWith, Peer, PYTHON } from "./support/peer.js";

/** A value as a program has it, and what Python makes the same of. */
interface Value {
  readonly js: unknown;
  readonly tag: unknown;
}

interface Kind {
  readonly type: AnyColumn;
  readonly values: fc.Arbitrary<Value>;
  /** Whether a Delta table holds the type as it is. */
  readonly delta: boolean;
}

const kind = (type: AnyColumn, values: fc.Arbitrary<Value>, delta = true): Kind => ({ type, values, delta });

const integer = (bits: number, signed: boolean): Kind => {
  const name = `${signed ? "int" : "uint"}${bits}` as "int8";
  const big = signed
    ? fc.bigInt({ min: -(2n ** BigInt(bits - 1)), max: 2n ** BigInt(bits - 1) - 1n })
    : fc.bigInt({ min: 0n, max: 2n ** BigInt(bits) - 1n });
  const value = fc.tuple(big, fc.boolean()).map(([value, asNumber]) => ({
    js: asNumber && Number.isSafeInteger(Number(value)) ? Number(value) : value,
    tag: String(value),
  }));
  return kind(t[name](), value, signed);
};

const double = (finite: { min?: number; max?: number }): fc.Arbitrary<Value> =>
  fc
    .double({ noNaN: true, noDefaultInfinity: true, ...finite })
    .map((js) => ({ js, tag: Object.is(js, -0) ? "-0.0" : String(js) }));

const text = fc.oneof(
  fc.string({ unit: "binary", maxLength: 20 }).filter((value) => !/\p{Surrogate}/u.test(value)),
  fc.string({ unit: "grapheme", maxLength: 40 }),
  fc.string({ maxLength: 20 }),
);
const string = text.map((value): Value => ({ js: value, tag: value }));
const bytes = fc
  .uint8Array({ maxLength: 20 })
  .map((js): Value => ({ js, tag: Buffer.from(js).toString("base64") }));

const decimal = (precision: number, scale: number, bits: 128 | 256): Kind => {
  const most = 10n ** BigInt(precision) - 1n;
  const value = fc.bigInt({ min: -most, max: most }).map((units): Value => {
    const digits = String(units < 0n ? -units : units).padStart(scale + 1, "0");
    const cut = digits.length - scale;
    const tag = `${units < 0n ? "-" : ""}${digits.slice(0, cut)}${scale === 0 ? "" : `.${digits.slice(cut)}`}`;
    return { js: tag, tag };
  });
  return kind(t.decimal(precision, scale, bits), value, bits === 128);
};

/** Of the years that Python and Delta know. */
const instant = fc.integer({ min: -62_135_596_800, max: 253_402_300_799 });
const recent = fc.integer({ min: -9_223_372_000, max: 9_223_372_000 });
const DIGITS = { s: 0, ms: 3, us: 6, ns: 9 } as const;
type Unit = keyof typeof DIGITS;
const UNITS = Object.keys(DIGITS) as Unit[];

const fraction = (unit: Unit): fc.Arbitrary<string> =>
  DIGITS[unit] === 0
    ? fc.constant("")
    : fc
        .integer({ min: 0, max: 10 ** DIGITS[unit] - 1 })
        .map((part) => String(part).padStart(DIGITS[unit], "0"));

const pad = (value: number): string => String(value).padStart(2, "0");

function timestamp(unit: Unit, zone: boolean): Kind {
  const value = fc
    .tuple(unit === "ns" ? recent : instant, fraction(unit), fc.integer({ min: -839, max: 839 }), fc.nat(2))
    .map(([seconds, part, minutes, form]): Value => {
      const offset = zone && form === 1 ? minutes : 0;
      // What clocks there show; within the years, which end at 9999.
      const local = new Date((seconds + offset * 60) * 1_000).toISOString();
      if (local.length > 24) return { js: new Date(0), tag: ["1970-01-01T00:00:00", 0] };
      const size = Math.abs(offset);
      const where = !zone
        ? ""
        : form === 1
          ? `${offset < 0 ? "-" : "+"}${pad(Math.floor(size / 60))}:${pad(size % 60)}`
          : "Z";
      const text = local.slice(0, 19);
      const tag = [`${text}${where.replace("Z", "+00:00")}`, Number(part.padEnd(9, "0"))];
      if (form === 2 && Number(part) === 0) return { js: new Date(seconds * 1_000), tag };
      return { js: `${text}${part === "" ? "" : `.${part}`}${where}`, tag };
    });
  return kind(zone ? t.timestamp(unit, "UTC") : t.timestamp(unit), value, unit === "us");
}

const day = instant.map((seconds): Value => {
  const tag = new Date(seconds * 1_000).toISOString().slice(0, 10);
  return { js: seconds % 2 === 0 ? tag : new Date(tag), tag };
});

const time = (unit: Unit): Kind => {
  const value = fc.tuple(fc.nat(86_399), fraction(unit)).map(([seconds, part]): Value => {
    const text = new Date(seconds * 1_000).toISOString().slice(11, 19);
    return { js: `${text}${part === "" ? "" : `.${part}`}`, tag: [text, Number(part.padEnd(9, "0"))] };
  });
  return kind(t.time(unit), value, false);
};

const count = fc
  .bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
  .map((js): Value => ({ js, tag: String(js) }));
const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const interval = fc.tuple(int32, int32, fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })).map(
  ([months, days, nanoseconds]): Value => ({
    js: { months, days, nanoseconds },
    tag: [String(months), String(days), String(nanoseconds)],
  }),
);

const LEAVES: Kind[] = [
  ...[8, 16, 32, 64].flatMap((bits) => [integer(bits, true), integer(bits, false)]),
  kind(
    t.bool(),
    fc.boolean().map((js) => ({ js, tag: js })),
  ),
  kind(t.float64(), double({})),
  kind(t.float32(), double({ min: -3.4e38, max: 3.4e38 })),
  kind(t.float16(), double({ min: -65_000, max: 65_000 }), false),
  decimal(9, 2, 128),
  decimal(38, 0, 128),
  decimal(38, 20, 128),
  decimal(76, 30, 256),
  kind(t.utf8(), string),
  kind(t.largeUtf8(), string),
  kind(t.utf8View(), string, false),
  kind(t.binary(), bytes),
  kind(t.largeBinary(), bytes),
  kind(t.binaryView(), bytes, false),
  kind(
    t.fixedSizeBinary(16),
    fc.uuid().map((js) => ({ js, tag: Buffer.from(js.replaceAll("-", ""), "hex").toString("base64") })),
    false,
  ),
  kind(t.date(), day),
  kind(t.date("ms"), day, false),
  ...UNITS.flatMap((unit) => [
    timestamp(unit, true),
    timestamp(unit, false),
    time(unit),
    kind(t.duration(unit), count, false),
  ]),
  kind(t.interval("month-day-nano"), interval, false),
];

/** Null now and then, where it may be. */
function orNull({ type, values, delta }: Kind, isNullable: boolean): Kind {
  if (!isNullable) return { type, values, delta };
  const none = fc.constantFrom<Value>({ js: null, tag: null }, { js: undefined, tag: null });
  return {
    type: type.nullable(),
    values: fc.oneof({ weight: 3, arbitrary: values }, { weight: 1, arbitrary: none }),
    delta,
  };
}

const lists = (items: fc.Arbitrary<Value[]>): fc.Arbitrary<Value> =>
  items.map((values) => ({ js: values.map(({ js }) => js), tag: values.map(({ tag }) => tag) }));

const NAMES = ["a", "b c", "", "constructor", "__proto__", "ünï", 'q"', "7"];

function object(names: readonly string[], values: readonly Value[], of: "js" | "tag"): object {
  const entries = names.map((name, index) => [name, values[index]![of]] as const);
  // A key that is undefined may as well be missing.
  return Object.fromEntries(of === "js" ? entries.filter(([, value]) => value !== undefined) : entries);
}

const { any } = fc.letrec<{ any: Kind; nested: Kind }>((tie) => ({
  any: fc
    .tuple(
      fc.oneof({ maxDepth: 3, depthSize: "small" }, fc.constantFrom(...LEAVES), tie("nested")),
      fc.boolean(),
    )
    .map(([kind, isNullable]) => orNull(kind as Kind, isNullable)),
  nested: fc.oneof(
    fc.tuple(tie("any"), fc.nat(2)).map(([item, way]) => {
      const { type, values, delta } = item as Kind;
      if (way === 0) return kind(t.list(type), lists(fc.array(values, { maxLength: 4 })), delta);
      if (way === 1) return kind(t.largeList(type), lists(fc.array(values, { maxLength: 4 })), delta);
      return kind(t.fixedSizeList(2, type), lists(fc.array(values, { minLength: 2, maxLength: 2 })), false);
    }),
    fc
      .tuple(fc.array(tie("any"), { minLength: 1, maxLength: 3 }), fc.subarray(NAMES, { minLength: 3 }))
      .map(([members, names]) => {
        const kinds = members as Kind[];
        const used = names.slice(0, kinds.length);
        const type = t.struct(used.map((name, index) => [name, kinds[index]!.type] as const));
        const values = fc.tuple(...kinds.map(({ values }) => values)).map(
          (values): Value => ({
            js: object(used, values, "js"),
            tag: object(used, values, "tag"),
          }),
        );
        return kind(type, values, false);
      }),
    tie("any").map((value) => {
      const { type, values, delta } = value as Kind;
      const entries = fc.uniqueArray(fc.tuple(text, values), { maxLength: 3, selector: ([key]) => key }).map(
        (entries): Value => ({
          js: new Map(entries.map(([key, { js }]) => [key, js])),
          tag: entries.map(([key, { tag }]) => [key, tag]),
        }),
      );
      return kind(t.map(t.utf8(), type), entries, delta);
    }),
    fc.constantFrom(t.int8(), t.uint16(), t.int32()).map((keys) => {
      const few = fc
        .constantFrom("", "a", "é", "🎉", "much longer than twelve")
        .map((value): Value => ({ js: value, tag: value }));
      return kind(t.dictionary(t.utf8(), keys), few, false);
    }),
  ),
}));

interface Generated {
  readonly schema: RowSchema;
  readonly types: readonly AnyColumn[];
  readonly rows: object[];
  readonly tags: object[];
  readonly names: readonly string[];
}

const generatedBy = (kinds: fc.Arbitrary<Kind>, pool: readonly string[]): fc.Arbitrary<Generated> =>
  fc
    .tuple(fc.array(kinds, { minLength: 1, maxLength: 5 }), fc.subarray([...pool], { minLength: 5 }))
    .chain(([kinds, names]) => {
      const used = names.slice(0, kinds.length);
      const schema = t.schema(used.map((name, index) => [name, kinds[index]!.type] as const));
      return fc.array(fc.tuple(...kinds.map(({ values }) => values)), { maxLength: 30 }).map((rows) => ({
        schema,
        types: kinds.map(({ type }) => type),
        names: used,
        rows: rows.map((values) => object(used, values, "js")),
        tags: rows.map((values) => object(used, values, "tag")),
      }));
    });

const generated = generatedBy(any as fc.Arbitrary<Kind>, NAMES);
const SEED = 20_261_130;
const RUNS = Number(process.env.GENERATED_RUNS ?? 300);

test("R-62 compiled loops and closures make the same of generated rows, and take all of them", () => {
  const property = fc.property(generated, ({ schema, rows }) => {
    const [compiled, closures] = [true, false].map((compile) => encode(schema, rows, { compile }));
    expect(compiled!.rejections).toEqual([]);
    expect(compiled!.rows.length).toBe(rows.length);
    expect([closures!.rejections, closures!.rows]).toEqual([[], compiled!.rows]);
  });
  fc.assert(property, { numRuns: RUNS, seed: SEED });
}, 120_000);

test("R-62 wrong rows among generated ones are refused by their path, and change no other", () => {
  const wrong = fc.tuple(generated, fc.infiniteStream(fc.nat(3)), fc.boolean());
  const property = fc.property(wrong, ([{ schema, rows, names }, dice, compile]) => {
    const mixed: object[] = [];
    const places: [number, string][] = [];
    for (const row of rows) {
      // A value that no type takes.
      if (dice.next().value === 0) {
        places.push([mixed.length, names[names.length - 1]!]);
        mixed.push({ ...row, [names[names.length - 1]!]: Symbol("wrong") });
      }
      mixed.push(row);
    }
    // In the last column, so that all others have read the row before it is refused.
    const found = encode(schema, mixed, { compile });
    const only = encode(schema, rows, { compile });
    expect(found.rejections.map(({ row, code }) => [row, code])).toEqual(
      places.map(([row]) => [row, "VALUE_TYPE"]),
    );
    for (const [index, [, name]] of places.entries())
      expect(found.rejections[index]!.path).toBe(
        /^[\p{L}_]+$/u.test(name) ? name : `[${JSON.stringify(name)}]`,
      );
    expect(found.rows).toEqual(only.rows);
  });
  fc.assert(property, { numRuns: RUNS, seed: SEED });
}, 120_000);

/** What no value of that type is, whatever its width or unit. */
const WRONG: Readonly<Record<number, readonly unknown[]>> = {
  2: [0.5, Number.NaN, "1", true, 2n ** 70n, -(2n ** 70n), {}],
  3: ["1.5", true, new Date(0), []],
  4: ["text", 5, [1, 2]],
  5: [5, "\ud800", {}, true],
  6: [0, "true", 1n],
  7: ["1,5", "", Number.NaN, 10n ** 80n, true],
  8: ["2026-02-30", "today", new Date(Number.NaN), 0.5],
  9: ["24:00:00", "noon", -1, 0.5],
  10: ["2026-13-01T00:00:00Z", "now", new Date(Number.NaN), 0.5],
  11: ["P", "1 day", 0.5],
  12: [5, "items", { 0: 1 }, new Set()],
  13: [5, "members", [], new Map()],
  15: [new Uint8Array(15), "no uuid", 5],
  16: [[], [1, 2, 3], 5],
  17: [5, [["key"]], new Set()],
  18: ["PT", "1s", 0.5],
};

interface Dice {
  next(most: number): number;
}

/** A value with something wrong in it, and the path of that. */
function spoiled(field: Field, value: unknown, path: string, dice: Dice): { value: unknown; path: string } {
  const type = field.type.typeId === -1 ? (field.type as Dictionary).dictionary : field.type;
  const { children } = type;
  const deeper = value !== null && value !== undefined && dice.next(3) > 0;
  if (deeper && Array.isArray(value) && value.length > 0) {
    const at = dice.next(value.length - 1);
    const item = spoiled(children[0]!, value[at], `${path}[${at}]`, dice);
    return { ...item, value: value.with(at, item.value) };
  }
  if (deeper && value instanceof Map && value.size > 0) {
    const at = dice.next(value.size - 1);
    const entries = [...value] as [unknown, unknown][];
    const [, valueField] = (children[0] as Field<Struct>).type.children as [Field, Field];
    const inner = spoiled(valueField, entries[at]![1], `${path}[${at}].value`, dice);
    entries[at] = [entries[at]![0], inner.value];
    return { ...inner, value: new Map(entries) };
  }
  if (deeper && type.typeId === 13) {
    const part = children[dice.next(children.length - 1)] as Field;
    const own = Object.getOwnPropertyDescriptor(value, part.name)?.value as unknown;
    const inner = spoiled(part, own, member(path, part.name), dice);
    const entries = Object.entries(value as object).filter(([name]) => name !== part.name);
    return { ...inner, value: Object.fromEntries([...entries, [part.name, inner.value]]) };
  }
  const same = { 19: 4, 20: 5, 21: 12, 23: 4, 24: 5 } as Record<number, number>;
  const wrong = [Symbol("wrong"), () => 1, new WeakMap(), ...(WRONG[same[type.typeId] ?? type.typeId] ?? [])];
  if (!field.nullable) wrong.push(null, undefined);
  return { value: wrong[dice.next(wrong.length - 1)], path };
}

test("R-62 ten thousand rows of wrong values are refused, each by the path of what is wrong in it", () => {
  let count = 0;
  const property = fc.property(generated, fc.infiniteStream(fc.nat()), ({ schema, rows }, numbers) => {
    const dice: Dice = { next: (most) => (numbers.next().value as number) % (most + 1) };
    const places: string[] = [];
    const wrong = rows.flatMap((row) =>
      Array.from({ length: 8 }, () => {
        const field = schema.fields[dice.next(schema.fields.length - 1)]!;
        const own = Object.getOwnPropertyDescriptor(row, field.name)?.value as unknown;
        const { value, path } = spoiled(field, own, member("", field.name), dice);
        places.push(path);
        const entries = Object.entries(row).filter(([name]) => name !== field.name);
        return Object.fromEntries([...entries, [field.name, value]]);
      }),
    );
    const { rejections, rows: left } = encode(schema, wrong, { compile: dice.next(1) === 0 });
    expect(rejections.map(({ row, path }) => [row, path])).toEqual(places.map((path, row) => [row, path]));
    expect(left).toEqual([]);
    count += wrong.length;
  });
  fc.assert(property, { numRuns: RUNS, seed: SEED });
  if (RUNS >= 300) expect(count).toBeGreaterThan(10_000);
}, 120_000);

/** In one batch: of a table of several, the library writes dictionaries of each as changes. */
const stream = (table: Table): string => base64(tableToIPC(table, "stream"));

describeWith(PYTHON, "R-60 R-62 as pyarrow makes the same rows", () => {
  test("every value is equal", async () => {
    await using peer = await Peer.start();
    const cases: { stream: string; rows: object[]; schema: string }[] = [];
    for (const { schema, rows, tags } of fc.sample(generated, { numRuns: 400, seed: SEED })) {
      const { table, rejections } = await tableFromRows(rows as never, schema);
      expect(rejections).toEqual([]);
      cases.push({ stream: stream(table), rows: tags, schema: String(schema) });
    }
    const answers = await peer.ask<(string | null)[]>("rows_compare", { cases });
    expect(
      answers.flatMap((answer, index) => (answer === null ? [] : [`${cases[index]!.schema}: ${answer}`])),
    ).toEqual([]);
  }, 120_000);

  test("through a Delta table, too", async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "rows-delta-"));
    try {
      await using peer = await Peer.start();
      const held = LEAVES.filter(({ delta }) => delta).flatMap((leaf) => [
        orNull(leaf, true),
        kind(t.list(leaf.type), lists(fc.array(leaf.values, { maxLength: 3 }))),
      ]);
      const plain = generatedBy(fc.constantFrom(...held), ["a", "b", "c", "d", "e"]);
      for (const [index, { types, rows, tags, names }] of fc
        .sample(plain, { numRuns: 15, seed: SEED })
        .entries()) {
        const columns = names.map((name, at) => [name, types[at]!] as const);
        const numbered = t.schema([["row", t.int64()], ...columns]);
        const numberOf = <Row extends object>(row: Row, number: number): object => ({ ...row, row: number });
        const { table, rejections } = await tableFromRows(rows.map(numberOf) as never, numbered);
        expect(rejections).toEqual([]);
        const target = path.join(folder, String(index));
        await using client = await connect(`delta:${target}`, { schema: numbered });
        expect((await client.send(table)).orThrow().rows).toBe(rows.length);
        const sent = stream(table);
        const numberedTags = tags.map((row, number) => ({ ...row, row: String(number) }));
        const request = { cases: [{ stream: sent, rows: numberedTags }] };
        expect(await peer.ask("rows_compare", request), String(numbered)).toEqual([null]);
        const answers = await peer.ask<object>("delta_equal", {
          path: target,
          expected: [sent],
          order_by: "row",
        });
        expect(
          Object.values(answers).filter((answer) => answer !== null),
          String(numbered),
        ).toEqual([]);
      }
    } finally {
      fs.rmSync(folder, { recursive: true, force: true });
    }
  }, 120_000);

  test("through a Flight server, too", async () => {
    const server = spawn(PYTHON, [path.join(import.meta.dirname, "flight_server.py"), "--answers", "part"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "rows-flight-"));
    try {
      const [line] = (await once(createInterface({ input: server.stdout }), "line")) as [string];
      const location = `grpc://127.0.0.1:${line.trim()}`;
      await using peer = await Peer.start();
      // What a server does not know may be sent as something else: flight.test.ts has those.
      const plain = generatedBy(fc.constantFrom(...LEAVES.filter(({ delta }) => delta)), [
        "a",
        "b",
        "c",
        "d",
        "e",
      ]);
      let compared = 0;
      for (const [index, { schema, rows, tags }] of fc.sample(plain, { numRuns: 20, seed: SEED }).entries()) {
        if (rows.length === 0) continue;
        const { table } = await tableFromRows(rows as never, schema);
        await using client = await connect(`${location}/rows/${index}`, {
          flight: { acknowledgement: "stream" },
        });
        expect((await client.send(table)).orThrow().rows).toBe(rows.length);
        const file = path.join(folder, String(index));
        fs.writeFileSync(file, tableToIPC(table, "stream"));
        expect(await peer.ask("rows_compare", { cases: [{ stream: stream(table), rows: tags }] })).toEqual([
          null,
        ]);
        const request = { location, action: "compare", body: `rows/${index}\n${file}` };
        expect(await peer.ask("flight_act", request), String(schema)).toEqual(["equal"]);
        compared++;
      }
      expect(compared).toBeGreaterThan(10);
    } finally {
      server.kill();
      fs.rmSync(folder, { recursive: true, force: true });
    }
  }, 120_000);
});
