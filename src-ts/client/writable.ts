// A WritableStream over `enqueue`.
//
// Invariants:
// - A stream has no place for outcomes, so the first delivery that is not acknowledged fails it.
// - A stream that was aborted, or failed for another reason, can report nothing more: failures of its deliveries then
//   count as unread.
// - An abort takes back what waits; what was admitted goes on.

import type { Schema } from "apache-arrow";
import { ignoreRejection } from "../callbacks.js";
import type { UnsettledDelivery } from "../delivery.js";
import type { IngestError } from "../errors.js";
import type { Wanted } from "../inputs.js";
import { checkNames, checkSendOptions, ROW_READING } from "../options/checks.js";
import type { SendOptions, WritableOptions } from "../options.js";
import type { EncodedRows } from "../rows/encoded.js";
import type { EncoderOptions } from "../rows/encoder.js";
import { type BatchInput, isRow, rowsIn } from "../source.js";
import { Gatherer, type Gatherers } from "./gatherer.js";

interface Sender extends Gatherers {
  prepare(
    batch: unknown,
    options: SendOptions | undefined,
    operation: "send" | "enqueue",
  ): UnsettledDelivery | Promise<UnsettledDelivery>;
  hand(group: readonly UnsettledDelivery[]): Promise<void> | undefined;
  inLine(group: readonly UnsettledDelivery[]): Promise<void> | undefined;
  withdraw(group: readonly UnsettledDelivery[], reason: unknown): void;
  durable(delivery: UnsettledDelivery): Promise<void>;
  readonly isSpooled: boolean;
  reader(
    rows: readonly unknown[],
    options: WritableOptions | undefined,
    operation: string,
  ): () => EncodedRows | Promise<EncodedRows>;
  wanted(options: WritableOptions | undefined, operation: string): Wanted;
  schemaOfRow(schema: unknown, row: unknown, operation: string): Schema | Promise<Schema>;
  encoding(options: WritableOptions | undefined): EncoderOptions;
  deliveryOfRows(rows: EncodedRows, options: WritableOptions, firstRow: number): UnsettledDelivery;
  flush(): Promise<void>;
  refuseIfClosed(operation: string): void;
}

export function writable(
  core: Sender,
  options: WritableOptions | undefined,
): WritableStream<BatchInput | object> {
  checkNames(options, ["handoff", ...ROW_READING], "writable");
  checkSendOptions(options, "writable");
  const sink = new Sink(core, options ?? {});
  return new WritableStream<BatchInput | object>(
    {
      start(controller) {
        sink.start(controller);
      },
      write: (chunk) => sink.write(chunk),
      close: () => sink.close(),
    },
    // A batch is the unit, and one that waits is enough: the rest of the waiting is the budget's.
    { highWaterMark: 1 },
  );
}

class Sink {
  readonly #core: Sender;
  readonly #options: WritableOptions;
  readonly #gatherer: Gatherer;
  readonly #wanted: Wanted;
  #controller: WritableStreamDefaultController | undefined;
  /** Of the first delivery that was not acknowledged: what the stream fails with. */
  #failure: IngestError | null = null;
  /** It failed with something else, or was aborted. */
  #isOver = false;
  /** What keeps rows from being let in. */
  #refusal: { readonly reason: unknown } | undefined;
  readonly #waiting = new Set<readonly UnsettledDelivery[]>();
  #rowCount = 0;

  constructor(core: Sender, options: WritableOptions) {
    this.#core = core;
    this.#options = options;
    this.#wanted = core.wanted(options, "writable");
    this.#gatherer = new Gatherer(
      core,
      (row) => core.schemaOfRow(options.schema, row, "writable"),
      core.encoding(options),
      (rows) => this.#hand(rows),
    );
  }

  start(controller: WritableStreamDefaultController): void {
    this.#controller = controller;
    // The types of Node do not know it.
    const { signal } = controller as unknown as { readonly signal: AbortSignal };
    // The sink's own `abort` is called only when the write under way has ended.
    const onAbort = (): void => {
      this.#isOver = true;
      this.#gatherer.discard();
      for (const group of this.#waiting) this.#core.withdraw(group, signal.reason);
    };
    signal.addEventListener("abort", onAbort, { once: true });
  }

  async write(chunk: unknown): Promise<void> {
    try {
      if (isRow(chunk, this.#wanted)) {
        this.#core.refuseIfClosed("writable");
        const asked = this.#gatherer.ask(chunk);
        if (asked !== undefined) await asked;
        this.#gatherer.add(chunk);
        await this.#gatherer.waiting;
      } else {
        void this.#gatherer.handOver();
        await this.#deliver(await this.#delivery(chunk));
      }
      if (this.#refusal !== undefined) throw this.#refusal.reason;
    } catch (error) {
      this.#isOver = true;
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#gatherer.handOver();
    if (this.#refusal !== undefined) throw this.#refusal.reason;
    // What is in the spool is safe: a destination that is away must not keep the stream open.
    if (!this.#core.isSpooled) await this.#core.flush();
    // The outcomes came before the answer.
    if (this.#failure !== null) throw this.#failure;
  }

  #delivery(chunk: unknown): UnsettledDelivery | Promise<UnsettledDelivery> {
    const rows = rowsIn(chunk);
    if (rows === undefined) return this.#core.prepare(chunk, this.#options, "enqueue");
    this.#core.refuseIfClosed("writable");
    const encoded = this.#core.reader(rows, this.#options, "writable")();
    return encoded instanceof Promise
      ? encoded.then((encoded) => this.#ofRows(encoded))
      : this.#ofRows(encoded);
  }

  #ofRows(rows: EncodedRows): UnsettledDelivery {
    const firstRow = this.#rowCount;
    this.#rowCount += rows.given;
    return this.#core.deliveryOfRows(rows, this.#options, firstRow);
  }

  /** What was gathered. Neither throws nor rejects: the next write does. */
  #hand(rows: EncodedRows | undefined): Promise<void> | undefined {
    if (rows === undefined) return undefined;
    try {
      return this.#deliver(this.#ofRows(rows), true)?.catch((reason: unknown) => this.#refused(reason));
    } catch (reason) {
      this.#refused(reason);
      return undefined;
    }
  }

  #refused(reason: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#refusal = { reason };
    this.#controller?.error(reason);
  }

  #deliver(delivery: UnsettledDelivery, isGathered = false): Promise<void> | undefined {
    delivery.mayLeave = true;
    delivery.onSettled = ({ result }) => {
      if (this.#isOver) return;
      delivery.look();
      if (result === null || result.success || result.status === "spooled" || this.#failure !== null) return;
      this.#failure = result.error;
      this.#controller?.error(this.#failure);
    };
    const group = [delivery];
    this.#waiting.add(group);
    let admitted: Promise<void> | undefined;
    try {
      admitted = isGathered ? this.#core.inLine(group) : this.#core.hand(group);
    } finally {
      if (admitted === undefined) this.#waiting.delete(group);
    }
    if (!this.#core.isSpooled) return admitted?.finally(() => this.#waiting.delete(group));
    const durable = this.#core.durable(delivery);
    ignoreRejection(durable);
    return Promise.resolve(admitted)
      .finally(() => this.#waiting.delete(group))
      .then(() => durable);
  }
}
