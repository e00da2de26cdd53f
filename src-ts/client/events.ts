// What happens to a client, told to those who read its events and to channels of `node:diagnostics_channel`.
//
// Invariants:
// - While nobody reads and no channel has a subscriber, nothing is kept and nothing is made.
// - A reader that does not read holds `KEPT` events: the oldest go, and `missed` says how many.
// - It refers to no client, so a loop over events keeps no client that was dropped.

import { channel } from "node:diagnostics_channel";
import type { ClientEvent } from "../observation.js";

/** Of a reader that is behind. */
const KEPT = 1_024;

/** Made at once: who subscribes by name finds the same object. */
const CHANNELS = Object.fromEntries(
  ["connected", "reconnect", "retry", "paused", "rotated", "refused", "spooled", "closed"].map((type) => [
    type,
    channel(`arrow-ingest:${type}`),
  ]),
);
const SETTLED = channel("arrow-ingest:settled");

/** An event, without what all events have. */
export type NewEvent = ClientEvent extends infer Event
  ? Event extends ClientEvent
    ? Omit<Event, "client">
    : never
  : never;

export class EventHub {
  readonly client: number;
  readonly #readers = new Set<Reader>();
  #ended = false;

  constructor(client: number) {
    this.client = client;
  }

  emit(event: NewEvent): void {
    const channel = CHANNELS[event.type];
    const isSubscribed = channel?.hasSubscribers === true;
    if (this.#readers.size === 0 && !isSubscribed) return;
    const told = Object.freeze({ ...event, client: this.client }) as ClientEvent;
    if (isSubscribed) channel.publish(told);
    for (const reader of this.#readers) reader.push(told);
  }

  /** Every delivery with its outcome: too many for a queue. */
  settled(result: object): void {
    if (SETTLED.hasSubscribers) SETTLED.publish({ client: this.client, result });
  }

  read(signal: AbortSignal | undefined): AsyncIterableIterator<ClientEvent, undefined> {
    const reader = new Reader(this.client, () => {
      this.#readers.delete(reader);
      signal?.removeEventListener("abort", end);
    });
    const end = (): void => reader.end();
    if (this.#ended || signal?.aborted === true) {
      reader.end();
      return reader;
    }
    signal?.addEventListener("abort", end, { once: true });
    this.#readers.add(reader);
    return reader;
  }

  /** No event follows. Readers get what they have not read yet. */
  end(): void {
    this.#ended = true;
    for (const reader of this.#readers) reader.end();
  }
}

class Reader implements AsyncIterableIterator<ClientEvent, undefined> {
  readonly #client: number;
  readonly #onEnd: () => void;
  #events: ClientEvent[] = [];
  #head = 0;
  #missed = 0;
  #ended = false;
  readonly #waiting: ((result: IteratorResult<ClientEvent, undefined>) => void)[] = [];

  constructor(client: number, onEnd: () => void) {
    this.#client = client;
    this.#onEnd = onEnd;
  }

  push(event: ClientEvent): void {
    const waiting = this.#waiting.shift();
    if (waiting !== undefined) return waiting({ done: false, value: event });
    this.#events.push(event);
    if (this.#events.length - this.#head > KEPT) {
      this.#head++;
      this.#missed++;
    }
    if (this.#head > KEPT) {
      this.#events = this.#events.slice(this.#head);
      this.#head = 0;
    }
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#onEnd();
    for (const waiting of this.#waiting.splice(0)) waiting({ done: true, value: undefined });
  }

  next(): Promise<IteratorResult<ClientEvent, undefined>> {
    if (this.#missed > 0) {
      const count = this.#missed;
      this.#missed = 0;
      const value = { type: "missed", atMs: Date.now(), client: this.#client, count } as const;
      return Promise.resolve({ done: false, value });
    }
    const value = this.#events[this.#head];
    if (value !== undefined) {
      this.#head++;
      if (this.#head === this.#events.length) {
        this.#events = [];
        this.#head = 0;
      }
      return Promise.resolve({ done: false, value });
    }
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  return(): Promise<IteratorResult<ClientEvent, undefined>> {
    this.#events = [];
    this.#head = 0;
    this.#missed = 0;
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
