// Rows that were given together → what one delivery holds of them.
//
// Invariants:
// - Rows count from 0 through all that were given, whether they became Arrow values or not.
// - The event loop has its turn at least every few milliseconds, however many rows there are.

import type { RecordBatch, Schema } from "apache-arrow";
import { isDue, turn } from "../turn.js";
import { type EncoderOptions, RowEncoder } from "./encoder.js";
import type { RowRefusalCode, RowRejection } from "./refusal.js";

/** Milliseconds at a stretch; half of what others of the thread may take, as rows come on top of them. */
export const STRETCH_MS = 3;

/** Rows as far as they became Arrow values, and why the others did not. */
export interface EncodedRows {
  readonly schema: Schema;
  readonly unknownKeys: "reject" | "drop";
  readonly batches: readonly RecordBatch[];
  /** How many were given. */
  readonly given: number;
  /** In order of `row`. */
  readonly rejections: readonly RefusedRow[];
  /** Rows that are not in `batches`, in order. */
  readonly missing: readonly number[];
  /** For each rejection the row as JSON, where that is kept. */
  readonly json: readonly string[];
}

/**
 * A row that does not fit, as a result has it. Its `value` is no own property: what `structuredClone` and JSON make of
 * a result must not fail for what a row held.
 */
export class RefusedRow implements RowRejection {
  readonly row: number;
  readonly path: string;
  readonly code: RowRefusalCode;
  readonly message: string;
  readonly #value: unknown;

  constructor({ row, path, code, message, value }: RowRejection) {
    this.row = row;
    this.path = path;
    this.code = code;
    this.message = message;
    this.#value = value;
  }

  get value(): unknown {
    return this.#value;
  }
}

/** Rows on their way to become {@link EncodedRows}. */
export class RowCollector {
  readonly #schema: Schema;
  readonly #unknownKeys: "reject" | "drop";
  readonly #encoder: RowEncoder;
  #given = 0;
  #rejections: RefusedRow[] = [];
  #missing: number[] = [];
  #json: string[] = [];

  /** @throws {IngestError} `SCHEMA_MISMATCH`: it has a type that no row can fill. */
  constructor(schema: Schema, options: EncoderOptions) {
    this.#schema = schema;
    this.#unknownKeys = options.unknownKeys ?? "reject";
    this.#encoder = new RowEncoder(schema, options);
  }

  /** About the bytes of what is here. */
  get bytes(): number {
    return this.#encoder.bytes;
  }

  /** How many rows `add` takes about a millisecond for. */
  get chunk(): number {
    return this.#encoder.chunk;
  }

  /** Reads some rows from `from` on, of those up to `end`; how many. */
  add(rows: ArrayLike<unknown>, from: number, end: number): number {
    const encoder = this.#encoder;
    const done = encoder.step(rows, from, end, this.#given);
    this.#given += done;
    const { rejections } = encoder;
    if (rejections.length === 0) return done;
    // Here and not at the end: a million of them would take their time there.
    encoder.rejections = [];
    for (const rejection of rejections) {
      this.#rejections.push(new RefusedRow(rejection));
      this.#missing.push(rejection.row);
      if (rejection.json !== undefined) this.#json.push(rejection.json);
    }
    return done;
  }

  /** All of them; then it begins anew. */
  take(): EncodedRows {
    const taken = {
      schema: this.#schema,
      unknownKeys: this.#unknownKeys,
      batches: this.#encoder.take(),
      given: this.#given,
      rejections: this.#rejections,
      missing: this.#missing,
      json: this.#json,
    };
    this.#given = 0;
    this.#rejections = [];
    this.#missing = [];
    this.#json = [];
    return taken;
  }
}

/**
 * Encodes all rows of an array, at once where that takes no longer than a stretch.
 *
 * @param check Called between two steps; what it throws ends the call.
 */
export function encodeRows(
  rows: readonly unknown[],
  length: number,
  schema: Schema,
  options: EncoderOptions,
  check: () => void,
): EncodedRows | Promise<EncodedRows> {
  const collector = new RowCollector(schema, options);
  let row = 0;
  while (row < length) {
    row += collector.add(rows, row, length);
    if (row < length && isDue(STRETCH_MS)) return rest();
  }
  return collector.take();

  async function rest(): Promise<EncodedRows> {
    while (row < length) {
      await turn();
      check();
      do row += collector.add(rows, row, length);
      while (row < length && !isDue(STRETCH_MS));
    }
    return collector.take();
  }
}
