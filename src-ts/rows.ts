// Objects → a table by a schema; and a schema that fits given objects.
//
// Invariants:
// - Rows are read in their order; a row that does not fit is left out and reported, and the table has all others.
// - The event loop has its turn at least every few milliseconds, however many rows there are.
// - What is misuse throws before any row is read.

import { type Schema, Table } from "apache-arrow";
import { IngestError, ingestError } from "./errors.js";
import type { SchemaInput } from "./options.js";
import { checkFillable } from "./rows/build.js";
import { STRETCH_MS } from "./rows/encoded.js";
import { RowEncoder } from "./rows/encoder.js";
import { inferRows } from "./rows/infer.js";
import { kindOf, type RowRejection } from "./rows/refusal.js";
import { type RowOf, type RowSchema, toSchema } from "./schema.js";
import { isDue, turn } from "./turn.js";

export type { RowRefusalCode, RowRejection } from "./rows/refusal.js";

/** Options of {@link tableFromRows}. */
export interface RowsOptions {
  /** What becomes of rows with keys that the schema does not know: refused, or taken without them. Default: `"reject"`. */
  readonly unknownKeys?: "reject" | "drop";
  /** Gives up between two rows; the call then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** What {@link tableFromRows} gives. */
export interface RowsTable {
  /** The rows that fit, in their order, in batches of up to 65,536. */
  readonly table: Table;
  /** One for each row that does not, in order; `row` counts all rows that were given. */
  readonly rejections: readonly RowRejection[];
}

/**
 * Makes a table of rows, as `send` takes it. Every value is checked, and none is changed to fit: a row that does not
 * fit its schema is left out and reported, with the path, what was given and what was wanted. `docs/rows.md` says
 * which values each type takes.
 *
 * @param rows Objects with the columns as keys. A missing key is null where the column is nullable. They are read
 * while the call is under way: change none of them before it settles.
 * @throws {IngestError} `CONFIG_INVALID`: a wrong schema or option. `BATCH_INVALID`: no array of rows.
 * `SCHEMA_MISMATCH`: a column has a type that rows cannot fill, as a union.
 *
 * @example
 * ```ts
 * const order = t.schema({ id: t.int64(), price: t.decimal(18, 4), note: t.utf8().nullable() });
 * const { table, rejections } = await tableFromRows([{ id: 1n, price: "9.95" }], order);
 * await client.send(table);
 * ```
 */
export async function tableFromRows<S extends RowSchema>(
  rows: readonly RowOf<S>[],
  schema: S,
  options?: RowsOptions,
): Promise<RowsTable>;
export async function tableFromRows(
  rows: readonly object[],
  schema: SchemaInput,
  options?: RowsOptions,
): Promise<RowsTable>;
export async function tableFromRows(
  rows: readonly unknown[],
  schema: SchemaInput,
  options?: RowsOptions,
): Promise<RowsTable> {
  const { unknownKeys, signal } = checked(options);
  const arrow = toRowSchema(schema, "tableFromRows");
  checkRows(rows, "tableFromRows");
  const length = lengthOf(rows, "tableFromRows");
  const encoder = new RowEncoder(arrow, { unknownKeys });
  try {
    for (let row = 0; row < length; ) {
      signal?.throwIfAborted();
      row += encoder.step(rows, row, length);
      if (isDue(STRETCH_MS)) await turn();
    }
    encoder.cut();
  } finally {
    encoder.release();
  }
  const { batches, rejections } = encoder;
  return { table: batches.length === 0 ? new Table(arrow) : new Table(arrow, batches), rejections };
}

/**
 * A schema that fits the first 1,000 of some rows, by the strict rules of `specs/rows.md`: a start to paste (see
 * `toString`) and to narrow, for rows that come from somewhere else.
 *
 * @throws {IngestError} `BATCH_INVALID`: no rows, or no type that fits all values of a column; the message says which.
 *
 * @example
 * ```ts
 * console.log(String(inferSchema([{ id: 1, tags: ["new"] }])));
 * // t.schema({
 * //   id: t.int64(),
 * //   tags: t.list(t.utf8()),
 * // })
 * ```
 */
export function inferSchema(rows: readonly object[]): RowSchema {
  checkRows(rows, "inferSchema");
  return inferRows(rows);
}

function checkRows(rows: unknown, operation: string): void {
  if (!Array.isArray(rows))
    throw ingestError({
      code: "BATCH_INVALID",
      operation,
      message: `an array of rows is needed; ${kindOf(rows)} was given`,
    });
}

/** A proxy of an array says what it likes. */
export function lengthOf(rows: readonly unknown[], operation: string): number {
  const { length } = rows;
  if (Number.isSafeInteger(length) && length >= 0) return length;
  throw ingestError({
    code: "BATCH_INVALID",
    operation,
    message: "the array of rows has a length that is no whole number",
  });
}

/**
 * The schema of rows, as {@link toArrow}.
 *
 * @throws {IngestError} As that; `SCHEMA_MISMATCH`: a column has a type that rows cannot fill.
 */
export function toRowSchema(given: unknown, operation: string): Schema {
  const schema = toArrow(given, operation);
  checkFillable(schema, operation);
  return schema;
}

/**
 * A schema as it was given in our classes, the same object each time.
 *
 * @throws {IngestError} `CONFIG_INVALID`: it is none, or a Standard JSON Schema leaves types open.
 */
export function toArrow(given: unknown, operation: string): Schema {
  let schema: Schema | undefined;
  try {
    schema = toSchema(given);
  } catch (cause) {
    if (cause instanceof IngestError) throw cause;
    // A getter of the schema's, or a proxy's trap.
    throw ingestError({
      code: "CONFIG_INVALID",
      operation,
      message: "schema cannot be read: reading it threw",
      issues: [{ path: "schema", message: "cannot be read: reading it threw" }],
      cause,
    });
  }
  if (schema !== undefined) return schema;
  throw wrong(
    "schema",
    `must be t.schema(…), a Schema of apache-arrow or a Standard JSON Schema; ${kindOf(given)} was given`,
    operation,
  );
}

function checked(options: unknown): RowsOptions {
  if (options === undefined) return {};
  if (typeof options !== "object" || options === null)
    throw wrong("options", `must be an object; ${kindOf(options)} was given`);
  for (const key of Object.keys(options))
    if (key !== "unknownKeys" && key !== "signal") throw wrong(key, "is not an option");
  const { unknownKeys, signal } = options as RowsOptions;
  if (unknownKeys !== undefined && unknownKeys !== "reject" && unknownKeys !== "drop")
    throw wrong("unknownKeys", `must be "reject" or "drop"; ${kindOf(unknownKeys)} was given`);
  if (signal !== undefined && typeof (signal as Partial<AbortSignal>)?.throwIfAborted !== "function")
    throw wrong("signal", `must be an AbortSignal; ${kindOf(signal)} was given`);
  return options;
}

function wrong(path: string, message: string, operation = "tableFromRows"): IngestError {
  return ingestError({
    code: "CONFIG_INVALID",
    operation,
    message: `${path} ${message}`,
    issues: [{ path, message }],
  });
}
