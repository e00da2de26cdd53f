// What the parts of a client share: admission, outcomes, and the end.
//
// Invariants:
// - On this side, unsettled deliveries are in `#ledger` alone, from admission to the outcome.
// - Sequence numbers are given at admission, in its order.
// - A call that waits holds no memory which the budget does not count: it is packed when it is admitted.
// - Each outcome that is not `acknowledged` reaches the reader of the result, a listener, or the caller of `close`.
// - Outcomes come in a turn of the event loop. A caller that hands over more than a budget without such a turn, or
//   for longer than a slice of turn.ts, waits for one: otherwise the batches of settled deliveries would pile up
//   here, where no budget counts them, and timers and signals would get no turn.
// - While a client waits for an event of Rust, it is in `BUSY`; otherwise only the user's program keeps it in memory
//   (client/remains.ts).
//
// It counts no bytes and retries nothing: the transmitter does.

import type { Schema } from "apache-arrow";
import { Binding, type Fact, type GatheringLimits, type Listener, type Outcome } from "../binding.js";
import { ignoreRejection, log, messages } from "../callbacks.js";
import type { ClientStats } from "../client.js";
import { recoveredResult, toResult, UnsettledDelivery, unknownResult } from "../delivery.js";
import { LONGEST_TIMER_MS, milliseconds } from "../duration.js";
import { type IngestError, ingestError, isError } from "../errors.js";
import type { ArrowBatch } from "../handoff/arrow.js";
import { type DeliveryContent, measure, Packer } from "../handoff.js";
import type { Wanted } from "../inputs.js";
import {
  checkNames,
  checkSendOptions,
  configInvalid,
  describe,
  type SplitOptions,
} from "../options/checks.js";
import type {
  CloseOptions,
  HandoffMode,
  HeadersProvider,
  HeadersRequest,
  Logger,
  RetryPredicate,
  RowReadingOptions,
  SendOptions,
} from "../options.js";
import type { TransmissionResult } from "../result.js";
import { type EncodedRows, encodeRows } from "../rows/encoded.js";
import type { EncoderOptions } from "../rows/encoder.js";
import { lengthOf } from "../rows.js";
import { emptyBatch, rowsIn, toContent } from "../source.js";
import type { Telemetry } from "../telemetry.js";
import { isDue, SLICE_MS, turn } from "../turn.js";
import { keepRows } from "./dead-rows.js";
import type { EventHub, NewEvent } from "./events.js";
import type { Gatherer, Gatherers } from "./gatherer.js";
import { askForHeaders } from "./headers.js";
import { Ledger } from "./ledger.js";
import { Line } from "./line.js";
import { ListenerDispatcher } from "./listeners.js";
import { Profiler } from "./profile.js";
import { BUSY, Remains, retire, unwatch, watch } from "./remains.js";
import { askToRetry } from "./retry.js";
import { type Schemas, schemaForRows } from "./schemas.js";
import { listen, listenNoMore } from "./signals.js";
import { TableSchema } from "./table-schema.js";
import { Unasked } from "./unasked.js";
import type { Unread } from "./unread.js";

/** The default of `close` (specs/design.md). Rust takes the deadline as an argument, so it cannot own this one. */
const CLOSE_DEADLINE_MS = 30_000;

interface Waiter {
  readonly group: readonly UnsettledDelivery[];
  readonly admitted: () => void;
  readonly refused: (reason: unknown) => void;
  readonly onAbort: (() => void) | undefined;
}

/** What the client's parts share. */
export class Core implements Listener, Gatherers {
  readonly binding: Binding;
  /** Deliveries go to a spool on the disk first. */
  readonly isSpooled: boolean;
  readonly mode: HandoffMode;
  readonly schemas: Schemas;
  readonly gathering: GatheringLimits;
  readonly gatherers = new Set<Gatherer>();
  telemetry: Telemetry | undefined;
  readonly profiler = new Profiler();
  /** `inflight.maxBytes`. */
  readonly budgetBytes: number;
  closing: Promise<void> | undefined;
  readonly #remains: Remains;
  readonly #logger: Logger | undefined;
  readonly #headers: HeadersProvider | undefined;
  readonly #retryWhen: RetryPredicate | undefined;
  readonly #listeners: ListenerDispatcher | undefined;
  readonly #packer: Packer;
  readonly #ledger = new Ledger();
  readonly #unasked: Unasked;
  /** Empty unless a call takes turns to read its rows: then those behind it wait here. */
  readonly #line = new Line();
  #gatheredBytes = 0;
  /** Deliveries whose refused rows are on their way to the disk, settled or not. */
  readonly #keepings = new Set<Promise<void>>();
  /** What Rust's counters do not know of: rows that were refused before they crossed. */
  readonly #refusedHere = { rows: 0, partial: 0, failed: 0 };
  /** Budget of all deliveries in `#ledger`. Rust's count is lower by those that are settled and not told here yet. */
  #heldBytes = 0;
  readonly #waiting = new Map<number, Waiter>();
  readonly #operations = new Map<number, (error: IngestError | null, value: unknown) => void>();
  #isBusy = false;
  /** A call of `hurry` is scheduled. */
  #hurrying = false;
  #lastSequence = 0;
  #connecting: object | null = null;
  #lastOperation = 0;
  #lastStats: ClientStats | undefined;

  static async create(url: string, split: SplitOptions): Promise<Core> {
    const remains = new Remains(split.logger);
    // Rust holds the listener for good, so it must not hold the client.
    let weak: WeakRef<Core> | undefined;
    const listener: Listener = {
      settled: (outcome) => weak?.deref()?.settled(outcome),
      spooled: (sequence) => weak?.deref()?.spooled(sequence),
      recovered: (outcome) => weak?.deref()?.recovered(outcome),
      granted: (ticket) => weak?.deref()?.granted(ticket),
      answered: (operation, error) => {
        const core = weak?.deref();
        if (core === undefined) remains.answered(operation);
        else core.answered(operation, error);
      },
      described: (operation, schema) => {
        const core = weak?.deref();
        if (core === undefined) remains.answered(operation);
        else core.described(operation, schema);
      },
      log: (level, message, fields) => log(remains.logger, level, message, fields),
      told: (fact) => weak?.deref()?.told(fact),
      headersWanted: (request, reason) => weak?.deref()?.headersWanted(request, reason),
      retryAsked: (request, error) => weak?.deref()?.retryAsked(request, error),
      broken: (error) => weak?.deref()?.broken(error),
    };
    const binding = await Binding.create(url, split.json, listener);
    const made = new Core(binding, split, remains);
    weak = new WeakRef(made);
    return made;
  }

  private constructor(binding: Binding, split: SplitOptions, remains: Remains) {
    this.binding = binding;
    this.#remains = remains;
    remains.binding = binding;
    this.isSpooled = split.spooled;
    this.mode = split.mode;
    const ask = (): Promise<Uint8Array | null> =>
      this.operation<Uint8Array | null>((operation) => binding.schema(operation));
    const kept = (): Promise<Uint8Array | null> =>
      this.operation<Uint8Array | null>((operation) => binding.keptSchema(operation));
    this.schemas = { given: split.schema, table: new TableSchema(ask, kept) };
    this.gathering = binding.gathering();
    this.#logger = split.logger;
    this.#headers = split.headers;
    this.#retryWhen = split.retry.when;
    this.#listeners = split.listeners && new ListenerDispatcher(split.listeners);
    this.#packer = new Packer(
      (message) => binding.registerSchema(message),
      (id) => binding.forgetSchema(id),
    );
    this.budgetBytes = this.stats().bytes.budget;
    this.#unasked = new Unasked(this.budgetBytes, (sequence) => {
      const delivery = this.#ledger.get(sequence);
      return delivery !== undefined && !delivery.isAwaited;
    });
    watch(this, remains);
  }

  /** Tells Rust the schema to come, before it opens. */
  expect(schema: unknown): void {
    this.binding.expectSchema(this.#packer.schemaId(schema as object));
  }

  prepare(
    batch: unknown,
    options: SendOptions | undefined,
    operation: "send" | "enqueue",
  ): UnsettledDelivery | Promise<UnsettledDelivery> {
    this.refuseIfClosed(operation);
    checkSendOptions(options, operation);
    const signal = options?.signal;
    signal?.throwIfAborted();
    const content = toContent(batch, this.wanted(options, operation));
    if (!("then" in content)) return this.#prepared(content, options, operation);
    const measurement = this.profiler.current();
    measurement?.prepared();
    return content
      .then((made) => {
        // It may have taken a while.
        this.refuseIfClosed(operation);
        signal?.throwIfAborted();
        return this.#prepared(made, options, operation);
      })
      .finally(() => measurement?.dropped());
  }

  /** What the call and the client say about columns. */
  wanted(options: SendOptions | undefined, operation: string): Wanted {
    const { given, table } = this.schemas;
    return { operation, schema: options?.schema ?? given, table, signal: options?.signal };
  }

  #prepared(
    content: DeliveryContent,
    options: SendOptions | undefined,
    operation: "send" | "enqueue",
  ): UnsettledDelivery {
    const signal = options?.signal;
    const span = this.telemetry?.start(operation, options?.context) ?? null;
    const measurement = this.profiler.current();
    measurement?.prepared();
    const mode = options?.handoff ?? this.mode;
    return new UnsettledDelivery(content, mode, signal, span, operation === "send", measurement);
  }

  /** Prepares and admits what `send` and `enqueue` are given, in the order of the calls. */
  take(
    input: unknown,
    options: SendOptions | undefined,
    operation: "send" | "enqueue",
  ): UnsettledDelivery | Promise<UnsettledDelivery> {
    const rows = rowsIn(input);
    if (rows !== undefined) return this.#takeRows(rows, options, operation);
    const prepared = this.prepare(input, options, operation);
    if (prepared instanceof Promise) {
      // It may wait in the line while nobody looks.
      ignoreRejection(prepared);
      this.handOverGathered();
      return this.#line.enter(async () => {
        const delivery = await prepared;
        await this.admit([delivery]);
        return delivery;
      }, options?.signal);
    }
    const waiting = this.hand([prepared]);
    return waiting === undefined ? prepared : waiting.then(() => prepared);
  }

  #takeRows(
    rows: readonly unknown[],
    options: SendOptions | undefined,
    operation: "send" | "enqueue",
  ): UnsettledDelivery | Promise<UnsettledDelivery> {
    this.refuseIfClosed(operation);
    checkSendOptions(options, operation);
    const signal = options?.signal;
    signal?.throwIfAborted();
    const read = this.reader(rows, options, operation);
    const span = this.telemetry?.start(operation, options?.context) ?? null;
    // From its admission on, the delivery's own span is told.
    let isReading = true;
    const refused = (error: unknown): never => {
      if (isReading) this.telemetry?.refused(span, error);
      throw error;
    };
    const admit = async (encoded: EncodedRows | Promise<EncodedRows>): Promise<UnsettledDelivery> => {
      const rows = await encoded;
      // It may have been aborted while the last rows were read.
      signal?.throwIfAborted();
      const delivery = this.deliveryOf(rows, options, null, span, operation === "send");
      isReading = false;
      await this.admit([delivery]);
      return delivery;
    };
    this.handOverGathered();
    if (!this.#line.isEmpty) return this.#line.enter(() => admit(read()), signal).catch(refused);
    let encoded: EncodedRows | Promise<EncodedRows>;
    try {
      encoded = read();
      if (!(encoded instanceof Promise)) signal?.throwIfAborted();
    } catch (error) {
      return refused(error);
    }
    if (encoded instanceof Promise) {
      const reading = encoded;
      return this.#line.enter(() => admit(reading), signal).catch(refused);
    }
    const delivery = this.deliveryOf(encoded, options, null, span, operation === "send");
    const waiting = this.admit([delivery]);
    return waiting === undefined ? delivery : waiting.then(() => delivery);
  }

  /** What reads an array of rows. @throws {IngestError} `SCHEMA_REQUIRED`, `CONFIG_INVALID`, `BATCH_INVALID`. */
  reader(
    rows: readonly unknown[],
    options: RowReadingOptions & { readonly signal?: AbortSignal } = {},
    operation: string,
  ): () => EncodedRows | Promise<EncodedRows> {
    const { schema, signal } = options;
    const known = schemaForRows(schema, this.schemas, rows, operation);
    const length = lengthOf(rows, operation);
    const check = (): void => signal?.throwIfAborted();
    const encode = (arrow: Schema): EncodedRows | Promise<EncodedRows> =>
      encodeRows(rows, length, arrow, this.encoding(options), check);
    if (!(known instanceof Promise)) return () => encode(known);
    // It may wait in the line while nobody looks.
    ignoreRejection(known);
    return () => known.then(encode);
  }

  /** How rows are read for a call with these options. */
  encoding({ unknownKeys, onInvalid }: RowReadingOptions = {}): EncoderOptions {
    return { unknownKeys, keepsJson: this.gathering.deadLetters && onInvalid !== "reject-delivery" };
  }

  schemaOfRow(schema: unknown, row: unknown, operation: string): Schema | Promise<Schema> {
    return schemaForRows(schema, this.schemas, [row], operation);
  }

  /** A delivery of rows that were gathered. */
  deliveryOfRows(
    rows: EncodedRows,
    options: RowReadingOptions & { readonly handoff?: HandoffMode },
    firstRow: number,
    isUrgent = false,
  ): UnsettledDelivery {
    const span = this.telemetry?.start(isUrgent ? "send" : "enqueue") ?? null;
    return this.deliveryOf(rows, options, firstRow, span, isUrgent);
  }

  deliveryOf(
    rows: EncodedRows,
    options:
      | (RowReadingOptions & { readonly handoff?: HandoffMode; readonly signal?: AbortSignal })
      | undefined,
    firstRow: number | null,
    span: object | null,
    isUrgent: boolean,
  ): UnsettledDelivery {
    const refusesAlone = options?.onInvalid !== "reject-delivery";
    const isEmpty = rows.batches.length === 0 || (!refusesAlone && rows.rejections.length > 0);
    const batches = isEmpty ? [emptyBatch(rows.schema)] : rows.batches;
    const measurement = this.profiler.current();
    measurement?.prepared();
    const delivery = new UnsettledDelivery(
      { batches: batches as readonly ArrowBatch[] },
      options?.handoff ?? this.mode,
      options?.signal,
      span,
      isUrgent,
      measurement,
    );
    const { given, rejections, missing, json } = rows;
    delivery.rows = { given, rejections, missing, firstRow, refusesAlone };
    // Another writer may have widened the table since it was asked.
    if (rejections.some(({ code }) => code === "KEY_UNKNOWN")) this.schemas.table.doubt();
    if (json.length > 0) delivery.dead = rows;
    return delivery;
  }

  /** Admits a group behind all that was given before. As `admit`. */
  hand(group: readonly UnsettledDelivery[]): Promise<void> | undefined {
    this.handOverGathered();
    return this.inLine(group);
  }

  /** As `hand`, without a look at what was gathered. */
  inLine(group: readonly UnsettledDelivery[]): Promise<void> | undefined {
    if (this.#line.isEmpty) return this.admit(group);
    return this.#line.enter(() => {
      const first = group[0];
      if (first?.withdrawn !== undefined) {
        this.#refused(group, first.withdrawn.reason);
        throw first.withdrawn.reason;
      }
      return this.admit(group);
    }, group[0]?.signal);
  }

  /** Hands over what writers have gathered. The promise of what does not find room at once. */
  handOverGathered(): Promise<unknown> | undefined {
    if (this.gatherers.size === 0) return undefined;
    return Promise.all([...this.gatherers].map((gatherer) => gatherer.handOver()));
  }

  get isTight(): boolean {
    return this.#heldBytes + this.#gatheredBytes > this.budgetBytes;
  }

  gathered(bytes: number): void {
    this.#gatheredBytes += bytes;
  }

  /** Rows of a writer that nobody waits for were not let in. */
  lost(rows: number, reason: unknown): void {
    const error = isError(reason) ? reason : ingestError({ code: "ABORTED", message: describe(reason) });
    this.log("error", "rows that were written are lost", { rows, causes: messages(reason) });
    const told = "code" in error ? (error as IngestError) : null;
    this.#remains.unread.add({ sequence: 0n, status: "failed", error: told });
  }

  refuseIfClosed(operation: string): void {
    if (this.closing !== undefined) throw closed(operation);
  }

  /**
   * Hands a group over in one call. Undefined: admitted at once; else the promise that it will be.
   *
   * @throws {IngestError} The group cannot be handed over; none of it was.
   */
  admit(group: readonly UnsettledDelivery[]): Promise<void> | undefined {
    try {
      const ticket = this.#submit(0, group);
      if (ticket !== 0) return this.#wait(ticket, group);
      return isDue() || this.#heldBytes > this.budgetBytes ? turn() : undefined;
    } catch (error) {
      this.#refused(group, error);
      throw error;
    }
  }

  /** Takes back a group that waits. */
  withdraw(group: readonly UnsettledDelivery[], reason: unknown): void {
    const ticket = group[0]?.ticket ?? 0;
    // It may still stand in the line.
    if (ticket === 0 && group[0] !== undefined) group[0].withdrawn = { reason };
    if (this.#waiting.get(ticket)?.group === group) this.#cancel(ticket, reason);
  }

  /** Gives up a group that was prepared and is not to be handed over. */
  drop(group: readonly UnsettledDelivery[], reason: unknown): void {
    this.#refused(group, reason);
  }

  /** What the answer holds, if it holds anything. */
  async operation<T = void>(start: (operation: number) => void): Promise<T> {
    // Nobody is left who could answer.
    if (this.#lastStats !== undefined) throw closed("flush");
    const operation = ++this.#lastOperation;
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#operations.set(operation, (error, value) => (error === null ? resolve(value as T) : reject(error)));
    this.#hold();
    try {
      start(operation);
    } catch (error) {
      this.#operations.delete(operation);
      this.#release();
      throw error;
    }
    return promise;
  }

  stats(): ClientStats {
    if (this.#lastStats !== undefined) return this.#lastStats;
    const stats = this.binding.stats() as ClientStats;
    const { rows, partial, failed } = this.#refusedHere;
    if (rows === 0) return stats;
    const { deliveries } = stats;
    return {
      ...stats,
      rows: { ...stats.rows, rejected: stats.rows.rejected + rows },
      deliveries: {
        ...deliveries,
        acknowledged: deliveries.acknowledged - partial - failed,
        partial: deliveries.partial + partial,
        failed: deliveries.failed + failed,
      },
    };
  }

  /** Waits until everything that was given before is settled. */
  async flush(): Promise<void> {
    await this.handOverGathered();
    const flushed = (): Promise<void> => this.operation((operation) => this.binding.flush(operation));
    await (this.#line.isEmpty ? flushed() : this.#line.enter(flushed));
    // Their outcomes are told when the disk has their refused rows.
    await Promise.all(this.#keepings);
  }

  close(options: CloseOptions | undefined): Promise<void> {
    if (this.closing !== undefined) {
      this.#listeners?.closing();
      // Whoever closed first has been told; saying it again would hide the error of an `await using` block.
      return this.closing.catch(() => {});
    }
    try {
      checkNames(options, ["deadline"], "close");
    } catch (error) {
      return Promise.reject(error);
    }
    const deadline = options?.deadline === undefined ? CLOSE_DEADLINE_MS : milliseconds(options.deadline);
    if (deadline === undefined) {
      const message = `must be a number of milliseconds or a duration such as "30s", not ${describe(options?.deadline)}`;
      return Promise.reject(configInvalid([{ path: "deadline", message }], "close"));
    }
    this.#listeners?.closing();
    this.closing = this.#close(deadline);
    return this.closing;
  }

  /** Connects by `open`, within a span. */
  async connecting(open: () => Promise<void>): Promise<void> {
    const began = performance.now();
    const span = this.telemetry?.startConnecting() ?? null;
    this.#connecting = span;
    try {
      if (span !== null) this.telemetry?.carry(span);
      await open();
      this.telemetry?.connected(span, performance.now() - began);
    } catch (error) {
      this.telemetry?.notConnected(span, error, performance.now() - began);
      throw error;
    }
  }

  /** A try at connecting failed, and another follows. */
  connectingAgain(error: IngestError, delayMs: number): void {
    this.telemetry?.connectingAgain(this.#connecting, error.code, delayMs);
    const type = error.retry === "throttled" ? "paused" : "retry";
    this.events.emit({ type, atMs: Date.now(), operation: "connect", error, delayMs, writes: 0 });
  }

  /** Gives up a client that never opened, or whose options were wrong. */
  abandon(): void {
    unwatch(this);
    const end = (): void => {
      // The attempt that was given up is never answered, and would keep all of this in `BUSY`.
      this.#answerAll(closed("connect"));
      this.binding.dispose();
    };
    this.closing ??= this.operation((operation) => this.binding.close(operation, 0)).then(end, end);
  }

  settled(outcome: Outcome): void {
    const delivery = this.#ledger.take(outcome.sequence);
    if (delivery === undefined) return;
    this.#heldBytes -= delivery.packing?.charge ?? 0;
    if (delivery.keeping === undefined) {
      this.#settle(delivery, outcome);
      return;
    }
    const kept = delivery.keeping.then(() => {
      this.#keepings.delete(kept);
      this.#settle(delivery, outcome);
    });
    this.#keepings.add(kept);
  }

  #settle(delivery: UnsettledDelivery, outcome: Outcome): void {
    const result = toResult(delivery, outcome);
    this.#countRefused(delivery, outcome, result);
    this.#conclude(delivery, result, outcome);
    if (outcome.error?.code === "SCHEMA_MISMATCH") this.schemas.table.forget();
    if (outcome.payloadChanged)
      this.log("warn", "the bytes of a batch changed in flight", { sequence: outcome.sequence });
    this.#release();
  }

  /** With a spool: what was enqueued is on the disk, with what was refused of it. */
  async durable(delivery: UnsettledDelivery): Promise<void> {
    // Asked for before it can settle: nobody tells who comes later.
    await delivery.durable;
    await delivery.keeping;
  }

  spooled(sequence: number): void {
    const delivery = this.#ledger.get(sequence);
    if (delivery === undefined) return;
    const { packing } = delivery;
    if (packing !== null) {
      this.#heldBytes -= packing.charge;
      delivery.packing = { ...packing, charge: 0 };
    }
    delivery.spooled();
    this.telemetry?.spooled(delivery.span);
    this.events.emit({ type: "spooled", atMs: Date.now(), sequence: BigInt(sequence) });
    const left = this.#unasked.add(sequence);
    if (left !== undefined) this.binding.leave(left);
  }

  recovered(outcome: Outcome): void {
    const result = recoveredResult(outcome);
    this.telemetry?.recovered(result);
    this.#listeners?.tell(result, (thrown) => {
      const fields = { sequence: result.sequence, status: result.status, causes: messages(thrown) };
      this.log("error", "a listener failed", fields);
    });
    if (result.success) return;
    const { sequence, status, error } = result;
    this.log("warn", "a delivery of the spool was not taken: its rows were put aside", {
      sequence,
      status,
      error: error?.toJSON() ?? null,
    });
  }

  #countRefused({ rows }: UnsettledDelivery, { status }: Outcome, result: TransmissionResult): void {
    if (rows === null || rows.rejections.length === 0) return;
    const counts = this.#refusedHere;
    counts.rows += rows.rejections.length;
    if (status !== "acknowledged") return;
    if (result.status === "partial") counts.partial++;
    else counts.failed++;
  }

  /** Keeps the rows of a delivery that are no Arrow values among the dead letters. Never rejects. */
  #keep(delivery: UnsettledDelivery, rows: EncodedRows): Promise<void> {
    const { sequence } = delivery;
    const keeping = keepRows(rows, (piece) =>
      this.operation((operation) => this.binding.keepRefused(operation, sequence, piece)),
    ).catch((error: unknown) => {
      const fields = { sequence, rows: rows.json.length, causes: messages(error) };
      this.log("warn", "refused rows could not be kept", fields);
    });
    // Until then a close must not end the client.
    this.#keepings.add(keeping);
    void keeping.then(() => {
      this.#keepings.delete(keeping);
      this.#release();
    });
    return keeping;
  }

  granted(ticket: number): void {
    const waiter = this.#waiting.get(ticket);
    if (waiter === undefined) return;
    this.#forget(ticket, waiter);
    let packed = false;
    try {
      this.#carry(waiter.group);
      this.#pack(ticket, waiter.group);
      packed = true;
      this.#admitted(waiter.group, this.binding.submit(this.#packer.finish(), this.#packer.buffers));
      waiter.admitted();
    } catch (error) {
      // A ticket that nobody redeems would hold up all behind it.
      if (!packed) this.binding.cancel(ticket);
      this.#refused(waiter.group, error);
      waiter.refused(error);
    } finally {
      this.#packer.end();
      this.#release();
    }
  }

  answered(operation: number, error: IngestError | null, value?: unknown): void {
    const answer = this.#operations.get(operation);
    this.#operations.delete(operation);
    answer?.(error, value);
    this.#release();
  }

  /** Operations that nobody else answers any more. */
  #answerAll(error: IngestError): void {
    for (const operation of [...this.#operations.keys()]) this.answered(operation, error);
  }

  described(operation: number, schema: Uint8Array | null): void {
    this.answered(operation, null, schema);
  }

  log(level: string, message: string, fields: Record<string, unknown>): void {
    log(this.#logger, level, message, fields);
  }

  get events(): EventHub {
    return this.#remains.events;
  }

  told(fact: Fact): void {
    this.telemetry?.told(fact, (sequence) => this.#ledger.get(sequence)?.span ?? null);
    const event = eventOf(fact);
    if (event !== undefined) this.events.emit(event);
    if (DEBUGGING) this.log("debug", `native: ${fact.fact}`, fieldsOf(fact));
  }

  headersWanted(request: number, reason: HeadersRequest["reason"]): void {
    // Without a function nobody asks.
    askForHeaders(this.#headers!, reason)
      .then((answer) => this.binding.answerHeaders(request, answer))
      .catch((error: unknown) => this.broken(error));
  }

  retryAsked(request: number, error: IngestError): void {
    // Without a function nobody asks.
    askToRetry(this.#retryWhen!, error)
      .then((answer) => this.binding.answerRetry(request, answer))
      .catch((problem: unknown) => this.broken(problem));
  }

  broken(error: unknown): void {
    const message = isError(error) ? error.message : describe(error);
    this.log("error", "an event could not be handled; please report this", { cause: message });
  }

  #submit(ticket: number, group: readonly UnsettledDelivery[]): number {
    // Others wait, so this call will: packing it now would be for nothing, and would hold memory that the
    // budget does not know of.
    if (ticket === 0 && this.#waiting.size > 0) {
      let bytes = 0;
      for (const { content } of group) if (content !== null) bytes += measure(content);
      return this.binding.submit(Float64Array.of(0, bytes, 0), []);
    }
    try {
      this.#carry(group);
      this.#pack(ticket, group);
      const queued = this.binding.submit(this.#packer.finish(), this.#packer.buffers);
      if (queued === 0) this.#admitted(group, 0);
      return queued;
    } finally {
      this.#packer.end();
    }
  }

  /** Before they cross: a stream may begin with them. */
  #carry(group: readonly UnsettledDelivery[]): void {
    const span = group[0]?.span ?? null;
    if (span !== null) this.telemetry?.carry(span);
  }

  #pack(ticket: number, group: readonly UnsettledDelivery[]): void {
    const packer = this.#packer;
    const start = performance.now();
    packer.begin(ticket);
    for (let i = 0; i < group.length; i++) {
      const delivery = group[i]!;
      // Only what is in the spool has none.
      delivery.packing = packer.add(this.#lastSequence + 1 + i, delivery.content!, delivery.mode);
    }
    const share = (performance.now() - start) / group.length;
    for (let i = 0; i < group.length; i++) group[i]!.packMs = share;
  }

  #admitted(group: readonly UnsettledDelivery[], queued: number): void {
    if (queued !== 0)
      throw ingestError({
        code: "INTERNAL",
        message: "a granted ticket was queued again",
        operation: "submit",
      });
    for (let i = 0; i < group.length; i++) {
      const delivery = group[i]!;
      delivery.sequence = ++this.#lastSequence;
      this.#ledger.add(delivery);
      this.#heldBytes += delivery.packing?.charge ?? 0;
      if (delivery.urgent) this.#hurry();
    }
    this.#hold();
    for (let i = 0; i < group.length; i++) {
      const delivery = group[i]!;
      if (delivery.dead === undefined) continue;
      delivery.keeping = this.#keep(delivery, delivery.dead);
      delivery.dead = undefined;
    }
    // A listener of the user's signal may send; by now the ledger has all of the group.
    for (let i = 0; i < group.length; i++) {
      const delivery = group[i]!;
      const { signal, sequence } = delivery;
      if (signal === undefined) continue;
      delivery.onAbort = () => {
        if (!this.#ledger.has(sequence)) return;
        // Who waits for an outcome ends the wait. Who has enqueued it takes it back.
        if (this.isSpooled && delivery.urgent) this.binding.leave(sequence);
        else this.binding.abort(sequence);
      };
      listen(signal, delivery.onAbort);
    }
  }

  /** Once for all who send in this turn of the event loop: told one by one, they would have a commit each. */
  #hurry(): void {
    if (this.#hurrying) return;
    this.#hurrying = true;
    setImmediate(() => {
      this.#hurrying = false;
      this.binding.hurry();
    });
  }

  #wait(ticket: number, group: readonly UnsettledDelivery[]): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const signal = group[0]?.signal;
    const onAbort = signal === undefined ? undefined : () => this.#cancel(ticket, signal.reason);
    group[0]!.ticket = ticket;
    this.#hold();
    this.#waiting.set(ticket, { group, admitted: resolve, refused: reject, onAbort });
    if (onAbort !== undefined) listen(signal, onAbort);
    return promise;
  }

  #cancel(ticket: number, reason: unknown): void {
    const waiter = this.#waiting.get(ticket);
    if (waiter === undefined) return;
    this.#forget(ticket, waiter);
    this.binding.cancel(ticket);
    this.#refused(waiter.group, reason);
    waiter.refused(reason);
    this.#release();
  }

  #forget(ticket: number, waiter: Waiter): void {
    this.#waiting.delete(ticket);
    listenNoMore(waiter.group[0]?.signal, waiter.onAbort);
  }

  #refused(group: readonly UnsettledDelivery[], reason: unknown): void {
    for (const delivery of group) {
      this.telemetry?.refused(delivery.span, reason);
      delivery.measurement?.dropped();
    }
  }

  #conclude(
    delivery: UnsettledDelivery,
    result: TransmissionResult,
    { retries, writes }: { readonly retries: number; readonly writes: number },
  ): void {
    delivery.fulfil(result);
    this.telemetry?.settled(delivery.span, result, retries, writes);
    delivery.measurement?.settled(result);
    this.events.settled(result);
    const { rejectedRows: rows, rejections } = result;
    if (rows > 0) {
      const { sequence } = result;
      this.events.emit({
        type: "refused",
        atMs: Date.now(),
        sequence,
        rows,
        code: rejections[0]?.code ?? "",
      });
    }
    listenNoMore(delivery.signal, delivery.onAbort);
    const { sequence } = delivery;
    // It is no failure, and who listens hears of its end as of a recovered one.
    if (result.status === "spooled") return;
    const heard = this.#listeners?.tell(result, (thrown) => {
      const fields = { sequence, status: result.status, causes: messages(thrown) };
      this.log("error", "a listener failed", fields);
    });
    if (heard !== true) this.#mindUnread(delivery, result, heard || undefined);
  }

  /** Keeps a failure as unread, unless its result was read. A listener that takes it later ends that. */
  #mindUnread(
    delivery: UnsettledDelivery,
    result: TransmissionResult,
    heard: Promise<boolean> | undefined,
  ): void {
    if (result.success || delivery.observed) return;
    // Not the result itself, which would keep the batch in memory for as long as nobody looks.
    const unread: Unread = { sequence: result.sequence, status: result.status, error: result.error };
    const { unread: all } = this.#remains;
    all.add(unread, heard);
    delivery.onObserved = () => all.delete(unread);
  }

  /** The client waits for an event of Rust: it must not be collected before. */
  #hold(): void {
    if (this.#isBusy) return;
    this.#isBusy = true;
    BUSY.add(this);
  }

  #release(): void {
    if (!this.#isBusy || !this.#ledger.isEmpty || this.#waiting.size > 0 || this.#operations.size > 0) return;
    if (this.#keepings.size > 0) return;
    this.#isBusy = false;
    BUSY.delete(this);
  }

  async #close(deadlineMs: number): Promise<void> {
    const began = performance.now();
    const left = (): number => Math.max(0, deadlineMs - (performance.now() - began));
    unwatch(this);
    const finishing = this.#finishRows(deadlineMs);
    if (finishing !== undefined) await finishing;
    const waiters = [...this.#waiting.values()];
    this.#waiting.clear();
    // It makes all tickets void.
    const answered = this.operation((operation) => this.binding.close(operation, left()));
    const turnedAway = this.#turnAway(waiters);
    try {
      await answered;
    } finally {
      await turnedAway;
      this.#end();
    }
    await Promise.all(this.#keepings);
    // A listener that rejected later would be the only one who knew of a failure.
    const { unread } = this.#remains;
    await unread.decided(left());
    const error = unread.toError();
    if (error !== null) throw error;
  }

  /** What writers have gathered is let in, and refused rows are on the disk; at the latest after `limitMs`. */
  #finishRows(limitMs: number): Promise<void> | undefined {
    const handing = this.handOverGathered();
    if (handing === undefined && this.#keepings.size === 0) return undefined;
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, Math.min(limitMs, LONGEST_TIMER_MS));
    const done = async (): Promise<void> => {
      await handing;
      await Promise.all(this.#keepings);
    };
    return Promise.race([done(), late]).finally(() => clearTimeout(timer));
  }

  /** Rejects the calls that wait for the budget, a slice in each turn of the event loop. Never rejects itself. */
  async #turnAway(waiters: readonly Waiter[]): Promise<void> {
    const reason = closed("send");
    let began = performance.now();
    for (const waiter of waiters) {
      listenNoMore(waiter.group[0]?.signal, waiter.onAbort);
      this.#refused(waiter.group, reason);
      waiter.refused(reason);
      if (performance.now() - began < SLICE_MS) continue;
      await turn();
      began = performance.now();
    }
  }

  #end(): void {
    for (const delivery of this.#ledger.takeAll()) {
      const message = `the client ended without a word about delivery ${delivery.sequence}`;
      const error = ingestError({ code: "INTERNAL", message, operation: "close" });
      this.#conclude(delivery, unknownResult(delivery, error), { retries: 0, writes: 0 });
    }
    // What the destination was asked and has not answered by now; its answer would find nobody.
    this.#answerAll(closed("close"));
    this.#lastStats = this.stats();
    this.telemetry?.close();
    this.events.end();
    retire(this.binding);
  }
}

/** Whether the native side's transitions go to the logger; read once, as the native side does. */
const DEBUGGING = /^(debug|trace)$/i.test(process.env.ARROW_INGEST_LOG?.trim() ?? "");

/** What users are told of a fact, if anything. */
function eventOf(fact: Fact): NewEvent | undefined {
  const { atMs } = fact;
  switch (fact.fact) {
    case "opened":
      return { type: fact.again ? "reconnect" : "connected", atMs, tookMs: fact.tookMs };
    case "broke": {
      const { error, delayMs, writes } = fact;
      return { type: fact.throttled ? "paused" : "retry", atMs, operation: "write", error, delayMs, writes };
    }
    case "rotated":
      return { type: "rotated", atMs, code: fact.error.code, writes: fact.writes };
    case "refused-for-good":
      return { type: "refused", atMs, sequence: null, rows: null, code: fact.error.code };
    case "closed":
      return { type: "closed", atMs };
    default:
      return undefined;
  }
}

/** A logger gets an error as the object of its facts, as in every other line. */
function fieldsOf({ fact: _, ...fields }: Fact): Record<string, unknown> {
  return "error" in fields ? { ...fields, error: fields.error.toJSON() } : fields;
}

function closed(operation: string): IngestError {
  return ingestError({ code: "CLOSED", message: "the client is closed", operation });
}
