// Columns of days, times, instants, lengths of time and intervals.

import { types } from "node:util";
import type { DataType } from "apache-arrow";
import { epochNanos, isOpaque, isRecord, temporalName, textOfTemporal } from "./attend.js";
import type { Column, Context } from "./column.js";
import { FixedColumn, fastCount, LEAST_64, LongColumn, MOST_64, TWO_32, writeNumber } from "./fixed.js";
import { member, type RowRefusalCode } from "./refusal.js";
import { type Fault, type Moment, parseDay, parseMoment, parseSpan, parseTime, type Span } from "./text.js";

const DAY_MS = 86_400_000;
const DAY_NANOS = 86_400_000_000_000n;
const getTime = Date.prototype.getTime;

/** Why a count cannot be taken, or undefined. */
function countFault(value: number | bigint, least: number, most: number): RowRefusalCode | undefined {
  if (typeof value === "number" && Number.isFinite(value) && !Number.isInteger(value)) return "VALUE_INEXACT";
  return value >= least && value <= most ? undefined : "VALUE_RANGE";
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
