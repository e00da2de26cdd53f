// Many batches in, their outcomes out, in order.
//
// Invariants:
// - Reading runs ahead of the outcomes, or every batch would wait for the commit of the one before.
// - What runs ahead is bounded: by the budget while unsettled; after, by the budget once more and `SETTLED_AHEAD`.
// - What was yielded is the consumer's alone.
// - Every outcome before a failure is yielded before the failure is thrown.
// - A loop that is left early takes back what waits; what was admitted goes on, and counts as unread.

import { ignoreRejection } from "../callbacks.js";
import type { UnsettledDelivery } from "../delivery.js";
import { measure } from "../handoff.js";
import type { Wanted } from "../inputs.js";
import { checkSendOptions } from "../options/checks.js";
import type { SendAllOptions, SendOptions } from "../options.js";
import type { TransmissionResult } from "../result.js";
import { iterate } from "../source.js";
import { isDue } from "../turn.js";
import { raceSignal } from "./open.js";

/** Small batches that share a native call: beyond these, its fixed cost no longer shows. */
const GROUP_COUNT = 64;
const GROUP_BYTES = 1 << 20;
/** Outcomes that nobody has asked for yet, each with its batch. */
const SETTLED_AHEAD = 1_024;

/** What of a client is needed here. */
export interface Sender {
  prepare(
    batch: unknown,
    options: SendOptions | undefined,
    operation: "send" | "enqueue",
  ): UnsettledDelivery | Promise<UnsettledDelivery>;
  admit(group: readonly UnsettledDelivery[]): Promise<void> | undefined;
  withdraw(group: readonly UnsettledDelivery[], reason: unknown): void;
  drop(group: readonly UnsettledDelivery[], reason: unknown): void;
  wanted(options: SendOptions | undefined, operation: string): Wanted;
  readonly budgetBytes: number;
  operation(start: (operation: number) => void): Promise<void>;
  readonly binding: { flush(operation: number): void };
}

export async function* sendAll(
  core: Sender,
  source: unknown,
  options: SendAllOptions | undefined,
): AsyncGenerator<TransmissionResult, void, undefined> {
  checkSendOptions(options, "sendAll");
  const reader = new Reader(core, source, options);
  reader.run();
  try {
    for (;;) {
      const next = reader.take();
      if (next !== undefined) {
        const result = next.result ?? (await next.promise);
        next.look();
        reader.taken(next);
        yield result;
      } else if (reader.ended) {
        if (reader.failure !== undefined) throw reader.failure.reason;
        return;
      } else {
        await reader.change();
      }
    }
  } finally {
    reader.stop();
  }
}

class Reader {
  ended = false;
  failure: { readonly reason: unknown } | undefined;
  readonly #core: Sender;
  readonly #groupBytes: number;
  readonly #options: SendAllOptions | undefined;
  readonly #iterator: Iterator<unknown> | AsyncIterator<unknown>;
  #queue: (UnsettledDelivery | undefined)[] = [];
  #head = 0;
  #stopped = false;
  /** The source has ended or thrown: `return` is not called on it. */
  #over = false;
  #waiting: readonly UnsettledDelivery[] | undefined;
  #settledAhead = 0;
  /** What they took of the budget. */
  #bytesAhead = 0;
  readonly #onSettled = ({ packing }: UnsettledDelivery): void => {
    this.#settledAhead++;
    this.#bytesAhead += packing?.charge ?? 0;
  };
  #wakeWriter: (() => void) | undefined;
  #wakeReader: (() => void) | undefined;
  /** Read from the source, and not yet part of a group. */
  #pending: Promise<IteratorResult<unknown>> | undefined;

  constructor(core: Sender, source: unknown, options: SendAllOptions | undefined) {
    this.#core = core;
    this.#options = options;
    this.#iterator = iterate(source, core.wanted(options, "sendAll"));
    // It is let in as a whole, and must not be what is larger than the budget.
    this.#groupBytes = Math.min(GROUP_BYTES, core.budgetBytes / 8);
  }

  run(): void {
    void this.#read().then(
      () => this.#end(undefined),
      (reason: unknown) => this.#end({ reason }),
    );
  }

  /** The next delivery, admitted and perhaps settled; undefined if there is none yet. */
  take(): UnsettledDelivery | undefined {
    if (this.#head === this.#queue.length) return undefined;
    // Not `shift`: it moves all that is behind, and a fast source has tens of thousands there.
    const next = this.#queue[this.#head];
    this.#queue[this.#head++] = undefined;
    if (this.#head >= 1_024 && this.#head * 2 >= this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
    return next;
  }

  /** Resolves when there is more in the queue, or nothing more to come. */
  change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wakeReader = resolve;
    });
  }

  taken({ packing }: UnsettledDelivery): void {
    this.#settledAhead--;
    this.#bytesAhead -= packing?.charge ?? 0;
    this.#wakeWriter?.();
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#wakeWriter?.();
    if (this.#waiting !== undefined) this.#core.withdraw(this.#waiting, left());
    if (this.#over) return;
    try {
      // Not awaited: a source that is stuck in its `next` would keep the loop's own end from coming.
      ignoreRejection(this.#iterator.return?.());
    } catch {
      // It would be thrown in place of what ended the loop.
    }
  }

  async #read(): Promise<void> {
    for (;;) {
      while (this.#isFarAhead() && !this.#stopped)
        await new Promise<void>((resolve) => {
          this.#wakeWriter = resolve;
        });
      if (this.#stopped) return;
      const { group, last, failure } = await this.#gather();
      if (this.#stopped) {
        this.#core.drop(group, left());
        return;
      }
      if (group.length > 0) {
        this.#waiting = group;
        const admitted = this.#core.admit(group);
        if (admitted !== undefined) await admitted;
        this.#waiting = undefined;
        for (const delivery of group) this.#queue.push(delivery);
        this.#wakeReader?.();
      }
      if (last) this.#flush();
      if (failure !== undefined) throw failure.reason;
      if (last) return;
    }
  }

  #isFarAhead(): boolean {
    return this.#settledAhead >= SETTLED_AHEAD || this.#bytesAhead > this.#core.budgetBytes;
  }

  /** The source has ended: its last rows need not wait for others, or for a commit interval. */
  #flush(): void {
    const core = this.#core;
    // A client that was closed meanwhile flushes by itself; the outcomes tell whatever else goes wrong.
    void core.operation((operation) => core.binding.flush(operation)).catch(() => {});
  }

  /** At least one batch, and those that are there without waiting. */
  async #gather(): Promise<{ group: UnsettledDelivery[]; last: boolean; failure?: { reason: unknown } }> {
    const group: UnsettledDelivery[] = [];
    let bytes = 0;
    try {
      // One at least, or a reader that is always late would never get on.
      while (group.length === 0 || (group.length < GROUP_COUNT && bytes < this.#groupBytes && !isDue())) {
        const ready = this.#next(group.length === 0);
        // Not awaited without need: what is at hand comes at the rate of small batches.
        const next = ready instanceof Promise ? await ready : ready;
        if (next === undefined) break;
        if (next.done) return { group, last: true };
        const prepared = this.#core.prepare(next.value, this.#options, "enqueue");
        const delivery = prepared instanceof Promise ? await prepared : prepared;
        delivery.onSettled = this.#onSettled;
        if (delivery.content !== null) bytes += measure(delivery.content);
        group.push(delivery);
      }
      return { group, last: false };
    } catch (reason) {
      return { group, last: true, failure: { reason } };
    }
  }

  /** The source's next, or undefined if it is not there yet and `wait` is false. */
  #next(wait: boolean): IteratorResult<unknown> | Promise<IteratorResult<unknown> | undefined> {
    if (this.#pending === undefined) {
      const next = this.#call();
      if (!("then" in next)) {
        if (next.done) this.#over = true;
        return next;
      }
      this.#pending = Promise.resolve(next).catch((reason: unknown) => {
        this.#over = true;
        throw reason;
      });
    }
    return this.#later(this.#pending, wait);
  }

  async #later(
    pending: Promise<IteratorResult<unknown>>,
    wait: boolean,
  ): Promise<IteratorResult<unknown> | undefined> {
    const next = wait ? await raceSignal(pending, this.#options?.signal) : await soon(pending);
    if (next !== undefined) this.#pending = undefined;
    if (next?.done) this.#over = true;
    return next;
  }

  #call(): IteratorResult<unknown> | Promise<IteratorResult<unknown>> {
    try {
      return this.#iterator.next();
    } catch (reason) {
      this.#over = true;
      throw reason;
    }
  }

  #end(failure: { readonly reason: unknown } | undefined): void {
    this.ended = true;
    this.failure = failure;
    this.#wakeReader?.();
  }
}

function left(): DOMException {
  return new DOMException("the loop over the outcomes was left", "AbortError");
}

/** What a promise is fulfilled with within a few microtasks, as an async generator with a batch at hand does. */
async function soon<T>(promise: Promise<T>): Promise<T | undefined> {
  let settled = false;
  const watch = (): void => {
    settled = true;
  };
  promise.then(watch, watch);
  for (let i = 0; i < 6 && !settled; i++) await undefined;
  return settled ? promise : undefined;
}
