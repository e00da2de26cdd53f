// Refused rows that a client kept, read back.
//
// Invariants:
// - Only files that are whole are listed, and only those that a client wrote.
// - What is given as rows has the schema that was sent: without the columns that say why.
//
// It sends nothing again and needs no client: a file may come from another process.

import { readdir, readFile, rm, stat } from "node:fs/promises";
import * as path from "node:path";
import { Data, RecordBatch, Schema, Struct, Table, tableFromIPC } from "apache-arrow";
import { type ErrorCode, ingestError } from "./errors.js";
import { rowFromJson } from "./rows/json.js";
import { type RowSchema, t } from "./schema.js";

/** One file of a dead-letter directory. */
export interface DeadLetterFile {
  readonly path: string;
  readonly bytes: number;
  /** When it got its last row, or a little later. */
  readonly finished: Date;
}

/** Why a row was refused. */
export interface DeadLetterRejection {
  /** The destination's message; of a row that does not fit its schema, what was given and what was wanted. */
  readonly reason: string;
  /** The destination's own word for the reason; of a row that does not fit, a {@link RowRefusalCode}. */
  readonly code: string;
  /** Number of the delivery within the client that sent it. */
  readonly sequence: bigint;
  /** From 0, through all batches of that delivery, or all rows that were given for it. */
  readonly row: number;
  /** When it was refused. */
  readonly time: Date;
}

/** Rows that do not fit their schema. */
export interface UnfitRows {
  /**
   * The rows as they were given: plain objects, with bigints, dates and bytes. What could not be kept of one is a symbol
   * in its place, which no column takes.
   */
  readonly rows: readonly object[];
  /** How they were read. To send them again, once corrected: `client.send(unfit.rows, unfit.reading)`. */
  readonly reading: { readonly schema: RowSchema; readonly unknownKeys: "reject" | "drop" };
}

/** What a file holds. */
export interface DeadLetterContent {
  /**
   * The refused rows in the schema in which they were sent. Can be sent again as it is. Of a file of rows that do not fit
   * their schema: none, as they are in `unfit`.
   */
  readonly rows: Table;
  /** Of a file of rows that do not fit their schema; of one of rows that a destination refused, null. */
  readonly unfit: UnfitRows | null;
  /** One for each of these rows, in order. */
  readonly rejections: readonly DeadLetterRejection[];
  /** The rows with the columns that say why, as they are in the file. */
  readonly table: Table;
}

/** In the schema's metadata of a file of rows that were no Arrow values: the form of its one column, and their schema. */
export interface UnfitMetadata {
  readonly "arrow-ingest.dead-letter.rows": "json";
  /** The schema that the rows do not fit: an Arrow IPC stream without batches, as base64. */
  readonly "arrow-ingest.dead-letter.schema": string;
  readonly "arrow-ingest.dead-letter.unknown-keys": "reject" | "drop";
}

/** In the schema's metadata: how the names of the added columns begin. */
const PREFIX_KEY = "arrow-ingest.dead-letter.prefix";
const ADDED = 5;
const NAME = /^rejected-\d+-[0-9a-f]+\.arrow$/;

/** What the file system says, in our words. */
function ofTheDisk(what: string, cause: unknown): Error {
  const system = (cause as NodeJS.ErrnoException).code;
  const codes: Record<string, ErrorCode> = {
    ENOENT: "NOT_FOUND",
    ENOTDIR: "NOT_FOUND",
    EACCES: "PERMISSION_DENIED",
    EPERM: "PERMISSION_DENIED",
  };
  const code = codes[system ?? ""] ?? "UNAVAILABLE";
  const why = code === "NOT_FOUND" ? "there is no such file or directory" : String(system ?? cause);
  return ingestError({ code, message: `${what}: ${why}`, operation: "read", cause });
}

/**
 * The files of a dead-letter directory that are whole, the oldest first. A file that a client still writes to is
 * not among them: it is closed at `deadLetter.maxFileBytes`, when nothing came for a second, and at `close`.
 *
 * @throws {IngestError} `NOT_FOUND` for a directory that is not there (nothing was refused yet), `PERMISSION_DENIED`
 * and `UNAVAILABLE` for one that cannot be read; the system's own error is the cause.
 */
export async function listDeadLetters(directory: string): Promise<DeadLetterFile[]> {
  const all = await readdir(directory).catch((error) => {
    throw ofTheDisk(`the dead-letter directory ${directory} cannot be read`, error);
  });
  const names = all.filter((name) => NAME.test(name)).sort();
  const files = names.map(async (name): Promise<DeadLetterFile | null> => {
    const file = path.join(directory, name);
    // A client may have removed it since to make room.
    const facts = await stat(file).catch(() => null);
    return facts && { path: file, bytes: facts.size, finished: facts.mtime };
  });
  return (await Promise.all(files)).filter((file) => file !== null);
}

/**
 * The refused rows of one file, and why each was refused.
 *
 * @throws {IngestError} `BATCH_INVALID` for a file that no client wrote; `NOT_FOUND`, `PERMISSION_DENIED` or
 * `UNAVAILABLE` for one that cannot be read.
 */
export async function readDeadLetter(file: string | DeadLetterFile): Promise<DeadLetterContent> {
  const name = typeof file === "string" ? file : file.path;
  const bytes = await readFile(name).catch((error) => {
    throw ofTheDisk(`the dead-letter file ${name} cannot be read`, error);
  });
  let table: Table;
  try {
    table = tableFromIPC(bytes);
  } catch (cause) {
    throw ingestError({
      code: "BATCH_INVALID",
      message: `${name} is no Arrow file`,
      operation: "read",
      cause,
    });
  }
  const metadata = new Map(table.schema.metadata);
  const prefix = metadata.get(PREFIX_KEY);
  const kept = table.schema.fields.length - ADDED;
  if (prefix === undefined || kept < 0)
    throw ingestError({ code: "BATCH_INVALID", message: `${name} holds no dead letters`, operation: "read" });
  const reading = readingOf(metadata, name);
  if (reading !== null) {
    try {
      const unfit = { rows: rowsOf(table), reading };
      const none = new Table(reading.schema.toArrow());
      return { rows: none, unfit, rejections: rejectionsOf(table, prefix), table };
    } catch (cause) {
      const message = `${name}: its rows, or why they were refused, cannot be read`;
      throw ingestError({ code: "BATCH_INVALID", message, operation: "read", cause });
    }
  }
  metadata.delete(PREFIX_KEY);
  const fields = table.schema.fields.slice(0, kept);
  const schema = new Schema(fields, metadata, table.schema.dictionaries);
  const batches = table.batches.map((batch) => {
    const children = batch.data.children.slice(0, kept);
    return new RecordBatch(schema, new Data(new Struct(fields), 0, batch.numRows, 0, {}, children) as never);
  });
  try {
    const rejections = rejectionsOf(table, prefix);
    return { rows: new Table(schema, batches), unfit: null, rejections, table };
  } catch (cause) {
    const message = `${name}: the columns that say why its rows were refused cannot be read`;
    throw ingestError({ code: "BATCH_INVALID", message, operation: "read", cause });
  }
}

/** How rows that are kept as JSON were read; null of a file of other rows. */
function readingOf(metadata: ReadonlyMap<string, string>, name: string): UnfitRows["reading"] | null {
  const known = Object.fromEntries(metadata) as Partial<UnfitMetadata>;
  if (known["arrow-ingest.dead-letter.rows"] !== "json") return null;
  try {
    const message = Buffer.from(known["arrow-ingest.dead-letter.schema"] ?? "", "base64");
    const { schema } = tableFromIPC(message);
    // The library makes an empty table of whatever is no message.
    if (schema.fields.length === 0) throw new TypeError("there is no schema");
    const unknownKeys = known["arrow-ingest.dead-letter.unknown-keys"] === "drop" ? "drop" : "reject";
    return { schema: t.fromArrow(schema), unknownKeys };
  } catch (cause) {
    const message = `${name}: the schema of its rows cannot be read`;
    throw ingestError({ code: "BATCH_INVALID", message, operation: "read", cause });
  }
}

function rowsOf(table: Table): object[] {
  const column = table.getChildAt(0);
  return Array.from({ length: table.numRows }, (_, row) => rowFromJson(column!.get(row) as string) as object);
}

/** @throws {TypeError} Columns are missing, or hold what no client writes. */
function rejectionsOf(table: Table, prefix: string): DeadLetterRejection[] {
  const column = (which: string) => table.getChild(prefix + which);
  const [reason, code, sequence, row, time] = ["reason", "code", "sequence", "row", "time"].map(column);
  return Array.from({ length: table.numRows }, (_, index) => ({
    reason: reason!.get(index) as string,
    code: code!.get(index) as string,
    sequence: sequence!.get(index) as bigint,
    row: Number(row!.get(index)),
    time: new Date(time!.get(index) as number),
  }));
}

/**
 * Removes a file whose rows have been dealt with. One that is gone already is no error.
 *
 * @throws {IngestError} `PERMISSION_DENIED` or `UNAVAILABLE` if it stays.
 */
export async function removeDeadLetter(file: string | DeadLetterFile): Promise<void> {
  const name = typeof file === "string" ? file : file.path;
  await rm(name, { force: true }).catch((error) => {
    throw ofTheDisk(`the dead-letter file ${name} cannot be removed`, error);
  });
}
