// A schema that fits some rows, by strict rules (specs/rows.md).
//
// Invariants:
// - No more than `MAX_ROWS` rows, and of a list or map `MAX_ITEMS` items, are looked at.
// - Nothing is guessed from what text looks like: text is text.
// - Where no one type takes all values of a column, there is no schema, and the error names two rows.

/// <reference lib="es2024.string" />

import { types } from "node:util";
import { type IngestError, ingestError } from "../errors.js";
import { type AnyColumn, type ColumnPairs, type ColumnType, type RowSchema, t } from "../schema.js";
import { isOpaque, isRecord, temporalName } from "./attend.js";
import { kindOf, member } from "./refusal.js";

const MAX_ROWS = 1_000;
const MAX_ITEMS = 1_000;
/** Rows that hold themselves have no end; objects that hold one object twice, many levels deep, have one far away. */
const MAX_DEPTH = 32;
const MAX_PLACES = 100_000;

const LEAST_64 = -(2n ** 63n);
const MOST_64 = 2n ** 63n - 1n;
const MOST_U64 = 2n ** 64n - 1n;
const MOST_DECIMAL = 10n ** 38n;

/** A schema of the rows given: of the first 1,000. See {@link RowSchema}. */
export function inferRows(rows: readonly unknown[]): RowSchema {
  const guess = new Guess("", 0, { left: MAX_PLACES });
  const count = Math.min(rows.length, MAX_ROWS);
  if (count === 0) throw noSchema("there are no rows to look at");
  for (let row = 0; row < count; row++) {
    let value: unknown;
    try {
      value = rows[row];
      if (!isRecord(value) || isOpaque(value))
        throw noSchema(`row ${row} is ${kindOf(value)} and no object with keys`);
      guess.add(value, row);
    } catch (error) {
      if ((error as { code?: unknown } | null)?.code === "BATCH_INVALID") throw error;
      throw noSchema(`reading row ${row} threw`, error);
    }
  }
  return t.schema(guess.members());
}

function noSchema(message: string, cause?: unknown): IngestError {
  return ingestError({
    code: "BATCH_INVALID",
    operation: "inferSchema",
    message: `no schema can be inferred: ${message}`,
    cause,
  });
}

type Kind =
  | "null"
  | "true or false"
  | "a number"
  | "text"
  | "bytes"
  | "a Date"
  | "a list"
  | "a Map"
  | "an object"
  | "a Temporal.Instant"
  | "a Temporal.PlainDate"
  | "a Temporal.PlainTime"
  | "a Temporal.PlainDateTime"
  | "a Temporal.Duration";

function kindOfValue(value: unknown): Kind | undefined {
  switch (typeof value) {
    case "boolean":
      return "true or false";
    case "number":
    case "bigint":
      return "a number";
    case "string":
      return "text";
    case "undefined":
      return "null";
    case "object":
      break;
    default:
      return undefined;
  }
  if (value === null) return "null";
  if (types.isDate(value)) return "a Date";
  if (types.isUint8Array(value) || types.isDataView(value) || types.isAnyArrayBuffer(value)) return "bytes";
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return "a list";
  if (types.isMap(value)) return "a Map";
  switch (temporalName(value)) {
    case "Instant":
    case "ZonedDateTime":
      return "a Temporal.Instant";
    case "PlainDate":
      return "a Temporal.PlainDate";
    case "PlainTime":
      return "a Temporal.PlainTime";
    case "PlainDateTime":
      return "a Temporal.PlainDateTime";
    case "Duration":
      return "a Temporal.Duration";
    default:
      return isRecord(value) && !isOpaque(value) ? "an object" : undefined;
  }
}

/** What is known of the values at one place. */
class Guess {
  readonly #path: string;
  readonly #depth: number;
  /** Of all guesses of a call. */
  readonly #places: { left: number };
  #kind: Kind = "null";
  /** The row that said so. */
  #row = 0;
  #isNullable = false;
  #values = 0;
  /** Of numbers. */
  #fractionRow = -1;
  #bigintRow = -1;
  #least = 0n;
  #most = 0n;
  /** Of objects by name; of lists, `item`; of maps, `key` and `value`. */
  readonly #below = new Map<string, Guess>();

  constructor(path: string, depth: number, places: { left: number }) {
    this.#path = path;
    this.#depth = depth;
    this.#places = places;
    if (places.left-- === 0) throw noSchema(`there are more than ${MAX_PLACES} columns, members and items`);
    if (depth > MAX_DEPTH) throw noSchema(`${path} lies deeper than ${MAX_DEPTH}`);
  }

  add(value: unknown, row: number): void {
    const kind = kindOfValue(value);
    if (kind === undefined)
      throw noSchema(`${this.#path} is ${kindOf(value)} in row ${row}, which no column holds`);
    if (kind === "null") {
      this.#isNullable = true;
      return;
    }
    if (this.#kind === "null") {
      this.#kind = kind;
      this.#row = row;
    } else if (this.#kind !== kind) {
      throw this.#mixed(this.#kind, this.#row, kind, row);
    }
    this.#values++;
    if (kind === "a number") this.#number(value as number | bigint, row);
    else if (kind === "a list") this.#list(value as ArrayLike<unknown>, row);
    else if (kind === "a Map") this.#map(value as Map<unknown, unknown>, row);
    else if (kind === "an object") this.#object(value as Record<string, unknown>, row);
  }

  #mixed(one: string, oneRow: number, other: string, otherRow: number): IngestError {
    return noSchema(`${this.#path} is ${one} in row ${oneRow} and ${other} in row ${otherRow}`);
  }

  #number(value: number | bigint, row: number): void {
    if (typeof value === "bigint") {
      if (this.#bigintRow < 0) this.#bigintRow = row;
    } else if (!Number.isSafeInteger(value)) {
      if (this.#fractionRow < 0) this.#fractionRow = row;
      return;
    }
    const whole = BigInt(value);
    if (whole < this.#least) this.#least = whole;
    if (whole > this.#most) this.#most = whole;
  }

  #list(value: ArrayLike<unknown>, row: number): void {
    const item = this.#child("item", `${this.#path}[]`);
    const count = Math.min(value.length, MAX_ITEMS);
    for (let i = 0; i < count; i++) item.add(value[i], row);
  }

  #map(value: Map<unknown, unknown>, row: number): void {
    const keys = this.#child("key", `${this.#path}[].key`);
    const values = this.#child("value", `${this.#path}[].value`);
    let count = 0;
    for (const [key, one] of value) {
      if (count++ === MAX_ITEMS) break;
      keys.add(key, row);
      values.add(one, row);
    }
  }

  #object(value: Record<string, unknown>, row: number): void {
    for (const key of Object.keys(value)) this.#child(key, member(this.#path, key)).add(value[key], row);
  }

  #child(name: string, path: string): Guess {
    let child = this.#below.get(name);
    if (child === undefined) {
      if (!name.isWellFormed()) throw noSchema(`the name ${path} has a surrogate without its other half`);
      child = new Guess(path, this.#depth + 1, this.#places);
      this.#below.set(name, child);
    }
    return child;
  }

  /** A key that some of the objects lack is one that may be missing. */
  members(): ColumnPairs {
    return [...this.#below].map(([name, child]) => [
      name,
      child.#column(child.#isNullable || child.#values < this.#values),
    ]);
  }

  #column(isNullable: boolean): AnyColumn {
    const type = this.#type();
    return isNullable && type.type.typeId !== 1 ? type.nullable() : type;
  }

  #type(): AnyColumn {
    const item = (name: string): AnyColumn => {
      const child = this.#below.get(name);
      return child === undefined ? t.null() : child.#column(child.#isNullable);
    };
    switch (this.#kind) {
      case "null":
        return t.null();
      case "true or false":
        return t.bool();
      case "a number":
        return this.#numberType();
      case "text":
        return t.utf8();
      case "bytes":
        return t.binary();
      case "a Date":
        return t.timestamp("ms", "UTC");
      case "a list":
        return t.list(item("item"));
      case "a Map":
        return t.map(this.#keyType(), item("value"));
      case "an object":
        return t.struct(this.members());
      case "a Temporal.Instant":
        return t.timestamp("ns", "UTC");
      case "a Temporal.PlainDate":
        return t.date();
      case "a Temporal.PlainTime":
        return t.time("ns");
      case "a Temporal.PlainDateTime":
        return t.timestamp("ns");
      case "a Temporal.Duration":
        return t.interval("month-day-nano");
    }
  }

  #keyType(): ColumnType<unknown> {
    const key = this.#below.get("key");
    if (key === undefined) return t.utf8();
    if (key.#isNullable) throw noSchema(`${this.#path} has a key that is null`);
    return key.#kind === "null" ? t.utf8() : (key.#column(false) as ColumnType<unknown>);
  }

  #numberType(): AnyColumn {
    if (this.#fractionRow >= 0) {
      if (this.#bigintRow >= 0)
        throw this.#mixed("a bigint", this.#bigintRow, "a fraction", this.#fractionRow);
      return t.float64();
    }
    if (this.#least >= LEAST_64 && this.#most <= MOST_64) return t.int64();
    if (this.#least >= 0n && this.#most <= MOST_U64) return t.uint64();
    if (this.#least > -MOST_DECIMAL && this.#most < MOST_DECIMAL) return t.decimal(38, 0);
    throw noSchema(`${this.#path} holds bigints of more than 38 digits`);
  }
}
