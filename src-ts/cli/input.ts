// The inputs of `send`: what each file is, and its bytes, little by little.
//
// Invariants:
// - A file that cannot be sent is found before anything is: wrong kinds and cut-off files send no row.
// - Arrow IPC passes as it is. All else is decoded by the public `decodeBytes`.
// - Only as much is read as is asked for; the rest waits in the pipe, or on the disk.

import { createReadStream } from "node:fs";
import * as fs from "node:fs/promises";
import { Readable } from "node:stream";
import { type DecodedBytes, type DecodeOptions, decodeBytes } from "../index.js";
import {
  type ByteReader,
  checkMessages,
  joined,
  Malformed,
  type Piece,
  pieces,
  type Skimmer,
  schemaOfFooter,
} from "../inputs/messages.js";
import { type Io, Misuse } from "./io.js";
import { messageOf } from "./text.js";

/** A file, or standard input, that was looked at. */
export interface Input {
  readonly name: string;
  /** Bytes to read; null if nobody knows. */
  readonly size: number | null;
  /** Called once. Ends early, without an error, once `signal` is aborted. */
  pieces(
    signal: AbortSignal,
    onRead: (bytes: number) => void,
    schemaWanted?: SchemaWanted,
  ): AsyncGenerator<InputPiece, void, undefined>;
}

/** What is sent as one delivery. */
export interface InputPiece extends Pick<Piece, "bytes" | "firstRow"> {
  /** Of text: the lines that were left out, and where rows stand. */
  readonly decoded?: DecodedBytes;
}

/** Asked for the schema of text, if none was given. */
export type SchemaWanted = DecodeOptions["schema"];

/** How what is no Arrow IPC is decoded. */
export type Decoding = Omit<DecodeOptions, "signal">;

/** @throws {Misuse} naming the file that cannot be sent, and what to do. */
export async function inspect(path: string, io: Io, decoding: Decoding = {}): Promise<Input> {
  if (path === "-")
    return { name: "standard input", size: null, pieces: reading(() => io.stdin, null, decoding) };
  try {
    const stat = await fs.stat(path);
    if (stat.isDirectory()) throw new Misuse(`${path} is a directory`);
    // A pipe by name: it can be opened once, and what is taken from it to look at is gone.
    if (!stat.isFile())
      return { name: path, size: null, pieces: reading(() => createReadStream(path), null, decoding) };
    const extent = await extentOf(path, stat.size, decoding);
    if (extent === null) return { name: path, size: stat.size, pieces: decodingOf(path, decoding) };
    const { start, end } = extent;
    const open = () => (end > start ? createReadStream(path, range(start, end)) : Readable.from([]));
    return { name: path, size: end - start, pieces: reading(open, extent, decoding) };
  } catch (error) {
    if (error instanceof Misuse) throw error;
    throw new Misuse(`${path} cannot be read: ${messageOf(error)}`);
  }
}

const FILE_MARK = "ARROW1";
const CHUNK_BYTES = 1 << 20;

const range = (start: number, end: number) => ({ start, end: end - 1, highWaterMark: CHUNK_BYTES });

/** What of a file is messages, from the first one to behind the last, and what has to go before them. */
interface Extent {
  readonly start: number;
  readonly end: number;
  readonly schema: Uint8Array;
}

/** Of Arrow IPC; null: it is to be decoded. */
async function extentOf(path: string, size: number, { format }: Decoding): Promise<Extent | null> {
  await using file = await fs.open(path);
  const head = await at(file, 0, 64);
  const mark = head.toString("latin1");
  if (mark.startsWith(FILE_MARK)) {
    // The length of the footer, and the mark again.
    const tail = await at(file, Math.max(0, size - 10), 10);
    const length = tail.length === 10 ? tail.readInt32LE(0) : -1;
    const end = size - 10 - length;
    if (tail.toString("latin1", 4) !== FILE_MARK || length < 0 || end < 8)
      throw new Misuse(`${path} begins as an Arrow file and does not end as one: it was cut off`);
    return { start: 8, end, schema: schemaOfFooter(await at(file, end, length)) };
  }
  if (size === 0) throw new Misuse(`${path} is empty: whoever was to write it did not`);
  if (head.toString("latin1", 0, 4) === PARQUET_MARK) {
    const tail = await at(file, size - 4, 4);
    if (size < 12 || tail.toString("latin1") !== PARQUET_MARK)
      throw new Misuse(`${path} begins as a Parquet file and does not end as one: it was cut off`);
    return null;
  }
  if (mark.startsWith("FEA1"))
    throw new Misuse(`${path} is a Feather file of version 1, which is not Arrow IPC`);
  if (format !== undefined || isDecoded(head)) return null;
  if (!mayBeMessage(head)) {
    if (/\.(csv|tsv)(\.(gz|zst))?$/iu.test(path)) return null;
    throw new Misuse(`${path} ${UNKNOWN}`);
  }
  await lookThrough(file, path, size);
  return { start: 0, end: size, schema: new Uint8Array(0) };
}

/** Whether a stream is whole: its messages are looked at, and what they hold is passed over. */
async function lookThrough(file: fs.FileHandle, path: string, size: number): Promise<void> {
  try {
    await checkMessages(new Skimming(file, size));
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    throw new Misuse(`${path} is no Arrow IPC stream, or was cut off: ${error.message}`);
  }
}

/** A file of which little is read: small messages share a read, and large bodies take none. */
class Skimming implements Skimmer {
  position = 0;
  readonly #file: fs.FileHandle;
  readonly #size: number;
  #window: Buffer = Buffer.alloc(0);
  #start = 0;

  constructor(file: fs.FileHandle, size: number) {
    this.#file = file;
    this.#size = size;
  }

  async read(length: number): Promise<Uint8Array> {
    const wanted = Math.min(length, this.#size - this.position);
    const from = this.position - this.#start;
    if (from + wanted > this.#window.length) {
      this.#start = this.position;
      const more = Math.min(Math.max(wanted, WINDOW_BYTES), this.#size - this.position);
      this.#window = await at(this.#file, this.position, more);
    }
    const bytes = this.#window.subarray(this.position - this.#start, this.position - this.#start + wanted);
    this.position += bytes.length;
    return bytes;
  }

  skip(length: number): number {
    const skipped = Math.min(length, this.#size - this.position);
    this.position += skipped;
    return skipped;
  }
}

const WINDOW_BYTES = 64 << 10;

const PARQUET_MARK = "PAR1";

const UNKNOWN =
  "is neither Arrow IPC nor Parquet nor JSON, and no name says that it is CSV: give --format json, csv or parquet";

/** Whether bytes may be an Arrow IPC stream: a message begins with a mark; before Arrow 0.15 with its length. */
function mayBeMessage(head: Buffer): boolean {
  const first = head.length < 4 ? -1 : head.readInt32LE(0);
  return first === -1 || (first > 0 && first < LONGEST_METADATA && first % 8 === 4);
}

/** Whether `decodeBytes` can tell what it is by its first letter, or it is compressed. No message begins so. */
function isDecoded(head: Buffer): boolean {
  const marks = [GZIP_MARK, ZSTD_MARK];
  if (marks.some((mark) => head.subarray(0, mark.length).equals(mark))) return true;
  return /^(?:\u{feff})?\s*[{[]/u.test(head.toString("utf8"));
}

const GZIP_MARK = Buffer.of(0x1f, 0x8b);
const ZSTD_MARK = Buffer.of(0x28, 0xb5, 0x2f, 0xfd);

/** Four letters of a text are a number above it. */
const LONGEST_METADATA = 1 << 24;

async function at(file: fs.FileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}

/** What is decoded, by its path, or as it comes. */
function decodingOf(source: string | AsyncIterable<Uint8Array>, decoding: Decoding): Input["pieces"] {
  return async function* (signal, onRead, schemaWanted) {
    if (signal.aborted) return;
    const schema = decoding.schema ?? schemaWanted;
    const parts = decodeBytes(source, { ...decoding, ...(schema && { schema }) });
    const stop = (): void => void parts.return?.();
    signal.addEventListener("abort", stop, { once: true });
    let read = 0;
    try {
      for await (const decoded of parts) {
        onRead(decoded.bytesRead - read);
        read = decoded.bytesRead;
        yield { bytes: decoded.batch, firstRow: decoded.firstRow, decoded };
      }
    } finally {
      signal.removeEventListener("abort", stop);
    }
  };
}

function reading(open: () => Readable, extent: Extent | null, decoding: Decoding): Input["pieces"] {
  return async function* (signal, onRead, schemaWanted) {
    if (signal.aborted) return;
    const stream = open();
    // Who reads is told; what comes when nobody reads any more would end the process.
    stream.on("error", () => {});
    const stop = (): void => void stream.destroy();
    signal.addEventListener("abort", stop, { once: true });
    try {
      const reader = new Chunks(stream, extent, onRead);
      if (extent === null && (decoding.format !== undefined || !(await reader.isArrow()))) {
        yield* decodingOf(reader.rest(), decoding)(signal, () => {}, schemaWanted);
        return;
      }
      const isFile = await reader.skipFileMark();
      if (extent === null && !isFile && !(await reader.hasMore()))
        // A producer that failed before its first byte must not look like one that had nothing to say.
        throw new Malformed("it is empty: an Arrow stream without rows has a schema all the same");
      yield* pieces(reader, !isFile);
      if (isFile) await reader.drain();
    } catch (error) {
      // Asked to stop, what is half read is nobody's mistake.
      if (!signal.aborted) throw error;
    } finally {
      signal.removeEventListener("abort", stop);
      stream.destroy();
    }
  };
}

class Chunks implements ByteReader {
  position = 0;
  readonly #iterator: AsyncIterator<Uint8Array>;
  readonly #isPipe: boolean;
  readonly #onRead: (bytes: number) => void;
  #chunks: Uint8Array[] = [];
  #buffered = 0;

  constructor(stream: Readable, extent: Extent | null, onRead: (bytes: number) => void) {
    this.#iterator = stream[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
    this.#isPipe = extent === null;
    this.#onRead = onRead;
    if (extent === null || extent.schema.length === 0) return;
    this.#putBack(extent.schema);
    // So that what is said about places in a file is true.
    this.position = extent.start - extent.schema.length;
  }

  /** Nobody has looked at the beginning of a pipe. */
  async isArrow(): Promise<boolean> {
    const head = await this.read(8);
    this.#putBack(head);
    this.position = 0;
    const bytes = Buffer.from(head);
    return bytes.toString("latin1", 0, 6) === FILE_MARK || (mayBeMessage(bytes) && !isDecoded(bytes));
  }

  /** A pipe may carry a file, too. */
  async skipFileMark(): Promise<boolean> {
    if (!this.#isPipe) return false;
    const head = await this.read(8);
    if (Buffer.from(head).toString("latin1", 0, 6) === FILE_MARK) return true;
    this.#putBack(head);
    this.position = 0;
    return false;
  }

  /** All that is left, as it comes. */
  async *rest(): AsyncGenerator<Uint8Array, void, undefined> {
    yield* this.#chunks.splice(0);
    for (;;) {
      const { done, value } = await this.#iterator.next();
      if (done === true) return;
      this.#onRead(value.length);
      yield value;
    }
  }

  async hasMore(): Promise<boolean> {
    const some = await this.read(1);
    this.#putBack(some);
    this.position -= some.length;
    return some.length > 0;
  }

  /** The footer of a file. Whoever writes into a pipe takes it amiss when nobody reads to the end. */
  async drain(): Promise<void> {
    while ((await this.read(CHUNK_BYTES)).length > 0);
  }

  #putBack(bytes: Uint8Array): void {
    this.#chunks.unshift(bytes);
    this.#buffered += bytes.length;
  }

  ready(length: number): boolean {
    return !this.#isPipe || this.#buffered >= length;
  }

  async read(length: number): Promise<Uint8Array> {
    while (this.#buffered < length) {
      const { done, value } = await this.#iterator.next();
      if (done === true) break;
      this.#chunks.push(value);
      this.#buffered += value.length;
      this.#onRead(value.length);
    }
    return this.#take(Math.min(length, this.#buffered));
  }

  #take(length: number): Uint8Array {
    const parts: Uint8Array[] = [];
    let missing = length;
    while (missing > 0) {
      const chunk = this.#chunks[0]!;
      parts.push(chunk.subarray(0, missing));
      if (chunk.length > missing) this.#chunks[0] = chunk.subarray(missing);
      else this.#chunks.shift();
      missing -= Math.min(missing, chunk.length);
    }
    this.#buffered -= length;
    this.position += length;
    return parts.length === 1 ? parts[0]! : joined(parts);
  }
}
