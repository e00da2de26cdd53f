// The facts of a result that somebody else may have made: of JSON, or of a clone.
//
// Invariants:
// - Each property is read once, and may be a getter that throws.
// - All that is wrong is said at once, with its path; no value is quoted.

import { type ConfigIssue, errorFromJson, type IngestError, isErrorCode } from "../errors.js";
import type { DeliveryStatus, ResultFacts } from "../result.js";

/** A new status does not compile without a line here. */
export const NO_DELIVERIES: Readonly<Record<DeliveryStatus, number>> = {
  acknowledged: 0,
  partial: 0,
  failed: 0,
  unknown: 0,
  spooled: 0,
};
const STATUSES = Object.keys(NO_DELIVERIES) as DeliveryStatus[];

/**
 * The facts in an object that somebody else may have made, each read once and checked: as JSON, with numbers beyond
 * 53 bits as text, or as a clone has them.
 */
export function factsOf(
  given: unknown,
  path: string,
  issues: ConfigIssue[],
  json: boolean,
): ResultFacts | undefined {
  const read = new FactReader(given, path, issues);
  if (!read.isObject) return undefined;
  const whole = json ? digits : aBigint;
  const position = read.inner("position", (inner) => ({
    kind: inner.get("kind", oneOf(["version", "offset"] as const)),
    value: inner.get("value", whole),
  }));
  const timings = read.inner("timings", (inner) => ({
    handoffMs: inner.get("handoffMs", amount),
    queueMs: inner.get("queueMs", amount),
    encodeMs: inner.get("encodeMs", amount),
    transmitMs: inner.get("transmitMs", amount),
    acknowledgeMs: inner.get("acknowledgeMs", amount),
  }));
  if (timings === null) read.complain("timings", "must be an object");
  const facts = {
    status: read.get("status", oneOf(STATUSES)),
    sequence: read.get("sequence", whole),
    rows: read.get("rows", count),
    acceptedRows: read.get("acceptedRows", count),
    rejectedRows: read.get("rejectedRows", count),
    rejections: read.list("rejections", (inner) => ({
      row: inner.get("row", count),
      code: inner.get("code", aString),
      message: inner.get("message", aString),
      // Of rows that did not fit their schema.
      path: inner.get("path", orNothing(aString)) ?? undefined,
    })),
    attempts: read.get("attempts", count),
    batchBytes: read.get("batchBytes", count),
    handoff: read.get("handoff", oneOf(["pinned", "copied", "ipc"] as const)),
    handoffReason: read.get("handoffReason", aStringOrNull),
    timings,
    latencyMs: read.get("latencyMs", amount),
    position,
    recovered: read.value("recovered") === true,
    firstRow: read.get("firstRow", orNothing(count)) ?? null,
    error: errorOf(read),
  };
  return read.isWrong ? undefined : (facts as ResultFacts);
}

/** An error of JSON, or what `structuredClone` leaves of one: its message, beside which `errorCode` has its code. */
function errorOf(read: FactReader): IngestError | null {
  const error = read.value("error");
  if (error === null || error === undefined) return null;
  const inner = read.into("error", error);
  if (!inner.isObject) return null;
  const own = inner.value("code");
  const code = own === undefined ? read.value("errorCode") : own;
  const message = inner.get("message", aString);
  if (!isErrorCode(code)) inner.complain("code", "must be the code of an error");
  if (inner.isWrong) {
    read.spoil();
    return null;
  }
  return errorFromJson({ ...inner.copy(), code, message });
}

/** What a fact has to be: what is right of it, or what it must be. */
type Check<T> = (value: unknown) => { readonly value: T } | string;

const MAX_DIGITS = 20;
const digits: Check<bigint> = (value) =>
  typeof value === "string" && /^\d+$/.test(value) && value.length <= MAX_DIGITS
    ? { value: BigInt(value) }
    : "must be a whole number as text";
const aBigint: Check<bigint> = (value) => (typeof value === "bigint" ? { value } : "must be a bigint");
const count: Check<number> = (value) =>
  Number.isSafeInteger(value) && (value as number) >= 0
    ? { value: value as number }
    : "must be a whole number of at least 0";
const amount: Check<number> = (value) =>
  Number.isFinite(value) && (value as number) >= 0
    ? { value: value as number }
    : "must be a number of at least 0";
const aString: Check<string> = (value) => (typeof value === "string" ? { value } : "must be a string");
const orNothing =
  <T>(check: Check<T>): Check<T | null> =>
  (value) =>
    value === undefined || value === null ? { value: null } : check(value);
const aStringOrNull: Check<string | null> = (value) =>
  value === null || typeof value === "string" ? { value } : "must be a string or null";
const oneOf =
  <T extends string>(words: readonly T[]): Check<T> =>
  (value) =>
    words.includes(value as T) ? { value: value as T } : `must be one of ${words.join(", ")}`;

/** Reads an object whose properties may be getters that throw; says all that is wrong. */
class FactReader {
  readonly isObject: boolean;
  readonly #given: Readonly<Record<string, unknown>>;
  readonly #path: string;
  readonly #issues: ConfigIssue[];
  #wrong = false;

  constructor(given: unknown, path: string, issues: ConfigIssue[], what = "a result") {
    this.#path = path;
    this.#issues = issues;
    this.isObject = typeof given === "object" && given !== null;
    this.#given = this.isObject ? (given as Record<string, unknown>) : {};
    if (!this.isObject) this.complain("", `must be ${what}`);
  }

  get isWrong(): boolean {
    return this.#wrong;
  }

  spoil(): void {
    this.#wrong = true;
  }

  complain(name: string, message: string): void {
    this.#wrong = true;
    const path = [this.#path, name].filter((step) => step !== "").join(".");
    this.#issues.push({ path: path === "" ? "json" : path, message });
  }

  value(name: string): unknown {
    try {
      return this.#given[name];
    } catch {
      this.complain(name, "cannot be read");
      return undefined;
    }
  }

  get<T>(name: string, check: Check<T>): T | undefined {
    const checked = check(this.value(name));
    if (typeof checked !== "string") return checked.value;
    this.complain(name, checked);
    return undefined;
  }

  into(name: string, value: unknown): FactReader {
    const path = [this.#path, name].filter((step) => step !== "").join(".");
    const inner = new FactReader(value, path, this.#issues, "an object");
    if (inner.isWrong) this.#wrong = true;
    return inner;
  }

  inner<T>(name: string, read: (inner: FactReader) => T): T | null {
    const value = this.value(name);
    if (value === null || value === undefined) return null;
    const inner = this.into(name, value);
    const made = inner.isObject ? read(inner) : null;
    if (inner.isWrong) this.#wrong = true;
    return made;
  }

  list<T>(name: string, read: (inner: FactReader) => T): (T | null)[] {
    const value = this.value(name);
    if (!Array.isArray(value)) {
      this.complain(name, "must be an array");
      return [];
    }
    return Array.from(value, (item, index) => {
      const inner = this.into(`${name}[${index}]`, item);
      const made = inner.isObject ? read(inner) : null;
      if (inner.isWrong) this.#wrong = true;
      return made;
    });
  }

  copy(): Record<string, unknown> {
    const names = [
      "retry",
      "operation",
      "field",
      "row",
      "attempts",
      "elapsedMs",
      "retryAfterMs",
      "issues",
      "causes",
    ];
    return Object.fromEntries(names.map((name) => [name, this.value(name)]));
  }
}
