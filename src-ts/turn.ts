// Gives the event loop its turns, for code that could keep the thread without a pause.
//
// Invariants:
// - Code that asks `isDue` between its steps holds up timers, sockets and signals for `SLICE_MS` and one step at most.
// - All code of a thread shares one clock: ten busy clients hold up the thread for no longer than one.
//
// It interrupts nothing: code that does not ask is not held to it.

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
