// Asking the user's function for headers.
//
// Invariants:
// - Whatever the function does becomes an answer: it throws, rejects, or gives something of any kind.
// - A value that it gave goes into the answer's headers and nowhere else.
//
// It keeps no time and judges no header: Rust does. A function that never answers is Rust's to give up on.

import type { HeadersAnswer } from "../binding.js";
import type { HeadersProvider, HeadersRequest } from "../options.js";

export async function askForHeaders(
  provider: HeadersProvider,
  reason: HeadersRequest["reason"],
): Promise<HeadersAnswer> {
  try {
    const given: unknown = await provider({ reason });
    if (typeof given !== "object" || given === null || Array.isArray(given)) return { invalid: kind(given) };
    // A Map, or the Headers of fetch: their names are no properties, and it would be taken for empty.
    if (Symbol.iterator in given) return { invalid: "something to iterate over" };
    const headers: Record<string, string | null> = Object.create(null);
    for (const [name, value] of Object.entries(given))
      headers[name] = typeof value === "string" ? value : null;
    return { headers };
  } catch (error) {
    return { failed: messages(error) };
  }
}

/** What it is, but not its text: a token given by itself is still a token. */
function kind(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  return Array.isArray(value) ? "an array" : `a ${typeof value}`;
}

/** Of an error and its causes, outermost first. Errors are whatever was thrown, so reading one may throw, too. */
function messages(thrown: unknown): string[] {
  const texts: string[] = [];
  try {
    // Bounded: an error may be its own cause.
    for (let error: unknown = thrown; error != null && texts.length < 16; ) {
      texts.push(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
      error = error instanceof Error ? error.cause : undefined;
    }
  } catch {
    texts.push("an error that cannot be read");
  }
  return texts.length > 0 ? texts : [String(thrown)];
}
