// Asking the user's function whether to try again.
//
// Invariants:
// - Whatever the function does becomes an answer: it throws, rejects, or gives something of any kind.
// - It can end what would be tried again, and nothing else: without a verdict the retry class decides.
//
// It keeps no time and warns of nothing: whoever asks does, which is Rust for writes and open.ts for connecting.

import type { RetryAnswer } from "../binding.js";
import { kind, messages } from "../callbacks.js";
import type { IngestError } from "../errors.js";
import type { RetryPredicate } from "../options.js";

/** @param error Says how often and for how long was tried. */
export async function askToRetry(when: RetryPredicate, error: IngestError): Promise<RetryAnswer> {
  try {
    const { attempts, elapsedMs } = error;
    const verdict: unknown = await when(error, { attempts, elapsedMs });
    return typeof verdict === "boolean" ? { retry: verdict } : { invalid: kind(verdict) };
  } catch (thrown) {
    return { failed: messages(thrown) };
  }
}
