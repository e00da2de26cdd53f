// The messages of an Arrow IPC stream or file → pieces that can be sent, as bytes.
//
// Invariants:
// - What is sent is byte for byte what was read: types and compression that JavaScript cannot decode pass.
// - Every piece is a stream of its own: the schema, the dictionaries in force, one or more batches.
// - Memory is bounded by the largest message, a piece, and the dictionaries in force; a length that the input claims is
//   never allocated before the bytes are there.
//
// It looks at no data, and trusts Rust to validate it.

/** What a piece aims at: small batches share a native call and a delivery. */
const PIECE_BYTES = 4 << 20;
/** How often a piece outweighs the dictionaries that it has to repeat. */
const OVER_DICTIONARIES = 4;

/** Some batches of one input. */
export interface Piece {
  readonly bytes: Uint8Array;
  readonly batches: number;
  /** Of its first row, from 0 within the input. */
  readonly firstRow: number;
  /** As the messages claim. */
  readonly rows: number;
}

/** Bytes that come little by little. */
export interface ByteReader {
  /** Read so far. */
  readonly position: number;
  /** Exactly `length` bytes; fewer at the end of the input. */
  read(length: number): Promise<Uint8Array>;
  /** Whether so many can be had without waiting for somebody else to write them. */
  ready(length: number): boolean;
}

/** The input is no Arrow IPC, or ends too early. What came before was yielded. */
export class Malformed extends Error {}

/**
 * @param follows Whether another stream may follow the end of one, as after `cat a.arrows b.arrows`.
 * @param maxDictionaryBytes Of all dictionaries in force, which each piece has to repeat.
 * @throws {Malformed} naming the byte.
 */
export async function* pieces(
  reader: ByteReader,
  follows: boolean,
  maxDictionaryBytes = Number.POSITIVE_INFINITY,
): AsyncGenerator<Piece, void, undefined> {
  const state = new Stream(maxDictionaryBytes);
  for (;;) {
    let message: Awaited<ReturnType<typeof readMessage>>;
    try {
      message = await readMessage(reader);
    } catch (error) {
      // What came before is whole, and is sent.
      yield* state.cut();
      throw error;
    }
    if (message === "end") return yield* state.cut();
    if (message === "end of stream") {
      yield* state.cut();
      if (!follows) return;
      state.schema = undefined;
      continue;
    }
    if (message.kind === SCHEMA) {
      yield* state.cut();
      state.begin(message);
    } else if (state.schema === undefined) {
      throw new Malformed(
        `message at byte ${message.at} comes before a schema (a file that has it at its end, only, can be sent ` +
          "by name, and not through a pipe)",
      );
    } else if (message.kind === DICTIONARY) {
      state.addDictionary(message);
    } else if (message.kind === BATCH) {
      state.addBatch(message);
      if (state.isFull || !reader.ready(PREFIX)) yield* state.cut();
    } else {
      throw new Malformed(`message at byte ${message.at} is of a kind (${message.kind}) that holds no rows`);
    }
  }
}

const SCHEMA = 1;
const DICTIONARY = 2;
const BATCH = 3;

interface Message {
  readonly kind: number;
  /** Where it began in the input. */
  readonly at: number;
  /** Prefix, metadata and body. */
  readonly parts: readonly Uint8Array[];
  readonly header: FlatTable | undefined;
}

/** What a message costs beside its bytes. */
const MESSAGE_FLOOR = 512;

/** What of a stream has to be repeated, and what is not yet cut off. */
class Stream {
  schema: Message | undefined;
  /** By id: one, and the deltas to it. */
  readonly #dictionaries = new Map<bigint, Message[]>();
  #dictionaryBytes = 0;
  readonly #maxDictionaryBytes: number;
  #parts: Uint8Array[] = [];
  #bytes = 0;
  #batches = 0;
  #rows = 0;
  #firstRow = 0;

  constructor(maxDictionaryBytes: number) {
    this.#maxDictionaryBytes = maxDictionaryBytes;
  }

  begin(schema: Message): void {
    if ((schema.header?.int16(0) ?? 0) !== 0)
      throw new Malformed(
        `the schema at byte ${schema.at} says big-endian; only little-endian Arrow data can be taken`,
      );
    this.schema = schema;
    this.#dictionaries.clear();
    this.#dictionaryBytes = 0;
  }

  get isFull(): boolean {
    return this.#bytes >= Math.max(PIECE_BYTES, OVER_DICTIONARIES * this.#dictionaryBytes);
  }

  addDictionary(message: Message): void {
    // A piece under way needs it in its place; one that is not yet begun gets it with the others.
    if (this.#batches > 0) this.#add(message);
    const id = message.header?.int64(0) ?? 0n;
    const known = this.#dictionaries.get(id);
    const isDelta = message.header?.flag(2) ?? false;
    if (isDelta && known !== undefined) {
      known.push(message);
    } else {
      for (const { parts } of known ?? []) this.#dictionaryBytes -= sizeOf(parts) + MESSAGE_FLOOR;
      this.#dictionaries.set(id, [message]);
    }
    this.#dictionaryBytes += sizeOf(message.parts) + MESSAGE_FLOOR;
    if (this.#dictionaryBytes > this.#maxDictionaryBytes)
      throw new Malformed(
        `with the dictionary at byte ${message.at}, dictionaries take more than ${this.#maxDictionaryBytes} bytes`,
      );
  }

  addBatch(message: Message): void {
    if (this.#batches === 0) {
      this.#add(this.schema!);
      for (const messages of this.#dictionaries.values()) for (const one of messages) this.#add(one);
    }
    this.#add(message);
    this.#batches++;
    this.#rows += Number(message.header?.int64(0) ?? 0n);
  }

  *cut(): Generator<Piece, void, undefined> {
    if (this.#batches === 0) return;
    const bytes = joined([...this.#parts, END_OF_STREAM]);
    const piece = { bytes, batches: this.#batches, firstRow: this.#firstRow, rows: this.#rows };
    this.#firstRow += this.#rows;
    this.#parts = [];
    this.#bytes = 0;
    this.#batches = 0;
    this.#rows = 0;
    yield piece;
  }

  #add(message: Message): void {
    this.#parts.push(...message.parts);
    this.#bytes += sizeOf(message.parts);
  }
}

const PREFIX = 8;
const CONTINUATION = 0xffff_ffff;
const END_OF_STREAM = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0);

/** What looks at messages without taking them. */
export interface Skimmer {
  readonly position: number;
  /** As {@link ByteReader.read}. */
  read(length: number): Promise<Uint8Array>;
  /** Passes over that many bytes, or over those that are left; says how many. */
  skip(length: number): number;
}

/**
 * Goes through the messages of streams that follow one another, without what they hold.
 *
 * @throws {Malformed} naming the byte.
 */
export async function checkMessages(reader: Skimmer): Promise<void> {
  for (;;) {
    const { position } = reader;
    const head = await readHead(reader);
    if (head === "end") return;
    if (head !== "end of stream" && reader.skip(head.bodyLength) < head.bodyLength) throw cutOff(position);
  }
}

async function readMessage(reader: ByteReader): Promise<Message | "end" | "end of stream"> {
  const head = await readHead(reader);
  if (typeof head === "string") return head;
  const { kind, at, parts, header, bodyLength } = head;
  const body = whole(await reader.read(bodyLength), bodyLength, at);
  return { kind, at, parts: [...parts, body], header };
}

/** A message without its body. */
async function readHead(
  reader: Pick<ByteReader, "position" | "read">,
): Promise<(Message & { readonly bodyLength: number }) | "end" | "end of stream"> {
  const at = reader.position;
  const first = await reader.read(4);
  if (first.length === 0) return "end";
  const prefix = [whole(first, 4, at)];
  let length = uint32(first);
  // Streams from before Arrow 0.15 have no such mark.
  if (length === CONTINUATION) {
    const second = whole(await reader.read(4), 4, at);
    prefix.push(second);
    length = uint32(second);
  }
  if (length === 0) return "end of stream";
  const metadata = whole(await reader.read(length), length, at);
  const { kind, bodyLength, header } = parse(metadata, at);
  return { kind, at, parts: [...prefix, metadata], header, bodyLength };
}

function whole(bytes: Uint8Array, length: number, at: number): Uint8Array {
  if (bytes.length === length) return bytes;
  throw cutOff(at);
}

const cutOff = (at: number): Malformed =>
  new Malformed(`the input ends in the midst of the message that begins at byte ${at}`);

const uint32 = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);

function parse(metadata: Uint8Array, at: number): Pick<Message, "kind" | "header"> & { bodyLength: number } {
  try {
    const view = new DataView(metadata.buffer, metadata.byteOffset, metadata.byteLength);
    const message = new FlatTable(view, view.getInt32(0, true));
    const bodyLength = Number(message.int64(3));
    if (!(bodyLength >= 0 && bodyLength <= Number.MAX_SAFE_INTEGER)) throw new RangeError("length");
    return { kind: message.byte(1), bodyLength, header: message.table(2) };
  } catch {
    throw new Malformed(`what begins at byte ${at} is no Arrow message`);
  }
}

/**
 * The schema message that a stream begins with, from the footer of a file: files of apache-arrow (npm) have the
 * schema there and nowhere else. The footer is kept as it is, behind a `Message` that points into it.
 *
 * @throws {Malformed}
 */
export function schemaOfFooter(footer: Uint8Array): Uint8Array {
  let [version, schemaAt] = [0, 0];
  try {
    const view = new DataView(footer.buffer, footer.byteOffset, footer.byteLength);
    const root = new FlatTable(view, view.getInt32(0, true));
    version = root.byte(0);
    schemaAt = root.table(1)?.at ?? 0;
  } catch {}
  if (schemaAt === 0) throw new Malformed("the footer holds no schema");
  const length = HEAD_BYTES + Math.ceil(footer.length / 8) * 8;
  const bytes = new Uint8Array(PREFIX + length);
  const all = new DataView(bytes.buffer);
  all.setUint32(0, CONTINUATION, true);
  all.setUint32(4, length, true);
  const head = new DataView(bytes.buffer, PREFIX);
  // The root, then the vtable of four fields, then the table: vtable, header, bodyLength, version, header_type.
  head.setUint32(0, 16, true);
  for (const [at, value] of [12, 20, 16, 18, 4, 8].entries()) head.setUint16(4 + 2 * at, value, true);
  head.setInt32(16, 12, true);
  head.setUint32(20, HEAD_BYTES + schemaAt - 20, true);
  head.setUint8(32, version);
  head.setUint8(34, SCHEMA);
  bytes.set(footer, PREFIX + HEAD_BYTES);
  return bytes;
}

/** A multiple of 8, as what stands behind it is aligned by its own beginning. */
const HEAD_BYTES = 40;

/** A table of FlatBuffers, just enough of it for `Message.fbs`. Reading beyond its bytes throws. */
class FlatTable {
  readonly #view: DataView;
  /** Where it stands in the view. */
  readonly at: number;

  constructor(view: DataView, at: number) {
    this.#view = view;
    this.at = at;
    this.#field(0);
  }

  byte(field: number): number {
    const at = this.#field(field);
    return at === 0 ? 0 : this.#view.getUint8(at);
  }

  flag(field: number): boolean {
    return this.byte(field) !== 0;
  }

  int16(field: number): number {
    const at = this.#field(field);
    return at === 0 ? 0 : this.#view.getInt16(at, true);
  }

  int64(field: number): bigint {
    const at = this.#field(field);
    return at === 0 ? 0n : this.#view.getBigInt64(at, true);
  }

  table(field: number): FlatTable | undefined {
    const at = this.#field(field);
    return at === 0 ? undefined : new FlatTable(this.#view, at + this.#view.getInt32(at, true));
  }

  /** Where a field is; 0 if it was left out. */
  #field(field: number): number {
    const vtable = this.at - this.#view.getInt32(this.at, true);
    const slot = 4 + 2 * field;
    if (slot >= this.#view.getUint16(vtable, true)) return 0;
    const offset = this.#view.getUint16(vtable + slot, true);
    return offset === 0 ? 0 : this.at + offset;
  }
}

export const sizeOf = (parts: readonly Uint8Array[]): number =>
  parts.reduce((sum, part) => sum + part.length, 0);

/** In memory of its own, which can be lent to Rust. */
export function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(sizeOf(parts));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
