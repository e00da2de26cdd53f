// By which schema rows are read: the call's, else the client's, else the table's.
//
// Invariants:
// - A schema is never guessed: without any, `SCHEMA_REQUIRED`, whose message holds one to paste.
// - The same schema given again is the same object: what is compiled for it is found again.
// - The destination is asked for its table's schema when rows come without one, and not before.

import type { Schema } from "apache-arrow";
import { type IngestError, ingestError, isError } from "../errors.js";
import { inferSchema, toRowSchema } from "../rows.js";
import type { TableSchema } from "./table-schema.js";

/** What a client knows of schemas. */
export interface Schemas {
  /** As `connect` was given it; whether it is a schema at all has been checked. */
  readonly given: unknown;
  /** The table's own. */
  readonly table: TableSchema;
}

/**
 * The schema for some rows, in our classes: at once where it is known, and else when the destination has said it.
 *
 * @param given The call's own.
 * @param rows Some of the rows, for the message.
 * @throws {IngestError} `CONFIG_INVALID`: what was given is no schema. `SCHEMA_MISMATCH`: rows cannot fill it.
 * @returns A promise rejects with `SCHEMA_REQUIRED` where nobody has a schema, or with what keeps the destination from
 * answering.
 */
export function schemaForRows(
  given: unknown,
  { given: ofClient, table }: Schemas,
  rows: readonly unknown[],
  operation: string,
): Schema | Promise<Schema> {
  const known = given ?? ofClient ?? table.known;
  if (known != null) return toRowSchema(known, operation);
  return table.get().then((said) => {
    if (said === null) throw schemaRequired(rows, operation);
    return toRowSchema(said, operation);
  });
}

function schemaRequired(rows: readonly unknown[], operation: string): IngestError {
  let hint: string;
  let cause: unknown;
  try {
    hint = `This one fits the rows given; paste it and narrow it:\n${inferSchema(rows as readonly object[])}`;
  } catch (error) {
    cause = error;
    hint = isError(error) ? error.message : "";
  }
  return ingestError({
    code: "SCHEMA_REQUIRED",
    operation,
    message: `no schema says what the columns of these rows are: give one as { schema }, here or to connect(). ${hint}`,
    cause,
  });
}
