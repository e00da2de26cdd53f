// Results of `@duckdb/node-api` → record batches.
//
// Invariants:
// - Their memory is DuckDB's, which frees it with the chunk: every value is copied, by the rules of rows, under a schema
//   made of DuckDB's types. Chunks are gathered into batches.
// - Values are read from the vectors of a chunk, never from rows of JSON: no digit is lost.
// - What Arrow cannot say exactly is refused by the name of its column: a type before a row is read, an infinite date
//   by its row.
// - A materialised result stays what it is; a streaming one is read, and is used up.

import { Field, Schema } from "apache-arrow";
import { ingestError } from "../errors.js";
import type { ArrowBatch } from "../handoff/arrow.js";
import { emptyBatch } from "../handoff/rebuild.js";
import { lengthOfTyped } from "../rows/attend.js";
import { type AnyColumn, type ColumnType, t } from "../schema.js";
import { isDue, turn } from "../turn.js";
import { batchOf, Encoder } from "./assemble.js";
import { type Input, invalid, STRETCH_MS, type Step, type Wanted } from "./input.js";
import { nameOfTyped } from "./views.js";

const WHAT = "a result of DuckDB";

interface DuckdbResult {
  columnNames(): readonly string[];
  columnTypes(): readonly DuckdbType[];
  fetchChunk(): Promise<DuckdbChunk | null>;
  /** Of a materialised one. */
  readonly chunkCount?: number;
  getChunk?(index: number): DuckdbChunk;
}

interface DuckdbChunk {
  readonly rowCount: number;
  getColumnVector(index: number): DuckdbVector;
}

interface DuckdbVector {
  /** Of numbers, the values, those below nulls included. */
  readonly items?: ArrayLike<unknown>;
  readonly validity?: { readonly data: unknown };
  getItem(index: number): unknown;
}

interface DuckdbType {
  readonly typeId: number;
  readonly width?: number;
  readonly scale?: number;
  readonly values?: readonly string[];
  readonly valueType?: DuckdbType;
  readonly keyType?: DuckdbType;
  readonly length?: number;
  readonly entryNames?: readonly string[];
  readonly entryTypes?: readonly DuckdbType[];
}

export function isDuckdbResult(value: object): value is DuckdbResult {
  const { columnNames, columnTypes, fetchChunk } = value as Partial<DuckdbResult>;
  return [columnNames, columnTypes, fetchChunk].every((method) => typeof method === "function");
}

export function duckdbInput(result: DuckdbResult, { operation }: Wanted): Input {
  return {
    what: WHAT,
    made: { reason: "copied: DuckDB's memory goes with its chunks", isCopy: true },
    *steps(): Generator<Step, void, undefined> {
      const names = [...result.columnNames()].map(String);
      const columns = [...result.columnTypes()].map((type, index) =>
        columnOf(type, names[index]!, operation),
      );
      if (columns.length === 0 || columns.length !== names.length)
        throw invalid(operation, `${WHAT} has ${names.length} names and ${columns.length} types of columns`);
      const fields = columns.map(({ column }, index) => new Field(names[index]!, column.type, true));
      const schema = new Schema(fields);
      const encoder = new Encoder(schema, [...fields.keys()], operation);
      let rows = 0;
      let batches = 0;
      for (let index = 0; ; index++) {
        const chunk = yield* chunkAt(result, index);
        const count = chunk?.rowCount ?? 0;
        if (chunk === undefined || count === 0) break;
        if (!Number.isInteger(count) || count < 0 || count > MAX_CHUNK_ROWS)
          throw invalid(operation, `${WHAT} has a chunk of ${String(count)} rows`);
        const values: ArrayLike<unknown>[] = [];
        // A vector is a view of memory that goes with its chunk, and does not keep the chunk.
        encoder.give(values, rows, chunk);
        for (const [at, column] of columns.entries()) {
          const refuse = (row: number): Error => infinite(names[at]!, rows + row, operation);
          values.push(valuesOf(chunk.getColumnVector(at), column, count, refuse));
          if (isDue(STRETCH_MS)) yield turn();
        }
        for (let row = 0; row < count; ) {
          row += yield* encoder.encode(row, count);
          if (row === count && !encoder.isFull) break;
          batches++;
          yield yield* cut(schema, encoder);
        }
        rows += count;
      }
      if (encoder.rows > 0) yield yield* cut(schema, encoder);
      else if (batches === 0) yield emptyBatch(schema) as unknown as ArrowBatch;
    },
  };
}

const infinite = (field: string, row: number, operation: string): Error =>
  ingestError({
    code: "BATCH_INVALID",
    operation,
    field,
    row,
    message: `column ${field}, row ${row}: infinity is no date or time in Arrow: leave such rows out of the query, or cast them`,
  });

/** DuckDB's own have 2,048. */
const MAX_CHUNK_ROWS = 1 << 20;

function* chunkAt(
  result: DuckdbResult,
  index: number,
): Generator<Promise<unknown>, DuckdbChunk | undefined, undefined> {
  if (typeof result.getChunk === "function" && typeof result.chunkCount === "number")
    return index < result.chunkCount ? result.getChunk(index) : undefined;
  let chunk: DuckdbChunk | null | undefined;
  yield (async () => {
    chunk = await result.fetchChunk();
  })();
  return chunk ?? undefined;
}

function* cut(schema: Schema, encoder: Encoder): Generator<Promise<unknown>, ArrowBatch, undefined> {
  const { rows } = encoder;
  return batchOf(schema, rows, yield* encoder.finish());
}

interface DuckdbColumn {
  readonly column: AnyColumn;
  /** What rows take for a value of DuckDB; undefined where that is the value itself. */
  readonly read?: ((value: never) => unknown) | undefined;
}

/** Each value is taken out of DuckDB's memory here. */
function valuesOf(
  vector: DuckdbVector,
  column: DuckdbColumn,
  count: number,
  infinite: (at: number) => Error,
): ArrayLike<unknown> {
  const { items, validity } = vector;
  // Numbers without a null among them are there as they are needed.
  const isPlain = column.read === undefined && validity?.data === null && nameOfTyped(items) !== undefined;
  if (isPlain && lengthOfTyped(items!) >= count) return items!;
  const values = new Array<unknown>(count);
  let at = 0;
  try {
    for (; at < count; at++) values[at] = readOf(column, vector.getItem(at));
  } catch (thrown) {
    throw thrown === INFINITE ? infinite(at) : thrown;
  }
  return values;
}

// DuckDB's numbers of the types that have parts.
const DECIMAL = 19;
const ENUM = 23;
const LIST = 24;
const STRUCT = 25;
const MAP = 26;
const ARRAY = 33;

/** By DuckDB's numbers of types. @throws {IngestError} `SCHEMA_MISMATCH`: Arrow has no such type. */
function columnOf(type: DuckdbType, path: string, operation: string): DuckdbColumn {
  const simple = SIMPLE[type.typeId];
  if (simple !== undefined) return simple;
  const below = (one: DuckdbType | undefined, at: string): DuckdbColumn => columnOf(one!, at, operation);
  switch (type.typeId) {
    case DECIMAL:
      return { column: t.decimal(type.width!, type.scale!), read: String };
    case ENUM: {
      const count = type.values!.length;
      const keys = count <= 256 ? t.uint8() : count <= 65_536 ? t.uint16() : t.uint32();
      return { column: t.dictionary(t.utf8(), keys) };
    }
    case LIST: {
      const item = below(type.valueType, `${path}[]`);
      return { column: t.list(nullable(item)), read: itemsOf(item) };
    }
    case ARRAY: {
      const item = below(type.valueType, `${path}[]`);
      return { column: t.fixedSizeList(type.length!, nullable(item)), read: itemsOf(item) };
    }
    case STRUCT: {
      const names = type.entryNames!.map(String);
      const members = names.map((name, index) => below(type.entryTypes![index], `${path}.${name}`));
      return {
        column: t.struct(members.map((member, index) => [names[index]!, nullable(member)])),
        read: ({ entries }: { entries: Readonly<Record<string, unknown>> }) => {
          const object = Object.create(null) as Record<string, unknown>;
          for (const [index, name] of names.entries()) object[name] = readOf(members[index]!, entries[name]);
          return object;
        },
      };
    }
    case MAP: {
      const key = below(type.keyType, `${path}[].key`);
      const value = below(type.valueType, `${path}[].value`);
      return {
        column: t.map(key.column as ColumnType<unknown>, nullable(value)),
        read: ({ entries }: { entries: readonly { readonly key: unknown; readonly value: unknown }[] }) =>
          entries.map((entry) => [readOf(key, entry.key), readOf(value, entry.value)]),
      };
    }
    default:
      throw ingestError({
        code: "SCHEMA_MISMATCH",
        operation,
        field: path,
        message:
          `column ${path} has DuckDB's type ${String(type)}, which Arrow does not hold exactly: cast it in the query, ` +
          `as in CAST(${path} AS VARCHAR)`,
      });
  }
}

const nullable = ({ column }: DuckdbColumn): AnyColumn => column.nullable();

const readOf = ({ read }: DuckdbColumn, value: unknown): unknown =>
  value === null || read === undefined ? value : read(value as never);

const itemsOf =
  (item: DuckdbColumn) =>
  ({ items }: { items: readonly unknown[] }): unknown =>
    item.read === undefined ? items : items.map((value) => readOf(item, value));

/** A count of days or units, but for the two values by which DuckDB says "infinity". */
const finite =
  (name: string) =>
  (value: Readonly<Record<string, unknown>>): unknown => {
    if (value.isFinite === false) throw INFINITE;
    return value[name];
  };

const INFINITE: object = Object.freeze({ infinite: true });

/** By DuckDB's numbers, as its `DuckDBTypeId` has them. */
const SIMPLE: Readonly<Record<number, DuckdbColumn | undefined>> = {
  1: { column: t.bool() },
  2: { column: t.int8() },
  3: { column: t.int16() },
  4: { column: t.int32() },
  5: { column: t.int64() },
  6: { column: t.uint8() },
  7: { column: t.uint16() },
  8: { column: t.uint32() },
  9: { column: t.uint64() },
  10: { column: t.float32() },
  11: { column: t.float64() },
  12: { column: t.timestamp("us"), read: finite("micros") },
  13: { column: t.date(), read: finite("days") },
  14: { column: t.time("us"), read: ({ micros }: { micros: bigint }) => micros },
  15: {
    column: t.interval("month-day-nano"),
    read: ({ months, days, micros }: { months: number; days: number; micros: bigint }) => ({
      months,
      days,
      microseconds: micros,
    }),
  },
  // Integers of 128 bits: those of more than 38 digits are refused with their row.
  16: { column: t.decimal(38, 0) },
  17: { column: t.utf8() },
  18: { column: t.binary(), read: ({ bytes }: { bytes: Uint8Array }) => bytes },
  20: { column: t.timestamp("s"), read: finite("seconds") },
  21: { column: t.timestamp("ms"), read: finite("millis") },
  22: { column: t.timestamp("ns"), read: finite("nanos") },
  27: { column: t.utf8(), read: String },
  31: { column: t.timestamp("us", "UTC"), read: finite("micros") },
  32: { column: t.decimal(38, 0) },
  36: { column: t.null() },
  39: { column: t.time("ns"), read: ({ nanos }: { nanos: bigint }) => nanos },
};
