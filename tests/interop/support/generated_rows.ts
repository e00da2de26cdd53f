// Rows of generated schemas: each value as a program has it, in one of the forms that its type takes, and beside it what
// Python makes the same of (`rows_peer.py`). Every word of the notation occurs.
import fc from "fast-check";
import { type AnyColumn, type RowSchema, t } from "../../../dist/index.js";

/** A value as a program has it, and what Python makes the same of. */
export interface Value {
  readonly js: unknown;
  readonly tag: unknown;
}

export interface Kind {
  readonly type: AnyColumn;
  readonly values: fc.Arbitrary<Value>;
  /** Whether a Delta table holds every value of it. */
  readonly delta: boolean;
}

export const kind = (type: AnyColumn, values: fc.Arbitrary<Value>, delta = true): Kind => ({
  type,
  values,
  delta,
});

const forms = (...js: unknown[]): fc.Arbitrary<unknown> => fc.constantFrom(...js);

/** One of several forms of the same value. */
const formsOf = (values: fc.Arbitrary<{ forms: readonly unknown[]; tag: unknown }>): fc.Arbitrary<Value> =>
  values.chain(({ forms: all, tag }) => forms(...all).map((js) => ({ js, tag })));

/** As an object of `Temporal` looks from outside. */
const temporal = (name: string, text: string, more: object = {}): object => ({
  [Symbol.toStringTag]: `Temporal.${name}`,
  toString: () => text,
  ...more,
});

const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
/** The value as a number, where that is exact. */
const numbers = (value: bigint): number[] => (Number.isSafeInteger(Number(value)) ? [Number(value)] : []);

function integer(bits: number, signed: boolean): Kind {
  const name = `${signed ? "int" : "uint"}${bits}` as "int8";
  const big = signed
    ? fc.bigInt({ min: -(2n ** BigInt(bits - 1)), max: 2n ** BigInt(bits - 1) - 1n })
    : fc.bigInt({ min: 0n, max: 2n ** BigInt(bits) - 1n });
  const value = big.map((value) => ({ forms: [value, ...numbers(value)], tag: String(value) }));
  return kind(t[name](), formsOf(value), signed);
}

const double = (finite: fc.DoubleConstraints): fc.Arbitrary<Value> =>
  fc.double(finite).map((js) => ({ js, tag: Object.is(js, -0) ? "-0.0" : String(js) }));
const within = (most: number): fc.DoubleConstraints => ({
  min: -most,
  max: most,
  noDefaultInfinity: true,
});

export const text = fc.oneof(
  fc.string({ unit: "binary", maxLength: 20 }).filter((value) => !/\p{Surrogate}/u.test(value)),
  fc.string({ unit: "grapheme", maxLength: 40 }),
  fc.string({ maxLength: 20 }),
);
const string = text.map((value): Value => ({ js: value, tag: value }));

const bytesOf = (bytes: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Value> =>
  formsOf(
    bytes.map((bytes) => {
      const padded = Uint8Array.of(9, ...bytes, 9);
      const { buffer } = Uint8Array.from(bytes);
      return {
        forms: [bytes, padded.subarray(1, -1), Buffer.from(bytes), buffer, new DataView(buffer)],
        tag: Buffer.from(bytes).toString("base64"),
      };
    }),
  );
const bytes = bytesOf(fc.uint8Array({ maxLength: 20 }));
const exactly = (length: number): fc.Arbitrary<Value> =>
  bytesOf(fc.uint8Array({ minLength: length, maxLength: length }));
const uuid = fc
  .uuid()
  .map((js): Value => ({ js, tag: Buffer.from(js.replaceAll("-", ""), "hex").toString("base64") }));

function decimal(precision: number, scale: number, bits: 128 | 256): Kind {
  const most = 10n ** BigInt(precision) - 1n;
  const value = fc.bigInt({ min: -most, max: most }).map((units) => {
    const digits = String(units < 0n ? -units : units).padStart(scale + 1, "0");
    const cut = digits.length - scale;
    const tag = `${units < 0n ? "-" : ""}${digits.slice(0, cut)}${scale === 0 ? "" : `.${digits.slice(cut)}`}`;
    // Fifteen digits come back from a double as they went in.
    const few = digits.length <= 15 ? [Number(tag)] : [];
    return { forms: [tag, `${units}e-${scale}`, ...few, ...(scale === 0 ? [units] : [])], tag };
  });
  return kind(t.decimal(precision, scale, bits), formsOf(value), precision <= 38);
}

/** Of the years that Python and Delta know. */
const instant = fc.integer({ min: -62_135_596_800, max: 253_402_300_799 });
const recent = fc.integer({ min: -9_223_372_000, max: 9_223_372_000 });
const DIGITS = { s: 0, ms: 3, us: 6, ns: 9 } as const;
type Unit = keyof typeof DIGITS;
const UNITS = Object.keys(DIGITS) as Unit[];

const fraction = (digits: number): fc.Arbitrary<string> =>
  digits === 0
    ? fc.constant("")
    : fc.integer({ min: 0, max: 10 ** digits - 1 }).map((part) => String(part).padStart(digits, "0"));

const pad = (value: number): string => String(value).padStart(2, "0");
const nanosOf = (part: string): number => Number(part.padEnd(9, "0"));
const countOf = (unit: Unit, seconds: number, part: string): bigint =>
  BigInt(seconds) * 10n ** BigInt(DIGITS[unit]) + BigInt(part.padEnd(9, "0").slice(0, DIGITS[unit]) || 0);

/** @param digits After the second, where fewer are given than the unit holds. */
function timestamp(unit: Unit, zone?: string, digits: number = DIGITS[unit]): Kind {
  const value = fc
    .tuple(unit === "ns" ? recent : instant, fraction(digits), fc.integer({ min: -839, max: 839 }))
    .map(([seconds, part, minutes]) => {
      const tail = part === "" ? "" : `.${part}`;
      const utc = new Date(seconds * 1_000).toISOString().slice(0, 19);
      const count = countOf(unit, seconds, part);
      const epochNanoseconds = countOf("ns", seconds, part);
      const all: unknown[] = [count, ...numbers(count)];
      if (nanosOf(part) % 1_000_000 === 0)
        all.push(new Date(seconds * 1_000 + Number(part.padEnd(3, "0").slice(0, 3))));
      if (zone === undefined)
        all.push(utc + tail, utc.replace("T", " ") + tail, temporal("PlainDateTime", utc + tail));
      else all.push(`${utc}${tail}Z`, temporal("Instant", "", { epochNanoseconds }));
      // What clocks there show; within the years, which end at 9999.
      const local = new Date((seconds + minutes * 60) * 1_000).toISOString();
      const size = Math.abs(minutes);
      const offset = `${minutes < 0 ? "-" : "+"}${pad(Math.floor(size / 60))}:${pad(size % 60)}`;
      if (zone !== undefined && local.length === 24) all.push(`${local.slice(0, 19)}${tail}${offset}`);
      return { forms: all, tag: [utc, nanosOf(part)] };
    });
  const type = zone === undefined ? t.timestamp(unit) : t.timestamp(unit, zone);
  return kind(type, formsOf(value), digits < 9);
}

function day(unit: "day" | "ms"): Kind {
  const value = instant.map((seconds) => {
    const tag = new Date(seconds * 1_000).toISOString().slice(0, 10);
    const count = Date.parse(tag) / (unit === "day" ? 86_400_000 : 1);
    return { forms: [tag, new Date(tag), temporal("PlainDate", tag), count, BigInt(count)], tag };
  });
  return kind(t.date(unit), formsOf(value));
}

function time(unit: Unit): Kind {
  const value = fc.tuple(fc.nat(86_399), fraction(DIGITS[unit])).map(([seconds, part]) => {
    const whole = new Date(seconds * 1_000).toISOString().slice(11, 19);
    const said = `${whole}${part === "" ? "" : `.${part}`}`;
    const count = countOf(unit, seconds, part);
    return { forms: [said, temporal("PlainTime", said), Number(count), count], tag: [whole, nanosOf(part)] };
  });
  return kind(t.time(unit), formsOf(value), false);
}

function duration(unit: Unit): Kind {
  const digits = DIGITS[unit];
  const value = int64.map((count) => {
    const units = String(count < 0n ? -count : count).padStart(digits + 1, "0");
    const cut = units.length - digits;
    const seconds = `${units.slice(0, cut)}${digits === 0 ? "" : `.${units.slice(cut)}`}`;
    const said = `${count < 0n ? "-" : ""}PT${seconds}S`;
    // Longer texts of seconds are none.
    const said18 = cut <= 18 ? [said, temporal("Duration", said)] : [];
    return { forms: [count, ...numbers(count), ...said18], tag: String(count) };
  });
  return kind(t.duration(unit), formsOf(value), false);
}

const months = int32.map((count) => ({
  forms: [count, BigInt(count), { months: count }, `${count < 0 ? "-" : ""}P${Math.abs(count)}M`],
  tag: String(count),
}));
const daysAndMilliseconds = fc.tuple(int32, int32).map(([days, milliseconds]) => ({
  forms: [{ days, milliseconds }],
  tag: [String(days), String(milliseconds)],
}));
const monthsDaysNanos = fc.tuple(int32, int32, int64).map(([months, days, nanoseconds]) => {
  const parts = [months, days, nanoseconds].map(String);
  const isPositive = months >= 0 && days >= 0 && nanoseconds >= 0n;
  const nanos = parts[2]!.padStart(10, "0");
  const said = `P${parts[0]}M${parts[1]}DT${nanos.slice(0, -9)}.${nanos.slice(-9)}S`;
  return { forms: [{ months, days, nanoseconds }, ...(isPositive ? [said] : [])], tag: parts };
});

const typed = <Items extends ArrayLike<number | bigint>>(items: fc.Arbitrary<Items>): fc.Arbitrary<Value> =>
  items.map((js) => ({ js, tag: Array.from(js, (item) => (Object.is(item, -0) ? "-0.0" : String(item))) }));

const ZONES = ["UTC", "+01:00", "Europe/Berlin"];

/** Types without a type within them. */
export const LEAVES: readonly Kind[] = [
  kind(t.null(), fc.constantFrom({ js: null, tag: null }, { js: undefined, tag: null }), false),
  ...[8, 16, 32, 64].flatMap((bits) => [integer(bits, true), integer(bits, false)]),
  kind(
    t.bool(),
    fc.boolean().map((js) => ({ js, tag: js })),
  ),
  kind(t.float64(), double({})),
  kind(t.float32(), double(within(3.4e38))),
  kind(t.float16(), double(within(65_000)), false),
  decimal(9, 2, 128),
  decimal(38, 0, 128),
  decimal(38, 20, 128),
  decimal(30, 5, 256),
  decimal(76, 30, 256),
  kind(t.utf8(), string),
  kind(t.largeUtf8(), string),
  kind(t.utf8View(), string),
  kind(t.binary(), bytes),
  kind(t.largeBinary(), bytes),
  kind(t.binaryView(), bytes),
  kind(t.fixedSizeBinary(3), exactly(3)),
  kind(t.fixedSizeBinary(16), fc.oneof(uuid, exactly(16))),
  day("day"),
  day("ms"),
  ...UNITS.flatMap((unit, index) => [
    timestamp(unit, ZONES[index % ZONES.length]!),
    timestamp(unit),
    time(unit),
    duration(unit),
  ]),
  timestamp("ns", "UTC", 6),
  kind(t.interval("month-day-nano"), formsOf(monthsDaysNanos), false),
];

/** pyarrow shows them, and has no values of them: only as columns are they compared. */
export const COLUMNS_ALONE: readonly Kind[] = [
  kind(t.interval("year-month"), formsOf(months), false),
  kind(t.interval("day-time"), formsOf(daysAndMilliseconds), false),
];

const TYPED: readonly Kind[] = [
  kind(t.list(t.int32()), typed(fc.int32Array({ maxLength: 5 }))),
  kind(t.largeList(t.uint8()), typed(fc.uint8Array({ maxLength: 5 })), false),
  kind(t.list(t.float64().nullable()), typed(fc.float64Array({ maxLength: 5 }))),
  kind(t.fixedSizeList(3, t.int64()), typed(fc.bigInt64Array({ minLength: 3, maxLength: 3 }))),
];

/** Null now and then, where it may be. */
export function orNull({ type, values, delta }: Kind, isNullable: boolean): Kind {
  if (!isNullable || type.isNullable) return { type, values, delta };
  const none = fc.constantFrom<Value>({ js: null, tag: null }, { js: undefined, tag: null });
  return {
    type: type.nullable(),
    values: fc.oneof({ weight: 3, arbitrary: values }, { weight: 1, arbitrary: none }),
    delta,
  };
}

const lists = (items: fc.Arbitrary<Value[]>): fc.Arbitrary<Value> =>
  items.map((values) => ({ js: values.map(({ js }) => js), tag: values.map(({ tag }) => tag) }));

/** Names of columns and members: whatever an object can hold. */
export const NAMES = ["a", "b c", "", "constructor", "__proto__", "ünï", 'q"', "7"];
/** The same for Delta, which has no blanks in them. */
export const DELTA_NAMES = ["a", "b.c", "`", "constructor", "__proto__", "ünï", 'q"', "7"];

export function object(names: readonly string[], values: readonly Value[], of: "js" | "tag"): object {
  const entries = names.map((name, index) => [name, values[index]![of]] as const);
  // A key that is undefined may as well be missing.
  return Object.fromEntries(of === "js" ? entries.filter(([, value]) => value !== undefined) : entries);
}

const KEYS = /^t\.(u?int\d|bool|date|utf8|largeUtf8|utf8View|fixedSizeBinary|timestamp)/;
const SEED = 20_261_130;

/** Kinds of any depth that are made of these leaves and names. */
function kindsOf(leaves: readonly Kind[], names: readonly string[], isDelta: boolean): fc.Arbitrary<Kind> {
  const keys = leaves.filter(({ type }) => KEYS.test(String(type)));
  const flat = leaves.filter(({ type }) => !type.isNullable);
  const numbersOfKeys = [t.int8, t.int16, t.int32, t.int64, t.uint8, t.uint16, t.uint32, t.uint64];
  const { any } = fc.letrec<{ any: Kind; nested: Kind }>((tie) => ({
    any: fc
      .tuple(
        fc.oneof({ maxDepth: 3, depthSize: "small" }, fc.constantFrom(...leaves, ...TYPED), tie("nested")),
        fc.boolean(),
      )
      .map(([kind, isNullable]) => orNull(kind as Kind, isNullable)),
    nested: fc.oneof(
      fc
        .tuple(tie("any"), fc.nat(2), fc.integer({ min: isDelta ? 1 : 0, max: 3 }))
        .map(([item, way, size]) => {
          const { type, values, delta } = item as Kind;
          if (way === 0) return kind(t.list(type), lists(fc.array(values, { maxLength: 4 })), delta);
          if (way === 1) return kind(t.largeList(type), lists(fc.array(values, { maxLength: 4 })), delta);
          const items = fc.array(values, { minLength: size, maxLength: size });
          return kind(t.fixedSizeList(size, type), lists(items), delta);
        }),
      fc
        .tuple(
          fc.array(tie("any"), { minLength: 1, maxLength: 3 }),
          fc.subarray([...names], { minLength: 3 }),
        )
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
          return kind(
            type,
            values,
            kinds.every(({ delta }) => delta),
          );
        }),
      fc.tuple(fc.constantFrom(...keys), tie("any")).map(([key, value]) => {
        const { type, values, delta } = value as Kind;
        const entries = fc.uniqueArray(fc.tuple(key.values, values), {
          maxLength: 3,
          selector: ([key]) => JSON.stringify(key.tag),
        });
        const isText = /tf8/.test(String(key.type));
        const maps = entries.map((entries) => mapOf(entries, isText));
        return kind(t.map(key.type as never, type), maps, delta && key.delta);
      }),
      fc
        .tuple(fc.constantFrom(...flat, ...TYPED), fc.constantFrom(...numbersOfKeys), fc.nat(100))
        .filter(([{ type }]) => !(isDelta && /List|list/.test(String(type))))
        .map(([{ type, values, delta }, keys, seed]) => {
          // Few, so that they come again and again.
          const few = fc.constantFrom(...fc.sample(values, { numRuns: 5, seed }));
          return kind(t.dictionary(type as never, keys()), few, delta);
        }),
    ),
  }));
  return any as fc.Arbitrary<Kind>;
}

/** A map in one of the forms that it may have. */
function mapOf(entries: readonly [Value, Value][], isText: boolean): Value {
  const js = entries.map(([key, value]) => [key.js, value.js] as const);
  const tag = entries.map(([key, value]) => [key.tag, value.tag]);
  // Keys that look like numbers would come first in an object.
  const isObject = isText && js.every(([key]) => !/^\d+$/.test(key as string));
  const form = (entries.length + JSON.stringify(tag).length) % 3;
  if (form === 0) return { js, tag };
  return { js: form === 1 && isObject ? Object.fromEntries(js) : new Map(js), tag };
}

export interface Generated {
  readonly schema: RowSchema;
  readonly types: readonly AnyColumn[];
  readonly rows: object[];
  readonly tags: object[];
  readonly names: readonly string[];
}

function ofKinds(kinds: readonly Kind[], names: readonly string[]): fc.Arbitrary<Generated> {
  const schema = t.schema(names.map((name, index) => [name, kinds[index]!.type] as const));
  const row = fc.tuple(...kinds.map(({ values }) => values));
  return fc.array(row, { maxLength: 30 }).map((rows) => ({
    schema,
    types: kinds.map(({ type }) => type),
    names,
    rows: rows.map((values) => object(names, values, "js")),
    tags: rows.map((values) => object(names, values, "tag")),
  }));
}

const generatedBy = (kinds: fc.Arbitrary<Kind>, pool: readonly string[]): fc.Arbitrary<Generated> =>
  fc
    .tuple(fc.array(kinds, { minLength: 1, maxLength: 5 }), fc.subarray([...pool], { minLength: 5 }))
    .chain(([kinds, names]) => ofKinds(kinds, names.slice(0, kinds.length)));

/** Rows of any schema. */
export const generated = generatedBy(
  fc.oneof(
    { weight: 9, arbitrary: kindsOf(LEAVES, NAMES, false) },
    {
      weight: 1,
      arbitrary: fc.tuple(fc.constantFrom(...COLUMNS_ALONE), fc.boolean()).map((of) => orNull(...of)),
    },
  ),
  NAMES,
);

/** Rows of any schema that a Delta table holds. */
export const generatedForDelta = generatedBy(
  kindsOf(
    LEAVES.filter(({ delta }) => delta),
    DELTA_NAMES,
    true,
  ).filter(({ delta }) => delta),
  DELTA_NAMES,
);

/** All of these types in one schema, each with null and without. */
export const generatedOf = (kinds: readonly Kind[]): fc.Arbitrary<Generated> =>
  ofKinds(
    kinds.flatMap((kind) => [kind, orNull(kind, true)]),
    kinds.flatMap((_, index) => [`c${index}`, `n${index}`]),
  );

/** The words of the notation that make these types. */
export function wordsOf(schemas: readonly RowSchema[]): Set<string> {
  return new Set(
    schemas.flatMap((schema) => [...String(schema).matchAll(/\bt\.(\w+)\(/g)].map(([, word]) => word!)),
  );
}

export { SEED };
