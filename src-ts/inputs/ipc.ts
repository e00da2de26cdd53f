// Bytes as they come from a socket, a pipe or a file → Arrow IPC streams that can be sent, one by one.
//
// Invariants:
// - Chunks may end anywhere, and be of one byte or of a gigabyte; how they are cut changes nothing but where the
//   deliveries are.
// - What is yielded is byte for byte what was read, in memory of its own, and never a part of a batch. What came whole
//   before an error is yielded before the error is thrown.
// - Memory is bounded: by `maxMessageBytes` for the message under way, as much for dictionaries, and a piece.
// - The event loop has its turn, also where chunks are there without waiting.
//
// It decodes nothing: Rust does, off this thread, and validates it.

import { type IngestError, ingestError } from "../errors.js";
import { checkNames, configInvalid, describe } from "../options/checks.js";
import { bytesOf } from "../rows/attend.js";
import { isDue, turn } from "../turn.js";
import { type ByteReader, joined, Malformed, pieces } from "./messages.js";

/** Bytes as {@link ipcBatches} reads them: a readable of Node, a stream of the web, a generator of chunks. */
export type ByteSource =
  | AsyncIterable<ArrayBufferView | ArrayBufferLike>
  | Iterable<ArrayBufferView | ArrayBufferLike>
  | ReadableStream<Uint8Array>;

/** Options of {@link ipcBatches}. */
export interface IpcBatchesOptions {
  /**
   * The longest message, metadata or body, that is waited for, in bytes; and the most that the dictionaries of a stream
   * may take together. Default: 1 GiB.
   */
  readonly maxMessageBytes?: number;
}

const DEFAULT_MAX = 1 << 30;

/**
 * Reads Arrow IPC as it comes, for {@link IngestClient.sendAll}: streams, one or several in a row, or a file. What has
 * arrived is sent when the source falls silent, or when 4 MiB are there. Leaving the loop early ends the source.
 *
 * @throws {IngestError} `BATCH_INVALID`, naming the byte: the input breaks off, is empty, is no Arrow IPC or is
 * big-endian, or a message is longer than `maxMessageBytes`. All batches before it were yielded. `CONFIG_INVALID`: a
 * wrong option. What the source throws comes out as it is.
 *
 * @example
 * ```ts
 * for await (const result of client.sendAll(ipcBatches(socket))) result.orThrow();
 * ```
 */
export function ipcBatches(
  source: ByteSource,
  options?: IpcBatchesOptions,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  checkNames(options, ["maxMessageBytes"], OPERATION);
  const max = options?.maxMessageBytes ?? DEFAULT_MAX;
  if (!Number.isSafeInteger(max) || max <= 0) {
    const message = `must be a number of bytes, not ${describe(max)}`;
    throw configInvalid([{ path: "maxMessageBytes", message }], OPERATION);
  }
  return read(new Chunks(iteratorOf(source), max), max);
}

const OPERATION = "ipcBatches";

async function* read(reader: Chunks, max: number): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  try {
    const isFile = await begin(reader);
    for await (const { bytes } of pieces(reader, !isFile, max)) yield bytes as Uint8Array<ArrayBuffer>;
    // Behind the messages of a file stands its footer. Who writes into a pipe takes it amiss when nobody reads on.
    if (isFile) while (await reader.discard());
  } catch (error) {
    throw error instanceof Malformed ? invalid(error.message, error) : error;
  } finally {
    await reader.end();
  }
}

/** Whether it is a file, whose mark is then passed over. */
async function begin(reader: Chunks): Promise<boolean> {
  const head = Buffer.from(await reader.peek(8));
  if (head.length === 0)
    throw invalid("the input is empty: an Arrow stream without rows has a schema all the same");
  const text = head.toString("latin1");
  if (text.startsWith("ARROW1")) {
    await reader.read(8);
    return true;
  }
  const other = FORMATS.find(([mark]) => text.startsWith(mark));
  if (other !== undefined) throw invalid(`the input is ${other[1]}`);
  // A message begins with a mark; before Arrow 0.15 with its length, which no text is mistaken for.
  const first = head.length < 4 ? -1 : head.readInt32LE(0);
  if (first !== -1 && !(first > 0 && first < LONGEST_METADATA && first % 8 === 4))
    throw invalid("the input is no Arrow IPC: it begins with neither a message nor the mark of a file");
  return false;
}

/** Four letters of a text are a number above it. */
const LONGEST_METADATA = 1 << 24;

const FORMATS: readonly (readonly [string, string])[] = [
  ["PAR1", "a Parquet file, and no Arrow IPC"],
  ["FEA1", "a Feather file of version 1, and no Arrow IPC"],
  ["\x1f\x8b", "compressed with gzip: pipe it through zlib.createGunzip() first"],
  ["\x28\xb5\x2f\xfd", "compressed with zstd: pipe it through zlib.createZstdDecompress() first"],
];

type ChunkIterator = AsyncIterator<unknown> | Iterator<unknown>;

function iteratorOf(source: unknown): ChunkIterator {
  if (typeof source === "object" && source !== null && !ArrayBuffer.isView(source)) {
    const { [Symbol.asyncIterator]: later, [Symbol.iterator]: now } = source as Partial<
      AsyncIterable<unknown> & Iterable<unknown>
    >;
    if (typeof later === "function") return later.call(source);
    if (typeof now === "function") return now.call(source);
  }
  const hint =
    ArrayBuffer.isView(source) || bytesOf(source) !== undefined
      ? "; send() takes bytes that are all there"
      : "";
  throw invalid(`a readable, a stream or an iterable of bytes is needed, not ${describe(source)}${hint}`);
}

/** Chunks below this are copied together: an object each would take a hundred times their bytes. */
const SMALL_BYTES = 4_096;
const GATHERED_BYTES = 65_536;

class Chunks implements ByteReader {
  position = 0;
  readonly #iterator: ChunkIterator;
  readonly #max: number;
  #isOver = false;
  #chunks: Uint8Array[] = [];
  /** The chunk in turn. */
  #head = 0;
  #buffered = 0;
  /** Small chunks, as many as there are, not yet among the others. */
  #small = new Uint8Array(0);
  #smallLength = 0;

  constructor(iterator: ChunkIterator, max: number) {
    this.#iterator = iterator;
    this.#max = max;
  }

  ready(length: number): boolean {
    return this.#buffered >= length;
  }

  async read(length: number): Promise<Uint8Array> {
    if (length > this.#max)
      throw new Malformed(
        `the message at byte ${this.position} claims ${length} bytes, over maxMessageBytes (${this.#max})`,
      );
    while (this.#buffered < length && (await this.#more()));
    return this.#take(Math.min(length, this.#buffered));
  }

  /** As `read`, and the bytes are there to be read once more. */
  async peek(length: number): Promise<Uint8Array> {
    const bytes = await this.read(length);
    if (bytes.length > 0) {
      this.#chunks = [bytes, ...this.#chunks.slice(this.#head)];
      this.#head = 0;
      this.#buffered += bytes.length;
      this.position -= bytes.length;
    }
    return bytes;
  }

  /** Reads something and forgets it. False at the end. */
  async discard(): Promise<boolean> {
    this.#take(this.#buffered);
    return this.#more();
  }

  /** The source is told that nobody reads on. */
  async end(): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    await this.#iterator.return?.();
  }

  async #more(): Promise<boolean> {
    if (this.#isOver) return false;
    let next: IteratorResult<unknown>;
    try {
      const given = this.#iterator.next();
      next = "then" in given ? await given : given;
    } catch (error) {
      this.#isOver = true;
      throw error;
    }
    // A source that is never waited for would keep all others of the thread waiting.
    if (isDue()) await turn();
    if (next.done === true) {
      this.#isOver = true;
      return false;
    }
    this.#put(next.value);
    return true;
  }

  #put(value: unknown): void {
    const chunk = bytesOf(value);
    if (chunk === undefined || chunk === "gone")
      throw invalid(
        chunk === "gone"
          ? "a chunk of the input has no memory: it was transferred away"
          : `a chunk of the input is no bytes but ${describe(value)}${typeof value === "string" ? ": set no encoding" : ""}`,
      );
    const { length } = chunk;
    this.#buffered += length;
    if (length >= SMALL_BYTES) {
      this.#gather();
      this.#chunks.push(chunk);
      return;
    }
    if (this.#smallLength + length > this.#small.length) {
      this.#gather();
      this.#small = new Uint8Array(GATHERED_BYTES);
    }
    this.#small.set(chunk, this.#smallLength);
    this.#smallLength += length;
  }

  /** Small chunks become one. */
  #gather(): void {
    if (this.#smallLength === 0) return;
    this.#chunks.push(this.#small.subarray(0, this.#smallLength));
    // What is left of the memory is for the next ones.
    this.#small = this.#small.subarray(this.#smallLength);
    this.#smallLength = 0;
  }

  #take(length: number): Uint8Array {
    this.#gather();
    const parts: Uint8Array[] = [];
    let missing = length;
    while (missing > 0) {
      const chunk = this.#chunks[this.#head]!;
      parts.push(chunk.subarray(0, missing));
      if (chunk.length > missing) {
        this.#chunks[this.#head] = chunk.subarray(missing);
        missing = 0;
      } else {
        missing -= chunk.length;
        this.#head++;
      }
    }
    if (this.#head === this.#chunks.length) {
      this.#chunks = [];
      this.#head = 0;
    } else if (this.#head > 1_024) {
      this.#chunks = this.#chunks.slice(this.#head);
      this.#head = 0;
    }
    this.#buffered -= length;
    this.position += length;
    return parts.length === 1 ? parts[0]! : joined(parts);
  }
}

function invalid(message: string, cause?: unknown): IngestError {
  return ingestError({ code: "BATCH_INVALID", operation: OPERATION, message, cause });
}
