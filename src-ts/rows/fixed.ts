// Columns whose values all have one width: numbers, decimals, dates and times, bytes of one length.
//
// Invariant: each `put` decides alone and completely what its type takes. `fast` is the most common case of it once
// more, for the compiled loops: tests hold both to one behaviour.

import { types } from "node:util";
import { Data, type DataType } from "apache-arrow";
import { bytesOf, epochNanos, isOpaque, isRecord, temporalName, textOfTemporal } from "./attend.js";
import { Column, type Context } from "./column.js";
import { member, type RowRefusalCode } from "./refusal.js";
import {
  type Fault,
  type Moment,
  parseDay,
  parseDecimal,
  parseMoment,
  parseSpan,
  parseTime,
  parseUuid,
  type Span,
} from "./text.js";

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

const TWO_32 = 2 ** 32;
const DAY_MS = 86_400_000;
const DAY_NANOS = 86_400_000_000_000n;
const getTime = Date.prototype.getTime;

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

/** Integers of up to 32 bits. */
export class IntColumn extends FixedColumn {
  readonly #least: number;
  readonly #most: number;

  constructor(context: Context, type: DataType, isNullable: boolean) {
    super(context, type, isNullable);
    const { bitWidth, isSigned } = type as unknown as { bitWidth: number; isSigned: boolean };
    this.#least = isSigned ? -(2 ** (bitWidth - 1)) : 0;
    this.#most = isSigned ? 2 ** (bitWidth - 1) - 1 : 2 ** bitWidth - 1;
  }

  override put(i: number, value: unknown): void {
    if (typeof value === "number") {
      if (value >= this.#least && value <= this.#most && Number.isInteger(value))
        this.values[this.length + i] = value;
      else
        this.refuse(
          i,
          Number.isInteger(value) || !Number.isFinite(value) ? "VALUE_RANGE" : "VALUE_INEXACT",
          value,
        );
    } else if (typeof value === "bigint") {
      if (value >= this.#least && value <= this.#most) this.values[this.length + i] = Number(value);
      else this.refuse(i, "VALUE_RANGE", value);
    } else if (value === null || value === undefined) {
      this.missing(i, value);
    } else {
      this.refuse(i, "VALUE_TYPE", value);
    }
  }

  override get fast(): string {
    const range = this.#most === 2 ** 31 - 1 ? "" : ` && value >= ${this.#least} && value <= ${this.#most}`;
    const whole = this.#most > 2 ** 31 ? "value >>> 0" : "value | 0";
    return `if (typeof value === "number" && (${whole}) === value${range}) values[at + i] = value; else`;
  }
}

/** 64 bits: integers, instants, lengths of time, times of day. */
abstract class LongColumn extends FixedColumn {
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

const LEAST_64 = -(2n ** 63n);
const MOST_64 = 2n ** 63n - 1n;
const MOST_U64 = 2n ** 64n - 1n;

/** JavaScript that writes a safe whole number as two words. */
const writeNumber = (value: string): string =>
  `{ const k = 2 * (at + i); words[k] = ${value}; words[k + 1] = Math.floor(${value} / ${TWO_32}); }`;

const fastCount = (condition: string): string =>
  `if (typeof value === "number" && Number.isSafeInteger(value)${condition}) ${writeNumber("value")} else`;

export class Int64Column extends LongColumn {
  readonly #least: bigint;
  readonly #most: bigint;

  constructor(context: Context, type: DataType, isNullable: boolean) {
    super(context, type, isNullable);
    const { isSigned } = type as unknown as { isSigned: boolean };
    this.#least = isSigned ? LEAST_64 : 0n;
    this.#most = isSigned ? MOST_64 : MOST_U64;
  }

  override put(i: number, value: unknown): void {
    if (typeof value === "number" || typeof value === "bigint")
      this.putCount(i, value, this.#least, this.#most);
    else if (value === null || value === undefined) this.missing(i, value);
    else this.refuse(i, "VALUE_TYPE", value);
  }

  override get fast(): string {
    const least = this.#least;
    const bigint = `if (typeof value === "bigint" && value >= ${least}n && value <= ${this.#most}n) values[at + i] = value; else`;
    return `${fastCount(least === 0n ? " && value >= 0" : "")} ${bigint}`;
  }
}

/** Floats of 32 and 64 bits. */
export class FloatColumn extends FixedColumn {
  readonly #isSingle: boolean;

  constructor(context: Context, type: DataType, isNullable: boolean) {
    super(context, type, isNullable);
    this.#isSingle = (type as unknown as { precision: number }).precision === 1;
  }

  override put(i: number, value: unknown): void {
    const number = asFloat(this, i, value);
    if (number === undefined) return;
    if (this.#isSingle && Number.isFinite(number) && !Number.isFinite(Math.fround(number)))
      this.refuse(i, "VALUE_RANGE", value);
    else this.values[this.length + i] = number;
  }

  override get fast(): string {
    const range = this.#isSingle ? " && value >= -3e38 && value <= 3e38" : "";
    return `if (typeof value === "number"${range}) values[at + i] = value; else`;
  }
}

/** The number that a float is made of; undefined: it was refused, or is null. */
function asFloat(column: Column, i: number, value: unknown): number | undefined {
  if (typeof value === "number") return value;
  if (typeof value === "bigint") {
    const number = Number(value);
    if (Number.isFinite(number) && BigInt(number) === value) return number;
    column.refuse(i, Number.isFinite(number) ? "VALUE_INEXACT" : "VALUE_RANGE", value);
  } else if (value === null || value === undefined) {
    column.missing(i, value);
  } else {
    column.refuse(i, "VALUE_TYPE", value);
  }
  return undefined;
}

/** Floats of 16 bits. */
export class HalfColumn extends FixedColumn {
  override put(i: number, value: unknown): void {
    const number = asFloat(this, i, value);
    if (number === undefined) return;
    const half = toHalf(number);
    if (half === undefined) this.refuse(i, "VALUE_RANGE", value);
    else this.values[this.length + i] = half;
  }
}

const double = new Float64Array(1);
const doubleWords = new Uint32Array(double.buffer);

/** The nearest value of half precision, ties to even; undefined if a finite number has none. */
function toHalf(value: number): number | undefined {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size === Number.POSITIVE_INFINITY) return sign | 0x7c00;
  // Below 2^-14 values are multiples of 2^-24; the largest of them rounds into the first of the others.
  if (size < 2 ** -14) return sign | toEven(size * 2 ** 24);
  double[0] = size;
  const exponent = (doubleWords[1]! >>> 20) - 1023;
  const digits = toEven(size / 2 ** (exponent - 10));
  const half = ((exponent + 15) << 10) + digits - 1024;
  return exponent > 15 || half >= 0x7c00 ? undefined : sign | half;
}

function toEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

/** Exact decimals of 128 and 256 bits, and of 32 and 64 where a schema has them. */
export class DecimalColumn extends FixedColumn {
  readonly #scale: number;
  readonly #most: bigint;
  readonly #words: number;

  constructor(context: Context, type: DataType, isNullable: boolean) {
    const { bitWidth, precision, scale } = type as unknown as Record<string, number>;
    super(context, type, isNullable, bitWidth! / 32);
    this.#scale = scale!;
    // A schema made elsewhere may claim more digits than its bits hold.
    const ofBits = 2n ** BigInt(bitWidth! - 1) - 1n;
    const ofPrecision = 10n ** BigInt(precision!) - 1n;
    this.#most = ofPrecision < ofBits ? ofPrecision : ofBits;
    this.#words = bitWidth! / 32;
  }

  override put(i: number, value: unknown): void {
    if (typeof value === "string") this.#units(i, parseDecimal(value, this.#scale), value);
    else if (typeof value === "bigint") this.#bigint(i, value);
    else if (typeof value === "number") this.#number(i, value);
    else if (value === null || value === undefined) this.missing(i, value);
    else this.refuse(i, "VALUE_TYPE", value);
  }

  #number(i: number, value: number): void {
    if (!Number.isFinite(value)) this.refuse(i, "VALUE_RANGE", value);
    else if (Math.abs(value) > Number.MAX_SAFE_INTEGER)
      this.refuse(
        i,
        "VALUE_INEXACT",
        value,
        "a number beyond 2^53 may have been rounded; give text or a bigint",
      );
    // The shortest text that reads as this number is what its author meant: 0.1 is one tenth.
    else this.#units(i, parseDecimal(String(value), this.#scale), value);
  }

  #bigint(i: number, value: bigint): void {
    const factor = 10n ** BigInt(Math.abs(this.#scale));
    const most = this.#scale < 0 ? this.#most * factor : this.#most;
    // So large a product would only take time.
    if (value > most || value < -most) this.refuse(i, "VALUE_RANGE", value);
    else if (this.#scale >= 0) this.#units(i, value * factor, value);
    else this.#units(i, value % factor === 0n ? value / factor : "VALUE_INEXACT", value);
  }

  #units(i: number, units: number | bigint | Fault, value: unknown): void {
    if (typeof units === "string") {
      this.refuse(i, units, value, units === "VALUE_INEXACT" ? "it has digits beyond the scale" : "");
    } else if (units > this.#most || units < -this.#most) {
      this.refuse(i, "VALUE_RANGE", value);
    } else {
      let at = (this.length + i) * this.#words;
      const end = at + this.#words;
      if (typeof units === "number") {
        this.values[at++] = units;
        this.values[at++] = Math.floor(units / TWO_32);
        const sign = units < 0 ? TWO_32 - 1 : 0;
        while (at < end) this.values[at++] = sign;
      } else {
        for (let rest = units; at < end; rest >>= 32n) this.values[at++] = Number(BigInt.asUintN(32, rest));
      }
    }
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

/** A day, as a number of days or of milliseconds. */
function dayOf(column: Column, i: number, value: unknown): number | undefined {
  let day: number | Fault | undefined;
  if (typeof value === "string") day = parseDay(value);
  else if (types.isDate(value)) {
    const time = getTime.call(value);
    // -0 would be written as such nowhere, but is no whole number of days for `Object.is`.
    day = Number.isNaN(time) ? "VALUE_MALFORMED" : time % DAY_MS === 0 ? time / DAY_MS : "VALUE_INEXACT";
    if (day === "VALUE_INEXACT") {
      column.refuse(i, day, value, "it has a time of day in UTC");
      return undefined;
    }
  } else if (temporalName(value) === "PlainDate") {
    day = parseDay(textOfTemporal(value));
  }
  if (typeof day === "number") return day;
  if (value === null || value === undefined) column.missing(i, value);
  else column.refuse(i, day ?? "VALUE_TYPE", value);
  return undefined;
}

/** Days in 32 bits. */
export class DayColumn extends FixedColumn {
  override put(i: number, value: unknown): void {
    if (typeof value === "number" || typeof value === "bigint") {
      const code = countFault(value, -(2 ** 31), 2 ** 31 - 1);
      if (code === undefined) this.values[this.length + i] = Number(value);
      else this.refuse(i, code, value);
      return;
    }
    const day = dayOf(this, i, value);
    if (day !== undefined) this.values[this.length + i] = day;
  }
}

/** Days as milliseconds in 64 bits. */
export class DayMillisecondColumn extends LongColumn {
  override put(i: number, value: unknown): void {
    if (typeof value === "number" || typeof value === "bigint") {
      if (
        typeof value === "number"
          ? Number.isSafeInteger(value) && value % DAY_MS !== 0
          : value % 86_400_000n !== 0n
      )
        this.refuse(i, "VALUE_INEXACT", value, "it is no whole number of days");
      else this.putCount(i, value, LEAST_64, MOST_64);
      return;
    }
    const day = dayOf(this, i, value);
    if (day !== undefined) this.setNumber(i, day * DAY_MS);
  }
}

/** Why a count cannot be taken, or undefined. */
function countFault(value: number | bigint, least: number, most: number): RowRefusalCode | undefined {
  if (typeof value === "number" && Number.isFinite(value) && !Number.isInteger(value)) return "VALUE_INEXACT";
  return value >= least && value <= most ? undefined : "VALUE_RANGE";
}

const PER_SECOND = [1, 1_000, 1_000_000, 1_000_000_000];

const unitOf = (type: DataType): number => (type as unknown as { unit: number }).unit;

/** A time of day. */
function timeOf(column: Column, i: number, value: unknown): Moment | undefined {
  const text =
    typeof value === "string"
      ? value
      : temporalName(value) === "PlainTime"
        ? textOfTemporal(value)
        : undefined;
  if (text === undefined) {
    if (value === null || value === undefined) column.missing(i, value);
    else column.refuse(i, "VALUE_TYPE", value);
    return undefined;
  }
  const time = parseTime(text);
  if (typeof time !== "string") return time;
  column.refuse(i, time, value);
  return undefined;
}

const LOSES = "it has more digits than the column's unit";

/** Seconds or milliseconds since midnight, in 32 bits. */
export class TimeColumn extends FixedColumn {
  override put(i: number, value: unknown): void {
    const perSecond = PER_SECOND[unitOf(this.type)]!;
    if (typeof value === "number" || typeof value === "bigint") {
      const code = countFault(value, 0, 86_400 * perSecond - 1);
      if (code === undefined) this.values[this.length + i] = Number(value);
      else this.refuse(i, code, value);
      return;
    }
    const time = timeOf(this, i, value);
    if (time === undefined) return;
    const part = time.nanos / (1_000_000_000 / perSecond);
    if (Number.isInteger(part)) this.values[this.length + i] = time.seconds * perSecond + part;
    else this.refuse(i, "VALUE_INEXACT", value, LOSES);
  }
}

/** Microseconds or nanoseconds since midnight, in 64 bits. */
export class LongTimeColumn extends LongColumn {
  override put(i: number, value: unknown): void {
    const perSecond = PER_SECOND[unitOf(this.type)]!;
    if (typeof value === "number" || typeof value === "bigint") {
      this.putCount(i, value, 0n, BigInt(86_400 * perSecond - 1));
      return;
    }
    const time = timeOf(this, i, value);
    if (time === undefined) return;
    const part = time.nanos / (1_000_000_000 / perSecond);
    if (Number.isInteger(part)) this.setNumber(i, time.seconds * perSecond + part);
    else this.refuse(i, "VALUE_INEXACT", value, LOSES);
  }
}

/** Instants, or what clocks on walls show. */
export class TimestampColumn extends LongColumn {
  readonly #perSecond: number;
  readonly #hasZone: boolean;
  /** Seconds beyond which 64 bits are surely too few. */
  readonly #farSeconds: number;

  constructor(context: Context, type: DataType, isNullable: boolean) {
    super(context, type, isNullable);
    this.#perSecond = PER_SECOND[unitOf(type)]!;
    this.#farSeconds = 2 ** 63 / this.#perSecond + 1;
    this.#hasZone = Boolean((type as unknown as { timezone?: string | null }).timezone);
  }

  override put(i: number, value: unknown): void {
    if (typeof value === "number" || typeof value === "bigint") this.putCount(i, value, LEAST_64, MOST_64);
    else if (typeof value === "string") this.#text(i, value, value);
    else if (types.isDate(value)) this.#date(i, value);
    else if (value === null || value === undefined) this.missing(i, value);
    else this.#temporal(i, value);
  }

  override get fast(): string {
    const count = fastCount("");
    const factor = this.#perSecond / 1_000;
    // From seconds it may be inexact, and nanoseconds are beyond what a number holds.
    if (factor !== 1 && factor !== 1_000) return count;
    const most = Math.floor(Number.MAX_SAFE_INTEGER / factor);
    const inside = `(time = timeOf(value)) >= -${most} && time <= ${most}`;
    const scaled = factor === 1 ? "" : `time *= ${factor}; `;
    return `let time; if (value instanceof Date && ${inside}) { ${scaled}${writeNumber("time")} } else ${count}`;
  }

  #date(i: number, value: Date): void {
    const time = getTime.call(value);
    if (Number.isNaN(time)) {
      this.refuse(i, "VALUE_MALFORMED", value, "it is an invalid Date");
      return;
    }
    const seconds = Math.floor(time / 1_000);
    this.#moment(i, seconds, (time - seconds * 1_000) * 1_000_000, value);
  }

  #text(i: number, text: string, value: unknown): void {
    const moment = parseMoment(text);
    if (typeof moment === "string") this.refuse(i, moment, value);
    else if (moment.hasOffset === this.#hasZone) this.#moment(i, moment.seconds, moment.nanos, value);
    else
      this.refuse(
        i,
        "VALUE_MALFORMED",
        value,
        this.#hasZone ? "text needs Z or an offset" : "text has an offset, and the column has no zone",
      );
  }

  #temporal(i: number, value: unknown): void {
    const name = temporalName(value);
    if (!this.#hasZone) {
      if (name === "PlainDateTime") this.#text(i, textOfTemporal(value), value);
      else this.refuse(i, "VALUE_TYPE", value);
      return;
    }
    const nanos = name === "Instant" || name === "ZonedDateTime" ? epochNanos(value) : undefined;
    if (nanos === undefined) {
      this.refuse(i, "VALUE_TYPE", value);
      return;
    }
    const rest = BigInt.asIntN(64, ((nanos % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n);
    this.#moment(i, Number((nanos - rest) / 1_000_000_000n), Number(rest), value);
  }

  /** Without a bigint: what takes two words is multiplied in two parts. */
  #moment(i: number, seconds: number, nanos: number, value: unknown): void {
    const perSecond = this.#perSecond;
    const part = nanos / (1_000_000_000 / perSecond);
    if (!Number.isInteger(part)) {
      this.refuse(i, "VALUE_INEXACT", value, LOSES);
      return;
    }
    if (Math.abs(seconds) > this.#farSeconds) {
      this.refuse(i, "VALUE_RANGE", value);
      return;
    }
    const upper = Math.floor(seconds / 65_536);
    const lower = (seconds - upper * 65_536) * perSecond + part;
    const units = upper * perSecond;
    const high = Math.floor(units / 65_536);
    const low = (units - high * 65_536) * 65_536 + lower;
    const carried = high + Math.floor(low / TWO_32);
    if (carried < -(2 ** 31) || carried >= 2 ** 31) {
      this.refuse(i, "VALUE_RANGE", value);
      return;
    }
    const at = 2 * (this.length + i);
    this.words[at] = low;
    this.words[at + 1] = carried;
  }
}

/** Lengths of time. */
export class DurationColumn extends LongColumn {
  override put(i: number, value: unknown): void {
    if (typeof value === "number" || typeof value === "bigint") {
      this.putCount(i, value, LEAST_64, MOST_64);
      return;
    }
    if (value === null || value === undefined) {
      this.missing(i, value);
      return;
    }
    const text =
      typeof value === "string"
        ? value
        : temporalName(value) === "Duration"
          ? textOfTemporal(value)
          : undefined;
    if (text === undefined) {
      this.refuse(i, "VALUE_TYPE", value);
      return;
    }
    const span = parseSpan(text);
    const nanosPer = BigInt(1_000_000_000 / PER_SECOND[unitOf(this.type)]!);
    if (typeof span === "string") this.refuse(i, span, value);
    else if (span.months !== 0n) this.refuse(i, "VALUE_INEXACT", value, "months have no fixed length");
    else {
      const nanos = span.days * DAY_NANOS + span.nanos;
      if (nanos % nanosPer !== 0n) this.refuse(i, "VALUE_INEXACT", value, LOSES);
      else this.putCount(i, nanos / nanosPer, LEAST_64, MOST_64, value);
    }
  }

  override get fast(): string {
    return fastCount("");
  }
}

const PARTS: Readonly<Record<string, readonly ["months" | "days" | "nanos", bigint]>> = {
  years: ["months", 12n],
  months: ["months", 1n],
  weeks: ["days", 7n],
  days: ["days", 1n],
  hours: ["nanos", 3_600_000_000_000n],
  minutes: ["nanos", 60_000_000_000n],
  seconds: ["nanos", 1_000_000_000n],
  milliseconds: ["nanos", 1_000_000n],
  microseconds: ["nanos", 1_000n],
  nanoseconds: ["nanos", 1n],
};

const fits = (value: bigint, bits: number): boolean => BigInt.asIntN(bits, value) === value;

/** Intervals of the calendar: months; days and milliseconds; months, days and nanoseconds. */
export class IntervalColumn extends FixedColumn {
  constructor(context: Context, type: DataType, isNullable: boolean) {
    super(context, type, isNullable, [1, 2, 4][unitOf(type)]!);
  }

  override put(i: number, value: unknown): void {
    if (value === null || value === undefined) {
      this.missing(i, value);
      return;
    }
    let span: Span | Fault | undefined;
    if (typeof value === "string") span = parseSpan(value);
    else if (this.width === 1 && (typeof value === "number" || typeof value === "bigint")) {
      const code = countFault(value, -(2 ** 31), 2 ** 31 - 1);
      if (code === undefined) this.values[this.length + i] = Number(value);
      else this.refuse(i, code, value);
      return;
    } else if (temporalName(value) === "Duration") span = parseSpan(textOfTemporal(value));
    else if (isRecord(value)) {
      span = this.#parts(i, value);
      if (span === undefined) return;
    }
    if (span === undefined) this.refuse(i, "VALUE_TYPE", value);
    else if (typeof span === "string") this.refuse(i, span, value);
    else this.#write(i, span, value);
  }

  /** Undefined: it was refused. */
  #parts(i: number, value: object): Span | undefined {
    const sums = { months: 0n, days: 0n, nanos: 0n };
    const keys = Object.keys(value);
    // What has its parts elsewhere must not pass for an interval of nothing.
    if (keys.length === 0 && (isOpaque(value) || Object.keys(PARTS).some((part) => part in value))) {
      this.refuse(i, "VALUE_TYPE", value);
      return undefined;
    }
    for (const key of keys) {
      const part = Object.hasOwn(PARTS, key) ? PARTS[key] : undefined;
      const amount: unknown = (value as Record<string, unknown>)[key];
      if (amount === undefined) continue;
      const path = member("", key);
      if (part === undefined) {
        this.refuse(i, "KEY_UNKNOWN", amount, `${path} is no part of an interval`);
        return undefined;
      }
      if (typeof amount === "number" ? !Number.isSafeInteger(amount) : typeof amount !== "bigint") {
        const code = typeof amount === "number" ? "VALUE_INEXACT" : "VALUE_TYPE";
        this.refuse(i, code, amount, `${path} must be a whole number`);
        return undefined;
      }
      const [sum, factor] = part;
      sums[sum] += BigInt(amount as number | bigint) * factor;
    }
    return sums;
  }

  #write(i: number, { months, days, nanos }: Span, value: unknown): void {
    const at = (this.length + i) * this.width;
    const { values } = this;
    if (this.width === 1) {
      if (days !== 0n || nanos !== 0n) this.refuse(i, "VALUE_INEXACT", value, "it holds months alone");
      else if (!fits(months, 32)) this.refuse(i, "VALUE_RANGE", value);
      else values[at] = Number(months);
    } else if (this.width === 2) {
      const milliseconds = nanos / 1_000_000n;
      if (months !== 0n) this.refuse(i, "VALUE_INEXACT", value, "it holds no months");
      else if (nanos % 1_000_000n !== 0n)
        this.refuse(i, "VALUE_INEXACT", value, "it holds whole milliseconds");
      else if (!fits(days, 32) || !fits(milliseconds, 32)) this.refuse(i, "VALUE_RANGE", value);
      else {
        values[at] = Number(days);
        values[at + 1] = Number(milliseconds);
      }
    } else if (!fits(months, 32) || !fits(days, 32) || !fits(nanos, 64)) {
      this.refuse(i, "VALUE_RANGE", value);
    } else {
      values[at] = Number(months);
      values[at + 1] = Number(days);
      values[at + 2] = Number(BigInt.asIntN(32, nanos));
      values[at + 3] = Number(nanos >> 32n);
    }
  }
}
