// Calls the user's listeners with the outcome of a delivery.
//
// Invariants:
// - A listener changes no outcome. It is called when the client's state is complete, so it may send, close or
//   throw; its error is logged once, and its delivery counts as unread.
// - It is called in the async context of `connect`: what the caller's `AsyncLocalStorage` held there, it holds here.
// - A listener that closes the client waits for the close, so the close does not wait for it.

import { AsyncLocalStorage } from "node:async_hooks";
import type { ResultListeners } from "../options.js";
import type { TransmissionResult } from "../result.js";

export class ListenerDispatcher {
  readonly #listeners: ResultListeners;
  /** What to call when the client is closed from within a listener, also after it awaited something. */
  readonly #within = new AsyncLocalStorage<() => void>();
  /** Events come out of native code, where no caller's context is. */
  readonly #inContext = AsyncLocalStorage.snapshot();

  constructor(listeners: ResultListeners) {
    this.#listeners = listeners;
  }

  /**
   * Whether a listener was there and took it; a promise of it where the listener gave one.
   *
   * @param failed Told of a listener that threw or rejected.
   */
  tell(result: TransmissionResult, failed: (thrown: unknown) => void): boolean | Promise<boolean> {
    const listeners = this.#listeners;
    const { promise: closes, resolve } = Promise.withResolvers<void>();
    try {
      // Nobody waits for what is done about a success.
      const returned: unknown = this.#inContext(() =>
        result.success
          ? listeners.onAcknowledged?.(result)
          : this.#within.run(resolve, () => listeners.onFailed?.(result)),
      );
      if (!isThenable(returned))
        return result.success ? listeners.onAcknowledged != null : listeners.onFailed != null;
      const taken = Promise.resolve(returned).then(
        () => true,
        (thrown: unknown) => {
          failed(thrown);
          return false;
        },
      );
      return Promise.race([taken, closes.then(() => true)]);
    } catch (thrown) {
      failed(thrown);
      return false;
    }
  }

  /** To be called when the client is closed, by whomever. */
  closing(): void {
    this.#within.getStore()?.();
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && "then" in value;
}
