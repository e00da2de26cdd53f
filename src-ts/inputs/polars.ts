// Data frames of `nodejs-polars` → Arrow IPC streams.
//
// Invariants:
// - polars writes them itself, from memory that JavaScript cannot see: one copy, in slices that take a few milliseconds.
// - A column that Arrow cannot hold is named before anything is written.

import { ingestError } from "../errors.js";
import { isDue, turn } from "../turn.js";
import { type Input, invalid, STRETCH_MS, type Step, type Wanted } from "./input.js";
import { viewAs } from "./views.js";

const WHAT = "a data frame of polars";

interface PolarsFrame {
  readonly height: number;
  readonly columns: readonly string[];
  readonly dtypes: readonly unknown[];
  slice(offset: number, length: number): PolarsFrame;
  writeIPCStream(): unknown;
}

export function isPolarsFrame(value: object): value is PolarsFrame {
  const { writeIPCStream, slice, height } = value as Partial<PolarsFrame>;
  return typeof writeIPCStream === "function" && typeof slice === "function" && typeof height === "number";
}

/** Rows of the first slice; the next ones are longer or shorter by the time that one took. */
const FIRST_ROWS = 8_192;
const MAX_ROWS = 1 << 20;

export function polarsInput(frame: PolarsFrame, { operation }: Wanted): Input {
  return {
    what: WHAT,
    made: { reason: "nodejs-polars wrote it as Arrow IPC", isCopy: true },
    *steps(): Generator<Step, void, undefined> {
      const { height } = frame;
      if (!Number.isSafeInteger(height) || height < 0)
        throw invalid(operation, `${WHAT} has no number of rows`);
      refuseObjects(frame, operation);
      let rows = FIRST_ROWS;
      let row = 0;
      do {
        const count = Math.min(rows, height - row);
        const began = performance.now();
        const bytes = written(count === height ? frame : frame.slice(row, count), operation);
        const took = performance.now() - began;
        yield bytes;
        row += count;
        if (took > STRETCH_MS) rows = Math.max(1, rows >> 1);
        else if (took < STRETCH_MS / 3) rows = Math.min(MAX_ROWS, 2 * rows);
        if (isDue(STRETCH_MS)) yield turn();
      } while (row < height);
    },
  };
}

function written(frame: PolarsFrame, operation: string): Uint8Array {
  const bytes = viewAs(frame.writeIPCStream(), Uint8Array);
  if (bytes === undefined) throw invalid(operation, `${WHAT} wrote itself as something that is no bytes`);
  return bytes;
}

/** polars would end the write in the midst of it, and name no column. */
function refuseObjects({ columns, dtypes }: PolarsFrame, operation: string): void {
  const index = [...dtypes].findIndex((type) => /\bObject\b/.test(String(type)));
  if (index < 0) return;
  const name = String(columns[index]);
  throw ingestError({
    code: "SCHEMA_MISMATCH",
    operation,
    field: name,
    message: `column ${name} of ${WHAT} holds JavaScript objects, which Arrow cannot: drop it, or cast it to a type of polars`,
  });
}
