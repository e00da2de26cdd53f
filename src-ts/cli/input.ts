// The inputs of `send`: what each file is, and its bytes, little by little.
//
// Invariants:
// - A file that cannot be sent is found before anything is: wrong kinds and cut-off files send no row.
// - Only as much is read as is asked for; the rest waits in the pipe, or on the disk.

import * as fs from "node:fs/promises";
import type { Readable } from "node:stream";
import { type ByteReader, joined, type Piece, pieces } from "./frames.js";
import { type Io, Misuse } from "./io.js";
import { messageOf } from "./text.js";

/** A file, or standard input, that was looked at. */
export interface Input {
  readonly name: string;
  /** Bytes to read; null if nobody knows. */
  readonly size: number | null;
  /** Called once. Ends early, without an error, once `signal` is aborted. */
  pieces(signal: AbortSignal, onRead: (bytes: number) => void): AsyncGenerator<Piece, void, undefined>;
}

/** @throws {Misuse} naming the file that cannot be sent, and what to do. */
export async function inspect(path: string, io: Io): Promise<Input> {
  if (path === "-") return { name: "standard input", size: null, pieces: reading(() => io.stdin, null) };
  try {
    const file = await fs.open(path);
    try {
      const stat = await file.stat();
      if (stat.isDirectory()) throw new Misuse(`${path} is a directory`);
      // A pipe by name: what is taken from it to look at is gone.
      if (!stat.isFile()) return { name: path, size: null, pieces: reading(() => opened(path), null) };
      const { start, end } = await extent(file, stat.size, path);
      const open = () => opened(path, { start, end });
      return { name: path, size: end - start, pieces: reading(open, end - start) };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof Misuse) throw error;
    throw new Misuse(`${path} cannot be read: ${messageOf(error)}`);
  }
}

const FILE_MARK = "ARROW1";
const CHUNK_BYTES = 1 << 20;

/** From the first message to behind the last one. */
async function extent(
  file: fs.FileHandle,
  size: number,
  path: string,
): Promise<{ start: number; end: number }> {
  const head = await at(file, 0, 8);
  const mark = head.toString("latin1");
  if (mark.startsWith("PAR1"))
    throw new Misuse(
      `${path} is a Parquet file, which is not read here; make an Arrow file of it first: python3 -c "import ` +
        `pyarrow.feather as f, pyarrow.parquet as p; f.write_feather(p.read_table('${path}'), 'out.arrow')"`,
    );
  if (mark.startsWith("FEA1"))
    throw new Misuse(`${path} is a Feather file of version 1, which is not Arrow IPC`);
  if (mark.startsWith(FILE_MARK)) {
    // The length of the footer, and the mark again.
    const tail = await at(file, Math.max(0, size - 10), 10);
    const end = size - 10 - (tail.length === 10 ? tail.readInt32LE(0) : 0);
    if (tail.toString("latin1", 4) !== FILE_MARK || end < 8 || end > size)
      throw new Misuse(`${path} begins as an Arrow file and does not end as one: it was cut off`);
    return { start: 8, end };
  }
  if (size > 0 && head.length >= 4 && head.readInt32LE(0) !== -1 && !mayBeLegacy(head, size))
    throw new Misuse(`${path} is neither an Arrow IPC file nor an Arrow IPC stream`);
  return { start: 0, end: size };
}

/** Before Arrow 0.15 a stream began with the length of its first message. */
function mayBeLegacy(head: Buffer, size: number): boolean {
  const length = head.readInt32LE(0);
  return length > 0 && length % 8 === 4 && length < size;
}

async function at(file: fs.FileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}

async function opened(path: string, range?: { start: number; end: number }): Promise<Readable> {
  const file = await fs.open(path);
  const limits = range === undefined ? {} : { start: range.start, end: range.end - 1 };
  if (range !== undefined && range.end <= range.start) {
    await file.close();
    return (await import("node:stream")).Readable.from([]);
  }
  return file.createReadStream({ highWaterMark: CHUNK_BYTES, ...limits });
}

function reading(open: () => Readable | Promise<Readable>, size: number | null): Input["pieces"] {
  return async function* (signal, onRead) {
    const stream = await open();
    const stop = (): void => void stream.destroy();
    signal.addEventListener("abort", stop, { once: true });
    try {
      if (signal.aborted) return;
      const reader = new Chunks(stream, size, onRead);
      const isFile = await reader.skipFileMark();
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
  readonly #size: number | null;
  readonly #onRead: (bytes: number) => void;
  #chunks: Uint8Array[] = [];
  #buffered = 0;

  constructor(stream: Readable, size: number | null, onRead: (bytes: number) => void) {
    this.#iterator = stream[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
    this.#size = size;
    this.#onRead = onRead;
  }

  /** A pipe may carry a file, too, whose beginning nobody has looked at. */
  async skipFileMark(): Promise<boolean> {
    if (this.#size !== null) return false;
    const head = await this.read(8);
    if (Buffer.from(head).toString("latin1", 0, 6) === FILE_MARK) return true;
    this.position = 0;
    this.#chunks.unshift(head);
    this.#buffered += head.length;
    return false;
  }

  /** The footer of a file. Whoever writes into a pipe takes it amiss when nobody reads to the end. */
  async drain(): Promise<void> {
    while ((await this.read(CHUNK_BYTES)).length > 0);
  }

  ready(length: number): boolean {
    return this.#size === null ? this.#buffered >= length : true;
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
