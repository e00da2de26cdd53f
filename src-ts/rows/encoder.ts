// Rows → record batches, in chunks.
//
// Invariants:
// - Rows come out in the order in which they went in; those that do not fit are left out and reported.
// - A row is refused once, for the first of its faults in the order of the columns.
// - A chunk takes a millisecond or two, whatever rows are like: it grows where they are easy, and is taken back and
//   tried with half of them where they hold more than is to be held at a time.
// - Memory is bounded by one batch, one chunk and what was refused.
//
// It waits for nothing: the caller gives the event loop its turns between steps.

import { Data, RecordBatch, type Schema } from "apache-arrow";
import { planOf } from "../handoff/plan.js";
import { rootOf } from "./build.js";
import { ABSENT, type Context, TOO_MANY } from "./column.js";
import { CAN_COMPILE, forgetLoops, loopsOf } from "./compile.js";
import { rowToJson } from "./json.js";
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
} from "./limits.js";
import { kindOf, type RowRefusalCode, type RowRejection } from "./refusal.js";
import type { StructColumn } from "./struct.js";

export interface EncoderOptions {
  /** What becomes of rows with keys that the schema does not know. Default: they are refused. */
  readonly unknownKeys?: "reject" | "drop" | undefined;
  /** Whether functions are compiled. Default: where the runtime allows it. */
  readonly compile?: boolean | undefined;
  /** Rows of a batch. */
  readonly maxRows?: number | undefined;
  /** Whether rows that do not fit are kept as JSON, beside why they do not. */
  readonly keepsJson?: boolean | undefined;
}

/** A row that does not fit, and the row itself as JSON where that is kept. */
export interface Refusal extends RowRejection {
  readonly json?: string;
}

/** In the place of a row that its array does not give a second time. */
const GONE = Symbol("gone");

/**
 * Messages of refusals. Of many rows that are wrong in the same way all have one: put together anew for each, they would
 * be most of the memory that the collector has to move, while the event loop waits.
 */
class Messages {
  #path = "";
  #code = "";
  #wanted = "";
  #before = "";
  #behind = "";
  #kind = "";
  #message = "";

  get(path: string, code: RowRefusalCode, kind: string, wanted: string): string {
    const isSame = path === this.#path && code === this.#code && wanted === this.#wanted;
    if (isSame && kind === this.#kind) return this.#message;
    if (!isSame) {
      this.#path = path;
      this.#code = code;
      this.#wanted = wanted;
      this.#before = path === "" ? "the row: " : `${path}: `;
      this.#behind = ` was ${code === "VALUE_THREW" ? "thrown" : "given"}, ${wanted}`;
    }
    this.#kind = kind;
    this.#message = this.#before + kind + this.#behind;
    return this.#message;
  }
}

export class RowEncoder implements Context {
  failures = 0;
  maxItems = 0;
  maxUnits = 0;
  maxBytes = 0;
  readonly refusesUnknownKeys: boolean;
  /** Of all rows so far; whoever takes them puts an empty list in their place. */
  rejections: Refusal[] = [];
  /** Finished. */
  batches: RecordBatch[] = [];
  readonly #schema: Schema;
  readonly #root: StructColumn;
  readonly #maxRows: number;
  /** Rows of a chunk until the batch ends: fewer than `MAX_CHUNK` once so many held too much. */
  #ceiling = MAX_CHUNK;
  /** Of the chunk under way: 0 for a row that was refused. */
  readonly #keep = new Uint8Array(MAX_CHUNK);
  #refused = 0;
  /** The number of the chunk's first row. */
  #base = 0;
  #chunk = FIRST_CHUNK;
  readonly #keepsJson: boolean;
  /** Where the chunk's rows are, and its first one. */
  #rows: ArrayLike<unknown> = [];
  #from = 0;
  /** Of batches that are finished. */
  #finishedBytes = 0;
  readonly #messages = new Messages();

  /** @throws {IngestError} `SCHEMA_MISMATCH`: it has a type that no row can fill. */
  constructor(schema: Schema, options: EncoderOptions = {}) {
    this.#schema = schema;
    this.refusesUnknownKeys = options.unknownKeys !== "drop";
    this.#keepsJson = options.keepsJson === true;
    this.#root = rootOf(schema, this, loopsOf(planOf(schema).key, options.compile ?? CAN_COMPILE));
    forgetLoops();
    // Memory for a batch is taken at its beginning: rows that are wide whatever they hold make smaller ones.
    const ofWidth = Math.max(1, Math.floor(MAX_BYTES / Math.max(1, this.#root.elementBytes)));
    this.#maxRows = Math.min(options.maxRows ?? MAX_ROWS, MAX_ROWS, ofWidth);
  }

  /** About the bytes of all rows so far. */
  get bytes(): number {
    return this.#finishedBytes + this.#root.size;
  }

  /** Rows that are taken at a time, as they are now. */
  get chunk(): number {
    return this.#chunk;
  }

  /**
   * Encodes some rows from `from` on.
   *
   * @param end Where the rows that are to come end, for all that is known.
   * @param base The number of the row at `from`.
   * @returns How many: none, where they have to be tried once more in another way.
   */
  step(rows: ArrayLike<unknown>, from: number, end: number, base = from): number {
    const root = this.#root;
    const room = this.#maxRows - root.length;
    if (root.length === 0 && this.#maxRows > 1) root.reserve(Math.min(end - from, this.#maxRows));
    const count = Math.min(this.#chunk, end - from, room);
    const began = performance.now();
    this.#base = base;
    const done = this.#encode(rows, from, count);
    const took = performance.now() - began;
    if (took > LONG_MS && count > 1) this.#chunk = Math.max(1, count >> 1);
    else if (took < SHORT_MS && done === this.#chunk) this.#chunk = Math.min(this.#ceiling, 2 * done);
    if (root.length >= this.#maxRows || root.size >= MAX_BYTES) this.cut();
    return done;
  }

  /** Ends the batch under way. */
  cut(): void {
    const root = this.#root;
    this.#ceiling = MAX_CHUNK;
    if (root.length === 0) return;
    this.#finishedBytes += root.size;
    // What a null takes in a dictionary without values is no part of a chunk.
    this.maxItems = ROW_ITEMS;
    this.maxBytes = ROW_BYTES;
    const data = root.finish();
    const batch = new RecordBatch(
      this.#schema,
      new Data(data.type, 0, data.length, 0, {}, data.children) as never,
    );
    // The library makes a schema of its own for each batch; the handoff knows ours already.
    (batch as { schema: Schema }).schema = this.#schema;
    this.batches.push(batch);
  }

  /** Lets go of the rows. */
  release(): void {
    this.#rows = [];
    this.#root.release();
  }

  /** Gives up the batches of all rows so far, to begin anew. */
  take(): readonly RecordBatch[] {
    this.cut();
    this.release();
    const { batches } = this;
    this.batches = [];
    this.#finishedBytes = 0;
    return batches;
  }

  refuse(row: number, path: string, code: RowRefusalCode, message: string, value: unknown): void {
    if (this.#keep[row] === 0) return;
    this.#keep[row] = 0;
    this.#refused++;
    // Its other columns are not looked at.
    this.#root.objects[row] = ABSENT;
    const why = this.#messages.get(path, code, kindOf(value), message);
    const refusal: Refusal = { row: this.#base + row, path, code, message: why, value };
    if (this.#keepsJson) (refusal as { json: string }).json = rowToJson(this.#given(row));
    this.rejections.push(refusal);
  }

  /** A row of the chunk as it was given; what throws in its place is marked as a function is. */
  #given(row: number): unknown {
    try {
      return this.#rows[this.#from + row];
    } catch {
      return GONE;
    }
  }

  #encode(rows: ArrayLike<unknown>, from: number, count: number): number {
    const root = this.#root;
    const { length } = root;
    const before = this.rejections.length;
    this.#rows = rows;
    this.#from = from;
    this.#refused = 0;
    this.#keep.fill(1, 0, count);
    this.maxItems = count > 1 ? CHUNK_ITEMS : ROW_ITEMS;
    this.maxUnits = count > 1 ? CHUNK_UNITS : ROW_UNITS;
    this.maxBytes = count > 1 ? MAX_BYTES : ROW_BYTES;
    try {
      root.encodeRows(rows, from, count);
    } catch (error) {
      if (error !== TOO_MANY) throw error;
      root.truncate(length);
      this.rejections.length = before;
      return this.#less(length, count);
    }
    if (this.#refused > 0) {
      root.compact(this.#keep.subarray(0, count), count);
      this.#sort(before);
    }
    return count;
  }

  /** They come by column, and are told by row. */
  #sort(from: number): void {
    const { rejections } = this;
    const refused = rejections.splice(from).sort((one, other) => one.row - other.row);
    for (const rejection of refused) rejections.push(rejection);
  }

  /** What is left to do with rows that hold too much: fewer at a time, a batch of their own, none. */
  #less(length: number, count: number): number {
    if (count > 1) {
      this.#chunk = count >> 1;
      this.#ceiling = this.#chunk;
      return 0;
    }
    if (length > 0) {
      this.cut();
      return 0;
    }
    this.#keep[0] = 1;
    this.refuse(0, "", "ROW_TOO_LARGE", "and it holds more than one row may", this.#root.objects[0]);
    return 1;
  }
}
