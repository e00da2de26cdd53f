// Telling the user's listeners what became of a delivery.
//
// Invariant: what a listener does stays with it. It is called when the books are in order, so it may send,
// close or throw; what it throws or rejects with is told once, and was not heard.

import type { ResultListeners } from "../options.js";
import type { TransmissionResult } from "../result.js";

/**
 * Whether a listener was there and took it.
 *
 * @param failed Told of a listener that threw, now, or rejected, later.
 */
export function tellListener(
  listeners: ResultListeners,
  result: TransmissionResult,
  failed: (thrown: unknown, later: boolean) => void,
): boolean {
  try {
    const returned: unknown = result.success
      ? listeners.onAcknowledged?.(result)
      : listeners.onFailed?.(result);
    if (isThenable(returned)) Promise.resolve(returned).catch((thrown: unknown) => failed(thrown, true));
    return result.success ? listeners.onAcknowledged != null : listeners.onFailed != null;
  } catch (thrown) {
    failed(thrown, false);
    return false;
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && "then" in value;
}
