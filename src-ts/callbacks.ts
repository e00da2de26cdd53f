// What all of the user's functions have in common: whatever they give or throw is described as text.
//
// Invariants:
// - Of a value that was given, the kind is described and never the text, which may be a secret. Of what was thrown,
//   the messages are.
// - A logger that throws or rejects fails nothing.

import { chainOf, isError } from "./errors.js";
import { LEVELS } from "./options/checks.js";
import type { Logger } from "./options.js";

/** What it is, but not its text: a secret given by itself is still a secret. */
export function kind(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  return Array.isArray(value) ? "an array" : `a ${typeof value}`;
}

/** Of an error and its causes, outermost first. Errors are whatever was thrown, so reading one may throw, too. */
export function messages(thrown: unknown): string[] {
  const texts: string[] = [];
  try {
    for (const error of chainOf(thrown))
      texts.push(isError(error) ? `${error.name}: ${error.message}` : String(error));
  } catch {
    texts.push("an error that cannot be read");
  }
  return texts.length > 0 ? texts : [String(thrown)];
}

/** Gives the user's logger a line. One that fails must not fail a delivery. */
export function log(
  logger: Logger | undefined,
  level: string,
  message: string,
  fields: Record<string, unknown>,
): void {
  const known = LEVELS.find((name) => name === level) ?? "info";
  try {
    ignoreRejection(logger?.[known]?.(message, fields));
  } catch {
    // Nobody is left to be told.
  }
}

/** For what the user's functions return where nobody waits for it: a rejection unhandled would end the process. */
export function ignoreRejection(returned: unknown): void {
  // Not `instanceof`: a promise of another realm counts, too.
  if (typeof returned === "object" && returned !== null) Promise.resolve(returned).catch(() => {});
}
