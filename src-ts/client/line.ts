// Calls in the order in which they came, while one of them takes turns of the event loop to read its rows.
//
// Invariants:
// - Work begins when all that entered before it has ended, well or not; at once where nothing is before it.
// - An abort before the work begins rejects at once, and the work is never begun. After that the work decides.

import { listen, listenNoMore } from "./signals.js";

export class Line {
  #last: Promise<void> | undefined;

  get isEmpty(): boolean {
    return this.#last === undefined;
  }

  enter<T>(work: () => T | PromiseLike<T>, signal?: AbortSignal): Promise<T> {
    const before = this.#last;
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    let isOver = false;
    const onAbort = (): void => {
      isOver = true;
      reject(signal?.reason);
    };
    const begin = async (): Promise<void> => {
      listenNoMore(signal, onAbort);
      if (isOver) return;
      try {
        resolve(await work());
      } catch (error) {
        reject(error);
      }
    };
    if (before !== undefined) listen(signal, onAbort);
    const last = before === undefined ? begin() : before.then(begin);
    this.#last = last;
    void last.then(() => {
      if (this.#last === last) this.#last = undefined;
    });
    return promise;
  }
}
