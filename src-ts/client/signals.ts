// Listening to the signals of users.
//
// Invariant: a signal that fails must neither fail a delivery nor keep a ticket from being redeemed.

export function listen(signal: AbortSignal | undefined, onAbort: () => void): void {
  try {
    signal?.addEventListener("abort", onAbort, { once: true });
  } catch {}
}

export function listenNoMore(signal: AbortSignal | undefined, onAbort: (() => void) | undefined): void {
  if (onAbort === undefined) return;
  try {
    signal?.removeEventListener("abort", onAbort);
  } catch {}
}
