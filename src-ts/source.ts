// Whatever the user has → what one delivery holds.
//
// Invariants:
// - Objects are recognised by shape: those of another copy or version of `apache-arrow` count.
// - What is not understood is refused by name; nothing is guessed, nothing is dropped.
//
// It reads no data, and it converts none.

import { types } from "node:util";
import type { RecordBatch, Table } from "apache-arrow";
import { ingestError } from "./errors.js";
import { type ArrowBatch, type ArrowTable, isRecordBatch, isTable } from "./handoff/arrow.js";
import { truthful } from "./handoff/truthful.js";
import type { Cargo } from "./handoff.js";
import { describe } from "./options.js";

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
export function toCargo(input: unknown): Cargo {
  if (ArrayBuffer.isView(input)) return { bytes: input };
  if (isRecordBatch(input)) return { batches: [truthful(input)] };
  if (isTable(input)) return { batches: batchesOf(input) };
  if (types.isAnyArrayBuffer(input)) return { bytes: new Uint8Array(input) };
  throw ingestError({
    code: "BATCH_INVALID",
    operation: "send",
    message: `a RecordBatch, a Table or Arrow IPC bytes can be sent, not ${named(input)}`,
  });
}

/** The batches of a source, one by one. @throws {IngestError} `BATCH_INVALID` if it is none. */
export function iterate(source: unknown): Iterator<unknown> | AsyncIterator<unknown> {
  // A table is iterable too, by rows, which nobody means.
  if (isTable(source)) return batchesOf(source)[Symbol.iterator]();
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
  throw ingestError({
    code: "BATCH_INVALID",
    operation: "sendAll",
    message:
      `an iterable or a stream of batches is needed, not ${named(source)}` +
      (ArrayBuffer.isView(source) || isRecordBatch(source) ? "; use send() for a single one" : ""),
  });
}

function batchesOf(table: ArrowTable): readonly ArrowBatch[] {
  if (table.batches.length > 0) return table.batches.map(truthful);
  // A table without batches still has a schema, which is to be checked like any other.
  return [
    { schema: table.schema, data: { length: 0, children: [] as const } as unknown as ArrowBatch["data"] },
  ];
}

function named(value: unknown): string {
  if (Array.isArray(value)) return value.length > 0 && isPlain(value[0]) ? "an array of rows" : "an array";
  if (isPlain(value))
    return "a plain object (columns are not taken yet; see tableFromArrays of apache-arrow)";
  return describe(value);
}

const isPlain = (value: unknown): boolean =>
  typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
