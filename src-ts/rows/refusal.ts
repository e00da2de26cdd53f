// Why a row does not fit, in a word, a path and a sentence.
//
// Invariants:
// - No code of the user's runs while a value is described: proxies, getters and `toString` are left alone.
// - A message says what kind of value was given and never its text or bytes, which may be a secret; the value itself
//   is in `value`.

import { types } from "node:util";
import { bytesOf } from "./attend.js";

export { member } from "../schema/path.js";

/**
 * - `ROW_TYPE`: the row is no object.
 * - `KEY_UNKNOWN`: a key that the schema does not know.
 * - `VALUE_MISSING`: null, undefined or no key, where the column is not nullable.
 * - `VALUE_TYPE`: a kind of value that the type does not take.
 * - `VALUE_RANGE`: more than the type holds.
 * - `VALUE_INEXACT`: the type holds the value only with a loss.
 * - `VALUE_MALFORMED`: text that does not say what it should, a lone surrogate, an invalid `Date`, bytes that are gone.
 * - `VALUE_THREW`: reading the value threw.
 * - `ROW_TOO_LARGE`: more items, text or bytes than one row may hold.
 */
export type RowRefusalCode =
  | "ROW_TYPE"
  | "KEY_UNKNOWN"
  | "VALUE_MISSING"
  | "VALUE_TYPE"
  | "VALUE_RANGE"
  | "VALUE_INEXACT"
  | "VALUE_MALFORMED"
  | "VALUE_THREW"
  | "ROW_TOO_LARGE";

/** A row that does not fit its schema. */
export interface RowRejection {
  /** From 0, through all rows that were given. */
  readonly row: number;
  /** Where in the row, as in `tags[2].name`; empty for the row itself. */
  readonly path: string;
  readonly code: RowRefusalCode;
  /** What was given and what was wanted. */
  readonly message: string;
  /** What was found at the path; of `VALUE_THREW`, what was thrown. */
  readonly value: unknown;
}

/** What a value is, in a few words. */
export function kindOf(value: unknown): string {
  switch (typeof value) {
    case "string":
      return `text of ${value.length} characters`;
    case "number":
      return `the number ${Object.is(value, -0) ? "-0" : value}`;
    case "bigint":
      // A bigint may have a million digits.
      return value >= -(10n ** 80n) && value <= 10n ** 80n
        ? `the bigint ${value}`
        : "a bigint of over 80 digits";
    case "boolean":
      return String(value);
    case "undefined":
      return "nothing";
    case "object":
      return value === null ? "null" : kindOfObject(value);
    default:
      return `a ${typeof value}`;
  }
}

function kindOfObject(value: object): string {
  if (types.isProxy(value)) return "a Proxy";
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (types.isDate(value)) return "a Date";
  if (types.isMap(value)) return "a Map";
  if (types.isSet(value)) return "a Set";
  if (types.isPromise(value)) return "a Promise";
  const bytes = bytesOf(value);
  if (bytes !== undefined) {
    const what = ArrayBuffer.isView(value) ? "a view" : "a buffer";
    return bytes === "gone" ? `${what} without its memory` : `${what} of ${bytes.length} bytes`;
  }
  if (types.isBoxedPrimitive(value)) return "a boxed primitive";
  if (types.isNativeError(value)) return "an error";
  return "an object";
}
