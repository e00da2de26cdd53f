// Data frames of `nodejs-polars` → Arrow IPC streams.
//
// Invariants:
// - polars writes them itself, from memory that JavaScript cannot see: one copy, in slices that take a few milliseconds.
// - Where polars cannot write a frame, the column that it cannot write is looked for and named.

import { ingestError } from "../errors.js";
import { isDue, turn } from "../turn.js";
import { type Input, invalid, STRETCH_MS, type Step, type Wanted } from "./input.js";
import { viewAs } from "./views.js";

const WHAT = "a data frame of polars";

interface PolarsFrame {
  readonly height: number;
  readonly columns: readonly string[];
  select(name: string): PolarsFrame;
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
  let written: unknown;
  try {
    written = frame.writeIPCStream();
  } catch (cause) {
    throw culprit(frame, operation, cause) ?? cause;
  }
  const bytes = viewAs(written, Uint8Array);
  if (bytes === undefined) throw invalid(operation, `${WHAT} wrote itself as something that is no bytes`);
  return bytes;
}

/** The error that names the first column which cannot be written alone; polars names none. */
function culprit(frame: PolarsFrame, operation: string, cause: unknown): Error | undefined {
  for (const name of [...frame.columns].map(String)) {
    try {
      frame.select(name).writeIPCStream();
    } catch {
      return ingestError({
        code: "SCHEMA_MISMATCH",
        operation,
        field: name,
        message: `polars cannot write column ${name} as Arrow: drop it, or cast it to another type`,
        cause,
      });
    }
  }
  return undefined;
}
