// Whatever the user has → what one delivery holds.
//
// Invariants:
// - Objects are recognised by shape: those of another copy or version of `apache-arrow` count.
// - What is not understood is refused by name, with the call that would do; nothing is guessed, nothing is dropped.
//
// It reads no data, and it converts none: src-ts/inputs.ts does, of what is no Arrow batch.

import { types } from "node:util";
import type { RecordBatch, Table } from "apache-arrow";
import { type IngestError, ingestError } from "./errors.js";
import { type ArrowBatch, type ArrowTable, isRecordBatch, isTable } from "./handoff/arrow.js";
import { withColumnTypes } from "./handoff/column-types.js";
import type { DeliveryContent } from "./handoff.js";
import {
  each,
  gather,
  hintFor,
  type Input,
  inputOf,
  isInput,
  isPlain,
  Ready,
  unreadable,
  type Wanted,
} from "./inputs.js";
import { describe } from "./options/checks.js";

/**
 * What can be sent: an `apache-arrow` `RecordBatch` or `Table` (of this or another copy or version of the
 * library, 15 to 21), Arrow IPC bytes, stream or file format, an object of columns, or a table of another library.
 * A `Table` is one delivery, whatever the number of its batches. `specs/inputs.md` has all of it.
 */
export type BatchInput =
  | RecordBatch
  | Table
  | ForeignBatch
  | ForeignTable
  | ArrayBufferView
  | ArrayBufferLike
  | ColumnsInput
  | LibraryTable;

/**
 * Columns by name, all of one length. Typed arrays are handed over as they are where the schema, if there is one, has
 * their type; the values of other arrays go by the rules of rows, and need a schema.
 */
export type ColumnsInput = Readonly<Record<string, readonly unknown[] | Exclude<ArrayBufferView, DataView>>>;

/**
 * A table of another library, known by its shape: of `@uwdata/flechette`, Arquero, `nodejs-polars`, `parquet-wasm`, or
 * a result of `@duckdb/node-api`.
 */
export type LibraryTable =
  | { readonly names: readonly unknown[]; readonly children: readonly unknown[]; toColumns(): object }
  | { columnNames(): string[]; column(name: string): unknown; reify(): object }
  | { readonly height: number; writeIPCStream(): unknown }
  | { readonly numBatches: number; recordBatch(index: number): unknown; intoIPCStream(): Uint8Array }
  | { columnNames(): readonly string[]; columnTypes(): readonly object[]; fetchChunk(): Promise<unknown> };

/** A `RecordBatch` of another copy or version of `apache-arrow`. */
export interface ForeignBatch {
  readonly schema: { readonly fields: readonly object[] };
  readonly data: { readonly length: number; readonly children: readonly object[] };
}

/** A `Table` of another copy or version of `apache-arrow`. */
export interface ForeignTable {
  readonly schema: { readonly fields: readonly object[] };
  readonly batches: readonly object[];
}

/** A source of batches: an array, a generator, a `RecordBatchReader`, a `ReadableStream`, a `Table`, … */
export type BatchSource =
  | Iterable<BatchInput>
  | AsyncIterable<BatchInput>
  | Table
  | ForeignTable
  | ColumnsInput
  | LibraryTable;

/** A source of rows: an array, a generator, a `ReadableStream`, … of objects, or of arrays of them. */
export type RowSource<Row> = Iterable<Row | readonly Row[]> | AsyncIterable<Row | readonly Row[]>;

/**
 * @returns A promise only of what takes more than a few milliseconds, or has to be waited for.
 * @throws {IngestError} `BATCH_INVALID` naming what was given, and what inputs have to complain about.
 */
export function toContent(input: unknown, wanted: Wanted): DeliveryContent | Promise<DeliveryContent> {
  try {
    return recognised(input, wanted);
  } catch (thrown) {
    throw unreadable("what was given", wanted.operation, thrown);
  }
}

function recognised(input: unknown, wanted: Wanted): DeliveryContent | Promise<DeliveryContent> {
  if (ArrayBuffer.isView(input)) return { bytes: input };
  if (isRecordBatch(input)) return { batches: [withColumnTypes(input)] };
  if (isTable(input)) return { batches: batchesOf(input) };
  if (types.isAnyArrayBuffer(input)) return { bytes: new Uint8Array(input) };
  if (input instanceof Ready) return input.content;
  const other = inputOf(input, wanted);
  if (other !== undefined) return gather(other, wanted);
  throw refused(
    wanted.operation,
    `a RecordBatch or a Table of apache-arrow, an array of rows, columns, a table of another library, or Arrow IPC bytes can be sent, ` +
      `not ${named(input)}`,
  );
}

/** The rows, if it is an array of them: of whatever is no batch. What they hold is not looked at. */
export function rowsIn(input: unknown): readonly unknown[] | undefined {
  try {
    if (!Array.isArray(input)) return undefined;
    return input.length > 0 && isBatch(input[0]) ? undefined : input;
  } catch {
    // A proxy that throws: whoever else looks at it says so.
    return undefined;
  }
}

/** Whether an item of a source is one row: an object, and none that is something else that can be sent. */
export function isRow(item: unknown, wanted: Wanted): item is object {
  if (typeof item !== "object" || item === null || Array.isArray(item)) return false;
  try {
    if (isBatch(item) || item instanceof Ready || isInput(item, wanted)) return false;
    if (isPlain(item)) return true;
    const prototype = Object.getPrototypeOf(item) as object;
    if (prototype === rowPrototype) return true;
    if (hintFor(item) !== undefined) return false;
    rowPrototype = prototype;
    return true;
  } catch {
    // A row that throws while it is looked at is refused as a row.
    return true;
  }
}

/** Of the last row that is of a class: hints look at many things. */
let rowPrototype: object | undefined;

const isBatch = (value: unknown): boolean =>
  ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value) || isRecordBatch(value) || isTable(value);

/** What a delivery without rows holds: its schema, which is to be checked like any other. */
export function emptyBatch(schema: ArrowBatch["schema"]): ArrowBatch {
  return { schema, data: { length: 0, children: [] as const } as unknown as ArrowBatch["data"] };
}

const refused = (operation: string, message: string): IngestError =>
  ingestError({ code: "BATCH_INVALID", operation, message });

/**
 * The batches of a source, one by one.
 *
 * @param wanted What is said about columns, should the source be some.
 * @throws {IngestError} `BATCH_INVALID` if it is none.
 */
export function iterate(source: unknown, wanted: Wanted): Iterator<unknown> | AsyncIterator<unknown> {
  // A table is iterable too, by rows, which nobody means.
  if (isTable(source)) return batchesOf(source)[Symbol.iterator]();
  const other = otherInput(source, wanted);
  if (other !== undefined) return each(other, wanted);
  // Its chunks end anywhere, and each would be refused by itself as bytes that are cut off.
  if (isByteStream(source))
    throw refused(
      wanted.operation,
      "an iterable or a stream of batches is needed, not a stream of bytes: give sendAll() ipcBatches(stream), " +
        "or send() all of the bytes at once",
    );
  if (
    typeof source === "object" &&
    source !== null &&
    !ArrayBuffer.isView(source) &&
    !isRecordBatch(source)
  ) {
    const { [Symbol.asyncIterator]: later, [Symbol.iterator]: now } = source as Partial<
      AsyncIterable<unknown> & Iterable<unknown>
    >;
    if (typeof later === "function") return later.call(source);
    if (typeof now === "function") return now.call(source);
  }
  throw refused(
    wanted.operation,
    `an iterable or a stream of batches is needed, not ${named(source)}` +
      (ArrayBuffer.isView(source) || isRecordBatch(source) ? "; use send() for a single one" : ""),
  );
}

function otherInput(source: unknown, wanted: Wanted): Input | undefined {
  try {
    return inputOf(source, wanted);
  } catch (thrown) {
    throw unreadable("what was given", wanted.operation, thrown);
  }
}

/** A readable of Node whose chunks are bytes: a file, a socket, a response, the output of a process. */
function isByteStream(source: unknown): boolean {
  const { readableObjectMode, pipe } = (source ?? {}) as { readableObjectMode?: unknown; pipe?: unknown };
  return readableObjectMode === false && typeof pipe === "function";
}

function batchesOf(table: ArrowTable): readonly ArrowBatch[] {
  if (table.batches.length > 0) return table.batches.map(withColumnTypes);
  return [emptyBatch(table.schema)];
}

/** What it is, and the call that makes something of it that can be sent. */
function named(value: unknown): string {
  if (Array.isArray(value)) {
    return "an array of batches: give it to sendAll()";
  }
  const hint = hintFor(value);
  if (hint !== undefined) return hint;
  return typeof value === "object" && value !== null && isPlain(value)
    ? "a plain object: give rows in an array; of columns, give an array or a typed array for each"
    : describe(value);
}
