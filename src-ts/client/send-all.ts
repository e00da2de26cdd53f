// Many batches, or rows, in, their outcomes out, in order.
//
// Invariants:
// - Reading runs ahead of the outcomes, or every batch would wait for the commit of the one before.
// - What runs ahead is bounded: by the budget while unsettled; after, by the budget once more and `SETTLED_AHEAD`.
// - What was yielded is the consumer's alone.
// - Every outcome before a failure is yielded before the failure is thrown.
// - A loop that is left early takes back what waits; what was admitted goes on, and counts as unread.

import type { Schema } from "apache-arrow";
import { ignoreRejection } from "../callbacks.js";
import type { UnsettledDelivery } from "../delivery.js";
import { LONGEST_TIMER_MS } from "../duration.js";
import { measure } from "../handoff.js";
import type { Wanted } from "../inputs.js";
import { checkSendOptions } from "../options/checks.js";
import type { SendAllOptions, SendOptions } from "../options.js";
import type { TransmissionResult } from "../result.js";
import { type EncodedRows, STRETCH_MS } from "../rows/encoded.js";
import type { EncoderOptions } from "../rows/encoder.js";
import { isRow, iterate, rowsIn } from "../source.js";
import { isDue, SLICE_MS, turn } from "../turn.js";
import { type Gatherers, RowBuffer } from "./gatherer.js";
import { raceSignal } from "./open.js";

/** Small batches that share a native call: beyond these, its fixed cost no longer shows. */
const GROUP_COUNT = 64;
const GROUP_BYTES = 1 << 20;
/** Outcomes that nobody has asked for yet, each with its batch. */
const SETTLED_AHEAD = 1_024;

/** What of a client is needed here. */
export interface Sender extends Gatherers {
  prepare(
    batch: unknown,
    options: SendOptions | undefined,
    operation: "send" | "enqueue",
  ): UnsettledDelivery | Promise<UnsettledDelivery>;
  hand(group: readonly UnsettledDelivery[]): Promise<void> | undefined;
  reader(
    rows: readonly unknown[],
    options: SendAllOptions | undefined,
    operation: string,
  ): () => EncodedRows | Promise<EncodedRows>;
  schemaOfRow(schema: unknown, row: unknown, operation: string): Schema | Promise<Schema>;
  encoding(options: SendAllOptions | undefined): EncoderOptions;
  deliveryOfRows(
    rows: EncodedRows,
    options: SendAllOptions,
    firstRow: number,
    isUrgent?: boolean,
  ): UnsettledDelivery;
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
  readonly #wanted: Wanted;
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
  /** Single rows that are not part of a delivery yet. */
  readonly #rows: RowBuffer;
  /** Of the source, up to those of the delivery under way. */
  #rowCount = 0;
  /** When the first of `#rows` came. */
  #rowsSince = 0;

  constructor(core: Sender, source: unknown, options: SendAllOptions | undefined) {
    this.#core = core;
    this.#options = options;
    this.#wanted = core.wanted(options, "sendAll");
    this.#iterator = iterate(source, this.#wanted);
    this.#rows = new RowBuffer(
      core,
      (row) => core.schemaOfRow(options?.schema, row, "sendAll"),
      core.encoding(options),
    );
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
    this.#drop();
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
        const admitted = this.#core.hand(group);
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

  /** At least one delivery, and those that are there without waiting. */
  async #gather(): Promise<Gathered> {
    const group: UnsettledDelivery[] = [];
    let bytes = 0;
    const add = (delivery: UnsettledDelivery | undefined): void => {
      if (delivery === undefined) return;
      delivery.onSettled = this.#onSettled;
      if (delivery.content !== null) bytes += measure(delivery.content);
      group.push(delivery);
    };
    try {
      // One at least, or a reader that is always late would never get on.
      while (group.length === 0 || (group.length < GROUP_COUNT && bytes < this.#groupBytes && !isDue())) {
        if (group.length === 0 && this.#isLate()) {
          add(this.#takeRows());
          break;
        }
        const ready = this.#next(group.length === 0 ? this.#patience() : 0);
        // Not awaited without need: what is at hand comes at the rate of small batches.
        const next = ready instanceof Promise ? await ready : ready;
        if (next === undefined) {
          // Its linger is over, if it was waited for.
          if (group.length === 0) add(this.#takeRows());
          break;
        }
        if (this.#stopped) break;
        if (next.done) {
          add(this.#takeRows());
          return { group, last: true };
        }
        if (this.#isRow(next.value)) {
          const asked = this.#rows.ask(next.value);
          if (asked !== undefined) await raceSignal(asked, this.#options?.signal);
          if (this.#addRow(next.value)) add(this.#takeRows());
          else if (this.#rows.pending === 0 && isDue(STRETCH_MS)) await turn();
          continue;
        }
        add(this.#takeRows());
        const rows = rowsIn(next.value);
        const prepared =
          rows === undefined
            ? this.#core.prepare(next.value, this.#options, "enqueue")
            : this.#delivery(rows);
        add(prepared instanceof Promise ? await prepared : prepared);
      }
      return { group, last: false };
    } catch (reason) {
      if (this.#options?.signal?.aborted) this.#drop();
      add(this.#takeRows());
      return { group, last: true, failure: { reason } };
    }
  }

  /** After single rows, whatever is nothing else counts as one, and is refused as one. */
  #isRow(value: unknown): boolean {
    if (isRow(value, this.#wanted)) return true;
    const isPrimitive = typeof value !== "object" || value === null;
    return isPrimitive && this.#rowCount + this.#rows.given > 0;
  }

  /** Whether there are enough for a delivery. */
  #addRow(row: unknown): boolean {
    const rows = this.#rows;
    if (rows.given === 0) this.#rowsSince = performance.now();
    if (rows.push(row)) rows.read();
    return rows.pending === 0 && (rows.isFull || this.#core.isTight);
  }

  #takeRows(): UnsettledDelivery | undefined {
    const rows = this.#stopped ? undefined : this.#rows.take();
    if (rows === undefined) return undefined;
    const firstRow = this.#rowCount;
    this.#rowCount += rows.given;
    return this.#core.deliveryOfRows(rows, this.#options ?? {}, firstRow);
  }

  async #delivery(rows: readonly unknown[]): Promise<UnsettledDelivery> {
    const encoded = await this.#core.reader(rows, this.#options, "sendAll")();
    const firstRow = this.#rowCount;
    this.#rowCount += encoded.given;
    return this.#core.deliveryOfRows(encoded, this.#options ?? {}, firstRow);
  }

  /** Rows that are not handed over yet are not to count as gathered any more. */
  #drop(): void {
    if (!this.#rows.isReading) this.#rows.take();
  }

  /** Of a source that always has a next row at hand, too, rows leave in time. */
  #isLate(): boolean {
    if (this.#rows.given === 0 || this.#rows.pending > 0) return false;
    return performance.now() - this.#rowsSince > Math.max(SLICE_MS, this.#core.gathering.lingerMs);
  }

  /** Milliseconds for which the next item is waited for: rows that are there leave when their linger is over. */
  #patience(): number {
    if (this.#rows.given === 0) return Infinity;
    return Math.max(0, this.#core.gathering.lingerMs - (performance.now() - this.#rowsSince));
  }

  /** The source's next; undefined if it does not come within `patienceMs`. */
  #next(patienceMs: number): IteratorResult<unknown> | Promise<IteratorResult<unknown> | undefined> {
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
    return this.#later(this.#pending, patienceMs);
  }

  async #later(
    pending: Promise<IteratorResult<unknown>>,
    patienceMs: number,
  ): Promise<IteratorResult<unknown> | undefined> {
    // Without a timer for what is at hand.
    let next = patienceMs === Infinity ? undefined : await soon(pending);
    if (next === undefined && patienceMs > 0) {
      const waited = patienceMs === Infinity ? pending : within(pending, patienceMs);
      next = await raceSignal(waited, this.#options?.signal);
    }
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

interface Gathered {
  readonly group: UnsettledDelivery[];
  readonly last: boolean;
  readonly failure?: { readonly reason: unknown };
}

/** What a promise is fulfilled with; undefined if it is not within so many milliseconds. */
async function within<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(resolve, Math.min(ms, LONGEST_TIMER_MS), undefined);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
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
