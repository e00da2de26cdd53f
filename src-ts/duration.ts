// Durations as text or number → milliseconds, with the grammar of Rust's `humantime`.
//
// Invariant: both take the same texts and refuse the same.
//
// Rust reads the durations that cross. This file reads those that only TypeScript needs: the deadline of `close`, and
// the pauses of `connect`.

/** `setTimeout` fires at once when it is asked for more. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Milliseconds of what Rust's `humantime` reads as a duration, or undefined; it also refuses what is over centuries. */
export function milliseconds(duration: unknown): number | undefined {
  if (typeof duration === "number") return duration >= 0 ? duration : undefined;
  if (typeof duration !== "string") return undefined;
  if (duration === "0") return 0;
  let sum = 0n;
  let end = 0;
  for (const [text, whole, fraction, unit] of duration.matchAll(SPAN)) {
    const nanos = nanoseconds(whole!, fraction, unit!);
    if (nanos === undefined) return undefined;
    sum += nanos;
    end += text.length;
  }
  return end > 0 && SPACES.test(duration.slice(end)) ? Number(sum) / 1e6 : undefined;
}

/** A number, perhaps a fraction, and a unit. Spaces may be between the digits, too. */
const SPAN = /\p{White_Space}*(\d[\d\p{White_Space}]*)(?:\.([\d\p{White_Space}]*))?([a-zA-Z\u00b5]+)/guy;
const SPACES = /^\p{White_Space}*$/u;

function nanoseconds(whole: string, fraction: string | undefined, unit: string): bigint | undefined {
  const nanos = UNITS.get(unit);
  if (nanos === undefined) return undefined;
  const sum = BigInt(digits(whole)) * nanos;
  if (fraction === undefined) return sum;
  // No fraction is rounded: of hours and more it must come to whole seconds, else to whole nanoseconds.
  const grain = nanos >= HOUR ? SECOND : 1n;
  const decimals = digits(fraction);
  const [parts, divisor] = [BigInt(decimals) * (nanos / grain), 10n ** BigInt(decimals.length)];
  if (nanos === 1n || divisor === 1n || parts % divisor !== 0n) return undefined;
  return sum + (parts / divisor) * grain;
}

const digits = (text: string): string => text.replace(/\D/g, "");

const SECOND = 1_000_000_000n;
const HOUR = 3600n * SECOND;
const UNITS: ReadonlyMap<string, bigint> = new Map(
  (
    [
      [1n, "nsec ns nanos"],
      [1_000n, "usec us \u00b5s"],
      [1_000_000n, "msec ms millis"],
      [SECOND, "seconds second secs sec s"],
      [60n * SECOND, "minutes minute mins min m"],
      [HOUR, "hours hour hrs hr h"],
      [24n * HOUR, "days day d"],
      [168n * HOUR, "weeks week wks wk w"],
      [2_630_016n * SECOND, "months month M"],
      [31_557_600n * SECOND, "years year yrs yr y"],
    ] as const
  ).flatMap(([nanos, names]) => names.split(" ").map((name) => [name, nanos] as const)),
);
