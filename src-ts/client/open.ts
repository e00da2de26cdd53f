// Opening a destination: p-retry drives single attempts of Rust's.
//
// Invariants:
// - Only an error that may pass is followed by another try, and by none before the time that the destination named.
// - The delay before a try runs while `retry.when` is asked, and no try comes after the deadline.
// - An abort ends the wait at once, also the wait for an attempt under way.
//
// Rust has validated the options by now, so a value that cannot be read here is not given.

import pRetry from "p-retry";
import type { RetryAnswer } from "../binding.js";
import { LONGEST_TIMER_MS, milliseconds } from "../duration.js";
import { IngestError, ingestError } from "../errors.js";
import type { RetryOptions } from "../options.js";
import { askToRetry } from "./retry.js";

// `src-rs/config.rs` owns these; they are repeated because `open` is a single attempt there.
const ATTEMPTS = 5;
const BASE_DELAY_MS = 100;
const MAX_DELAY_MS = 30_000;
const DEADLINE_MS = 300_000;
const WHEN_TIMEOUT_MS = 5_000;

interface OpenOperations {
  operation(start: (operation: number) => void): Promise<void>;
  log(level: string, message: string, fields: Record<string, unknown>): void;
  /** Another try follows after so long. */
  connectingAgain(error: IngestError, delayMs: number): void;
}

export async function open(
  start: (operation: number) => void,
  operations: OpenOperations,
  retry: RetryOptions,
  signal: AbortSignal | undefined,
): Promise<void> {
  const began = performance.now();
  const elapsed = (): number => performance.now() - began;
  const baseDelay = milliseconds(retry.baseDelay) ?? BASE_DELAY_MS;
  const maxDelay = Math.max(milliseconds(retry.maxDelay) ?? MAX_DELAY_MS, baseDelay);
  const deadline = milliseconds(retry.deadline) ?? DEADLINE_MS;
  let attempts = 0;
  let goesOn = false;
  try {
    await pRetry(
      (attempt) => {
        attempts = attempt;
        return raceSignal(operations.operation(start), signal);
      },
      {
        retries: (retry.attempts ?? ATTEMPTS) - 1,
        // It would wait only after the answer of `when`, for which the delay is to run.
        minTimeout: 0,
        signal,
        shouldRetry: () => goesOn,
        onFailedAttempt: async ({ error, retriesLeft }) => {
          goesOn = false;
          if (retriesLeft <= 0 || !(error instanceof IngestError) || error.retry === "never") return;
          const doubled = baseDelay * 2 ** Math.min(attempts - 1, 30);
          const backoff = Math.min(doubled * (1 + Math.random()), maxDelay);
          const due = elapsed() + Math.max(backoff, error.retryAfterMs ?? 0);
          // What could come only after the deadline is neither asked about nor waited for.
          if (due >= deadline) return;
          const tried = withTries(error, attempts, elapsed());
          const answer = await mayTryAgain(tried, deadline - elapsed(), operations, retry, signal);
          goesOn = answer && elapsed() < deadline;
          if (!goesOn) return;
          operations.connectingAgain(tried, Math.max(0, due - elapsed()));
          await sleep(due - elapsed(), signal);
        },
      },
    );
  } catch (error) {
    // The reason of an abort is its owner's, also where it is one of our errors.
    if (!(error instanceof IngestError) || error === signal?.reason) throw error;
    throw withTries(error, attempts, elapsed());
  }
}

/**
 * What `retry.when` says of another try; without a verdict it is yes, with a line in the log that says why.
 *
 * @param left Milliseconds until it is too late for another try, whatever the answer.
 */
async function mayTryAgain(
  error: IngestError,
  left: number,
  operations: OpenOperations,
  { when, whenTimeout }: RetryOptions,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  if (when === undefined) return true;
  const patience = milliseconds(whenTimeout) ?? WHEN_TIMEOUT_MS;
  const { promise: late, resolve } = Promise.withResolvers<RetryAnswer>();
  const silence: RetryAnswer =
    left <= patience ? { retry: false } : { failed: [`no answer within ${patience} ms`] };
  const timer = setTimeout(resolve, Math.min(patience, left, LONGEST_TIMER_MS), silence);
  try {
    const answer = await raceSignal(Promise.race([askToRetry(when, error), late]), signal);
    if ("retry" in answer) return answer.retry;
    const causes = "failed" in answer ? answer.failed : [`must give true or false, not ${answer.invalid}`];
    operations.log("warn", "retry.when gave no verdict: the retry class decides", { causes });
    return true;
  } finally {
    // An hour's patience would keep a process alive that has given up connecting.
    clearTimeout(timer);
  }
}

/** Rejects with the signal's reason if that comes first. */
async function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  for (let left = ms; left > 0; left -= LONGEST_TIMER_MS) {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, Math.min(left, LONGEST_TIMER_MS));
    try {
      await raceSignal(promise, signal);
    } finally {
      // Else a process that has given up connecting would live as long as the server had asked for patience.
      clearTimeout(timer);
    }
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
  // Nobody waits for an attempt that is given up, and a rejection that nobody handles ends the process.
  promise.catch(() => {});
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
