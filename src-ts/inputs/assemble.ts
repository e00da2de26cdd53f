// Columns → record batches.
//
// A column is either chunks of Arrow data, which are handed on as they are, or an array of values, which is encoded by
// the rules of rows.
//
// Invariants:
// - No byte of a chunk is read or copied: a batch gets the chunk, or a slice of it.
// - A batch ends where a chunk ends, and, once values are encoded, where a batch of rows would end.
// - A value that does not fit ends it all: the error names its column and row. A row cannot be left out of chunks
//   that are lent.
// - Steps take a few milliseconds at most.

import { Data, type Field, RecordBatch, Schema, Struct } from "apache-arrow";
import { ingestError } from "../errors.js";
import type { ArrowBatch } from "../handoff/arrow.js";
import { planOf } from "../handoff/plan.js";
import { emptyBatch } from "../handoff/rebuild.js";
import { columnOfValues } from "../rows/build.js";
import { type Column, type Context, TOO_MANY } from "../rows/column.js";
import { CAN_COMPILE, forgetLoops, loopsOf } from "../rows/compile.js";
import {
  CHUNK_ITEMS,
  CHUNK_UNITS,
  FIRST_CHUNK,
  LONG_MS,
  MAX_BYTES,
  MAX_CHUNK,
  MAX_ROWS,
  ROW_BYTES,
  ROW_ITEMS,
  ROW_UNITS,
  SHORT_MS,
} from "../rows/limits.js";
import { kindOf, type RowRefusalCode } from "../rows/refusal.js";
import { isDue, turn } from "../turn.js";
import { STRETCH_MS, type Step } from "./input.js";

/** One column of an input. */
export type Source =
  | { readonly chunks: readonly Data[]; readonly values?: undefined }
  | { readonly values: Values; readonly chunks?: undefined };

/** Values by their row. */
export type Values = ArrayLike<unknown> | Lookup;

/** Values that are asked for one by one. */
export class Lookup {
  readonly length: number;
  readonly at: (row: number) => unknown;

  constructor(length: number, at: (row: number) => unknown) {
    this.length = length;
    this.at = at;
  }
}

/** Rows of a batch in which nothing is encoded: its length crosses as a number of 32 bits. */
const MAX_LENT_ROWS = 2 ** 30;

/**
 * @param schema Of our classes; a chunk has the type of its field.
 * @param length Rows: every source has as many.
 */
export function* assemble(
  schema: Schema,
  sources: readonly Source[],
  length: number,
  operation: string,
): Generator<Step, void, undefined> {
  if (length === 0) {
    yield emptyBatch(schema) as unknown as ArrowBatch;
    return;
  }
  const encoded = sources.flatMap(({ values }, index) => (values === undefined ? [] : [index]));
  const encoder = encoded.length === 0 ? undefined : new Encoder(schema, encoded, operation);
  encoder?.give(
    encoded.map((index) => sources[index]!.values!),
    0,
  );
  const lent = sources.map(({ chunks }) => (chunks === undefined ? undefined : new Chunks(chunks)));
  for (let row = 0; row < length; ) {
    let end = Math.min(length, row + MAX_LENT_ROWS);
    for (const chunks of lent) if (chunks !== undefined) end = Math.min(end, chunks.end);
    if (encoder !== undefined) end = row + (yield* encoder.encode(row, end));
    const data = encoder === undefined ? undefined : yield* encoder.finish();
    let next = 0;
    const children = lent.map((chunks) => (chunks === undefined ? data![next++]! : chunks.take(end - row)));
    yield batchOf(schema, end - row, children);
    row = end;
  }
}

/** The chunks of a column, taken from the front. */
class Chunks {
  readonly #chunks: readonly Data[];
  #index = 0;
  /** Where the chunk in turn begins, and where it ends. */
  #start = 0;
  #row = 0;
  end = 0;

  constructor(chunks: readonly Data[]) {
    this.#chunks = chunks;
    this.#toNext();
  }

  /** Rows of the chunk in turn. */
  take(count: number): Data {
    const chunk = this.#chunks[this.#index]!;
    const from = this.#row - this.#start;
    this.#row += count;
    const isWhole = from === 0 && count === chunk.length;
    if (this.#row === this.end) {
      this.#index++;
      this.#toNext();
    }
    return isWhole ? chunk : chunk.slice(from, count);
  }

  #toNext(): void {
    while (this.#index < this.#chunks.length && this.#chunks[this.#index]!.length === 0) this.#index++;
    this.#start = this.end;
    this.end += this.#chunks[this.#index]?.length ?? 0;
  }
}

/** Under the schema given: the library makes one of its own for each batch, and merges columns that share a name. */
export function batchOf(schema: Schema, length: number, children: readonly Data[]): ArrowBatch {
  const data = new Data(new Struct(schema.fields), 0, length, 0, {}, children as Data[]);
  const batch = new RecordBatch(schema, data as never);
  (batch as { schema: Schema }).schema = schema;
  return batch as unknown as ArrowBatch;
}

interface Refusal {
  readonly row: number;
  readonly path: string;
  readonly code: RowRefusalCode;
  readonly message: string;
  readonly value: unknown;
}

/** Arrays of values → columns of one batch after another, by the rules of rows. */
export class Encoder implements Context {
  failures = 0;
  maxItems = 0;
  maxUnits = 0;
  maxBytes = 0;
  readonly refusesUnknownKeys = true;
  owner: object | undefined;
  readonly #names: readonly string[];
  readonly #operation: string;
  readonly #columns: readonly Column[];
  readonly #maxRows: number;
  /** A chunk of each. */
  readonly #held: unknown[][];
  #values: readonly Values[] = [];
  /** The number of the row that the arrays begin with, for errors. */
  #first = 0;
  #chunk = FIRST_CHUNK;
  #ceiling = MAX_CHUNK;
  /** Of the chunk under way: its first row, and the refusal that stands first. */
  #base = 0;
  #refusal: Refusal | undefined;

  /** @param encoded Which of the schema's columns. */
  constructor(schema: Schema, encoded: readonly number[], operation: string) {
    const fields = encoded.map((index) => schema.fields[index]!);
    this.#names = fields.map((field) => field.name);
    this.#operation = operation;
    const loops = loopsOf(`values:${keyOf(schema, fields)}`, CAN_COMPILE);
    this.#columns = fields.map((field) => columnOfValues(field, this, loops));
    this.#held = fields.map(() => new Array<unknown>(MAX_CHUNK));
    forgetLoops();
    const width = this.#columns.reduce((sum, column) => sum + column.elementBytes, 0);
    this.#maxRows = Math.min(MAX_ROWS, Math.max(1, Math.floor(MAX_BYTES / Math.max(1, width))));
  }

  /** Rows of the batch under way. */
  get rows(): number {
    return this.#columns[0]!.length;
  }

  get isFull(): boolean {
    if (this.rows >= this.#maxRows) return true;
    let size = 0;
    for (const column of this.#columns) size += column.size;
    return size >= MAX_BYTES;
  }

  /**
   * The arrays to go on with.
   *
   * @param first The number of their first row.
   * @param owner What owns their memory: it lives as long as they are read.
   */
  give(values: readonly Values[], first: number, owner?: object): void {
    this.#values = values;
    this.#first = first;
    this.owner = owner;
  }

  /**
   * Encodes rows from `from` on until the batch is full, or until `end`.
   *
   * @returns How many. What is left goes to the next batch.
   * @throws {IngestError} `BATCH_INVALID`: a value does not fit.
   */
  *encode(from: number, end: number): Generator<Promise<unknown>, number, undefined> {
    let row = from;
    while (row < end && !this.isFull) {
      const done = this.#step(row, end);
      if (done < 0) break;
      row += done;
      if (isDue(STRETCH_MS)) yield turn();
    }
    return row - from;
  }

  /** The columns of the batch, and none any more here. */
  *finish(): Generator<Promise<unknown>, Data[], undefined> {
    this.#ceiling = MAX_CHUNK;
    // What a null takes in a dictionary without values is no part of a chunk.
    this.maxItems = ROW_ITEMS;
    this.maxBytes = ROW_BYTES;
    const finished: Data[] = [];
    for (const column of this.#columns) {
      finished.push(column.finish());
      if (isDue(STRETCH_MS)) yield turn();
    }
    return finished;
  }

  refuse(row: number, path: string, code: RowRefusalCode, message: string, value: unknown): void {
    if (this.#refusal === undefined || row < this.#refusal.row)
      this.#refusal = { row, path, code, message, value };
  }

  /** Rows encoded; 0: they are to be tried again; -1: they go to the next batch. */
  #step(from: number, end: number): number {
    const columns = this.#columns;
    const { rows } = this;
    const count = Math.min(this.#chunk, end - from, this.#maxRows - rows);
    if (rows === 0) for (const column of columns) column.reserve(Math.min(end - from, this.#maxRows));
    const began = performance.now();
    this.#base = from;
    this.#refusal = undefined;
    this.maxItems = count > 1 ? CHUNK_ITEMS : ROW_ITEMS;
    this.maxUnits = count > 1 ? CHUNK_UNITS : ROW_UNITS;
    this.maxBytes = count > 1 ? MAX_BYTES : ROW_BYTES;
    try {
      for (let i = 0; i < columns.length; i++) columns[i]!.encode(this.#hold(i, from, count), count);
    } catch (error) {
      if (error !== TOO_MANY) throw error;
      for (const column of columns) column.truncate(rows);
      return this.#less(rows, count);
    }
    if (this.#refusal !== undefined) throw this.#refused(this.#refusal);
    const took = performance.now() - began;
    if (took > LONG_MS && count > 1) this.#chunk = Math.max(1, count >> 1);
    else if (took < SHORT_MS && count === this.#chunk) this.#chunk = Math.min(this.#ceiling, 2 * count);
    return count;
  }

  /** Each value is read once, here: an array may be a proxy, and change what it gives. */
  #hold(index: number, from: number, count: number): unknown[] {
    const values = this.#values[index]!;
    const held = this.#held[index]!;
    let i = 0;
    try {
      if (values instanceof Lookup) for (; i < count; i++) held[i] = values.at(from + i);
      else for (; i < count; i++) held[i] = values[from + i];
    } catch (thrown) {
      throw this.#error(from + i, this.#names[index]!, "reading it threw", thrown);
    }
    return held;
  }

  #less(rows: number, count: number): number {
    if (count > 1) {
      this.#chunk = count >> 1;
      this.#ceiling = this.#chunk;
      return 0;
    }
    if (rows > 0) return -1;
    throw this.#error(this.#base, this.#names[0]!, "it holds more than one row may (ROW_TOO_LARGE)");
  }

  #refused({ row, path, code, message, value }: Refusal): Error {
    const given = code === "VALUE_THREW" ? `${kindOf(value)} was thrown` : `${kindOf(value)} was given`;
    return this.#error(
      this.#base + row,
      path,
      `${given}, ${message} (${code})`,
      code === "VALUE_THREW" ? value : undefined,
    );
  }

  #error(at: number, path: string, message: string, cause?: unknown): Error {
    const row = this.#first + at;
    return ingestError({
      code: "BATCH_INVALID",
      operation: this.#operation,
      field: path,
      row,
      message: `column ${path}, row ${row}: ${message}`,
      cause,
    });
  }
}

const keys = new WeakMap<Schema, Map<string, string>>();
/** Which columns are encoded varies with what the caller gives, between a few combinations at most. */
const MAX_KEYS = 16;

/** What the compiled loops of these columns are known by. */
function keyOf(schema: Schema, fields: readonly Field[]): string {
  let known = keys.get(schema);
  if (known === undefined) {
    known = new Map();
    keys.set(schema, known);
  }
  const which = fields.map((field) => schema.fields.indexOf(field)).join();
  let key = known.get(which);
  if (key === undefined) {
    key = planOf(new Schema([...fields])).key;
    if (known.size >= MAX_KEYS) known.clear();
    known.set(which, key);
  }
  return key;
}
