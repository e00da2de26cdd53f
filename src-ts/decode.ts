// Bytes and files of other formats → parts that can be sent, decoded by Rust.
//
// Invariants:
// - Bytes are pushed no faster than they are decoded: at most `AHEAD_BYTES` wait, and one part is decoded ahead.
// - What is pushed is copied in pieces, so that the event loop has its turn however much is given at once.
// - What ends the input is thrown after all parts that came before it.
// - A source is let go of, whatever ends its decoding.
//
// It looks at no byte: what an input is, Rust finds out.

import * as fs from "node:fs";
import { stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { types } from "node:util";
import { type DecodedStep, Decoder } from "./binding.js";
import { type ConfigIssue, type IngestError, ingestError } from "./errors.js";
import { planOf } from "./handoff/plan.js";
import { checkNames, configInvalid, describe } from "./options/checks.js";
import type { ForeignSchema } from "./options.js";
import { toArrow } from "./rows.js";
import type { RowSchema } from "./schema.js";
import { isDue, turn } from "./turn.js";

/** How CSV is written. */
export interface CsvOptions {
  /** One ASCII character. Default: `","`, or a tab where a path ends in `.tsv`. */
  readonly delimiter?: string;
  /**
   * Whether the first record names the columns. They are found by name, in any order. Without, fields are those of
   * the schema, in its order. Default: `true`.
   */
  readonly header?: boolean;
  /** What stands for null in a nullable column. A field in quotes is never null. Default: `[""]`. */
  readonly nulls?: readonly string[];
}

type AnySchema = RowSchema | ForeignSchema;

/** Options of {@link decodeBytes}. */
export interface DecodeOptions {
  /**
   * What the bytes are. Default: Parquet and JSON are known by their content, CSV by a path that ends in `.csv` or
   * `.tsv`. JSON is lines of one object each (NDJSON), or one array of objects. Gzip and Zstandard around it are
   * known by their content.
   */
  readonly format?: "json" | "csv" | "parquet";
  /**
   * What columns there are: JSON and CSV need one, Parquet has its own. Given for Parquet, it says which columns are
   * taken, and each must have its type. A function is asked for it once, and for JSON and CSV alone: `() => client.schema()`. Of `sendBytes` the default is that of the client, else the
   * table's.
   */
  readonly schema?: AnySchema | (() => AnySchema | null | Promise<AnySchema | null>);
  /** What becomes of names that the schema does not have. Default: `"reject"`. */
  readonly unknownKeys?: "reject" | "drop";
  readonly csv?: CsvOptions;
  /** Bytes that one line of JSON, record of CSV or element of an array may have. Default: 16 MiB. */
  readonly maxRecordBytes?: number;
  /** Bytes that may come out of one compressed byte, beyond the first 16 MiB. Default: 256. */
  readonly maxExpansion?: number;
  /** Bytes of Parquet that may be kept in a temporary file where it does not come as one. Default: 8 GiB. */
  readonly maxTemporaryBytes?: number;
  /** Ends the decoding with the signal's reason. */
  readonly signal?: AbortSignal;
}

/**
 * Where bytes come from: a path or `file:` URL, bytes, a `Blob`, or a stream or iterable of bytes. A string is a path;
 * of text, give its bytes.
 */
export type BytesSource =
  | string
  | URL
  | ArrayBufferView
  | ArrayBufferLike
  | Blob
  | ReadableStream<Uint8Array>
  | AsyncIterable<ArrayBufferView | ArrayBufferLike>
  | Iterable<ArrayBufferView | ArrayBufferLike>;

/**
 * - `LINE_MALFORMED`: the line is no JSON, or no record of CSV with as many fields as there are columns.
 * - All others: as `RowRefusalCode` has them; `ROW_TOO_LARGE` is a line longer than `maxRecordBytes`.
 */
export type LineRefusalCode =
  | "LINE_MALFORMED"
  | "ROW_TYPE"
  | "ROW_TOO_LARGE"
  | "KEY_UNKNOWN"
  | "VALUE_MISSING"
  | "VALUE_TYPE"
  | "VALUE_RANGE"
  | "VALUE_INEXACT"
  | "VALUE_MALFORMED";

/** A line that does not fit the schema, and was left out. */
export interface LineRejection {
  /** As an editor counts them, from 1: where the row begins. */
  readonly line: number;
  /** From 0, through all rows of the input, refused ones too. */
  readonly row: number;
  /** Where in the row, as in `tags[2].name`; empty for the row itself. */
  readonly path: string;
  readonly code: LineRefusalCode;
  /** What was given and what was wanted; no text of the input. */
  readonly message: string;
}

/** Some consecutive rows of an input, decoded, and the lines that were left out among them. */
export interface DecodedBytes {
  /** An Arrow IPC stream, as `send` takes it. It has no row where only refused lines were found. */
  readonly batch: Uint8Array;
  readonly rows: number;
  /** How many rows of the input came before these, without refused ones. */
  readonly firstRow: number;
  /** Lines that were left out, in order. */
  readonly rejections: readonly LineRejection[];
  /** Bytes of the input that were read up to here: compressed ones, where it is compressed. */
  readonly bytesRead: number;
  /**
   * The line where a row begins, from 1.
   *
   * @param row From 0 within these rows.
   * @returns Null where there are no lines (Parquet), or no such row.
   */
  lineOf(row: number): number | null;
}

/** Bytes that wait to be decoded. */
const AHEAD_BYTES = 4 << 20;
/** Of one copy: some hundred microseconds. */
const PIECE_BYTES = 256 << 10;
/** How long rows that are there wait for others, as `batching.linger`. */
const LINGER_MS = 50;
const SMALLEST_BATCH = 64 << 10;
const LARGEST_BATCH = 8 << 20;

const OPTIONS = [
  "format",
  "schema",
  "unknownKeys",
  "csv",
  "maxRecordBytes",
  "maxExpansion",
  "maxTemporaryBytes",
  "signal",
] as const;

/** What was asked for, checked. */
export interface DecodeSettings {
  readonly json: Readonly<Record<string, unknown>>;
  /** An IPC stream with the schema of the call. */
  readonly schema: Uint8Array | undefined;
  /** The same, where a function says it. */
  readonly schemaWanted: (() => Promise<Uint8Array>) | undefined;
  readonly signal: AbortSignal | undefined;
}

/**
 * Decodes JSON, CSV or Parquet by Rust, off the JavaScript thread, into Arrow IPC of up to 65,536 rows or 8 MiB each.
 * No value is changed to fit: a line that does not fit the schema is left out and reported by its number.
 * `docs/files.md` says which text is which value.
 *
 * @param source A path or `file:` URL, bytes, a `Blob`, or a stream or iterable of bytes.
 * @throws {IngestError} `CONFIG_INVALID`, `SCHEMA_REQUIRED`, `SCHEMA_MISMATCH`; `BATCH_INVALID`: no source of bytes;
 * `INPUT_INVALID`: it cannot be read, breaks off, or is not what it is said to be; `INPUT_TOO_LARGE`: it goes beyond a
 * bound of the options. What ends an input is thrown after all rows before it.
 *
 * @example
 * ```ts
 * const schema = t.schema({ id: t.int64(), price: t.decimal(18, 4) });
 * for await (const { batch, rejections } of decodeBytes("orders.ndjson.gz", { schema })) {
 *   await client.enqueue(batch);
 *   for (const { line, path, message } of rejections) console.warn(line, path, message);
 * }
 * ```
 */
export function decodeBytes(
  source: BytesSource,
  options?: DecodeOptions,
): AsyncIterableIterator<DecodedBytes, void> {
  const settings = decodeSettings(options, [], 8 * LARGEST_BATCH, "decodeBytes");
  return new Parts(source, settings, () => schemaRequired("decodeBytes"), "decodeBytes");
}

/** @throws {IngestError} `SCHEMA_REQUIRED`. */
function schemaRequired(operation: string): never {
  throw ingestError({
    code: "SCHEMA_REQUIRED",
    operation,
    message: "no schema says what the columns of JSON or CSV are: give one as { schema }",
  });
}

/** @throws {IngestError} `CONFIG_INVALID` with every mistake. */
export function decodeSettings(
  options: unknown,
  others: readonly string[],
  budgetBytes: number,
  operation: string,
): DecodeSettings {
  checkNames(options as object | undefined, [...OPTIONS, ...others], operation);
  const { format, schema, unknownKeys, csv, signal, ...limits } = (options ?? {}) as DecodeOptions;
  const issues: ConfigIssue[] = [];
  const oneOf = (path: string, value: unknown, words: readonly string[]): void => {
    if (value !== undefined && !words.includes(value as string))
      issues.push({ path, message: `must be one of ${words.join(", ")}, not ${describe(value)}` });
  };
  oneOf("format", format, ["json", "csv", "parquet"]);
  oneOf("unknownKeys", unknownKeys, ["reject", "drop"]);
  const count = (path: keyof typeof limits & string, fallback: number): number => {
    const value: unknown = limits[path];
    if (value === undefined) return fallback;
    if (Number.isSafeInteger(value) && (value as number) > 0) return value as number;
    issues.push({ path, message: `must be a whole number above 0, not ${describe(value)}` });
    return fallback;
  };
  const json = {
    format,
    dropUnknown: unknownKeys === "drop",
    csv: csvSettings(csv, issues),
    batchBytes: Math.floor(Math.min(Math.max(budgetBytes / 8, SMALLEST_BATCH), LARGEST_BATCH)),
    maxRecordBytes: count("maxRecordBytes", 16 << 20),
    maxExpansion: count("maxExpansion", 256),
    maxTemporaryBytes: count("maxTemporaryBytes", 8 * 2 ** 30),
  };
  if (signal !== undefined && typeof (signal as Partial<AbortSignal>)?.throwIfAborted !== "function")
    issues.push({ path: "signal", message: `must be an AbortSignal, not ${describe(signal)}` });
  if (issues.length > 0) throw configInvalid(issues, operation);
  const isAsked = typeof schema === "function";
  return {
    json,
    schema: schema === undefined || isAsked ? undefined : schemaMessage(schema, operation),
    schemaWanted: isAsked ? async () => schemaSaid(await schema(), operation) : undefined,
    signal,
  };
}

function csvSettings(csv: unknown, issues: ConfigIssue[]): object {
  if (csv === undefined) return {};
  if (typeof csv !== "object" || csv === null || Array.isArray(csv)) {
    issues.push({ path: "csv", message: `must be an object, not ${describe(csv)}` });
    return {};
  }
  for (const name of Object.keys(csv))
    if (!["delimiter", "header", "nulls"].includes(name))
      issues.push({ path: `csv.${name}`, message: "is not an option" });
  const { delimiter, header, nulls } = csv as CsvOptions;
  const isOne = typeof delimiter === "string" && /^[\t -!#-~]$/.test(delimiter);
  if (delimiter !== undefined && !isOne)
    issues.push({
      path: "csv.delimiter",
      message: `must be one ASCII character, not ${describe(delimiter)}`,
    });
  if (header !== undefined && typeof header !== "boolean")
    issues.push({ path: "csv.header", message: `must be true or false, not ${describe(header)}` });
  const isTexts = Array.isArray(nulls) && nulls.every((one) => typeof one === "string");
  if (nulls !== undefined && !isTexts)
    issues.push({ path: "csv.nulls", message: `must be an array of strings, not ${describe(nulls)}` });
  return { delimiter: isOne ? delimiter.charCodeAt(0) : undefined, header, nulls };
}

/** @throws {IngestError} `SCHEMA_REQUIRED`: nobody has one. `CONFIG_INVALID`: it is none. */
export function schemaSaid(schema: unknown, operation: string): Uint8Array {
  return schema == null ? schemaRequired(operation) : schemaMessage(schema, operation);
}

/** @throws {IngestError} `CONFIG_INVALID`: it is no schema. */
function schemaMessage(schema: unknown, operation: string): Uint8Array {
  return planOf(toArrow(schema, operation)).message;
}

/**
 * Decodes one input.
 *
 * @param schemaWanted Asked once, if the input is JSON or CSV and the settings hold no schema. It gives an IPC stream
 * with one, or throws.
 */
export class Parts implements AsyncIterableIterator<DecodedBytes, void> {
  readonly #parts: AsyncGenerator<DecodedBytes, void>;
  readonly #source: Source;
  readonly #settings: DecodeSettings;
  readonly #schemaWanted: () => Uint8Array | Promise<Uint8Array>;
  #feed: Feed | undefined;
  #stopped = false;

  constructor(
    source: BytesSource,
    settings: DecodeSettings,
    schemaWanted: () => Uint8Array | Promise<Uint8Array>,
    operation: string,
  ) {
    this.#source = sourceOf(source, operation);
    this.#settings = settings;
    this.#schemaWanted = schemaWanted;
    this.#parts = this.#decode();
  }

  next(): Promise<IteratorResult<DecodedBytes, void>> {
    return this.#parts.next();
  }

  /** Reads no more. What waits for the source does not any longer. */
  async return(): Promise<IteratorResult<DecodedBytes, void>> {
    this.#stopped = true;
    this.#feed?.stop();
    return this.#parts.return();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async *#decode(): AsyncGenerator<DecodedBytes, void> {
    const { signal } = this.#settings;
    const onAbort = (): void => void this.return();
    signal?.throwIfAborted();
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      yield* this.#run();
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
    signal?.throwIfAborted();
  }

  async *#run(): AsyncGenerator<DecodedBytes, void> {
    const { path, chunks, name } = await opened(this.#source);
    const options = { ...this.#settings.json, ...byName(name, this.#settings.json), path };
    const decoder = await Decoder.create(JSON.stringify(options), this.#settings.schema);
    const feed = new Feed(decoder, chunks);
    this.#feed = feed;
    try {
      if (chunks !== undefined) feed.run();
      let next = decoder.step(false);
      let firstRow = 0;
      while (!this.#stopped) {
        const step = await next;
        feed.drained();
        if (step.state === END) break;
        let cut = false;
        if (step.state === NEEDS_SCHEMA)
          decoder.useSchema(await (this.#settings.schemaWanted ?? this.#schemaWanted)());
        else if (step.state === NEEDS_INPUT) await feed.more(undefined);
        else if (step.state === NEEDS_INPUT_OR_CUT) cut = !(await feed.more(LINGER_MS));
        if (this.#stopped) break;
        const waits = step.state === NEEDS_INPUT || step.state === NEEDS_INPUT_OR_CUT;
        if (feed.failure !== undefined && waits && decoder.queued() === 0) {
          // Rows that came before the source failed are whole, and are given.
          const last = await decoder.step(true);
          if (last.state === PART) yield part(last, await decoder.take(last), firstRow);
          throw feed.failure.reason;
        }
        const batch = step.state === PART ? await decoder.take(step) : undefined;
        next = decoder.step(cut);
        if (batch === undefined) continue;
        // Awaited behind the yield; until then nobody would have heard of its failure.
        next.catch(() => {});
        yield part(step, batch, firstRow);
        firstRow += step.rows;
      }
    } finally {
      feed.stop();
    }
  }
}

const PART = 0;
const NEEDS_INPUT = 1;
const NEEDS_INPUT_OR_CUT = 2;
const END = 4;
const NEEDS_SCHEMA = 5;

const part = (step: DecodedStep, batch: Uint8Array, firstRow: number): DecodedBytes =>
  Object.freeze({
    batch,
    rows: step.rows,
    firstRow,
    rejections: step.rejections === undefined ? [] : (JSON.parse(step.rejections) as LineRejection[]),
    bytesRead: step.read,
    lineOf: (row: number) => lineOf(step.lines!, step.rows, row),
  });

/** Of runs: row and line, in turn, both rising. */
function lineOf(lines: Float64Array, rows: number, row: number): number | null {
  if (!(row >= 0 && row < rows && Number.isInteger(row)) || lines.length === 0) return null;
  let [low, high] = [0, lines.length / 2];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (lines[2 * middle]! <= row) low = middle;
    else high = middle;
  }
  return lines[2 * low + 1]! + row - lines[2 * low]!;
}

/** What a name says that nothing else does. */
function byName(name: string | undefined, json: DecodeSettings["json"]): object {
  const ending = /\.(csv|tsv)(?:\.(?:gz|zst))?$/i.exec(name ?? "")?.[1]?.toLowerCase();
  if (ending === undefined) return {};
  const csv = json.csv as { delimiter?: number };
  return { fallback: "csv", csv: ending === "tsv" ? { ...csv, delimiter: csv.delimiter ?? 9 } : csv };
}

/** Pushes what a source gives, no faster than it is decoded. */
class Feed {
  readonly #decoder: Decoder;
  readonly #chunks: Iterator<unknown> | AsyncIterator<unknown> | undefined;
  /** Something was pushed, or nothing more will be, since this was last asked. */
  #hasMore = false;
  #over = false;
  #stopped = false;
  /** What the source threw. */
  failure: { readonly reason: unknown } | undefined;
  #wakeReader: (() => void) | undefined;
  #wakeFeeder: (() => void) | undefined;

  constructor(decoder: Decoder, chunks: Iterator<unknown> | AsyncIterator<unknown> | undefined) {
    this.#decoder = decoder;
    this.#chunks = chunks;
  }

  run(): void {
    void this.#push().catch((reason: unknown) => {
      this.failure = { reason };
      this.#tell();
    });
  }

  /** False if nothing came within so many milliseconds. */
  async more(within: number | undefined): Promise<boolean> {
    if (!this.#hasMore && !this.#stopped) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#wakeReader = resolve;
        if (within !== undefined) timer = setTimeout(resolve, within);
      });
      clearTimeout(timer);
    }
    const has = this.#hasMore;
    this.#hasMore = this.#over;
    return has;
  }

  /** Some of what was pushed may have been decoded. */
  drained(): void {
    this.#wakeFeeder?.();
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#tell();
    this.#wakeFeeder?.();
    if (this.#over) return;
    try {
      // Not awaited: a source that is stuck would keep the caller's loop from ending.
      void Promise.resolve(this.#chunks?.return?.()).catch(() => {});
    } catch {
      // It would be thrown in place of what ended the decoding.
    }
  }

  #tell(): void {
    this.#hasMore = true;
    this.#wakeReader?.();
  }

  async #push(): Promise<void> {
    const chunks = this.#chunks!;
    for (;;) {
      const ready = chunks.next();
      const { done, value } = "then" in ready ? await ready : ready;
      if (this.#stopped) return;
      if (done === true) break;
      const bytes = bytesOf(value);
      for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
        this.#decoder.push(bytes.subarray(at, at + PIECE_BYTES));
        this.#tell();
        while (this.#decoder.queued() >= AHEAD_BYTES && !this.#stopped)
          await new Promise<void>((resolve) => {
            this.#wakeFeeder = resolve;
          });
        if (this.#stopped) return;
        if (isDue()) await turn();
      }
    }
    this.#over = true;
    this.#decoder.end();
    this.#tell();
  }
}

interface Source {
  readonly path?: string;
  readonly chunks?: Iterator<unknown> | AsyncIterator<unknown>;
}

function sourceOf(source: unknown, operation: string): Source {
  if (typeof source === "string") return { path: source };
  if (source instanceof URL) {
    if (source.protocol === "file:") return { path: fileURLToPath(source) };
    throw refused(operation, `a URL of a file is needed, not of ${source.protocol}`);
  }
  if (ArrayBuffer.isView(source) || types.isAnyArrayBuffer(source))
    return { chunks: [source][Symbol.iterator]() };
  if (typeof source === "object" && source !== null) {
    const {
      stream,
      [Symbol.asyncIterator]: later,
      [Symbol.iterator]: now,
    } = source as Record<PropertyKey, unknown>;
    // A Blob is known by its stream: there are several classes of it.
    if (typeof stream === "function" && typeof later !== "function")
      return { chunks: (stream.call(source) as ReadableStream<Uint8Array>)[Symbol.asyncIterator]() };
    if (typeof later === "function") return { chunks: later.call(source) as AsyncIterator<unknown> };
    if (typeof now === "function") return { chunks: now.call(source) as Iterator<unknown> };
  }
  throw refused(operation, `a path, bytes, a Blob, or a stream of bytes is needed, not ${describe(source)}`);
}

/** A path is read by Rust, unless it is a pipe or a device: reading that may wait for ever. */
async function opened({ path, chunks }: Source): Promise<Source & { readonly name?: string }> {
  if (path === undefined) return { chunks: chunks! };
  try {
    const found = await stat(path);
    if (found.isFile()) return { path, name: path };
    if (!found.isDirectory())
      return {
        name: path,
        chunks: fs.createReadStream(path)[Symbol.asyncIterator]() as AsyncIterator<unknown>,
      };
  } catch (cause) {
    const hint = /[\n{]/.test(path) ? "; a string is a path: of text, give its bytes" : "";
    throw ingestError({
      code: "INPUT_INVALID",
      operation: "decode",
      message: `${describe(path)} cannot be read${hint}`,
      cause,
    });
  }
  throw ingestError({
    code: "INPUT_INVALID",
    operation: "decode",
    message: `${describe(path)} is a directory`,
  });
}

function bytesOf(chunk: unknown): Uint8Array {
  if (ArrayBuffer.isView(chunk)) return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  if (types.isAnyArrayBuffer(chunk)) return new Uint8Array(chunk);
  throw refused(
    "decode",
    `the source gave ${describe(chunk)} where bytes are needed` +
      (typeof chunk === "string" ? ": leave setEncoding() and text decoders out" : ""),
  );
}

const refused = (operation: string, message: string): IngestError =>
  ingestError({ code: "BATCH_INVALID", operation, message });
