// Opening a destination: p-retry drives single attempts of Rust's.
//
// Invariants:
// - Only what may pass at another try is tried again; the destination's own word on when is honoured.
// - An abort ends the wait at once, also the wait for an attempt under way.
//
// Rust has validated the options by now, so a value that cannot be read here is not given.

import pRetry from "p-retry";
import { IngestError, ingestError } from "../errors.js";
import { milliseconds, type RetryOptions } from "../options.js";

// `src-rs/config.rs` owns these; they are repeated because `open` is a single attempt there.
const ATTEMPTS = 5;
const BASE_DELAY_MS = 100;
const MAX_DELAY_MS = 30_000;
const DEADLINE_MS = 300_000;

interface Operations {
  operation(start: (operation: number) => void): Promise<void>;
}

export async function open(
  start: (operation: number) => void,
  operations: Operations,
  retry: RetryOptions,
  signal: AbortSignal | undefined,
): Promise<void> {
  const began = performance.now();
  const baseDelay = milliseconds(retry.baseDelay) ?? BASE_DELAY_MS;
  const deadline = milliseconds(retry.deadline) ?? DEADLINE_MS;
  // What is not to be asked again before the deadline is not waited for either.
  const mayPass = (error: Error): boolean =>
    error instanceof IngestError &&
    error.retry !== "never" &&
    performance.now() - began + (error.retryAfterMs ?? 0) < deadline;
  let attempts = 0;
  try {
    await pRetry(
      (attempt) => {
        attempts = attempt;
        return raceSignal(operations.operation(start), signal);
      },
      {
        retries: (retry.attempts ?? ATTEMPTS) - 1,
        minTimeout: baseDelay,
        maxTimeout: Math.max(milliseconds(retry.maxDelay) ?? MAX_DELAY_MS, baseDelay),
        maxRetryTime: deadline,
        randomize: true,
        signal,
        shouldRetry: ({ error }) => mayPass(error),
        onFailedAttempt: async ({ error, retryDelay, retriesLeft }) => {
          if (retriesLeft <= 0 || !mayPass(error)) return;
          const wait = ((error as IngestError).retryAfterMs ?? 0) - retryDelay;
          if (wait > 0) await raceSignal(new Promise((resolve) => setTimeout(resolve, wait)), signal);
        },
      },
    );
  } catch (error) {
    if (!(error instanceof IngestError)) throw error;
    throw withTries(error, attempts, performance.now() - began);
  }
}

/** The same error, knowing how often and how long was tried. */
function withTries(error: IngestError, attempts: number, elapsedMs: number): IngestError {
  const { code, message, retry, operation, field, row, retryAfterMs, issues, cause } = error;
  const facts = { code, message, retry, operation, field, row, retryAfterMs, issues, cause };
  return ingestError({ ...facts, attempts, elapsedMs });
}

/** Settles as `promise` does, or rejects with the signal's reason, whichever comes first. */
export async function raceSignal<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
    // Nobody waits for an attempt that was given up.
    promise.catch(() => {});
  }
}
