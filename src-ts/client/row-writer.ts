// A writer of single rows.
//
// Invariants:
// - A row that was taken is in one delivery, or was withdrawn by its signal, or is told as lost.
// - Whoever waits for a row waits for its delivery; the outcome of a row follows from the delivery's alone.
// - What became of a delivery has been read when each of its rows was sent by `send` or had its outcome looked at.

import type { UnsettledDelivery } from "../delivery.js";
import { type IngestError, ingestError } from "../errors.js";
import { checkNames, checkSendOptions, configInvalid, describe, isSignal } from "../options/checks.js";
import type { RowWriterOptions, SendRowOptions } from "../options.js";
import type { Rejection, TransmissionResult } from "../result.js";
import type { EncodedRows } from "../rows/encoded.js";
import type { RowRejection } from "../rows/refusal.js";
import { toRowSchema } from "../rows.js";
import { isDue, turn } from "../turn.js";
import { Gatherer, type Gatherers } from "./gatherer.js";
import { listen, listenNoMore } from "./signals.js";

/** What became of one row. */
export interface RowOutcome {
  /**
   * `acknowledged`: it is durable. `rejected`: it was refused, alone. `failed`: it is not there. `unknown`: nobody can
   * say. `spooled`: it is in the spool, and its delivery goes on.
   */
  readonly status: "acknowledged" | "rejected" | "failed" | "unknown" | "spooled";
  /** Its number among all rows of the writer, from 0. */
  readonly row: number;
  /** Number of its delivery within its client. */
  readonly sequence: bigint;
  /** Why, unless it is durable or in the spool. */
  readonly error: IngestError | null;
}

/** What the writer needs of the client. */
export interface RowSender extends Gatherers {
  readonly closing: unknown;
  readonly isSpooled: boolean;
  durable(delivery: UnsettledDelivery): Promise<void>;
  deliveryOfRows(
    rows: EncodedRows,
    options: RowWriterOptions,
    firstRow: number,
    isUrgent: boolean,
  ): UnsettledDelivery;
  inLine(group: readonly UnsettledDelivery[]): Promise<void> | undefined;
  schemaOfRow(
    schema: unknown,
    row: unknown,
    operation: string,
  ): EncodedRows["schema"] | Promise<EncodedRows["schema"]>;
  flush(): Promise<void>;
  refuseIfClosed(operation: string): void;
  /** Rows that nobody waits for were not let in. */
  lost(rows: number, error: unknown): void;
}

/** Somebody who waits for a row. */
interface Ticket {
  readonly place: number;
  readonly row: number;
  readonly resolve: (value: never) => void;
  readonly reject: (reason: unknown) => void;
  /** For the outcome, not only for being let in. */
  readonly isSend: boolean;
  isWithdrawn: boolean;
  readonly signal: AbortSignal | undefined;
  onAbort: (() => void) | undefined;
}

/** A row that was let in. */
export class RowDelivery {
  /** Its number among all rows of the writer, from 0. */
  readonly row: number;
  /** Number of its delivery within its client. */
  readonly sequence: bigint;
  /** Why the row does not fit its schema, known at once; null if it does. */
  readonly rejection: RowRejection | null;
  readonly #outcome: () => Promise<RowOutcome>;

  /** @internal */
  constructor(
    row: number,
    sequence: bigint,
    rejection: RowRejection | null,
    outcome: () => Promise<RowOutcome>,
  ) {
    this.row = row;
    this.sequence = sequence;
    this.rejection = rejection;
    this.#outcome = outcome;
  }

  /** What became of the row. It never rejects. Reading this property counts as looking at it. */
  get outcome(): Promise<RowOutcome> {
    return this.#outcome();
  }
}

/**
 * Writes single rows. They are gathered by `batching` to deliveries, in the order in which they are given. Made by
 * {@link IngestClient.rows}; safe for any number of concurrent callers.
 *
 * A row is read before the promise of its call settles, or in the microtask after a `write` that gave undefined: until
 * then it must not be changed.
 *
 * @example
 * ```ts
 * const orders = client.rows(order);
 * for await (const event of events) await orders.write(event);
 * await orders.flush();
 * ```
 */
export class RowWriter<Row extends object = object> implements AsyncDisposable {
  readonly #core: RowSender;
  readonly #options: RowWriterOptions;
  readonly #gatherer: Gatherer;
  #tickets: Ticket[] = [];
  /** Of all rows that were taken. */
  #count = 0;
  /** Of the delivery to be. */
  #firstRow = 0;
  #failure: { readonly reason: unknown } | undefined;
  #isClosed = false;
  /** The table's schema is asked for, and calls wait for it. */
  #asking: Promise<void> | undefined;

  /** @internal */
  constructor(core: RowSender, schema: unknown, options: RowWriterOptions | undefined) {
    checkWriterOptions(options);
    // What is no schema, or none that rows can fill, is told here, and not by the first row.
    if (schema != null) toRowSchema(schema, "rows");
    this.#core = core;
    this.#options = options ?? {};
    const { deadLetters } = core.gathering;
    this.#gatherer = new Gatherer(
      core,
      (row) => core.schemaOfRow(schema, row, "rows"),
      { unknownKeys: this.#options.unknownKeys, keepsJson: deadLetters },
      (rows) => this.#hand(rows),
    );
  }

  /**
   * Takes a row. What becomes of it stands in `listeners`, `stats()` and the error of `client.close()`.
   *
   * @returns Undefined as long as there is room in the budget. Else, and once in some milliseconds, the promise that
   * there is: await it before the next row. `await` does for both.
   * @throws {IngestError} Rejects with `CLOSED`, `SCHEMA_REQUIRED`, `SCHEMA_MISMATCH`; or with what kept rows that were
   * taken before from being let in. The row was not taken then.
   */
  write(row: Row): Promise<void> | undefined {
    try {
      const asking = this.#ask(row);
      if (asking !== undefined) return asking.then(() => this.write(row));
      this.#take(row);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#gatherer.waiting;
  }

  /**
   * Takes a row and waits until it is admitted, or, with a spool, until it is on the disk: it is handed over at the end
   * of this turn of the event loop, together with all that was gathered.
   *
   * @throws {IngestError} As {@link write}; and what kept its delivery from being admitted.
   */
  enqueue(row: Row): Promise<RowDelivery> {
    return this.#wait(row, undefined, false);
  }

  /**
   * Takes a row and waits for its outcome: it is handed over at the end of this turn of the event loop, together with
   * all that was gathered, and is urgent as with {@link IngestClient.send}.
   *
   * @returns What became of the row. A failure is a value, too.
   * @throws {IngestError} As {@link enqueue}; or the reason of the signal, if it was aborted before the row was handed
   * over. The row is taken out then.
   */
  send(row: Row, options?: SendRowOptions): Promise<RowOutcome> {
    try {
      checkSendRowOptions(options);
      options?.signal?.throwIfAborted();
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#wait(row, options?.signal, true);
  }

  /**
   * Hands over what was gathered and waits until everything that was admitted before is settled, as
   * {@link IngestClient.flush}.
   *
   * @throws {IngestError} What kept rows of this writer from being admitted.
   */
  async flush(): Promise<void> {
    this.#core.refuseIfClosed("flush");
    await this.#asked();
    await this.#gatherer.handOver();
    await this.#core.flush();
    this.#throwFailure();
  }

  /**
   * Takes no more rows, and waits until what was gathered is admitted. `client.close()` waits for the outcomes.
   *
   * @throws {IngestError} What kept rows of this writer from being admitted.
   */
  async close(): Promise<void> {
    await this.#asked();
    this.#isClosed = true;
    await this.#gatherer.handOver();
    this.#throwFailure();
  }

  /** What `await using` calls: {@link close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /**
   * What has to be waited for before a row can be taken: the first of a delivery needs a schema.
   *
   * @throws {IngestError} Nothing is taken any more, or rows that were taken before are lost.
   */
  #ask(row: unknown): Promise<void> | undefined {
    if (this.#failure !== undefined) this.#throwFailure();
    if (this.#isClosed || this.#core.closing !== undefined) this.#refuseClosed();
    if (this.#asking !== undefined) return this.#asking;
    const asked = this.#gatherer.ask(row);
    if (asked === undefined) return undefined;
    const over = (): void => {
      this.#asking = undefined;
    };
    // One promise for all who wait, so that they go on in their order.
    this.#asking = asked.finally(over);
    return this.#asking;
  }

  /** The rows that waited for a schema are taken, or their calls were told why not. */
  async #asked(): Promise<void> {
    while (this.#asking !== undefined) await this.#asking.catch(() => {});
  }

  #take(row: unknown): void {
    // Before it is added, as that may hand over the delivery that it makes full.
    this.#count++;
    try {
      this.#gatherer.add(row);
    } catch (error) {
      this.#count--;
      throw error;
    }
  }

  #refuseClosed(): void {
    this.#core.refuseIfClosed("rows");
    throw ingestError({ code: "CLOSED", operation: "rows", message: "the writer is closed" });
  }

  #throwFailure(): void {
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure.reason;
  }

  #wait<T>(row: unknown, signal: AbortSignal | undefined, isSend: boolean): Promise<T> {
    try {
      const asking = this.#ask(row);
      if (asking !== undefined)
        return asking.then(() => {
          signal?.throwIfAborted();
          return this.#wait<T>(row, signal, isSend);
        });
    } catch (error) {
      return Promise.reject(error);
    }
    return new Promise<T>((resolve, reject) => {
      const number = this.#count;
      const firstOfDelivery = this.#tickets;
      // It may be handed over from within, when it makes the delivery full.
      const ticket = {
        place: number - this.#firstRow,
        row: number,
        resolve,
        reject,
        isSend,
        isWithdrawn: false,
        signal,
        onAbort: undefined,
      } as Ticket;
      firstOfDelivery.push(ticket);
      try {
        this.#take(row);
      } catch (error) {
        firstOfDelivery.pop();
        throw error;
      }
      if (this.#tickets !== firstOfDelivery) return;
      this.#gatherer.soon();
      if (signal === undefined) return;
      ticket.onAbort = () => {
        ticket.isWithdrawn = true;
        this.#gatherer.withdraw(ticket.place);
        reject(signal.reason);
      };
      listen(signal, ticket.onAbort);
    });
  }

  #hand(rows: EncodedRows | undefined): Promise<void> | undefined {
    const tickets = this.#tickets.filter(({ isWithdrawn }) => !isWithdrawn);
    const firstRow = this.#firstRow;
    this.#tickets = [];
    this.#firstRow = this.#count;
    for (const { signal, onAbort } of tickets) listenNoMore(signal, onAbort);
    if (rows === undefined) return undefined;
    const sent = tickets.filter(({ isSend }) => isSend);
    const delivery = this.#core.deliveryOfRows(rows, this.#options, firstRow, sent.length > 0);
    const watch = new Watch(delivery, rows.given - sent.length);
    if (sent.length > 0)
      delivery.onSettled = ({ result }) => {
        if (result !== null) void tell(result, sent);
      };
    let waiting: Promise<void> | undefined;
    try {
      waiting = this.#core.inLine([delivery]);
    } catch (error) {
      this.#refused(rows.given, tickets, error);
      return undefined;
    }
    const enqueued = tickets.filter(({ isSend }) => !isSend);
    const admitted = this.#core.isSpooled
      ? () => this.#spooled(rows, tickets, enqueued, delivery, watch)
      : () => admit(rows, enqueued, delivery, watch);
    if (waiting === undefined) {
      admitted();
      return undefined;
    }
    return waiting.then(admitted, (error: unknown) => this.#refused(rows.given, tickets, error));
  }

  /** Who enqueued waits for the disk, which has its own refusals. Nobody else waits for it. */
  #spooled(
    rows: EncodedRows,
    tickets: readonly Ticket[],
    enqueued: readonly Ticket[],
    delivery: UnsettledDelivery,
    watch: Watch,
  ): void {
    if (enqueued.length === 0) return;
    this.#core.durable(delivery).then(
      () => admit(rows, enqueued, delivery, watch),
      (error: unknown) => {
        // Who sent has the outcome.
        this.#refused(rows.given - (tickets.length - enqueued.length), enqueued, error);
      },
    );
  }

  #refused(given: number, tickets: readonly Ticket[], reason: unknown): void {
    for (const { reject } of tickets) reject(reason);
    const lost = given - tickets.length;
    if (lost === 0) return;
    this.#failure ??= { reason };
    this.#core.lost(lost, reason);
  }
}

/** Tells who enqueued that their rows are let in. */
function admit(
  { rejections }: EncodedRows,
  enqueued: readonly Ticket[],
  delivery: UnsettledDelivery,
  watch: Watch,
): void {
  let at = 0;
  for (const { place, row, resolve } of enqueued) {
    while (at < rejections.length && rejections[at]!.row < place) at++;
    const rejection = rejections[at]?.row === place ? rejections[at]! : null;
    let outcome: Promise<RowOutcome> | undefined;
    const admitted = new RowDelivery(row, BigInt(delivery.sequence), rejection, () => {
      if (outcome === undefined) watch.look();
      outcome ??= delivery.promise.then((result) => outcomeOf(result, place, row));
      return outcome;
    });
    resolve(admitted as never);
  }
}

/** Of how many rows of a delivery nobody has looked at the outcome. */
class Watch {
  readonly #delivery: UnsettledDelivery;
  #left: number;

  constructor(delivery: UnsettledDelivery, left: number) {
    this.#delivery = delivery;
    this.#left = left;
    delivery.observed = left === 0;
  }

  look(): void {
    if (--this.#left === 0) this.#delivery.look();
  }
}

/** Slices, as a delivery may have been sent by tens of thousands. */
async function tell(result: TransmissionResult, tickets: readonly Ticket[]): Promise<void> {
  for (let i = 0; i < tickets.length; i++) {
    if ((i & 127) === 127 && isDue()) await turn();
    const { place, row, resolve } = tickets[i]!;
    resolve(outcomeOf(result, place, row) as never);
  }
}

function outcomeOf(result: TransmissionResult, place: number, row: number): RowOutcome {
  const { status, sequence, rejections, acceptedRows } = result;
  if (status === "acknowledged") return { status, row, sequence, error: null };
  const rejection = rejectionOf(rejections, place);
  if (rejection !== undefined) return { status: "rejected", row, sequence, error: rejected(rejection, row) };
  if (status === "partial") return { status: "acknowledged", row, sequence, error: null };
  if (status === "spooled") return { status, row, sequence, error: null };
  // Of a delivery of which some rows are there, nobody says which.
  const isOpen = status === "unknown" || acceptedRows > 0;
  return { status: isOpen ? "unknown" : "failed", row, sequence, error: result.error };
}

/** By halves: they are in order. */
function rejectionOf(rejections: readonly Rejection[], place: number): Rejection | undefined {
  let low = 0;
  let high = rejections.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rejections[middle]!.row < place) low = middle + 1;
    else high = middle;
  }
  return rejections[low]?.row === place ? rejections[low] : undefined;
}

function rejected({ code, message, path }: Rejection, row: number): IngestError {
  return ingestError({
    code: "ROWS_REJECTED",
    operation: "send",
    row,
    field: path || null,
    message: `the row was refused (${code}): ${message}`,
  });
}

function checkWriterOptions(options: RowWriterOptions | undefined): void {
  checkNames(options, ["unknownKeys", "handoff"], "rows");
  checkSendOptions(options, "rows");
}

function checkSendRowOptions(options: SendRowOptions | undefined): void {
  checkNames(options, ["signal"], "send");
  const signal = options?.signal;
  if (signal !== undefined && !isSignal(signal))
    throw configInvalid(
      [{ path: "signal", message: `must be an AbortSignal, not ${describe(signal)}` }],
      "send",
    );
}
