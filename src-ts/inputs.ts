// What is no Arrow batch and can be sent all the same: columns, and tables of other libraries.
//
// Invariants:
// - Everything is recognised by its shape: none of the libraries is imported, and any copy or version counts.
// - The shape is a claim. What comes of it is checked here as far as it names a column, and by Rust in full.
//
// inputs/input.ts has how an input becomes what a delivery holds; inputs/assemble.ts how columns become batches. There
// is one file for each library.

import type { ArrowSchema } from "./handoff/arrow.js";
import { arqueroInput, isArqueroTable } from "./inputs/arquero.js";
import { columnsInput, columnsOf, isRowOf } from "./inputs/columns.js";
import { duckdbInput, isDuckdbResult } from "./inputs/duckdb.js";
import { flechetteInput, isFlechetteTable } from "./inputs/flechette.js";
import type { Input, Wanted } from "./inputs/input.js";
import { isParquetBatch, isParquetTable, parquetBatchInput, parquetInput } from "./inputs/parquet.js";
import { isPolarsFrame, polarsInput } from "./inputs/polars.js";
import { toArrow } from "./rows.js";

export { hintFor } from "./inputs/hints.js";
export { each, gather, type Input, Ready, unreadable, type Wanted } from "./inputs/input.js";
export { type ByteSource, type IpcBatchesOptions, ipcBatches } from "./inputs/ipc.js";

/**
 * What was recognised; undefined for all else.
 *
 * @throws {IngestError} `BATCH_INVALID`: its parts do not fit. Whatever else its columns may have to complain about;
 * and what the user's object throws.
 */
export function inputOf(value: unknown, wanted: Wanted): Input | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value) || ArrayBuffer.isView(value))
    return undefined;
  // A frame is a plain object to all who look at its prototype.
  if (isPolarsFrame(value)) return polarsInput(value, wanted);
  if (isPlain(value)) {
    const columns = columnsOf(value, wanted.operation);
    if (columns !== undefined) return columnsInput("an object of columns", columns, wanted);
  }
  if (isFlechetteTable(value)) return flechetteInput(value, wanted);
  if (isArqueroTable(value)) return arqueroInput(value, wanted);
  if (isDuckdbResult(value)) return duckdbInput(value, wanted);
  if (isParquetTable(value)) return parquetInput(value, wanted);
  if (isParquetBatch(value)) return parquetBatchInput(value, wanted);
  return undefined;
}

/** Whether an item of a source is something that `inputOf` recognises, and no row that has nothing but arrays. */
export function isInput(value: object, wanted: Wanted): boolean {
  if (isPolarsFrame(value)) return true;
  // One for each row of a source, so no more is looked at than it takes.
  if (isPlain(value)) {
    const columns = columnsOf(value, wanted.operation);
    if (columns === undefined) return false;
    const schema = wanted.schema ?? wanted.table?.known;
    return schema == null || !isRowOf(columns, toArrow(schema, wanted.operation) as unknown as ArrowSchema);
  }
  return (
    isFlechetteTable(value) ||
    isArqueroTable(value) ||
    isDuckdbResult(value) ||
    isParquetTable(value) ||
    isParquetBatch(value)
  );
}

/** Of this realm or another one, or without a prototype. */
export function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value) as object | null;
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}
