// Asking the user's function for headers.
//
// Invariants:
// - Whatever the function does becomes an answer: it throws, rejects, or gives something of any kind.
// - A value that it gave goes into the answer's headers and nowhere else.
//
// It keeps no time and judges no header: Rust does. A function that never answers is Rust's to give up on.

import type { HeadersAnswer } from "../binding.js";
import { kind, messages } from "../callbacks.js";
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
