// Text → days, instants, times of day, lengths of time, decimals, UUIDs.
//
// Invariants:
// - Exact: digits that would be lost are told apart from text that says nothing.
// - Strict: one form for each thing (ISO 8601, complete). No clock, zone or language of the machine is asked.
// - Time grows with the length of the text.

/** Whole seconds and the nanoseconds after them: since 1970, or since midnight. */
export interface Moment {
  readonly seconds: number;
  /** From 0 to 999,999,999. */
  readonly nanos: number;
  /** Whether `Z` or an offset was there; it is taken into account. */
  readonly hasOffset: boolean;
}

/** Text that cannot be what it should be, or has digits beyond nanoseconds. */
export type Fault = "VALUE_MALFORMED" | "VALUE_INEXACT";

/** `count` digits from `at` on as a number; -1 if there is anything else. */
function digits(text: string, at: number, count: number): number {
  let number = 0;
  for (let i = at; i < at + count; i++) {
    const digit = text.charCodeAt(i) - 48;
    // Beyond the end it is NaN, which no comparison lets through.
    if (!(digit >= 0 && digit <= 9)) return -1;
    number = number * 10 + digit;
  }
  return number;
}

const MONTHS = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/** Days since 1970 in the calendar that ISO 8601 extends to all years; NaN if there is no such day. */
function daysOf(year: number, month: number, day: number): number {
  if (!(month >= 1 && month <= 12 && day >= 1 && day <= MONTHS[month - 1]!)) return Number.NaN;
  const leap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  if (month === 2 && day === 29 && !leap) return Number.NaN;
  // Years that begin in March end with the day that may not be there.
  const shifted = month <= 2 ? year - 1 : year;
  const era = Math.floor(shifted / 400);
  const ofEra = shifted - era * 400;
  const ofYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  return era * 146_097 + ofEra * 365 + Math.floor(ofEra / 4) - Math.floor(ofEra / 100) + ofYear - 719_468;
}

/** The day at the beginning of the text and how long its text is, or undefined. */
function leadingDay(text: string): { days: number; end: number } | undefined {
  const sign = text.charCodeAt(0);
  const isLong = sign === 43 || sign === 45;
  const width = isLong ? 6 : 4;
  const at = isLong ? 1 : 0;
  const year = digits(text, at, width);
  const end = at + width + 6;
  const dashes = text.charCodeAt(at + width) === 45 && text.charCodeAt(at + width + 3) === 45;
  // There is one year 0, and it is not negative.
  if (year < 0 || !dashes || (sign === 45 && year === 0)) return undefined;
  const days = daysOf(sign === 45 ? -year : year, digits(text, end - 5, 2), digits(text, end - 2, 2));
  return Number.isNaN(days) ? undefined : { days, end };
}

/** `2026-11-29` or `+012026-11-29` → days since 1970. */
export function parseDay(text: string): number | Fault {
  const day = leadingDay(text);
  return day !== undefined && day.end === text.length ? day.days : "VALUE_MALFORMED";
}

interface Clock {
  readonly seconds: number;
  readonly nanos: number;
  readonly end: number;
}

/** `HH:MM`, `HH:MM:SS` or `HH:MM:SS.f…` from `at` on. */
function clock(text: string, at: number): Clock | Fault {
  const hour = digits(text, at, 2);
  const minute = digits(text, at + 3, 2);
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || text.charCodeAt(at + 2) !== 58)
    return "VALUE_MALFORMED";
  let end = at + 5;
  let seconds = hour * 3600 + minute * 60;
  if (text.charCodeAt(end) !== 58) return { seconds, nanos: 0, end };
  const second = digits(text, end + 1, 2);
  if (second < 0 || second > 59) return "VALUE_MALFORMED";
  seconds += second;
  end += 3;
  if (text.charCodeAt(end) !== 46) return { seconds, nanos: 0, end };
  const from = end + 1;
  let nanos = 0;
  let unit = 100_000_000;
  let isExact = true;
  for (end = from; ; end++) {
    const digit = text.charCodeAt(end) - 48;
    if (!(digit >= 0 && digit <= 9)) break;
    if (unit >= 1) nanos += digit * unit;
    else if (digit !== 0) isExact = false;
    unit = Math.floor(unit / 10);
  }
  if (end === from) return "VALUE_MALFORMED";
  return isExact ? { seconds, nanos, end } : "VALUE_INEXACT";
}

/** `13:37`, `13:37:00`, `13:37:00.123456789` → since midnight. */
export function parseTime(text: string): Moment | Fault {
  const found = clock(text, 0);
  if (typeof found === "string") return found;
  if (found.end !== text.length) return "VALUE_MALFORMED";
  return { seconds: found.seconds, nanos: found.nanos, hasOffset: false };
}

/** A day, `T` or a blank, a time of day, and perhaps `Z` or an offset → since 1970. */
export function parseMoment(text: string): Moment | Fault {
  const day = leadingDay(text);
  if (day === undefined) return "VALUE_MALFORMED";
  const separator = text.charCodeAt(day.end);
  if (separator !== 84 && separator !== 32) return "VALUE_MALFORMED";
  const found = clock(text, day.end + 1);
  if (typeof found === "string") return found;
  const { nanos, end } = found;
  const seconds = day.days * 86_400 + found.seconds;
  if (end === text.length) return { seconds, nanos, hasOffset: false };
  const offset = offsetSeconds(text, end);
  return Number.isNaN(offset) ? "VALUE_MALFORMED" : { seconds: seconds - offset, nanos, hasOffset: true };
}

/** `Z`, `+01:00`, `+0100` or `+01` to the end of the text, as seconds; else NaN. */
function offsetSeconds(text: string, at: number): number {
  const sign = text.charCodeAt(at);
  const rest = text.length - at;
  if (sign === 90) return rest === 1 ? 0 : Number.NaN;
  if (sign !== 43 && sign !== 45) return Number.NaN;
  const hours = digits(text, at + 1, 2);
  const colon = text.charCodeAt(at + 3) === 58;
  const minutes = rest === 3 ? 0 : digits(text, at + (colon ? 4 : 3), 2);
  const isWhole = rest === 3 || rest === (colon ? 6 : 5);
  if (!isWhole || hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return Number.NaN;
  return (sign === 45 ? -1 : 1) * (hours * 3600 + minutes * 60);
}

/** Months, days and nanoseconds: what no calendar or clock turns into each other. */
export interface Span {
  readonly months: bigint;
  readonly days: bigint;
  readonly nanos: bigint;
}

const SPAN =
  /^([+-]?)P(?:(\d{1,18})Y)?(?:(\d{1,18})M)?(?:(\d{1,18})W)?(?:(\d{1,18})D)?(T(?:(\d{1,18})H)?(?:(\d{1,18})M)?(?:(\d{1,18})(?:\.(\d{1,9}))?S)?)?$/;

/** `P1Y2M3W4DT5H6M7.5S`, perhaps with a sign for all of it. */
export function parseSpan(text: string): Span | Fault {
  const match = SPAN.exec(text);
  if (match === null || match.slice(2).every((part) => part === undefined || part === "T"))
    return "VALUE_MALFORMED";
  if (match[6] === "T") return "VALUE_MALFORMED";
  const [, sign, years, months, weeks, days, , hours, minutes, seconds, fraction] = match;
  const of = (part: string | undefined): bigint => BigInt(part ?? 0);
  const total = (of(hours) * 3600n + of(minutes) * 60n + of(seconds)) * 1_000_000_000n;
  const factor = sign === "-" ? -1n : 1n;
  return {
    months: factor * (of(years) * 12n + of(months)),
    days: factor * (of(weeks) * 7n + of(days)),
    nanos: factor * (total + of((fraction ?? "").padEnd(9, "0"))),
  };
}

const DECIMAL = /^([+-]?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d{1,4}))?$/;

/** Digits that no decimal holds, and more of which would only take time. */
const MAX_DECIMAL_TEXT = 4_096;

/** Text → a whole number of units of 10^-scale. A number where it is safe, else a bigint. */
export function parseDecimal(text: string, scale: number): number | bigint | Fault {
  const quick = shortDecimal(text, scale);
  if (quick !== undefined) return quick;
  const match = text.length > MAX_DECIMAL_TEXT ? null : DECIMAL.exec(text);
  if (match === null) return "VALUE_MALFORMED";
  const [, sign, whole, fraction = "", exponent = "0"] = match;
  const all = `${whole}${fraction}`.replace(/^0+/, "");
  if (all === "") return 0;
  const shift = scale + Number(exponent) - fraction.length;
  // Beyond any precision: the caller refuses it for its size.
  if (shift > 100) return sign === "-" ? -(10n ** 100n) : 10n ** 100n;
  if (shift < 0) {
    const lost = all.slice(shift);
    if (all.length <= -shift || /[^0]/.test(lost)) return "VALUE_INEXACT";
  }
  const units = shift < 0 ? BigInt(all.slice(0, shift)) : BigInt(all) * 10n ** BigInt(shift);
  return sign === "-" ? -units : units;
}

const POWERS = Array.from({ length: 16 }, (_, power) => 10 ** power);

/** What most decimals are: a sign, up to 15 digits, a point among them. */
function shortDecimal(text: string, scale: number): number | undefined {
  const { length } = text;
  if (length > 16 || scale > 15) return undefined;
  const first = text.charCodeAt(0);
  let at = first === 45 || first === 43 ? 1 : 0;
  let units = 0;
  let point = -1;
  let count = 0;
  for (; at < length; at++) {
    const code = text.charCodeAt(at);
    if (code >= 48 && code <= 57) {
      units = units * 10 + code - 48;
      count++;
    } else if (code === 46 && point < 0 && count > 0) {
      point = at;
    } else {
      return undefined;
    }
  }
  const fraction = point < 0 ? 0 : length - point - 1;
  if (count === 0 || count > 15 || fraction > scale || (point >= 0 && fraction === 0)) return undefined;
  const scaled = units * POWERS[scale - fraction]!;
  if (scaled > Number.MAX_SAFE_INTEGER) return undefined;
  return first === 45 ? -scaled : scaled;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** The 16 bytes of a UUID, or undefined. */
export function parseUuid(text: string): Uint8Array | undefined {
  return text.length === 36 && UUID.test(text) ? Buffer.from(text.replaceAll("-", ""), "hex") : undefined;
}
