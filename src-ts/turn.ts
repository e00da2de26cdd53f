// Turns of the event loop, for code that could go on without one.
//
// Invariants:
// - Whoever asks often enough holds up timers, sockets and signals for `SLICE_MS` at most, and what one step takes.
// - All of this thread share one clock: ten clients at work hold it up for no longer than one.

/** Milliseconds at a stretch. */
export const SLICE_MS = 5;

/** Since when somebody has been at work without a turn; 0: nobody has. */
let since = 0;
let next: Promise<void> | undefined;

/**
 * Whether it is time to let the event loop come round.
 *
 * @param ms How long a stretch may be: less for whoever takes milliseconds for a step.
 */
export function isDue(ms = SLICE_MS): boolean {
  const now = performance.now();
  if (since !== 0) return now - since > ms;
  since = now;
  setImmediate(begin);
  return false;
}

/** Until the event loop has come round, and with it the outcomes that were ready. One promise for all who wait. */
export function turn(): Promise<void> {
  next ??= new Promise((resolve) => setImmediate(resolve)).then(begin);
  return next;
}

function begin(): void {
  since = 0;
  next = undefined;
}
