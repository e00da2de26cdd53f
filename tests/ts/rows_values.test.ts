// what each type takes, and what it refuses: every value exact, by compiled loops and by closures alike.
import { execFileSync } from "node:child_process";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, test } from "vitest";
import { type AnyColumn, type RowRefusalCode, t } from "../../dist/index.js";
import { encode } from "./support/rows.js";

const TYPE = "VALUE_TYPE";
const RANGE = "VALUE_RANGE";
const INEXACT = "VALUE_INEXACT";
const MALFORMED = "VALUE_MALFORMED";

type Taken = readonly [given: unknown, stored: unknown];
type Refused = readonly [given: unknown, code: RowRefusalCode];

interface Case {
  readonly type: AnyColumn;
  readonly takes: readonly Taken[];
  readonly refuses: readonly Refused[];
}

const same = (...values: unknown[]): Taken[] => values.map((value) => [value, value]);
const all = (code: RowRefusalCode, ...values: unknown[]): Refused[] => values.map((value) => [value, code]);
const notNumbers = all(TYPE, "1", true, {}, [], new Date(0), Symbol("s"), () => 1, new Number(1));

function integers(bits: number, signed: boolean): Case {
  const name = `${signed ? "int" : "uint"}${bits}` as "int8";
  const least = signed ? -(2n ** BigInt(bits - 1)) : 0n;
  const most = signed ? 2n ** BigInt(bits - 1) - 1n : 2n ** BigInt(bits) - 1n;
  const stored = (value: bigint): unknown => (bits === 64 ? value : Number(value));
  const safe = bits === 64 ? BigInt(Number.MAX_SAFE_INTEGER) : most;
  const takes: Taken[] = [least, most, 0n, 1n, 100n].map((value) => [value, stored(value)]);
  for (const value of [safe, signed && bits < 64 ? least : 0n, 0n, 1n, 100n])
    takes.push([Number(value), stored(value)]);
  takes.push([-0, stored(0n)]);
  if (signed) takes.push([-1, stored(-1n)], [-1n, stored(-1n)]);
  if (bits === 64 && signed)
    takes.push([Number.MIN_SAFE_INTEGER, BigInt(Number.MIN_SAFE_INTEGER)], [-(2 ** 33), -(2n ** 33n)]);
  if (bits === 64)
    takes.push([2 ** 33 + 5, 2n ** 33n + 5n], [2 ** 31, 2n ** 31n], [2 ** 32 - 1, 2n ** 32n - 1n]);
  return {
    type: t[name](),
    takes,
    refuses: [
      ...all(
        RANGE,
        least - 1n,
        most + 1n,
        2n ** 200n,
        Number.POSITIVE_INFINITY,
        Number.NEGATIVE_INFINITY,
        Number.NaN,
      ),
      ...(bits < 64 ? all(RANGE, Number(least) - 1, Number(most) + 1) : all(INEXACT, 2 ** 53, 1e300)),
      ...(signed ? [] : all(RANGE, -1, -1n)),
      ...all(INEXACT, 0.5, 1.5, -1e-9),
      ...notNumbers,
    ],
  };
}

const half = (bits: number): Taken[1] => bits;
const DAY = 86_400_000;
const detached = new Uint8Array(8);
structuredClone(detached.buffer, { transfer: [detached.buffer] });

/** As an object of `Temporal` looks from outside. */
const temporal = (name: string, text: string, more: object = {}): object => ({
  [Symbol.toStringTag]: `Temporal.${name}`,
  toString: () => text,
  ...more,
});

const timestamps = (unit: "s" | "ms" | "us" | "ns", scale: bigint): Case => ({
  type: t.timestamp(unit, "UTC"),
  takes: [
    [new Date(0), 0n],
    [new Date(-1_000), -scale],
    [new Date(1_764_457_654_000), 1_764_457_654n * scale],
    ["1970-01-01T00:00:01Z", scale],
    ["1970-01-01 00:00Z", 0n],
    ["1969-12-31T23:59:59+00:00", -scale],
    ["2026-11-29T23:07:34+05:30", 1_795_973_854n * scale],
    ["2026-11-29T23:07:34-0530", 1_796_013_454n * scale],
    ["2026-11-29T23:07:34+05", 1_795_975_654n * scale],
    ["2000-02-29T00:00:00.000000000000Z", 951_782_400n * scale],
    ["1970-01-01T00:00:00.0Z", 0n],
    [5, 5n],
    [-5n, -5n],
    [2n ** 63n - 1n, 2n ** 63n - 1n],
    [-(2n ** 63n), -(2n ** 63n)],
    [temporal("Instant", "", { epochNanoseconds: -1_000_000_000n }), -scale],
    [temporal("ZonedDateTime", "", { epochNanoseconds: 3_000_000_000n }), 3n * scale],
  ],
  refuses: [
    ...all(
      MALFORMED,
      new Date(Number.NaN),
      "",
      "now",
      "2026-11-29",
      "2026-11-29T23:07:34",
      "2026-11-29T24:00:00Z",
      "2026-11-29T23:60:00Z",
      "2026-11-29T23:59:60Z",
      "2026-02-29T00:00:00Z",
      "1900-02-29T00:00:00Z",
      "2026-13-01T00:00:00Z",
      "2026-00-01T00:00:00Z",
      "2026-04-31T00:00:00Z",
      "2026-11-29t23:07:34z",
      "2026-11-29T23:07:34z",
      "2026-11-29T23:07:34.Z",
      "2026-11-29T23:07:34 Z",
      "2026-11-29T23:07:34Z ",
      " 2026-11-29T23:07:34Z",
      "2026-11-29T23:07:34+24:00",
      "2026-11-29T23:07:34+05:3",
      "2026-11-29T23:07:34+05:60",
      "2026-11-29T23:07:34+05:300",
      "2026-11-29T23:07:34Europe/Berlin",
      "2026-11-29T2x:07:34Z",
      "2026-11-29X23:07:34Z",
      "-000000-01-01T00:00:00Z",
      "026-11-29T23:07:34Z",
    ),
    ...all(INEXACT, 0.5, 2 ** 53, "1970-01-01T00:00:00.0000000001Z"),
    ...all(RANGE, 2n ** 63n, -(2n ** 63n) - 1n, Number.NaN, Number.POSITIVE_INFINITY),
    ...all(
      TYPE,
      true,
      {},
      [],
      temporal("PlainDateTime", "1970-01-01T00:00:00"),
      temporal("Instant", "", { epochNanoseconds: 5 }),
      Object.create(Date.prototype),
    ),
  ],
});

const bytes: Case = {
  type: t.binary(),
  takes: [
    [new Uint8Array([1, 2]), "0102"],
    [Buffer.from("é"), "c3a9"],
    [new Uint8Array(0), ""],
    [new Uint8Array([1, 2, 3]).subarray(1), "0203"],
    [new Uint16Array([0x0201]), "0102"],
    [new DataView(new Uint8Array([7, 8, 9]).buffer, 1, 1), "08"],
    [new Uint8Array([5]).buffer, "05"],
    [new SharedArrayBuffer(1), "00"],
  ],
  refuses: [...all(MALFORMED, detached, detached.buffer), ...all(TYPE, "text", 5, [1, 2], {}, true)],
};

const text: Case = {
  type: t.utf8(),
  takes: same("", "a", "é", "🎉", "\0", "a".repeat(10_000), "ﬀ".repeat(9), "\ufeff", "\ud83c\udf89 pair"),
  refuses: [
    ...all(MALFORMED, "\ud800", "a\udc00b", "\ud83c", "\udf89", "\udf89\ud83c"),
    ...all(TYPE, 1, 1n, true, {}, [], ["a"], new Date(0), Symbol("s"), new String("a"), Buffer.from("a")),
  ],
};

const CASES: Record<string, Case> = {
  ...Object.fromEntries(
    [8, 16, 32, 64].flatMap((bits) => [
      [`int${bits}`, integers(bits, true)],
      [`uint${bits}`, integers(bits, false)],
    ]),
  ),
  null: { type: t.null(), takes: [], refuses: all(TYPE, 0, "", false, {}) },
  bool: { type: t.bool(), takes: same(true, false), refuses: all(TYPE, 0, 1, "true", {}, new Boolean(true)) },
  float64: {
    type: t.float64(),
    takes: [
      ...same(
        0,
        -0,
        0.1,
        -1.5,
        1e308,
        5e-324,
        Number.NaN,
        Number.POSITIVE_INFINITY,
        Number.NEGATIVE_INFINITY,
      ),
      [5n, 5],
      [2n ** 60n, 2 ** 60],
    ],
    refuses: [
      ...all(INEXACT, 2n ** 53n + 1n),
      ...all(RANGE, 10n ** 400n),
      ...all(TYPE, "1", true, {}, new Date(0)),
    ],
  },
  float32: {
    type: t.float32(),
    takes: [
      ...same(
        0,
        -0,
        1.5,
        -0.25,
        Number.NaN,
        Number.POSITIVE_INFINITY,
        Number.NEGATIVE_INFINITY,
        3.4028234663852886e38,
      ),
      [0.1, Math.fround(0.1)],
      [3.4028235e38, 3.4028234663852886e38],
      [16_777_217, 16_777_216],
      [7n, 7],
    ],
    refuses: [...all(RANGE, 3.5e38, -3.5e38, 1e300, 2n ** 128n), ...all(TYPE, "1", true)],
  },
  float16: {
    type: t.float16(),
    takes: [
      [0, half(0)],
      [-0, half(0x8000)],
      [1, half(0x3c00)],
      [-2, half(0xc000)],
      [65_504, half(0x7bff)],
      [65_519.99, half(0x7bff)],
      [2 ** -14, half(0x0400)],
      [2 ** -24, half(1)],
      [2 ** -25, half(0)],
      [2 ** -25 * 1.5, half(1)],
      [2 ** -14 - 2 ** -26, half(0x0400)],
      [1 + 2 ** -11, half(0x3c00)],
      [1 + 3 * 2 ** -11, half(0x3c02)],
      [2_047.9, half(0x6800)],
      [Number.NaN, half(0x7e00)],
      [Number.POSITIVE_INFINITY, half(0x7c00)],
      [Number.NEGATIVE_INFINITY, half(0xfc00)],
      [3n, half(0x4200)],
    ],
    refuses: [
      ...all(RANGE, 65_520, -65_520, 1e9, 10n ** 400n),
      ...all(INEXACT, 2n ** 60n + 1n),
      ...all(TYPE, "1"),
    ],
  },
  decimal: {
    type: t.decimal(18, 4),
    takes: [
      ["9.95", 99_500n],
      ["-9.95", -99_500n],
      ["+1", 10_000n],
      ["007", 70_000n],
      ["0.0001", 1n],
      ["1.00000000000", 10_000n],
      ["1e3", 10_000_000n],
      ["1.5E-3", 15n],
      ["99999999999999.9999", 10n ** 18n - 1n],
      ["-99999999999999.9999", -(10n ** 18n) + 1n],
      ["0.0", 0n],
      ["0e9999", 0n],
      [9.95, 99_500n],
      [0.1, 1_000n],
      [-0, 0n],
      [1e-4, 1n],
      [123_456_789_012, 1_234_567_890_120_000n],
      [5n, 50_000n],
      [-5n, -50_000n],
    ],
    refuses: [
      ...all(INEXACT, "0.00001", "1e-5", "9.95001", 0.000_01, 1 / 3, 2 ** 53),
      ...all(
        RANGE,
        "100000000000000",
        "1e999",
        "-1e14",
        1e15,
        10n ** 14n,
        10n ** 100n,
        Number.NaN,
        Number.NEGATIVE_INFINITY,
      ),
      ...all(
        MALFORMED,
        "",
        ".",
        "1.",
        ".5",
        "1,5",
        "1_000",
        "0x10",
        " 1",
        "1 ",
        "--1",
        "1e",
        "NaN",
        "1.2.3",
        `1${"0".repeat(5_000)}`,
      ),
      ...all(TYPE, true, {}, [1], new Date(0)),
    ],
  },
  "decimal without a fraction": {
    type: t.decimal(38),
    takes: [
      [10n ** 38n - 1n, 10n ** 38n - 1n],
      [-(10n ** 38n) + 1n, -(10n ** 38n) + 1n],
      ["99999999999999999999999999999999999999", 10n ** 38n - 1n],
      ["1e37", 10n ** 37n],
      [Number.MAX_SAFE_INTEGER, BigInt(Number.MAX_SAFE_INTEGER)],
      [Number.MIN_SAFE_INTEGER, BigInt(Number.MIN_SAFE_INTEGER)],
    ],
    refuses: [
      ...all(RANGE, 10n ** 38n, -(10n ** 38n), "1e38"),
      ...all(INEXACT, "0.1", 0.1, "1e-400", "123e-1"),
    ],
  },
  "decimal of 256 bits": {
    type: t.decimal(76, 20, 256),
    takes: [
      ["-1.5", -15n * 10n ** 19n],
      [-1, -(10n ** 20n)],
      [10n ** 55n, 10n ** 75n],
    ],
    refuses: all(RANGE, 10n ** 56n),
  },
  utf8: text,
  largeUtf8: { ...text, type: t.largeUtf8() },
  utf8View: { ...text, type: t.utf8View() },
  binary: bytes,
  largeBinary: { ...bytes, type: t.largeBinary() },
  binaryView: {
    ...bytes,
    type: t.binaryView(),
    takes: [...bytes.takes, [new Uint8Array(20).fill(7), "07".repeat(20)]],
  },
  fixedSizeBinary: {
    type: t.fixedSizeBinary(2),
    takes: [[new Uint8Array([1, 255]), "01ff"]],
    refuses: [
      ...all(RANGE, new Uint8Array(1), new Uint8Array(3)),
      ...all(MALFORMED, detached),
      ...all(TYPE, "ab", 5, {}),
    ],
  },
  uuid: {
    type: t.fixedSizeBinary(16),
    takes: [
      ["0123abcd-4567-89ef-0123-456789ABCDEF", "0123abcd456789ef0123456789abcdef"],
      [new Uint8Array(16), "00".repeat(16)],
    ],
    refuses: [
      ...all(
        MALFORMED,
        "",
        "0123abcd456789ef0123456789abcdef",
        "{123abcd-4567-89ef-0123-456789ABCDE}",
        "g123abcd-4567-89ef-0123-456789abcdef",
      ),
      ...all(TYPE, 5, 5n),
    ],
  },
  date: {
    type: t.date(),
    takes: [
      ["1970-01-01", 0],
      ["1969-12-31", -1],
      ["2026-11-29", 20_786],
      ["0000-02-29", -719_469],
      ["2000-03-01", 11_017],
      ["+012026-01-01", 3_672_879],
      ["-000001-12-31", -719_529],
      [new Date("2026-11-29"), 20_786],
      [new Date(-DAY), -1],
      [5, 5],
      [-5n, -5],
      [temporal("PlainDate", "2026-11-29[u-ca=hebrew]"), 20_786],
    ],
    refuses: [
      ...all(INEXACT, new Date(1), new Date(DAY + 1), 0.5),
      ...all(RANGE, 2 ** 31, -(2n ** 31n) - 1n, Number.NaN),
      ...all(
        MALFORMED,
        "",
        "2026-11-31",
        "2026-1-1",
        "29.11.2026",
        "2026-11-29T00:00:00Z",
        new Date(Number.NaN),
      ),
      ...all(TYPE, true, {}, [], temporal("PlainTime", "10:00"), temporal("Instant", "1970-01-01T00:00Z")),
    ],
  },
  dateMs: {
    type: t.date("ms"),
    takes: [
      ["1970-01-02", 86_400_000n],
      [new Date(-DAY), -86_400_000n],
      [DAY, 86_400_000n],
      [-86_400_000n, -86_400_000n],
      ["+275760-09-13", 8_640_000_000_000_000n],
    ],
    refuses: [
      ...all(INEXACT, 1, 1n, new Date(1), 0.5),
      ...all(RANGE, 86_400_000n * 10n ** 15n),
      ...all(TYPE, true),
    ],
  },
  timeSeconds: {
    type: t.time("s"),
    takes: [
      ["00:00", 0],
      ["23:59:59", 86_399],
      ["13:37:00.000", 49_020],
      [86_399, 86_399],
      [1n, 1],
      [temporal("PlainTime", "00:00:05"), 5],
    ],
    refuses: [
      ...all(RANGE, -1, 86_400, -1n, Number.NaN),
      ...all(INEXACT, 0.5, "00:00:00.5"),
      ...all(
        MALFORMED,
        "",
        "24:00",
        "1:00",
        "12",
        "12:60",
        "12:00:60",
        "12:00Z",
        "12:00:00,5",
        "T12:00",
        "12:00:00.",
      ),
      ...all(TYPE, new Date(0), true, {}),
    ],
  },
  timeMillis: { type: t.time("ms"), takes: [["00:00:00.125", 125]], refuses: all(INEXACT, "00:00:00.0005") },
  timeMicros: {
    type: t.time("us"),
    takes: [
      ["23:59:59.999999", 86_399_999_999n],
      [5, 5n],
      [86_399_999_999n, 86_399_999_999n],
    ],
    refuses: [
      ...all(INEXACT, "00:00:00.0000005", 0.5),
      ...all(RANGE, 86_400_000_000, -1n),
      ...all(TYPE, true),
    ],
  },
  timeNanos: {
    type: t.time("ns"),
    takes: [["23:59:59.123456789", 86_399_123_456_789n]],
    refuses: [...all(INEXACT, "00:00:00.0000000001"), ...all(RANGE, 86_400_000_000_000n)],
  },
  timestampSeconds: timestamps("s", 1n),
  timestampMillis: timestamps("ms", 1_000n),
  timestampMicros: timestamps("us", 1_000_000n),
  timestampNanos: timestamps("ns", 1_000_000_000n),
  "instants of few digits": {
    type: t.timestamp("s", "UTC"),
    takes: [[new Date(8.64e15), 8_640_000_000_000n]],
    refuses: all(
      INEXACT,
      new Date(1),
      "1970-01-01T00:00:00.5Z",
      temporal("Instant", "", { epochNanoseconds: -1n }),
    ),
  },
  "instants far away": {
    type: t.timestamp("us", "UTC"),
    takes: [
      [new Date(8.64e15), 8_640_000_000_000_000_000n],
      [new Date(-8.64e15), -8_640_000_000_000_000_000n],
      [new Date(9_007_199_254_741), 9_007_199_254_741_000n],
      ["+294247-01-10T04:00:54.775807Z", 2n ** 63n - 1n],
      ["-290308-12-21T19:59:05.224192Z", -(2n ** 63n)],
      ["1969-12-31T23:59:59.999999Z", -1n],
    ],
    refuses: all(
      RANGE,
      "+294247-01-10T04:00:54.775808Z",
      "-290308-12-21T19:59:05.224191Z",
      "+999999-01-01T00:00Z",
    ),
  },
  "nanoseconds at the ends": {
    type: t.timestamp("ns", "UTC"),
    takes: [
      ["2262-04-11T23:47:16.854775807Z", 2n ** 63n - 1n],
      ["1677-09-21T00:12:43.145224192Z", -(2n ** 63n)],
      ["2026-11-29T23:07:34.123456789Z", 1_795_993_654_123_456_789n],
      [new Date(1_795_993_654_123), 1_795_993_654_123_000_000n],
      [new Date(-1), -1_000_000n],
      [temporal("Instant", "", { epochNanoseconds: -1n }), -1n],
    ],
    refuses: all(
      RANGE,
      "2262-04-11T23:47:16.854775808Z",
      "1677-09-21T00:12:43.145224191Z",
      new Date(1e13),
      new Date(-1e13),
    ),
  },
  "clocks on walls": {
    type: t.timestamp("ms"),
    takes: [
      ["1970-01-01T00:00:00.001", 1n],
      ["1970-01-01 00:01", 60_000n],
      [new Date(5), 5n],
      [7, 7n],
      [temporal("PlainDateTime", "1970-01-01T00:00:01"), 1_000n],
    ],
    refuses: [
      ...all(MALFORMED, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00+00:00", "1970-01-01"),
      ...all(TYPE, temporal("Instant", "", { epochNanoseconds: 0n }), {}, true),
    ],
  },
  duration: {
    type: t.duration("ms"),
    takes: [
      ["PT1.5S", 1_500n],
      ["-PT1M", -60_000n],
      ["P1DT1H", 90_000_000n],
      ["P1W", 604_800_000n],
      [5, 5n],
      [-5n, -5n],
      [temporal("Duration", "PT0.001S"), 1n],
    ],
    refuses: [
      ...all(INEXACT, "P1M", "P1Y", "PT0.0001S", 0.5),
      ...all(MALFORMED, "", "P", "PT", "1S", "PT1.5M", "P1S", "P-1D", "PT1.1234567890S"),
      ...all(RANGE, "P999999999999999999D", 2n ** 63n),
      ...all(TYPE, {}, true, new Date(0)),
    ],
  },
  yearMonth: {
    type: t.interval("year-month"),
    takes: [
      ["P1Y2M", [14]],
      [{ years: 1, months: -2 }, [10]],
      [7, [7]],
      [-7n, [-7]],
      [{ months: 1, days: undefined }, [1]],
    ],
    refuses: [
      ...all(INEXACT, "P1D", { months: 1, days: 1 }, { months: 0.5 }, 0.5),
      ...all(RANGE, { months: 2 ** 31 }, 2 ** 31),
      ...all("KEY_UNKNOWN", { month: 1 }),
      ...all(TYPE, { months: "1" }, [], true, new Date(0), new Map()),
      ...all(MALFORMED, "1 month"),
    ],
  },
  dayTime: {
    type: t.interval("day-time"),
    takes: [
      ["P1DT1.5S", [1, 1_500]],
      [{ weeks: 1, hours: 1, milliseconds: -1 }, [7, 3_599_999]],
    ],
    refuses: [
      ...all(INEXACT, "P1M", { nanoseconds: 1 }, { microseconds: 5 }),
      ...all(RANGE, { days: 2 ** 31 }, { hours: 1_000 }),
      ...all(TYPE, 5, 5n),
    ],
  },
  monthDayNano: {
    type: t.interval("month-day-nano"),
    takes: [
      ["P1Y2M3DT4.000000005S", [14, 3, -294_967_291, 0]],
      [{ months: -1, days: -2, nanoseconds: -3n }, [-1, -2, -3, -1]],
      [temporal("Duration", "-P1M"), [-1, 0, 0, 0]],
    ],
    refuses: [...all(RANGE, { nanoseconds: 2n ** 63n }, { months: -(2 ** 31) - 1 }), ...all(TYPE, 5)],
  },
  list: {
    type: t.list(t.int8()),
    takes: [
      [[], []],
      [
        [1, 2n],
        [1, 2],
      ],
      [new Int16Array([5, -5]), [5, -5]],
      [Object.freeze([7]), [7]],
    ],
    refuses: all(
      TYPE,
      "12",
      {},
      { length: 1, 0: 1 },
      new Set([1]),
      5,
      new DataView(new ArrayBuffer(1)),
      new Map(),
    ),
  },
  largeList: { type: t.largeList(t.utf8()), takes: same([], ["a", "é"]), refuses: all(TYPE, "a") },
  fixedSizeList: {
    type: t.fixedSizeList(2, t.int8()),
    takes: same([1, 2]),
    refuses: [...all(RANGE, [], [1], [1, 2, 3]), ...all(TYPE, "12", {})],
  },
  struct: {
    type: t.struct({ a: t.int8() }),
    takes: [
      [{ a: 1 }, { a: 1 }],
      [Object.assign(Object.create(null), { a: 2 }), { a: 2 }],
    ],
    refuses: all(
      TYPE,
      "a",
      5,
      [],
      [1],
      new Map([["a", 1]]),
      new Date(0),
      new Set(),
      Promise.resolve(),
      /a/,
      new Error("a"),
    ),
  },
  map: {
    type: t.map(t.utf8(), t.int8().nullable()),
    takes: [
      [new Map([["a", 1]]), [["a", 1]]],
      [
        { a: 1, b: null },
        [
          ["a", 1],
          ["b", null],
        ],
      ],
      [
        [
          ["a", 1],
          ["a", 2],
        ],
        [
          ["a", 1],
          ["a", 2],
        ],
      ],
      [{}, []],
      [Object.create(null), []],
    ],
    refuses: all(TYPE, "a", 5, ["a"], [["a"]], [["a", 1, 2]], new Date(0), new Set()),
  },
  "map by numbers": {
    type: t.map(t.int32(), t.utf8()),
    takes: [[new Map([[1, "a"]]), [[1, "a"]]]],
    refuses: all(TYPE, { 1: "a" }, {}),
  },
  dictionary: {
    type: t.dictionary(t.utf8()),
    takes: same("a", "b", "a", "é"),
    refuses: [...all(MALFORMED, "\ud800"), ...all(TYPE, 5, {}, true)],
  },
  "dictionary of numbers": {
    type: t.dictionary(t.float64(), t.uint8()),
    takes: same(0, -0, 1, Number.NaN, 0, -0),
    refuses: all(TYPE, "1"),
  },
  "dictionary of instants": {
    type: t.dictionary(t.timestamp("ms", "UTC"), t.int64()),
    takes: [
      [new Date(1), 1n],
      [1, 1n],
    ],
    refuses: all(MALFORMED, new Date(Number.NaN)),
  },
};

describe.each([
  ["compiled", true],
  ["closures", false],
])("R-62 %s", (_name, compile) => {
  describe.each(Object.entries(CASES))("%s", (_name, { type, takes, refuses }) => {
    test("takes what it holds, exactly", () => {
      const rows = takes.map(([value]) => ({ value }));
      const { rows: stored, rejections } = encode(t.schema({ value: type }), rows, { compile });
      expect(rejections).toEqual([]);
      expect(stored.map(({ value }) => value)).toEqual(takes.map(([, value]) => value));
    });

    test("refuses all others, each by its code, and keeps what comes between", () => {
      const good = takes[0];
      const rows = refuses.flatMap(([value]) =>
        good === undefined ? [{ value }] : [{ value }, { value: good[0] }],
      );
      const { rows: stored, rejections } = encode(t.schema({ value: type }), rows, { compile });
      const step = good === undefined ? 1 : 2;
      expect(rejections.map(({ row, path, code }) => [row, path, code])).toEqual(
        refuses.map(([, code], index) => [index * step, "value", code]),
      );
      expect(stored.map(({ value }) => value)).toEqual(good === undefined ? [] : refuses.map(() => good[1]));
    });

    test("null, undefined and no key are null where it is nullable, and refused elsewhere", () => {
      const rows = [{ value: null }, { value: undefined }, {}, ...takes.map(([value]) => ({ value }))];
      const nullable = encode(t.schema({ value: type.nullable() }), rows, { compile });
      expect(nullable.rejections).toEqual([]);
      expect(nullable.rows.map(({ value }) => value)).toEqual([
        null,
        null,
        null,
        ...takes.map(([, value]) => value),
      ]);
      if (type.type.typeId === 1) return;
      const needed = encode(t.schema({ value: type }), rows, { compile });
      expect(needed.rejections.map(({ row, code }) => [row, code])).toEqual([
        [0, "VALUE_MISSING"],
        [1, "VALUE_MISSING"],
        [2, "VALUE_MISSING"],
      ]);
      expect(needed.rows).toHaveLength(takes.length);
    });

    test("holds in a list, a struct, a list of a fixed size and a map what it holds by itself", () => {
      const values = takes.map(([value]) => value);
      const wanted = takes.map(([, value]) => value);
      const schema = t.schema({
        list: t.list(type),
        pair: t.fixedSizeList(2, t.struct({ inner: type.nullable() })).nullable(),
        map: t.map(t.int32(), type),
      });
      const last = values.at(-1);
      const pair = [{ inner: last }, { inner: null }];
      const map = new Map(values.map((value, index) => [index, value]));
      const rows = [
        { list: values, pair, map },
        { list: [], map: [] },
        { list: values, pair, map },
      ];
      const { rows: stored, rejections } = encode(schema, rows, { compile });
      expect(rejections).toEqual([]);
      const first = {
        list: wanted,
        pair: [{ inner: values.length === 0 ? null : wanted.at(-1) }, { inner: null }],
        map: wanted.map((value, index) => [index, value]),
      };
      expect(stored).toEqual([first, { list: [], pair: null, map: [] }, first]);
    });
  });

  test("wherever the runtime has Temporal, its own objects are taken", () => {
    const dist = pathToFileURL(path.resolve(import.meta.dirname, "../../dist"));
    const program = `
      import { t } from "${dist}/schema.js";
      import { RowEncoder } from "${dist}/rows/encoder.js";
      const schema = t.schema({ i: t.timestamp("ns", "UTC"), z: t.timestamp("us", "UTC"), w: t.timestamp("ms"),
        d: t.date(), c: t.time("ns"), v: t.interval("month-day-nano"), l: t.duration("ms") });
      const rows = [{
        i: Temporal.Instant.from("1970-01-01T00:00:00.000000001Z"),
        z: Temporal.ZonedDateTime.from("1970-01-01T01:00:01+01:00[Europe/Berlin]"),
        w: Temporal.PlainDateTime.from("1970-01-01T00:00:01[u-ca=hebrew]"),
        d: Temporal.PlainDate.from("1970-01-05"), c: Temporal.PlainTime.from("00:00:00.000000005"),
        v: Temporal.Duration.from({ months: 1, days: 2, seconds: 3 }), l: Temporal.Duration.from({ seconds: 4 }),
      }];
      const encoder = new RowEncoder(schema.toArrow(), { compile: ${compile} });
      encoder.step(rows, 0, 1);
      encoder.cut();
      const stored = encoder.batches[0]?.data.children.map(({ values }) => Array.from(values, String).join(" "));
      console.log(JSON.stringify([stored, encoder.rejections.map(({ message }) => message)]));
    `;
    const flags = ["--harmony-temporal", "--input-type=module"];
    const output = execFileSync(process.execPath, flags, { input: program, encoding: "utf8" });
    expect(JSON.parse(output)).toEqual([["1", "1000000", "1000", "4", "5", "1 2 -1294967296 0", "4000"], []]);
  });
});
