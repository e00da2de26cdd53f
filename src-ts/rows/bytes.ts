// Columns of text and of bytes.
//
// Invariants:
// - Text is written in the way that suits what comes: short text unit by unit, long ASCII joined and by one call, all
//   other text each by its own. Joined, halves of surrogate pairs in neighbours would pass for a pair.
// - Offsets have 32 bits until the column is finished: a chunk that would not fit is not let in.

/// <reference lib="es2024.string" />

import { Data, type DataType } from "apache-arrow";
import { bytesOf } from "./attend.js";
import { Column, TOO_MANY } from "./column.js";

/** `apache-arrow` type ids. */
const LARGE = new Set([19, 20]);
const VIEWS = new Set([23, 24]);

/** Bytes of a view that are in the view itself. */
const INLINE = 12;

/** The least memory that is asked for at a time. */
const LEAST_BYTES = 256;

abstract class VariableColumn extends Column {
  protected bytes: Buffer = Buffer.alloc(0);
  /** One more than there are elements. */
  protected offsets = new Int32Array(1);

  /** Bytes so far, those of the chunk under way not counted. */
  protected get used(): number {
    return this.offsets[this.length]!;
  }

  protected override grow(capacity: number): void {
    const offsets = new Int32Array(capacity + 1);
    offsets.set(this.offsets.subarray(0, this.length + 1));
    this.offsets = offsets;
  }

  /** Memory for bytes up to `end`; the first `kept` are kept. */
  protected room(end: number, kept: number): void {
    if (end <= this.bytes.length) return;
    const bytes = Buffer.allocUnsafeSlow(Math.max(end, 2 * this.bytes.length, LEAST_BYTES));
    bytes.set(this.bytes.subarray(0, kept));
    this.bytes = bytes;
  }

  protected override move(from: number, to: number): void {
    const start = this.offsets[from]!;
    const end = this.offsets[from + 1]!;
    const at = this.offsets[to]!;
    this.bytes.copyWithin(at, start, end);
    this.offsets[to + 1] = at + end - start;
  }

  override get elementBytes(): number {
    return 4;
  }

  override get size(): number {
    return 4 * this.length + this.used;
  }

  override finish(): Data {
    const { length, used, offsets, type } = this;
    const { bits, nullCount } = this.takeValidity();
    let { bytes } = this;
    // What is not used would be held, and counted, as long as the rest of it is.
    if (bytes.length > 2 * used + LEAST_BYTES) bytes = exact(bytes.subarray(0, used));
    const values = new Uint8Array(bytes.buffer, bytes.byteOffset, used);
    const ends = offsets.subarray(0, length + 1);
    this.bytes = Buffer.alloc(0);
    this.offsets = new Int32Array(1);
    this.reset();
    if (VIEWS.has(type.typeId)) {
      const buffers = [undefined, viewsOf(values, ends), bits];
      return new Data(type, 0, length, nullCount, buffers as never, [], undefined, [values]);
    }
    const wide = LARGE.has(type.typeId) ? widened(ends) : ends;
    return new Data(type, 0, length, nullCount, [wide, values, bits] as never);
  }
}

function exact(bytes: Uint8Array): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  copy.set(bytes);
  return copy;
}

/** Offsets of 64 bits. Without a bigint for each, which would take milliseconds. */
export function widened(offsets: Int32Array): BigInt64Array {
  const wide = new BigInt64Array(offsets.length);
  const words = new Int32Array(wide.buffer);
  for (let i = 0; i < offsets.length; i++) words[2 * i] = offsets[i]!;
  return wide;
}

/** Length and beginning of each value, and where in the one buffer the rest of it is. */
function viewsOf(values: Uint8Array, ends: Int32Array): Uint8Array {
  const count = ends.length - 1;
  const views = new Uint8Array(16 * count);
  const words = new Int32Array(views.buffer);
  const source = new DataView(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < count; i++) {
    const from = ends[i]!;
    const length = ends[i + 1]! - from;
    words[4 * i] = length;
    if (length > INLINE) {
      words[4 * i + 1] = source.getInt32(from, true);
      // Buffer 0.
      words[4 * i + 3] = from;
    } else if (from + INLINE <= values.length) {
      // By words, of which the last may hold bytes of the next value: by bytes it takes several times as long.
      words[4 * i + 1] = source.getInt32(from, true) & firstBytes(length);
      words[4 * i + 2] = source.getInt32(from + 4, true) & firstBytes(length - 4);
      words[4 * i + 3] = source.getInt32(from + 8, true) & firstBytes(length - 8);
    } else {
      for (let j = 0; j < length; j++) views[16 * i + 4 + j] = values[from + j]!;
    }
  }
  return views;
}

/** A word that is 1 in the bits of its first bytes. */
const firstBytes = (count: number): number => (count >= 4 ? -1 : count <= 0 ? 0 : (1 << (8 * count)) - 1);

/** The most bytes that 32-bit offsets reach. */
const MOST_BYTES = 2 ** 31 - 1;

/** Units of text that is written one by one: up to there it is faster than a call of the runtime. */
const SHORT = 24;
/** The same where a unit takes two bytes of the runtime's memory, which its encoder is slower with. */
const SHORT_WIDE = 48;
/** Chunks after which the way for short ASCII is tried again. */
const RETRIED_CHUNKS = 16;

export class TextColumn extends VariableColumn {
  parts: string[] = [];
  #way: "copy" | "join" | "each" = "copy";
  #chunks = 0;

  override put(i: number, value: unknown): void {
    if (typeof value === "string") this.parts[i] = value;
    else if (value === null || value === undefined) this.missing(i, value);
    else this.refuse(i, "VALUE_TYPE", value);
  }

  override get fast(): string {
    return 'if (typeof value === "string") parts[i] = value; else';
  }

  override zero(i: number): void {
    this.parts[i] = "";
  }

  protected override begin(count: number): void {
    // A new one: in an array that has grown old, each reference to what is young costs a note for the collector.
    this.parts = new Array<string>(count);
  }

  protected override end(count: number): void {
    // What a chunk is like, those after it mostly are.
    if (this.#chunks++ % RETRIED_CHUNKS === 0) this.#way = "copy";
    if (this.#way === "copy" && this.#copy(count)) return;
    const units = this.#roomFor(count);
    // Text is joined and encoded in vain where it turns out not to be ASCII.
    if (this.#way === "copy") this.#way = looksAscii(this.parts) ? "join" : "each";
    if (this.#way === "join" && this.#join(count, units)) return;
    this.#way = "each";
    this.#each(count);
  }

  /** Memory for whatever the text is. Its UTF-16 units. */
  #roomFor(count: number): number {
    let units = 0;
    for (let i = 0; i < count; i++) units += this.parts[i]!.length;
    const { used } = this;
    if (units > this.context.maxUnits || used + 3 * units > MOST_BYTES) throw TOO_MANY;
    this.room(used + 3 * units, used);
    return units;
  }

  /** Short text, unit by unit: there no call of the runtime pays. False: there is longer text. */
  #copy(count: number): boolean {
    const { parts, length, offsets } = this;
    let end = this.used;
    this.room(end + 3 * SHORT * count, end);
    const { bytes } = this;
    for (let i = 0; i < count; i++) {
      const text = parts[i]!;
      const units = text.length;
      if (units > SHORT) return false;
      let j = 0;
      for (; j < units; j++) {
        const unit = text.charCodeAt(j);
        if (unit > 0x7f) break;
        bytes[end + j] = unit;
      }
      end = j === units ? end + units : this.#encoded(i, text, j, end);
      offsets[length + i + 1] = end;
    }
    return true;
  }

  /** Writes text from unit `from` on, the units before which are ASCII and written. Where its bytes end. */
  #encoded(i: number, text: string, from: number, start: number): number {
    const end = writeUtf8(this.bytes, text, from, start + from);
    if (end >= 0) return end;
    this.refuse(i, "VALUE_MALFORMED", text, HALF);
    return start;
  }

  /** Text of ASCII, by one call. False: there is other text. */
  #join(count: number, units: number): boolean {
    const { parts, length, offsets } = this;
    let end = this.used;
    if (this.bytes.write(parts.join(""), end) !== units) return false;
    for (let i = 0; i < count; i++) {
      end += parts[i]!.length;
      offsets[length + i + 1] = end;
    }
    return true;
  }

  /** Any text, each by its own. */
  #each(count: number): void {
    const { parts, length, offsets, bytes } = this;
    let end = this.used;
    for (let i = 0; i < count; i++) {
      const text = parts[i]!;
      if (text.length <= SHORT || (text.length <= SHORT_WIDE && isWide(text))) {
        end = this.#encoded(i, text, 0, end);
      } else {
        const written = bytes.write(text, end);
        // Other text than ASCII has more bytes than units, and so has what stands for half a pair.
        if (written === text.length || text.isWellFormed()) end += written;
        else this.refuse(i, "VALUE_MALFORMED", text, HALF);
      }
      offsets[length + i + 1] = end;
    }
  }

  override release(): void {
    super.release();
    this.parts = [];
  }
}

const HALF = "it has a surrogate without its other half";

/** Whether some of the text is ASCII, as far as its beginning says. */
function looksAscii(parts: readonly string[]): boolean {
  const step = Math.max(1, parts.length >> 2);
  for (let i = 0; i < parts.length; i += step) {
    const text = parts[i]!;
    const units = Math.min(text.length, SHORT);
    for (let j = 0; j < units; j++) if (text.charCodeAt(j) > 0x7f) return false;
  }
  return true;
}

/** Whether the runtime surely has it in two bytes for each unit, as far as its beginning says. */
function isWide(text: string): boolean {
  for (let j = 0; j < SHORT; j++) if (text.charCodeAt(j) > 0xff) return true;
  return false;
}

/** Where the bytes of the text from unit `from` on end; -1: it has a surrogate without its other half. */
function writeUtf8(bytes: Uint8Array, text: string, from: number, start: number): number {
  const units = text.length;
  let end = start;
  for (let j = from; j < units; j++) {
    const unit = text.charCodeAt(j);
    if (unit < 0x80) {
      bytes[end++] = unit;
    } else if (unit < 0x800) {
      bytes[end] = 0xc0 | (unit >> 6);
      bytes[end + 1] = 0x80 | (unit & 0x3f);
      end += 2;
    } else if ((unit & 0xf800) !== 0xd800) {
      bytes[end] = 0xe0 | (unit >> 12);
      bytes[end + 1] = 0x80 | ((unit >> 6) & 0x3f);
      bytes[end + 2] = 0x80 | (unit & 0x3f);
      end += 3;
    } else {
      const low = ++j < units ? text.charCodeAt(j) : 0;
      if (unit >= 0xdc00 || (low & 0xfc00) !== 0xdc00) return -1;
      const point = 0x10000 + ((unit & 0x3ff) << 10) + (low & 0x3ff);
      bytes[end] = 0xf0 | (point >> 18);
      bytes[end + 1] = 0x80 | ((point >> 12) & 0x3f);
      bytes[end + 2] = 0x80 | ((point >> 6) & 0x3f);
      bytes[end + 3] = 0x80 | (point & 0x3f);
      end += 4;
    }
  }
  return end;
}

export class BytesColumn extends VariableColumn {
  #end = 0;

  protected override begin(): void {
    this.#end = this.used;
  }

  override put(i: number, value: unknown): void {
    const bytes = bytesOf(value);
    if (bytes === "gone") this.refuse(i, "VALUE_MALFORMED", value, "its memory was transferred away");
    else if (bytes !== undefined) this.#append(i, bytes);
    else if (value === null || value === undefined) this.missing(i, value);
    else this.refuse(i, "VALUE_TYPE", value);
  }

  #append(i: number, bytes: Uint8Array): void {
    const end = this.#end + bytes.length;
    if (end - this.used > this.context.maxUnits || end > MOST_BYTES) throw TOO_MANY;
    this.room(end, this.#end);
    this.bytes.set(bytes, this.#end);
    this.#end = end;
    this.offsets[this.length + i + 1] = end;
  }

  override zero(i: number): void {
    this.offsets[this.length + i + 1] = this.#end;
  }
}

/** Whether it is a column of text, so that objects can be maps by it. */
export const isText = (type: DataType): boolean =>
  type.typeId === 5 || type.typeId === 20 || type.typeId === 24;
