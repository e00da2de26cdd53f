// Columns whose values all have one width, and what those of 64 bits share: booleans, bytes of one length, nothing.
// numbers.ts has the numbers, temporal.ts dates and times.
//
// Invariant: each `put` decides alone and completely what its type takes. `fast` is the most common case of it once
// more, for the compiled loops: tests hold both to one behaviour.

import { Data, type DataType } from "apache-arrow";
import { bytesOf } from "./attend.js";
import { Column, type Context } from "./column.js";
import { parseUuid } from "./text.js";

type Values = {
  [index: number]: number | bigint;
  readonly length: number;
  readonly buffer: ArrayBufferLike;
  readonly BYTES_PER_ELEMENT: number;
  set(values: never): void;
  fill(value: never, from: number, to: number): unknown;
  copyWithin(to: number, from: number, end: number): unknown;
  subarray(from: number, to: number): Values;
};

export const TWO_32 = 2 ** 32;

/** Nothing but null. */
export class NullColumn extends Column {
  override put(i: number, value: unknown): void {
    if (value !== null && value !== undefined) this.refuse(i, "VALUE_TYPE", value);
  }
  override zero(): void {}
  protected override grow(): void {}
  protected override move(): void {}
  override get size(): number {
    return 0;
  }
  override get elementBytes(): number {
    return 0;
  }
  // Every element is null: no validity is kept.
  override putNull(): void {}
  override finish(): Data {
    const { length } = this;
    this.reset();
    return new Data(this.type, 0, length, length);
  }
}

export abstract class FixedColumn extends Column {
  values: Values;
  /** Elements of `values` for each value. */
  protected readonly width: number;
  readonly #ArrayType: new (
    length: number,
  ) => Values;
  readonly #zero: number | bigint;

  constructor(context: Context, type: DataType, isNullable: boolean, width = 1) {
    super(context, type, isNullable);
    this.width = width;
    this.#zero = this instanceof LongColumn ? 0n : 0;
    this.#ArrayType = (type as unknown as { ArrayType: new (length: number) => Values }).ArrayType;
    this.values = new this.#ArrayType(0);
  }

  protected override grow(capacity: number): void {
    const values = new this.#ArrayType(capacity * this.width);
    if (this.length > 0) values.set(this.values.subarray(0, this.length * this.width) as never);
    this.values = values;
    this.grown();
  }

  /** The memory is another one. */
  protected grown(): void {}

  override zero(i: number): void {
    const at = (this.length + i) * this.width;
    if (this.width === 1) this.values[at] = this.#zero;
    else this.values.fill(this.#zero as never, at, at + this.width);
  }

  protected override move(from: number, to: number): void {
    const { width } = this;
    this.values.copyWithin(to * width, from * width, (from + 1) * width);
  }

  override get elementBytes(): number {
    return this.width * this.values.BYTES_PER_ELEMENT;
  }

  override get size(): number {
    return this.length * this.elementBytes;
  }

  override finish(): Data {
    const { bits, nullCount } = this.takeValidity();
    const { length } = this;
    const data = new Data(this.type, 0, length, nullCount, [undefined, this.filled(), bits] as never);
    this.values = new this.#ArrayType(0);
    this.grown();
    this.reset();
    return data;
  }

  protected filled(): unknown {
    return this.values.subarray(0, this.length * this.width);
  }
}

/** 64 bits: integers, instants, lengths of time, times of day. */
export abstract class LongColumn extends FixedColumn {
  words: Int32Array = new Int32Array(0);

  protected override grown(): void {
    this.words = new Int32Array(this.values.buffer);
  }

  protected setNumber(i: number, value: number): void {
    const at = 2 * (this.length + i);
    this.words[at] = value;
    this.words[at + 1] = Math.floor(value / TWO_32);
  }

  /** A count of the column's own unit. */
  protected putCount(
    i: number,
    value: number | bigint,
    least: bigint,
    most: bigint,
    given: unknown = value,
  ): void {
    if (typeof value === "number") {
      if (Number.isSafeInteger(value)) {
        if (value < least || value > most) this.refuse(i, "VALUE_RANGE", value);
        else this.setNumber(i, value);
      } else if (!Number.isFinite(value)) this.refuse(i, "VALUE_RANGE", value);
      else if (!Number.isInteger(value)) this.refuse(i, "VALUE_INEXACT", value);
      else
        this.refuse(i, "VALUE_INEXACT", value, "a number beyond 2^53 may have been rounded; give a bigint");
    } else if (value < least || value > most) {
      this.refuse(i, "VALUE_RANGE", given);
    } else {
      this.values[this.length + i] = value;
    }
  }
}

export const LEAST_64 = -(2n ** 63n);
export const MOST_64 = 2n ** 63n - 1n;
export const MOST_U64 = 2n ** 64n - 1n;

/** JavaScript that writes a safe whole number as two words. */
export const writeNumber = (value: string): string =>
  `{ const k = 2 * (at + i); words[k] = ${value}; words[k + 1] = Math.floor(${value} / ${TWO_32}); }`;

export const fastCount = (condition: string): string =>
  `if (typeof value === "number" && Number.isSafeInteger(value)${condition}) ${writeNumber("value")} else`;

/** Booleans: a byte for each until the column is finished. */
export class BoolColumn extends Column {
  values = new Uint8Array(0);

  override put(i: number, value: unknown): void {
    if (typeof value === "boolean") this.values[this.length + i] = value ? 1 : 0;
    else if (value === null || value === undefined) this.missing(i, value);
    else this.refuse(i, "VALUE_TYPE", value);
  }

  override get fast(): string {
    return 'if (typeof value === "boolean") values[at + i] = value ? 1 : 0; else';
  }

  override zero(i: number): void {
    this.values[this.length + i] = 0;
  }

  protected override grow(capacity: number): void {
    const values = new Uint8Array(capacity);
    values.set(this.values.subarray(0, this.length));
    this.values = values;
  }

  protected override move(from: number, to: number): void {
    this.values[to] = this.values[from]!;
  }

  override get elementBytes(): number {
    return 1;
  }

  override get size(): number {
    return this.length;
  }

  override finish(): Data {
    const { length, values } = this;
    const { bits, nullCount } = this.takeValidity();
    const packed = new Uint8Array((length + 7) >> 3);
    for (let i = 0; i < length; i++) packed[i >> 3]! |= values[i]! << (i & 7);
    this.values = new Uint8Array(0);
    this.reset();
    return new Data(this.type, 0, length, nullCount, [undefined, packed, bits] as never);
  }
}

/** Bytes of one length. */
export class FixedBytesColumn extends FixedColumn {
  constructor(context: Context, type: DataType, isNullable: boolean) {
    super(context, type, isNullable, (type as unknown as { byteWidth: number }).byteWidth);
  }

  override put(i: number, value: unknown): void {
    if (value === null || value === undefined) {
      this.missing(i, value);
      return;
    }
    const isText = typeof value === "string";
    const bytes = isText ? this.width === 16 && parseUuid(value) : bytesOf(value);
    if (bytes === false || bytes === undefined)
      this.refuse(i, isText && this.width === 16 ? "VALUE_MALFORMED" : "VALUE_TYPE", value);
    else if (bytes === "gone") this.refuse(i, "VALUE_MALFORMED", value, "its memory was transferred away");
    else if (bytes.length !== this.width) this.refuse(i, "VALUE_RANGE", value);
    else (this.values as unknown as Uint8Array).set(bytes, (this.length + i) * this.width);
  }
}
