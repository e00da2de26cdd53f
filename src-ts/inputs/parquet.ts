// Tables of `parquet-wasm` → Arrow IPC streams.
//
// Invariants:
// - They are copied out of WebAssembly memory, batch by batch, and stay what they are: `intoIPCStream` uses up what it
//   is called on, so it is called on handles that are made for it.

import { isDue, turn } from "../turn.js";
import { type Input, invalid, STRETCH_MS, type Step, type Wanted } from "./input.js";
import { viewAs } from "./views.js";

const WHAT = "a table of parquet-wasm";

interface Writable {
  intoIPCStream(): unknown;
}

interface ParquetTable extends Writable {
  readonly numBatches: number;
  readonly schema: Writable;
  recordBatch(index: number): Writable | undefined;
}

interface ParquetBatch extends Writable {
  readonly numRows: number;
  slice(offset: number, length: number): Writable;
}

export function isParquetTable(value: object): value is ParquetTable {
  const { intoIPCStream, recordBatch } = value as Partial<ParquetTable>;
  return typeof intoIPCStream === "function" && typeof recordBatch === "function";
}

export function isParquetBatch(value: object): value is ParquetBatch {
  const { intoIPCStream, slice } = value as Partial<ParquetBatch>;
  return typeof intoIPCStream === "function" && typeof slice === "function";
}

const made = { reason: "it was copied out of WebAssembly memory as Arrow IPC", isCopy: true };

export function parquetInput(table: ParquetTable, { operation }: Wanted): Input {
  return {
    what: WHAT,
    made,
    *steps(): Generator<Step, void, undefined> {
      const count = table.numBatches;
      if (!Number.isSafeInteger(count) || count < 0)
        throw invalid(operation, `${WHAT} has no number of batches`);
      if (count === 0) yield written(table.schema, operation);
      for (let index = 0; index < count; index++) {
        const batch = table.recordBatch(index);
        if (batch == null)
          throw invalid(operation, `${WHAT} says that it has ${count} batches, and has ${index}`);
        yield written(batch, operation);
        if (isDue(STRETCH_MS)) yield turn();
      }
    },
  };
}

export function parquetBatchInput(batch: ParquetBatch, { operation }: Wanted): Input {
  return {
    what: "a record batch of parquet-wasm",
    made,
    *steps(): Generator<Step, void, undefined> {
      yield written(batch.slice(0, batch.numRows), operation);
    },
  };
}

function written(handle: Writable, operation: string): Uint8Array {
  const bytes = viewAs(handle.intoIPCStream(), Uint8Array);
  if (bytes === undefined) throw invalid(operation, `${WHAT} wrote itself as something that is no bytes`);
  return bytes;
}
