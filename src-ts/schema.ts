// The schema of rows in a short notation, and the TypeScript type of the rows that it describes.
//
// Invariants:
// - A `RowSchema` has the shape of an `apache-arrow` `Schema`: whatever takes the one takes the other.
// - No two columns share a name: an object cannot hold both.
// - What `toString` gives, pasted into a program, makes an equal schema; names enter it as JSON text only.
//
// It looks at no value: what a column takes is decided in src-ts/rows/.

/// <reference lib="es2024.string" />

import {
  Binary,
  BinaryView,
  Bool,
  type DataType,
  Date_,
  DateUnit,
  Decimal,
  Dictionary,
  Duration,
  Field,
  FixedSizeBinary,
  FixedSizeList,
  Float,
  Int,
  Interval,
  IntervalUnit,
  LargeBinary,
  LargeList,
  LargeUtf8,
  List,
  Map_,
  Null,
  Precision,
  Schema,
  Struct,
  Time,
  Timestamp,
  TimeUnit,
  Utf8,
  Utf8View,
} from "apache-arrow";
import { ingestError } from "./errors.js";
import { type ArrowSchema, isSchema } from "./handoff/arrow.js";
import { rebuildSchema, UnknownType } from "./handoff/rebuild.js";
import { fieldsOf as fieldsOfStandard, isStandard, type StandardSchema } from "./schema/standard.js";

export type { StandardSchema } from "./schema/standard.js";

/** A whole number: of a `number`, one that is safe; of a `bigint`, any that the column's width holds. */
export type IntegerValue = number | bigint;

/** An exact decimal: as text (`"9.95"`), as a number by its shortest text, as a bigint without a fraction. */
export type DecimalValue = string | number | bigint;

/** Bytes: of any view, or of a whole buffer. */
export type BytesValue = ArrayBufferView | ArrayBufferLike;

/** An object of `Temporal`, the runtime's or a polyfill's. */
export interface TemporalObject<Name extends string> {
  readonly [Symbol.toStringTag]: `Temporal.${Name}`;
  toString(): string;
}

/** A day: `"2026-11-29"`, a `Date` at midnight UTC, a `Temporal.PlainDate`, or a count of the column's unit since 1970. */
export type DateValue = string | Date | number | bigint | TemporalObject<"PlainDate">;

/** A time of day: `"13:37:00.5"`, a `Temporal.PlainTime`, or a count of the column's unit since midnight. */
export type TimeValue = string | number | bigint | TemporalObject<"PlainTime">;

/**
 * An instant: a `Date`, ISO text with `Z` or an offset, a `Temporal.Instant` or `Temporal.ZonedDateTime`, or a count of
 * the column's unit since 1970 in UTC.
 */
export type InstantValue =
  | Date
  | string
  | number
  | bigint
  | TemporalObject<"Instant">
  | TemporalObject<"ZonedDateTime">;

/**
 * What a clock on a wall shows: ISO text without an offset, a `Temporal.PlainDateTime`, a `Date` by its fields in UTC,
 * or a count of the column's unit since 1970.
 */
export type WallClockValue = Date | string | number | bigint | TemporalObject<"PlainDateTime">;

/** The parts of an interval or duration, whole numbers; what is left out is 0. */
export interface IntervalParts {
  readonly years?: number | undefined;
  readonly months?: number | undefined;
  readonly weeks?: number | undefined;
  readonly days?: number | undefined;
  readonly hours?: number | undefined;
  readonly minutes?: number | undefined;
  readonly seconds?: number | undefined;
  readonly milliseconds?: number | undefined;
  readonly microseconds?: number | undefined;
  readonly nanoseconds?: number | bigint | undefined;
}

/** An interval: its parts, ISO text (`"P1Y2M3DT4H"`), or a `Temporal.Duration`. */
export type IntervalValue = IntervalParts | string | TemporalObject<"Duration">;

/** A length of time: ISO text (`"PT1.5S"`), a `Temporal.Duration`, or a count of the column's unit. */
export type DurationValue = string | number | bigint | TemporalObject<"Duration">;

/** The items of a list: an array, or a typed array where the items are numbers. */
export type ItemsValue<Item> =
  | readonly Item[]
  | (number extends Item
      ?
          | Int8Array
          | Uint8Array
          | Uint8ClampedArray
          | Int16Array
          | Uint16Array
          | Int32Array
          | Uint32Array
          | Float32Array
          | Float64Array
      : never)
  | (bigint extends Item ? BigInt64Array | BigUint64Array : never);

/** The entries of a map: a `Map`, pairs, or, where keys are text, a plain object. */
export type EntriesValue<Key, Value> =
  | ReadonlyMap<Key, Value>
  | readonly (readonly [Key, Value])[]
  | (Key extends string ? Readonly<Record<string, Value>> : never);

declare const VALUE: unique symbol;
declare const NULLABLE: unique symbol;

/** The type of a column, of a list's items or of a struct's member. Made by {@link t}; never changed. */
export class ColumnType<out Value, out IsNullable extends boolean = false> {
  /** Never there: it tells `RowOf` what values are. */
  declare readonly [VALUE]: Value;
  /** Never there: it tells `RowOf` whether a key may be missing. */
  declare readonly [NULLABLE]: IsNullable;
  /** The type in `apache-arrow`. */
  readonly type: DataType;
  /** Whether null, undefined and a missing key are taken, as null. */
  readonly isNullable: boolean;
  /** Of the field. */
  readonly metadata: ReadonlyMap<string, string>;

  /** @internal */
  constructor(type: DataType, isNullable = false, metadata: ReadonlyMap<string, string> = new Map()) {
    this.type = type;
    this.isNullable = isNullable;
    this.metadata = metadata;
    Object.freeze(this);
  }

  /** The same type, where null is a value: null, undefined and a missing key are taken as null. */
  nullable(): ColumnType<Value | null | undefined, true> {
    return new ColumnType(this.type, true, this.metadata);
  }

  /** The same type with metadata of the field, in the place of what it had. */
  withMetadata(metadata: Readonly<Record<string, string>> | ReadonlyMap<string, string>): this {
    const entries = metadataOf(metadata, "withMetadata");
    return new ColumnType(this.type, this.isNullable, entries) as unknown as this;
  }

  /** The notation that makes it. */
  toString(): string {
    return notation(this.type, this.isNullable, this.metadata);
  }
}

/** A column of whatever type. */
export type AnyColumn = ColumnType<unknown, boolean>;

/** Columns by name, in their order. */
export type ColumnsByName = Readonly<Record<string, AnyColumn>>;

/** Columns as pairs: for names that an object does not keep in order, or at all (`"1"`, `"__proto__"`). */
export type ColumnPairs = readonly (readonly [name: string, type: AnyColumn])[];

/** What {@link t}`.schema` and `.struct` take. */
export type Columns = ColumnsByName | ColumnPairs;

type ByName<C extends Columns> = C extends ColumnPairs
  ? { readonly [Pair in C[number] as Pair[0]]: Pair[1] }
  : C;

type Flat<T> = { [Key in keyof T]: T[Key] };

type ValueOf<C> = C extends ColumnType<infer Value, boolean> ? Value : never;

/** Columns of which it is not known whether they are nullable may be missing. */
type Rows<C> = string extends keyof C
  ? Readonly<Record<string, unknown>>
  : Flat<
      {
        -readonly [Name in keyof C as C[Name] extends ColumnType<unknown, false> ? Name : never]: ValueOf<
          C[Name]
        >;
      } & {
        -readonly [Name in keyof C as C[Name] extends ColumnType<unknown, false> ? never : Name]?:
          | ValueOf<C[Name]>
          | null
          | undefined;
      }
    >;

/**
 * The rows that a schema describes: columns are required unless they are nullable.
 *
 * @example
 * ```ts
 * const order = t.schema({ id: t.int64(), note: t.utf8().nullable() });
 * type Order = RowOf<typeof order>; // { id: number | bigint; note?: string | null | undefined }
 * ```
 */
export type RowOf<S> = S extends RowSchema<infer C> ? Rows<ByName<C>> : never;

/** The values that a Standard JSON Schema gives. */
export type StandardOutput<S> = S extends { readonly "~standard": { readonly types?: infer Types } }
  ? NonNullable<Types> extends { readonly output: infer Output }
    ? Output
    : unknown
  : unknown;

/** Types by path, as in `at`, `place.at`, `tags[]`, `labels[].value`: for what JSON Schema cannot say. */
export type Overrides = Readonly<Record<string, AnyColumn>>;

/** The columns of a Standard JSON Schema: values are typed as its own, unless an override says otherwise. */
export type StandardColumns<Output, O> = Output extends object
  ? {
      readonly [Name in keyof Output & string]-?: ColumnType<
        Name extends keyof O ? NonNullable<ValueOf<O[Name]>> : Exclude<Output[Name], null | undefined>,
        MayBeNull<Output, Name> extends true
          ? true
          : Name extends keyof O
            ? O[Name] extends ColumnType<unknown, false>
              ? false
              : true
            : false
      >;
    }
  : Columns;

type MayBeNull<Output, Name extends keyof Output> =
  Record<never, never> extends Pick<Output, Name>
    ? true
    : null extends Output[Name]
      ? true
      : undefined extends Output[Name]
        ? true
        : false;

/**
 * The schema of rows. Made by {@link t}`.schema` and `.fromArrow`; it can be given wherever a `Schema` of
 * `apache-arrow` can.
 */
export class RowSchema<out C extends Columns = Columns> {
  /** Never there: it tells `RowOf` what the columns are. */
  declare readonly [VALUE]: C;
  readonly fields: readonly Field[];
  readonly metadata: ReadonlyMap<string, string>;
  readonly #schema: Schema;

  /** @internal */
  constructor(schema: Schema) {
    this.#schema = schema;
    this.fields = schema.fields;
    this.metadata = schema.metadata;
    Object.freeze(this);
  }

  /** The schema in the classes of the `apache-arrow` that this package imports; the same object each time. */
  toArrow(): Schema {
    return this.#schema;
  }

  /** The notation that makes it, to be pasted. Of maps and lists, names of children are not in it. */
  toString(): string {
    const { fields, metadata } = this;
    const entries = metadata.size === 0 ? "" : `, ${metadataNotation(metadata)}`;
    return `t.schema(${columnsNotation(fields, "  ")}${entries})`;
  }
}

const column = <Value>(type: DataType): ColumnType<Value> => new ColumnType<Value>(type);

const UNITS = {
  s: TimeUnit.SECOND,
  ms: TimeUnit.MILLISECOND,
  us: TimeUnit.MICROSECOND,
  ns: TimeUnit.NANOSECOND,
};
const INTERVALS = {
  "year-month": IntervalUnit.YEAR_MONTH,
  "day-time": IntervalUnit.DAY_TIME,
  "month-day-nano": IntervalUnit.MONTH_DAY_NANO,
};
const DATES = { day: DateUnit.DAY, ms: DateUnit.MILLISECOND };

/** Seconds, milliseconds, microseconds, nanoseconds. */
export type TimeUnitName = keyof typeof UNITS;

/** The types of dictionary keys. */
type KeyType = ColumnType<IntegerValue>;

/**
 * Types of columns, and schemas of them. Columns are not nullable unless `.nullable()` says so.
 *
 * @example
 * ```ts
 * const order = t.schema({
 *   id: t.int64(),
 *   at: t.timestamp("us", "UTC"),
 *   price: t.decimal(18, 4),
 *   tags: t.list(t.utf8()),
 *   note: t.utf8().nullable(),
 * });
 * await using client = await connect("delta:./lake/orders", { schema: order });
 * ```
 */
export const t = {
  /**
   * A schema.
   *
   * @param columns By name, or as pairs `[name, type]`.
   * @param metadata Of the schema.
   * @throws {IngestError} `CONFIG_INVALID`: a name that stands twice, or that an object does not keep in its place.
   */
  schema<const C extends Columns>(
    columns: C,
    metadata: Readonly<Record<string, string>> | ReadonlyMap<string, string> = {},
  ): RowSchema<C> {
    return new RowSchema<C>(new Schema(fieldsOf(columns, "schema"), metadataOf(metadata, "schema")));
  },

  /**
   * The schema of rows for a `Schema` of any copy or version of `apache-arrow`, 15 to 21.
   *
   * @throws {IngestError} `CONFIG_INVALID`: it is none, two columns or members share a name, a name is no UTF-8, or a
   * type is not known here.
   */
  fromArrow(schema: Schema | { readonly fields: readonly object[] }): RowSchema {
    if (!isSchema(schema)) throw wrong("fromArrow", "a Schema of apache-arrow is needed");
    const rebuilt = rebuiltOf(schema as ArrowSchema);
    refuseNames(rebuilt.fields, "fromArrow");
    return new RowSchema(rebuilt);
  },

  /**
   * The schema of rows for a Standard JSON Schema: of Zod from 4.2, of ArkType from 2.1.28, of Valibot by
   * `toStandardJsonSchema`. Its columns are those of the values that it gives (its output). Integers are `int64`,
   * numbers `float64`, text of the format `date-time` is `timestamp("us", "UTC")` and of the format `date` is `date`;
   * `specs/rows.md` has all rules. No value is validated by it.
   *
   * @param overrides Types by path (`at`, `place.at`, `tags[]`, `labels[].value`) for what JSON Schema cannot say:
   * dates that are objects, bigints, decimals, units of time. A column stays nullable where the schema says so.
   * @throws {IngestError} `CONFIG_INVALID`: with an issue for each place that neither gives a type to.
   *
   * @example
   * ```ts
   * const order = z.object({ id: z.int(), at: z.date(), price: z.string(), note: z.string().optional() });
   * const schema = t.fromStandard(order, { at: t.timestamp("us", "UTC"), price: t.decimal(18, 4) });
   * ```
   */
  fromStandard<S extends StandardSchema, const O extends Overrides = Record<never, never>>(
    schema: S,
    overrides?: O,
  ): RowSchema<StandardColumns<StandardOutput<S>, O>> {
    if (!isStandard(schema)) throw wrong("fromStandard", "a Standard JSON Schema is needed");
    const fields = fieldsOfStandard(schema, overridesOf(overrides ?? {}));
    refuseNames(fields, "fromStandard");
    return new RowSchema(new Schema(fields));
  },

  /** Nothing but null. */
  null: (): ColumnType<null | undefined, true> => new ColumnType(new Null(), true),
  bool: () => column<boolean>(new Bool()),
  int8: () => column<IntegerValue>(new Int(true, 8)),
  int16: () => column<IntegerValue>(new Int(true, 16)),
  int32: () => column<IntegerValue>(new Int(true, 32)),
  int64: () => column<IntegerValue>(new Int(true, 64)),
  uint8: () => column<IntegerValue>(new Int(false, 8)),
  uint16: () => column<IntegerValue>(new Int(false, 16)),
  uint32: () => column<IntegerValue>(new Int(false, 32)),
  uint64: () => column<IntegerValue>(new Int(false, 64)),
  /** Values are rounded to the nearest that half precision holds. */
  float16: () => column<number | bigint>(new Float(Precision.HALF)),
  /** Values are rounded to the nearest that single precision holds. */
  float32: () => column<number | bigint>(new Float(Precision.SINGLE)),
  float64: () => column<number | bigint>(new Float(Precision.DOUBLE)),

  /**
   * An exact decimal.
   *
   * @param precision Digits in all, 1 to 38, or to 76 with 256 bits.
   * @param scale Digits after the point, 0 to `precision`.
   */
  decimal(precision: number, scale = 0, bits: 128 | 256 = 128): ColumnType<DecimalValue> {
    if (bits !== 128 && bits !== 256)
      throw wrong("decimal", `a decimal has 128 or 256 bits, not ${show(bits)}`);
    whole("decimal", "its precision", precision, 1, bits === 128 ? 38 : 76);
    whole("decimal", "its scale", scale, 0, precision);
    return column(new Decimal(scale, precision, bits));
  },

  utf8: () => column<string>(new Utf8()),
  /** Text with 64-bit offsets. */
  largeUtf8: () => column<string>(new LargeUtf8()),
  utf8View: () => column<string>(new Utf8View()),
  binary: () => column<BytesValue>(new Binary()),
  /** Bytes with 64-bit offsets. */
  largeBinary: () => column<BytesValue>(new LargeBinary()),
  binaryView: () => column<BytesValue>(new BinaryView()),

  /**
   * Values of exactly `width` bytes. Of 16 bytes, the text of a UUID is taken too.
   *
   * @param width Bytes, from 1 on.
   */
  fixedSizeBinary<Width extends number>(
    width: Width,
  ): ColumnType<16 extends Width ? BytesValue | string : BytesValue> {
    whole("fixedSizeBinary", "its width", width, 1, 2 ** 31 - 1);
    return column(new FixedSizeBinary(width));
  },

  /** Days since 1970: in 32 bits, or (`"ms"`) as milliseconds in 64 bits. */
  date: (unit: "day" | "ms" = "day") => column<DateValue>(new Date_(chosen("date", DATES, unit))),

  /** A time of day. */
  time(unit: TimeUnitName): ColumnType<TimeValue> {
    const code = chosen("time", UNITS, unit);
    return column(new Time(code, code < TimeUnit.MICROSECOND ? 32 : 64));
  },

  /**
   * An instant, or, without a zone, what a clock on a wall shows.
   *
   * @param zone `"UTC"`, an offset such as `"+01:00"`, or a name such as `"Europe/Berlin"`. Values are instants,
   * whatever it says: it is for those who read.
   */
  timestamp<const Zone extends string | undefined = undefined>(
    unit: TimeUnitName,
    zone?: Zone,
  ): ColumnType<Zone extends string ? InstantValue : WallClockValue> {
    if (zone !== undefined && (typeof zone !== "string" || zone === ""))
      throw wrong("timestamp", `its zone must be text that is not empty, not ${show(zone)}`);
    return column(new Timestamp(chosen("timestamp", UNITS, unit), zone ?? null));
  },

  /** A length of time. */
  duration: (unit: TimeUnitName) => column<DurationValue>(new Duration(chosen("duration", UNITS, unit))),

  /** An interval of the calendar. */
  interval<Unit extends keyof typeof INTERVALS>(
    unit: Unit,
  ): ColumnType<Unit extends "year-month" ? IntervalValue | IntegerValue : IntervalValue> {
    return column(new Interval(chosen("interval", INTERVALS, unit)));
  },

  list: <Item>(item: ColumnType<Item, boolean>) =>
    column<ItemsValue<Item>>(new List(fieldOf("item", item, "list"))),
  /** A list with 64-bit offsets. */
  largeList: <Item>(item: ColumnType<Item, boolean>) =>
    column<ItemsValue<Item>>(new LargeList(fieldOf("item", item, "largeList"))),
  /** Lists of exactly `size` items. */
  fixedSizeList<Item>(size: number, item: ColumnType<Item, boolean>): ColumnType<ItemsValue<Item>> {
    whole("fixedSizeList", "its size", size, 0, 2 ** 24);
    return column(new FixedSizeList(size, fieldOf("item", item, "fixedSizeList")));
  },

  /** An object with members of their own. */
  struct: <const C extends Columns>(members: C) =>
    column<Rows<ByName<C>>>(new Struct(fieldsOf(members, "struct"))),

  /** Keys and values. Keys are never null. */
  map<Key, Value>(
    key: ColumnType<Key>,
    value: ColumnType<Value, boolean>,
  ): ColumnType<EntriesValue<Key, Value>> {
    if (key?.isNullable) throw wrong("map", "its keys cannot be nullable");
    const entries = new Struct([fieldOf("key", key, "map"), fieldOf("value", value, "map")]);
    return column(new Map_(new Field("entries", entries, false) as never));
  },

  /**
   * Values that come again and again: each is stored once, rows hold its number.
   *
   * @param keys The type of the numbers. Default: `int32`.
   */
  dictionary<Value>(values: ColumnType<Value>, keys: KeyType = column(new Int(true, 32))): ColumnType<Value> {
    const { type, isNullable } = typeOf(values, "dictionary");
    if (isNullable) throw wrong("dictionary", "its values cannot be nullable: make the column nullable");
    if (type.typeId === -1) throw wrong("dictionary", "its values cannot be a dictionary themselves");
    if (typeOf(keys, "dictionary").type.typeId !== 2) throw wrong("dictionary", "its keys must be integers");
    return column(new Dictionary(type, keys.type as never));
  },
};

/**
 * What `schema` options take, in the classes of the `apache-arrow` that this package imports: the same object each
 * time, so that what is kept by it is found again. Undefined: it is none.
 *
 * @throws {IngestError} `CONFIG_INVALID`: two columns share a name, or a Standard JSON Schema leaves types open.
 */
export function toSchema(given: unknown): Schema | undefined {
  if (given instanceof RowSchema) return given.toArrow();
  const standard = isStandard(given);
  if (!standard && !isSchema(given)) return undefined;
  const known = ofOurs.get(given);
  if (known !== undefined) return known;
  const schema = standard ? t.fromStandard(given) : t.fromArrow(given as unknown as Schema);
  ofOurs.set(given, schema.toArrow());
  return schema.toArrow();
}

const ofOurs = new WeakMap<object, Schema>();

function rebuiltOf(schema: ArrowSchema): Schema {
  try {
    return rebuildSchema(schema);
  } catch (error) {
    throw error instanceof UnknownType ? wrong("fromArrow", error.message) : error;
  }
}

function overridesOf(overrides: unknown): Map<string, AnyColumn> {
  if (typeof overrides !== "object" || overrides === null || Array.isArray(overrides))
    throw wrong("fromStandard", `an object of types by path is needed, not ${show(overrides)}`);
  return new Map(
    Object.entries(overrides).map(([path, type]) => [path, typeOf(type, `fromStandard: ${path}`)]),
  );
}

function typeOf(type: unknown, where: string): AnyColumn {
  if (type instanceof ColumnType) return type;
  throw wrong(where, `a type such as t.utf8() is needed, not ${show(type)}`);
}

function fieldOf(name: string, type: unknown, where: string): Field {
  const known = typeOf(
    type,
    name === "item" || name === "key" || name === "value" ? where : `${where}: ${name}`,
  );
  if (!name.isWellFormed()) throw illFormed(where, name);
  return new Field(name, known.type, known.isNullable, new Map(known.metadata));
}

function fieldsOf(columns: unknown, where: string): Field[] {
  if (Array.isArray(columns)) {
    const fields = columns.map((pair: unknown) => {
      if (!Array.isArray(pair) || pair.length !== 2 || typeof pair[0] !== "string")
        throw wrong(where, `columns are pairs of a name and a type, not ${show(pair)}`);
      return fieldOf(pair[0], pair[1], where);
    });
    refuseTwice(fields, where);
    return fields;
  }
  if (typeof columns !== "object" || columns === null)
    throw wrong(where, `an object of columns is needed, not ${show(columns)}`);
  const prototype = Object.getPrototypeOf(columns);
  // `{ "__proto__": type }` sets the prototype and makes no column.
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null)
    throw wrong(
      where,
      'its columns are no plain object; a column "__proto__" is given as a pair [name, type]',
    );
  return Object.entries(columns).map(([name, type]) => {
    if (isIndex(name))
      throw wrong(
        where,
        `an object does not keep ${JSON.stringify(name)} in its place: give pairs [name, type]`,
      );
    return fieldOf(name, type, where);
  });
}

/** Such keys come first in every object, in the order of numbers. */
const isIndex = (name: string): boolean => /^(0|[1-9]\d{0,9})$/.test(name) && Number(name) < 2 ** 32 - 1;

/** Names in UTF-8, as Arrow has them: two that differ in halves of surrogate pairs alone would be one. */
const illFormed = (where: string, name: string): Error =>
  wrong(where, `the name ${JSON.stringify(name)} has a surrogate without its other half`);

/** Of a schema made elsewhere: in structs, too. */
function refuseNames(fields: readonly Field[], where: string): void {
  refuseTwice(fields, where);
  for (const { name, type } of fields) {
    if (!name.isWellFormed()) throw illFormed(where, name);
    refuseNamesIn(type, where);
  }
}

function refuseNamesIn(type: DataType, where: string): void {
  if (type.typeId === -1) refuseNamesIn((type as Dictionary).dictionary, where);
  else if (type.typeId === 13) refuseNames(type.children, where);
  // What items, keys and values are called is nothing that a row knows.
  else for (const { type: below } of childrenOf(type)) refuseNamesIn(below, where);
}

const childrenOf = (type: DataType): readonly Field[] =>
  type.typeId === 17 ? (type.children[0] as Field<Struct>).type.children : (type.children ?? []);

function refuseTwice(fields: readonly Field[], where: string): void {
  const seen = new Set<string>();
  for (const { name } of fields) {
    if (seen.has(name))
      throw wrong(
        where,
        `two columns have the name ${JSON.stringify(name)}, and a row holds one value of it`,
      );
    seen.add(name);
  }
}

function metadataOf(metadata: unknown, where: string): Map<string, string> {
  if (typeof metadata === "string" || Array.isArray(metadata))
    throw wrong(where, "metadata is an object or a Map of text by text");
  const entries: [unknown, unknown][] =
    metadata instanceof Map ? [...metadata] : Object.entries((metadata ?? {}) as object);
  for (const [key, value] of entries) {
    if (typeof key !== "string" || typeof value !== "string")
      throw wrong(where, `metadata is text by text, not ${show(value)} by ${show(key)}`);
    if (!key.isWellFormed() || !value.isWellFormed())
      throw wrong(where, "metadata has a surrogate without its other half");
  }
  return new Map(entries as [string, string][]);
}

function chosen<Names extends Readonly<Record<string, number>>>(
  where: string,
  names: Names,
  name: unknown,
): Names[keyof Names] {
  if (typeof name === "string" && Object.hasOwn(names, name)) return names[name] as Names[keyof Names];
  throw wrong(where, `its unit is one of ${Object.keys(names).join(", ")}, not ${show(name)}`);
}

function whole(where: string, what: string, value: unknown, least: number, most: number): void {
  if (!Number.isInteger(value) || (value as number) < least || (value as number) > most)
    throw wrong(where, `${what} is a whole number from ${least} to ${most}, not ${show(value)}`);
}

const show = (value: unknown): string =>
  typeof value === "string" ? JSON.stringify(value) : typeof value === "object" ? "an object" : String(value);

function wrong(where: string, message: string): Error {
  const path = `t.${where}`;
  const issues = [{ path, message }];
  return ingestError({ code: "CONFIG_INVALID", operation: "schema", message: `${path}: ${message}`, issues });
}

// The notation, written.

const nameOf = (names: Readonly<Record<string, number>>, code: number): string =>
  JSON.stringify(Object.keys(names).find((name) => names[name] === code));

const metadataNotation = (metadata: ReadonlyMap<string, string>): string =>
  `new Map(${JSON.stringify([...metadata])})`;

function columnsNotation(fields: readonly Field[], indent: string): string {
  if (fields.length === 0) return "{}";
  const pairs = fields.some((field) => field.name === "__proto__" || isIndex(field.name));
  const lines = fields.map((field) => {
    const type = notation(field.type, field.nullable, field.metadata, indent);
    const name = JSON.stringify(field.name);
    if (pairs) return `${indent}[${name}, ${type}],\n`;
    return `${indent}${/^[A-Za-z_$][\w$]*$/.test(field.name) ? field.name : name}: ${type},\n`;
  });
  const [open, close] = pairs ? "[]" : "{}";
  return `${open}\n${lines.join("")}${indent.slice(2)}${close}`;
}

function notation(
  type: DataType,
  isNullable: boolean,
  metadata: ReadonlyMap<string, string>,
  indent = "  ",
): string {
  const nullable = isNullable && type.typeId !== 1 ? ".nullable()" : "";
  const entries = metadata.size === 0 ? "" : `.withMetadata(${metadataNotation(metadata)})`;
  return `${typeNotation(type, indent)}${nullable}${entries}`;
}

/** A type as {@link t} makes it: what errors say was wanted, too. */
export function typeNotation(type: DataType, indent = "  "): string {
  const facts = type as unknown as Record<string, number> & { timezone?: string | null };
  const child = (index = 0): string => {
    const field = type.children[index] as Field;
    return notation(field.type, field.nullable, field.metadata, indent);
  };
  switch (type.typeId) {
    case 1:
      return "t.null()";
    case 2:
      return `t.${(type as Int).isSigned ? "int" : "uint"}${facts.bitWidth}()`;
    case 3:
      return `t.float${16 << facts.precision!}()`;
    case 4:
      return "t.binary()";
    case 5:
      return "t.utf8()";
    case 6:
      return "t.bool()";
    case 7:
      if (facts.bitWidth! < 128 || facts.scale! < 0 || facts.scale! > facts.precision!) return String(type);
      return `t.decimal(${facts.precision}, ${facts.scale}${facts.bitWidth === 256 ? ", 256" : ""})`;
    case 8:
      return facts.unit === DateUnit.DAY ? "t.date()" : 't.date("ms")';
    case 9:
      return `t.time(${nameOf(UNITS, facts.unit!)})`;
    case 10: {
      const zone = facts.timezone ? `, ${JSON.stringify(facts.timezone)}` : "";
      return `t.timestamp(${nameOf(UNITS, facts.unit!)}${zone})`;
    }
    case 11:
      return `t.interval(${nameOf(INTERVALS, facts.unit!)})`;
    case 12:
      return `t.list(${child()})`;
    case 13:
      return `t.struct(${columnsNotation(type.children as Field[], `${indent}  `)})`;
    case 15:
      return `t.fixedSizeBinary(${facts.byteWidth})`;
    case 16:
      return `t.fixedSizeList(${facts.listSize}, ${child()})`;
    case 17: {
      const [key, value] = (type.children[0] as Field<Struct>).type.children as Field[];
      const of = (field: Field): string => notation(field.type, field.nullable, field.metadata, indent);
      return `t.map(${of(key!)}, ${of(value!)})`;
    }
    case 18:
      return `t.duration(${nameOf(UNITS, facts.unit!)})`;
    case 19:
      return "t.largeBinary()";
    case 20:
      return "t.largeUtf8()";
    case 21:
      return `t.largeList(${child()})`;
    case 23:
      return "t.binaryView()";
    case 24:
      return "t.utf8View()";
    case -1: {
      const { dictionary, indices } = type as Dictionary;
      const keys = typeNotation(indices);
      return `t.dictionary(${typeNotation(dictionary)}${keys === "t.int32()" ? "" : `, ${keys}`})`;
    }
    default:
      return String(type);
  }
}
