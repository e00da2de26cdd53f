// By which schema rows are read: the call's, else the client's, else the table's.
//
// Invariants:
// - A schema is never guessed: without any, `SCHEMA_REQUIRED`, whose message holds one to paste.
// - The same schema given again is the same object: what is compiled for it is found again.
//
// It asks no destination; whoever learns of the table's schema puts it into `Schemas`.

import type { Schema } from "apache-arrow";
import { type IngestError, ingestError, isError } from "../errors.js";
import { inferSchema, toArrow } from "../rows.js";

/** What a client knows of schemas. */
export class Schemas {
  /** As `connect` was given it; whether it is a schema at all has been checked. */
  readonly given: unknown;
  /** The table's own, where the destination has said it. */
  table: Schema | undefined;

  constructor(given: unknown) {
    this.given = given;
  }
}

/**
 * The schema for some rows, in our classes.
 *
 * @param given The call's own.
 * @param rows Some of the rows, for the message.
 * @throws {IngestError} `CONFIG_INVALID`: what was given is no schema. `SCHEMA_REQUIRED`: nobody has one.
 */
export function schemaForRows(
  given: unknown,
  schemas: Schemas,
  rows: readonly unknown[],
  operation: string,
): Schema {
  const schema = given ?? schemas.given ?? schemas.table;
  if (schema != null) return toArrow(schema, operation);
  throw schemaRequired(rows, operation);
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
