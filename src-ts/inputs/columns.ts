// Columns by name: `{ id: Int32Array, name: string[] }`, and tables of Arquero, which are such columns.
//
// Invariants:
// - A typed array that is of its column's type, and a column of Arrow data, is handed over as it is; all other values
//   go by the rules of rows.
// - What an object and its arrays say is read once.
// - Nothing is guessed: typed arrays and Arrow data name their types, plain arrays need a schema that somebody has said.

import { types } from "node:util";
import { Data, type DataType, type Field, type Schema } from "apache-arrow";
import { IngestError, ingestError } from "../errors.js";
import type { ArrowSchema, ArrowType } from "../handoff/arrow.js";
import { sameType } from "../handoff/plan.js";
import { rebuildSchema } from "../handoff/rebuild.js";
import type { Made } from "../handoff.js";
import { lengthOfTyped } from "../rows/attend.js";
import { inferRows } from "../rows/infer.js";
import { toArrow } from "../rows.js";
import { type AnyColumn, ColumnType, t, typeNotation } from "../schema.js";
import { assemble, Lookup, type Source, type Values } from "./assemble.js";
import { type Input, invalid, unreadable, type Wanted } from "./input.js";
import { nameOfTyped, viewAs } from "./views.js";

/** One column as it was given: an array, a typed one, or Arrow data. */
export type Given =
  | { readonly name: string; readonly values: Values; readonly arrow?: undefined }
  | { readonly name: string; readonly arrow: ArrowColumn; readonly values?: undefined };

/** Arrow data with the type of its own, from whichever library. */
export interface ArrowColumn {
  readonly type: ArrowType;
  readonly length: number;
  chunks(field: Field): readonly Data[];
}

/** The columns of a plain object whose values are arrays, all of them; undefined for all others. */
export function columnsOf(value: object, operation: string): readonly Given[] | undefined {
  try {
    const columns: Given[] = [];
    for (const name of Object.keys(value)) {
      const values: unknown = (value as Record<string, unknown>)[name];
      if (!Array.isArray(values) && nameOfTyped(values) === undefined) return undefined;
      columns.push({ name, values: values as ArrayLike<unknown> });
    }
    return columns.length === 0 ? undefined : columns;
  } catch (thrown) {
    throw unreadable("an object of columns", operation, thrown);
  }
}

/**
 * Whether an object whose values are all arrays, and which came from a source of rows, is a row: the schema has lists,
 * maps or bytes for all of them, and they nest as deep as those and not one level deeper. Empty ones say nothing, and
 * make a row.
 */
export function isRowOf(given: readonly Given[], schema: ArrowSchema): boolean {
  let isRow = true;
  for (const { name, values } of given) {
    const field = schema.fields.find((field) => field.name === name);
    const wanted = field === undefined ? 0 : depthOfType(field.type);
    if (wanted === 0) return false;
    if (values instanceof Lookup || depthOf(values) > wanted) isRow = false;
  }
  return isRow;
}

/** How many arrays, typed ones or maps lie within each other in a value of the type. */
function depthOfType({ typeId, children }: ArrowType): number {
  switch (typeId) {
    case 4:
    case 15:
    case 19:
    case 23:
      return 1;
    case 12:
    case 16:
    case 21:
      return 1 + depthOfType(children![0]!.type);
    case 17:
      // Its entries are pairs.
      return 2;
    default:
      return 0;
  }
}

/** The same of a value, by what comes first in it. */
function depthOf(value: unknown): number {
  let depth = 0;
  let inner = value;
  while (Array.isArray(inner)) {
    depth++;
    inner = (inner as readonly unknown[]).find((item) => item !== null && item !== undefined);
    // It may hold itself.
    if (depth > MAX_DEPTH) break;
  }
  if (types.isMap(inner)) return depth + 2;
  return ArrayBuffer.isView(inner) ? depth + 1 : depth;
}

const MAX_DEPTH = 64;

/**
 * @param copied What was done to the columns before, for `handoffReason`.
 * @throws {IngestError} `BATCH_INVALID`: the columns differ in length. In its steps also `SCHEMA_MISMATCH` and
 * `SCHEMA_REQUIRED`; each names the column.
 */
export function columnsInput(what: string, given: readonly Given[], wanted: Wanted, copied?: string): Input {
  const { operation } = wanted;
  const length = commonLength(given, operation);
  let made: Made | undefined;
  return {
    what,
    get made() {
      return made;
    },
    *steps() {
      const schema = yield* schemaFor(given, wanted);
      const sources = fitted(given, schema, length, operation);
      const encoded = schema.fields.filter((_, index) => sources[index]!.values !== undefined);
      made = madeOf(encoded, schema, copied);
      yield* assemble(schema, sources, length, operation);
    },
  };
}

/** Names that stand in a reason, of a thousand that might. */
const MAX_NAMES = 8;

function madeOf(encoded: readonly Field[], schema: Schema, copied: string | undefined): Made | undefined {
  const reasons = copied === undefined ? [] : [copied];
  if (encoded.length > 0) {
    const names = encoded.slice(0, MAX_NAMES).map((field) => field.name);
    const more = encoded.length > MAX_NAMES ? `, and ${encoded.length - MAX_NAMES} more` : "";
    reasons.push(`copied: values of ${names.join(", ")}${more} were encoded`);
  }
  if (reasons.length === 0) return undefined;
  return {
    reason: reasons.join("; "),
    isCopy: copied !== undefined || encoded.length === schema.fields.length,
  };
}

/** The length of an array. No array that is one has more elements, whatever a proxy says. */
const MAX_LENGTH = 2 ** 32 - 1;

function commonLength(given: readonly Given[], operation: string): number {
  let common: { readonly name: string; readonly length: number } | undefined;
  for (const { name, values, arrow } of given) {
    const length = arrow === undefined ? lengthOf(values) : arrow.length;
    if (!Number.isSafeInteger(length) || length < 0 || (Array.isArray(values) && length > MAX_LENGTH))
      throw invalid(
        operation,
        `column ${name} has no length: its memory was transferred away, or it lies`,
        name,
      );
    if (common === undefined) common = { name, length };
    else if (length !== common.length)
      throw invalid(
        operation,
        `column ${name} has ${length} values where column ${common.name} has ${common.length}`,
        name,
      );
  }
  return common!.length;
}

function lengthOf(values: Values): number {
  return nameOfTyped(values) === undefined ? values.length : lengthOfTyped(values);
}

/** In the order of the schema, each in the way in which it is taken. */
function fitted(
  given: readonly Given[],
  schema: Schema,
  length: number,
  operation: string,
): readonly Source[] {
  const byName = new Map(given.map((one) => [one.name, one]));
  const sources = schema.fields.map((field): Source => {
    const one = byName.get(field.name);
    byName.delete(field.name);
    if (one === undefined) {
      if (!field.nullable && field.type.typeId !== 1)
        throw invalid(
          operation,
          `column ${field.name} is missing: ${typeNotation(field.type)} is wanted`,
          field.name,
        );
      return { values: new Missing(length) };
    }
    if (one.arrow !== undefined) return { chunks: chunksAs(one.arrow, field, length, operation) };
    const data = dataOf(one.values, field.type, length);
    return data === undefined ? { values: one.values } : { chunks: [data] };
  });
  for (const name of byName.keys()) throw invalid(operation, `the schema has no column ${name}`, name);
  return sources;
}

/** Arrow data under a field of its very type: what its accessors give instead may have lost digits. */
function chunksAs(column: ArrowColumn, field: Field, length: number, operation: string): readonly Data[] {
  const { name } = field;
  if (!sameType(column.type, field.type as unknown as ArrowType))
    throw ingestError({
      code: "SCHEMA_MISMATCH",
      operation,
      field: name,
      message:
        `column ${name} holds Arrow data of type ${typeNotation(ours(column.type))}, where the schema has ` +
        `${typeNotation(field.type)}: change the schema, or derive a column of plain values`,
    });
  const chunks = column.chunks(field);
  const rows = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  if (rows !== length)
    throw invalid(operation, `column ${name} says that it has ${length} values, and has ${rows}`, name);
  return chunks;
}

function ours(type: ArrowType): DataType {
  const fields = [{ name: "", type, nullable: true, metadata: new Map() }];
  return rebuildSchema({ fields, metadata: new Map() }).fields[0]!.type;
}

/** Nothing but undefined, as long as the other columns. */
class Missing implements ArrayLike<undefined> {
  readonly [index: number]: undefined;
  readonly length: number;
  constructor(length: number) {
    this.length = length;
  }
}

/** A typed array as Arrow data of this very type; undefined where its values have to be looked at. */
export function dataOf(values: unknown, type: DataType, length: number): Data | undefined {
  const name = nameOfTyped(values);
  if (name === undefined || !holds(name, type)) return undefined;
  const view = viewAs(values, (type as unknown as { ArrayType: typeof Int32Array }).ArrayType);
  if (view === undefined) return undefined;
  return new Data(type, 0, length, 0, [undefined, view, undefined, undefined] as never);
}

interface Facts {
  readonly bitWidth?: number;
  readonly isSigned?: boolean;
  readonly precision?: number;
  readonly unit?: number;
}

/** Whether each bit pattern of such an array is a value of the type, and means the same. */
function holds(name: string, type: DataType): boolean {
  const { bitWidth, isSigned, precision, unit } = type as Facts;
  switch (type.typeId) {
    case 2:
      return (
        name === INTEGERS[`${isSigned === true ? "" : "u"}${bitWidth}`] ||
        (bitWidth === 8 && !isSigned && name === "Uint8ClampedArray")
      );
    case 3:
      return name === FLOATS[precision!];
    case 8:
      // Milliseconds are whole days, and a time of day ends: those are checked.
      return unit === 0 && name === "Int32Array";
    case 10:
    case 18:
      return name === "BigInt64Array";
    case 11:
      return unit === 0 && name === "Int32Array";
    default:
      return false;
  }
}

const INTEGERS: Readonly<Record<string, string>> = {
  "8": "Int8Array",
  "16": "Int16Array",
  "32": "Int32Array",
  "64": "BigInt64Array",
  u8: "Uint8Array",
  u16: "Uint16Array",
  u32: "Uint32Array",
  u64: "BigUint64Array",
};
const FLOATS: readonly string[] = ["Float16Array", "Float32Array", "Float64Array"];

/** Of each class of typed arrays. */
const TYPES: Readonly<Record<string, () => AnyColumn>> = {
  Int8Array: t.int8,
  Int16Array: t.int16,
  Int32Array: t.int32,
  BigInt64Array: t.int64,
  Uint8Array: t.uint8,
  Uint8ClampedArray: t.uint8,
  Uint16Array: t.uint16,
  Uint32Array: t.uint32,
  BigUint64Array: t.uint64,
  Float16Array: t.float16,
  Float32Array: t.float32,
  Float64Array: t.float64,
};

/**
 * The call's or the client's schema; else that of the columns, if all of them name their types; else the table's own,
 * which the destination may have to be asked for.
 */
function* schemaFor(given: readonly Given[], wanted: Wanted): Generator<Promise<unknown>, Schema, undefined> {
  const { schema, table, operation } = wanted;
  if (schema != null) return toArrow(schema, operation);
  const plain = given.filter(({ values }) => values !== undefined && nameOfTyped(values) === undefined);
  if (plain.length === 0) return t.schema(given.map((one) => [one.name, typeOf(one).nullable()])).toArrow();
  let said = table?.known ?? null;
  if (said === null && table !== undefined)
    yield table.get().then((schema) => {
      said = schema;
    });
  if (said === null) throw schemaRequired(given, plain, operation);
  return toArrow(said, operation);
}

/** Of what names its own type. */
function typeOf({ values, arrow }: Given): AnyColumn {
  return arrow === undefined ? TYPES[nameOfTyped(values)!]!() : new ColumnType(ours(arrow.type));
}

const LOOKED_AT = 1_000;

/** With a schema ready to paste, by the strict rules of `inferSchema`. */
function schemaRequired(given: readonly Given[], plain: readonly Given[], operation: string): IngestError {
  const names = plain.slice(0, MAX_NAMES).map(({ name }) => name);
  const which =
    plain.length === 1 ? `column ${names[0]} is an array` : `columns ${names.join(", ")} are arrays`;
  let hint: string;
  let cause: unknown;
  try {
    const types = given.map((one): [string, AnyColumn] => [one.name, typeFor(one)]);
    hint = `This one fits the values given; paste it and narrow it:\n${t.schema(types)}`;
  } catch (thrown) {
    cause = thrown;
    hint = thrown instanceof IngestError ? thrown.message : "reading the values threw";
  }
  return ingestError({
    code: "SCHEMA_REQUIRED",
    operation,
    field: plain[0]!.name,
    message:
      `no schema says what the columns are, and ${which} without a type of ${plain.length === 1 ? "its" : "their"} ` +
      `own: give one as { schema }, here or to connect(). ${hint}`,
    cause,
  });
}

function typeFor(one: Given): AnyColumn {
  const { name, values } = one;
  if (values === undefined || nameOfTyped(values) !== undefined) return typeOf(one);
  const rows = Array.from({ length: Math.min(values.length, LOOKED_AT) }, (_, i) =>
    Object.defineProperty({}, name, {
      value: values instanceof Lookup ? values.at(i) : values[i],
      enumerable: true,
    }),
  );
  return rows.length === 0 ? t.null() : columnOf(inferRows(rows).fields[0]!);
}

const columnOf = ({ type, nullable }: Field): AnyColumn => {
  const column = new ColumnType(type);
  return nullable ? column.nullable() : column;
};
