// Whatever the user has → what one delivery holds.
//
// Invariants:
// - Objects are recognised by shape: those of another copy or version of `apache-arrow` count.
// - What is not understood is refused by name; nothing is guessed, nothing is dropped.
//
// It reads no data, and it converts none.

import { types } from "node:util";
import type { RecordBatch, Table } from "apache-arrow";
import { type IngestError, ingestError } from "./errors.js";
import { type ArrowBatch, type ArrowTable, isRecordBatch, isTable } from "./handoff/arrow.js";
import { withColumnTypes } from "./handoff/column-types.js";
import type { DeliveryContent } from "./handoff.js";
import { describe } from "./options/checks.js";

/**
 * What can be sent: an `apache-arrow` `RecordBatch` or `Table` (of this or another copy or version of the
 * library, 15 to 21), or Arrow IPC bytes, stream or file format. A `Table` is one delivery, whatever the
 * number of its batches.
 */
export type BatchInput =
  | RecordBatch
  | Table
  | ForeignBatch
  | ForeignTable
  | ArrayBufferView
  | ArrayBufferLike;

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
export type BatchSource = Iterable<BatchInput> | AsyncIterable<BatchInput> | Table | ForeignTable;

/** @throws {IngestError} `BATCH_INVALID` naming what was given. */
export function toContent(input: unknown): DeliveryContent {
  if (ArrayBuffer.isView(input)) return { bytes: input };
  if (isRecordBatch(input)) return { batches: [withColumnTypes(input)] };
  if (isTable(input)) return { batches: batchesOf(input) };
  if (types.isAnyArrayBuffer(input)) return { bytes: new Uint8Array(input) };
  throw refused(
    "send",
    `a RecordBatch or a Table of apache-arrow, or Arrow IPC bytes can be sent, not ${named(input)}`,
  );
}

const refused = (operation: string, message: string): IngestError =>
  ingestError({ code: "BATCH_INVALID", operation, message });

/** The batches of a source, one by one. @throws {IngestError} `BATCH_INVALID` if it is none. */
export function iterate(source: unknown): Iterator<unknown> | AsyncIterator<unknown> {
  // A table is iterable too, by rows, which nobody means.
  if (isTable(source)) return batchesOf(source)[Symbol.iterator]();
  const other = otherTable(source);
  if (other !== undefined)
    throw refused(
      "sendAll",
      `an iterable or a stream of batches is needed, not ${other}, or give that to sendAll() in an array`,
    );
  // Its chunks end anywhere, and each would be refused by itself as bytes that are cut off.
  if (isByteStream(source))
    throw refused(
      "sendAll",
      "an iterable or a stream of batches is needed, not a stream of bytes: give sendAll() " +
        "await RecordBatchReader.from(stream) of apache-arrow, or send() all of the bytes at once",
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
    "sendAll",
    `an iterable or a stream of batches is needed, not ${named(source)}` +
      (ArrayBuffer.isView(source) || isRecordBatch(source) ? "; use send() for a single one" : ""),
  );
}

/** A readable of Node whose chunks are bytes: a file, a socket, a response, the output of a process. */
function isByteStream(source: unknown): boolean {
  const { readableObjectMode, pipe } = (source ?? {}) as { readableObjectMode?: unknown; pipe?: unknown };
  return readableObjectMode === false && typeof pipe === "function";
}

function batchesOf(table: ArrowTable): readonly ArrowBatch[] {
  if (table.batches.length > 0) return table.batches.map(withColumnTypes);
  // A table without batches still has a schema, which is to be checked like any other.
  return [
    { schema: table.schema, data: { length: 0, children: [] as const } as unknown as ArrowBatch["data"] },
  ];
}

/** What it is, and the call that makes something of it that can be sent. */
function named(value: unknown): string {
  const table = otherTable(value);
  if (table !== undefined) return table;
  if (Array.isArray(value)) {
    if (isTable(value[0]) || isRecordBatch(value[0])) return "an array of batches: give it to sendAll()";
    return isPlain(value[0]) ? `an array of rows: ${ROWS}` : "an array";
  }
  if (typeof value === "string") return `${describe(value)}: of a file, send await readFile(path)`;
  if (!isPlain(value)) return describe(value);
  const columns = Object.values(value);
  const isColumns =
    columns.length > 0 && columns.every((column) => Array.isArray(column) || ArrayBuffer.isView(column));
  return isColumns
    ? "an object of columns: send tableFromArrays(columns) of apache-arrow"
    : `a plain object: of rows, ${ROWS}`;
}

const ROWS = "send the table of tableFromRows(rows, schema)";

/** Tables of other libraries that say how to write themselves as Arrow IPC: method, library. */
const WRITERS = [
  ["intoIPCStream", "parquet-wasm"],
  ["writeIPC", "polars"],
  ["toArrowIPC", "Arquero"],
] as const;

function otherTable(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const table = value as Record<string, unknown>;
  for (const [method, library] of WRITERS)
    if (typeof table[method] === "function") return `a table of ${library}: send table.${method}()`;
  // Columns and their names, where apache-arrow has batches.
  if (Array.isArray(table.children) && Array.isArray(table.names) && typeof table.toColumns === "function")
    return 'a table of flechette: send tableToIPC(table, { format: "stream" }) of @uwdata/flechette';
  return undefined;
}

const isPlain = (value: unknown): value is object =>
  typeof value === "object" &&
  value !== null &&
  !Array.isArray(value) &&
  isPlainPrototype(Object.getPrototypeOf(value));

/** Of this realm or another one, or none. */
const isPlainPrototype = (prototype: object | null): boolean =>
  prototype === null || Object.getPrototypeOf(prototype) === null;
