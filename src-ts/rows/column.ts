// One column under way: what all kinds of columns share.
//
// Rows are encoded in chunks. For each chunk a column is given its source (objects that have the column's key, or the
// values themselves) and appends one element for each. Elements of rows that turn out not to fit are taken out again
// when all columns have had the chunk.
//
// Invariants:
// - One element for each element of the source, also where a value is refused: columns stay of one length.
// - A value is read once in a chunk, by the column's own loop.
// - Null is the only value that a null slot is written for; its bytes are zero.
// - Whatever a value does while it is read, the column ends as if it had been refused.

import type { Data, DataType } from "apache-arrow";
import { typeNotation } from "../schema.js";
import type { RowRefusalCode } from "./refusal.js";

/** In the place of a value that is not looked for: below a null, or in a row that was refused before. */
export const ABSENT: object = Object.freeze(Object.create(null));

/** Thrown where a chunk holds more than is to be held at a time: it is taken back, and tried with fewer rows. */
export const TOO_MANY: object = Object.freeze({ tooMany: true });

/** Gives a column the values of a chunk. */
export type Loop = (column: Column, source: ArrayLike<unknown>, count: number) => void;

/** What the columns of one encoder share. */
export interface Context {
  /** Refused values so far, also those of rows that were refused before. */
  failures: number;
  /** List items and map entries that one column may hold of the chunk. */
  maxItems: number;
  /** UTF-16 units, or bytes, that one column may hold of the chunk. */
  maxUnits: number;
  /** Memory that one column may take for elements of the chunk whatever they hold. */
  maxBytes: number;
  /** Whether keys that the schema does not know are refused. */
  readonly refusesUnknownKeys: boolean;
  refuse(row: number, path: string, code: RowRefusalCode, message: string, value: unknown): void;
}

/** How many bits of a number below 16 are 1. */
const ONES = Uint8Array.from(
  { length: 16 },
  (_, bits) => (bits & 1) + ((bits >> 1) & 1) + ((bits >> 2) & 1) + (bits >> 3),
);

/** One bit for each element; 1 where it is not null. */
function bitmapOf(nulls: Uint8Array, length: number): { bits: Uint8Array; nullCount: number } {
  const bits = new Uint8Array((length + 7) >> 3);
  let nullCount = 0;
  const whole = length >> 3;
  // Eight at a time: a batch with many columns ends in one stretch of the event loop.
  for (let byte = 0, i = 0; byte < whole; byte++, i += 8) {
    const low = nulls[i]! | (nulls[i + 1]! << 1) | (nulls[i + 2]! << 2) | (nulls[i + 3]! << 3);
    const high = nulls[i + 4]! | (nulls[i + 5]! << 1) | (nulls[i + 6]! << 2) | (nulls[i + 7]! << 3);
    bits[byte] = ~(low | (high << 4));
    nullCount += ONES[low]! + ONES[high]!;
  }
  for (let i = 8 * whole; i < length; i++) {
    if (nulls[i] === 0) bits[whole]! |= 1 << (i & 7);
    else nullCount++;
  }
  return { bits, nullCount };
}

export interface Validity {
  readonly bits: Uint8Array | undefined;
  readonly nullCount: number;
}

export abstract class Column {
  readonly context: Context;
  readonly type: DataType;
  readonly isNullable: boolean;
  /** Elements so far, those of the chunk under way not counted. */
  length = 0;
  /** Elements there is memory for. */
  capacity = 0;
  /** Of the chunk under way. */
  source: ArrayLike<unknown> = [];
  parent: Parent | undefined;
  /** Set once the tree of columns is there. */
  loop: Loop = () => {};
  /** What is wanted here: made for the first refusal, as a type may have a thousand members. */
  #wanted = "";
  /** A byte for each element, 1 where it is null; made for the first null. */
  #nulls: Uint8Array | undefined;

  constructor(context: Context, type: DataType, isNullable: boolean) {
    this.context = context;
    this.type = type;
    this.isNullable = isNullable;
  }

  /** Appends what the source holds. */
  encode(source: ArrayLike<unknown>, count: number): void {
    this.source = source;
    this.admitElements(count);
    this.reserve(this.length + count);
    this.begin(count);
    this.loop(this, source, count);
    this.end(count);
    this.length += count;
  }

  /** Bytes that `reserve` takes for each element. */
  abstract get elementBytes(): number;

  protected admitElements(count: number): void {
    if (count * this.elementBytes > this.context.maxBytes) throw TOO_MANY;
  }

  /** Writes element `i` of the chunk, whatever the value is. */
  abstract put(i: number, value: unknown): void;

  /** Writes zero, or nothing at all, as element `i` of the chunk. */
  abstract zero(i: number): void;

  /** The elements so far as one chunk of Arrow's, and none any more here. */
  abstract finish(): Data;

  /** Memory for elements up to `capacity`, those that are there kept. */
  protected abstract grow(capacity: number): void;

  /** Moves a finished element to a lower place. */
  protected abstract move(from: number, to: number): void;

  /** About the bytes that the elements take. */
  abstract get size(): number;

  protected begin(_count: number): void {}
  protected end(_count: number): void {}

  /** Lets go of what the source held. */
  release(): void {
    this.source = [];
  }

  /** JavaScript in which the most common values of this type are written by `values[at + i] = …`, ending in `else`. */
  get fast(): string {
    return "";
  }

  /** Reading the value threw. */
  threw(i: number, thrown: unknown): void {
    if (thrown === TOO_MANY) throw thrown;
    this.refuse(i, "VALUE_THREW", thrown, "reading it threw");
  }

  missing(i: number, value: unknown): void {
    if (this.isNullable) this.putNull(i);
    else this.refuse(i, "VALUE_MISSING", value);
  }

  putNull(i: number): void {
    this.#nulls ??= new Uint8Array(this.capacity);
    this.#nulls[this.length + i] = 1;
    this.zero(i);
  }

  /** @param why What more there is to say than what was given and what was wanted. */
  refuse(i: number, code: RowRefusalCode, value: unknown, why = ""): void {
    if (this.isNullable) this.putNull(i);
    else this.zero(i);
    if (this.source[i] === ABSENT) return;
    const { context } = this;
    context.failures++;
    context.refuse(this.rowOf(i), this.pathOf(i), code, this.wanted(why), value);
  }

  /** What is wanted here, for errors. */
  wanted(why: string): string {
    if (this.#wanted === "")
      this.#wanted = `${typeNotation(this.type)}${this.isNullable ? " or null" : ""} is wanted`;
    return why === "" ? this.#wanted : `${this.#wanted}: ${why}`;
  }

  reserve(capacity: number): void {
    if (capacity <= this.capacity) return;
    const grown = this.capacity === 0 ? capacity : Math.max(capacity, 2 * this.capacity);
    this.grow(grown);
    if (this.#nulls !== undefined) {
      const nulls = new Uint8Array(grown);
      nulls.set(this.#nulls);
      this.#nulls = nulls;
    }
    this.capacity = grown;
  }

  /** Of a finished element. */
  protected isNullAt(index: number): boolean {
    return this.#nulls?.[index] === 1;
  }

  /** Takes out those of the last `count` elements that `keep` has 0 for. */
  compact(keep: Uint8Array, count: number): void {
    const from = this.length - count;
    const nulls = this.#nulls;
    let to = from;
    for (let i = 0; i < count; i++) {
      if (keep[i] === 0) continue;
      if (to !== from + i) {
        this.move(from + i, to);
        if (nulls !== undefined) nulls[to] = nulls[from + i]!;
      }
      to++;
    }
    this.truncate(to);
  }

  /** Forgets all elements from `length` on, those of a chunk that was given up included. */
  truncate(length: number): void {
    this.#nulls?.fill(0, length);
    this.length = length;
  }

  protected takeValidity(): Validity {
    const nulls = this.#nulls;
    this.#nulls = undefined;
    if (nulls === undefined) return { bits: undefined, nullCount: 0 };
    const { bits, nullCount } = bitmapOf(nulls, this.length);
    return nullCount === 0 ? { bits: undefined, nullCount } : { bits, nullCount };
  }

  /** After `finish`: as new. */
  protected reset(): void {
    this.length = 0;
    this.capacity = 0;
  }

  rowOf(i: number): number {
    return this.parent === undefined ? i : this.parent.rowOfChild(i);
  }

  pathOf(i: number): string {
    return this.parent === undefined ? "" : this.parent.pathOfChild(this, i);
  }
}

/** A column that others lie below. */
export interface Parent {
  rowOfChild(i: number): number;
  pathOfChild(child: Column, i: number): string;
}
