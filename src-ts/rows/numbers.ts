// Columns of numbers: integers, floats, exact decimals.

import type { DataType } from "apache-arrow";
import type { Column, Context } from "./column.js";
import { FixedColumn, fastCount, LEAST_64, LongColumn, MOST_64, MOST_U64, TWO_32 } from "./fixed.js";
import { type Fault, parseDecimal } from "./text.js";

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
