// The client: admission, outcomes, and the end.
//
// Invariants:
// - What is unsettled is in one place here (`#inFlight`), from admission to the outcome; all else is Rust's.
// - Sequence numbers are given at admission, in its order.
// - Misuse rejects. What became of a delivery is a value.
// - Of an outcome that is not good, somebody is told: the reader of the result, or whoever closes.
//
// It does not retry deliveries and it counts no bytes: the transmitter does.

/// <reference lib="es2024.promise" />
/// <reference lib="es2024.arraybuffer" />

import { Binding, type Listener, type NativeVersion, nativeVersion, type Settled } from "./binding.js";
import { open } from "./client/open.js";
import { sendAll } from "./client/send-all.js";
import { type Unread, UnreadOutcomes } from "./client/unread.js";
import { writable } from "./client/writable.js";
import { Delivery, InFlight, toResult, unknownResult } from "./delivery.js";
import { ConfigError, type IngestError, ingestError } from "./errors.js";
import { measure, Packer } from "./handoff.js";
import { isSchema } from "./handoff/arrow.js";
import { PINNING_IS_SOUND } from "./handoff/memory.js";
import {
  type CloseOptions,
  type ConnectOptions,
  checkSendOptions,
  configInvalid,
  describe,
  type HandoffMode,
  LEVELS,
  type Logger,
  milliseconds,
  type SendAllOptions,
  type SendOptions,
  type SplitOptions,
  splitOptions,
  type WritableOptions,
  withOurNames,
} from "./options.js";
import type { TransmissionResult } from "./result.js";
import { type BatchInput, type BatchSource, toCargo } from "./source.js";
import { loadApi, Telemetry } from "./telemetry.js";

/** A snapshot of {@link IngestClient.stats}. Totals since `connect`, unless said otherwise. Bytes and counts. */
export interface ClientStats {
  readonly deliveries: {
    readonly admitted: number;
    /** Now. */
    readonly unsettled: number;
    /** Now: calls that wait for room in the budget. */
    readonly waiting: number;
    readonly acknowledged: number;
    readonly partial: number;
    readonly failed: number;
    readonly unknown: number;
  };
  readonly rows: { readonly admitted: number; readonly accepted: number; readonly rejected: number };
  readonly bytes: {
    readonly admitted: number;
    readonly accepted: number;
    /** Now: admitted and not settled. */
    readonly inFlight: number;
    /** `inflight.maxBytes`. */
    readonly budget: number;
  };
  readonly writes: {
    readonly sent: number;
    readonly acknowledged: number;
    /** Now: sent and not acknowledged. */
    readonly inWindow: number;
  };
  readonly sessions: { readonly opened: number; readonly broken: number };
  /** JavaScript memory held, by distinct ArrayBuffer. */
  readonly pinned: {
    readonly bytes: number;
    readonly peakBytes: number;
    readonly limitBytes: number;
    readonly pins: number;
  };
  /** Memory that copies are made into. */
  readonly pool: {
    readonly allocatedBytes: number;
    readonly inUseBytes: number;
    readonly peakBytes: number;
    readonly reused: number;
  };
  readonly handoff: { readonly buffersRealigned: number; readonly buffersCopiedForPinLimit: number };
  readonly retry: {
    /** Now: failures that still slow the pace down. */
    readonly strikes: number;
  };
}

/** What {@link IngestClient.version} says. */
export interface VersionInfo {
  /** Of this package. */
  readonly version: string;
  readonly native: NativeVersion;
  readonly runtime: {
    readonly node: string;
    /** Whether this runtime lets memory be lent to Rust safely; without, `auto` copies and `pin` is refused. */
    readonly pinning: boolean;
  };
}

/** DESIGN.md's default of `close`. Rust takes the deadline as an argument, so it cannot own this one. */
const CLOSE_DEADLINE_MS = 30_000;

/**
 * Connects to a destination.
 *
 * @param url `delta:./path`, `delta:s3://bucket/table`, `discard:`. Never a secret in it.
 * @param options All optional. Mistakes are reported all at once.
 * @returns A client, open. `await using` closes it at the end of the block; or call `close()`.
 * @throws {IngestError} `CONFIG_INVALID` with every mistake in `issues`; whatever kept the destination from
 * opening, after as many tries as `retry` allows, with `attempts` and `elapsedMs`; `NATIVE_UNAVAILABLE`.
 *
 * @example
 * ```ts
 * await using client = await connect("delta:./lake/flights");
 * const result = await client.send(batch);
 * console.log(result.status, result.rows);
 * ```
 */
export async function connect(url: string | URL, options?: ConnectOptions): Promise<IngestClient> {
  const split = splitOptions(options);
  const { signal } = split;
  if (split.issues.length === 0) signal?.throwIfAborted();
  const [core, version] = await prepare(url, split);
  try {
    if (split.schema !== undefined) core.expect(split.schema);
    await open((operation) => core.binding.open(operation), core, split.retry, signal);
    const telemetry = split.telemetry ? await loadApi() : undefined;
    if (telemetry !== undefined)
      core.telemetry = new Telemetry(telemetry, version.version, schemeOf(String(url)), () => core.stats());
    return new IngestClient(core, version);
  } catch (error) {
    core.abandon();
    throw error;
  }
}

async function prepare(url: unknown, split: SplitOptions): Promise<[Core, NativeVersion]> {
  const issues = [...split.issues];
  if (typeof url !== "string" && !(url instanceof URL))
    issues.push({ path: "url", message: `must be a string or a URL, not ${describe(url)}` });
  if (split.schema !== undefined && !isSchema(split.schema))
    issues.push({
      path: "schema",
      message: `must be a Schema of apache-arrow, not ${describe(split.schema)}`,
    });
  const version = await nativeVersion();
  try {
    // Rust looks at its part even when ours is wrong: all mistakes at once.
    const core = await Core.create(String(url), split);
    if (issues.length === 0) return [core, version];
    core.abandon();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    if (error.issues.length === 0 && issues.length === 0) throw error;
    // A mistake in the target has no path of its own.
    if (error.issues.length === 0) issues.push({ path: "url", message: error.message });
    issues.push(...withOurNames(error.issues));
  }
  throw configInvalid(issues, "connect");
}

const schemeOf = (url: string): string => /^[a-z][a-z0-9+]*/i.exec(url)?.[0].toLowerCase() ?? "unknown";

/** A connection to one destination. Made by {@link connect}; safe for any number of concurrent callers. */
export class IngestClient implements AsyncDisposable {
  readonly #core: Core;
  readonly #version: VersionInfo;

  /** @internal */
  constructor(core: Core, native: NativeVersion) {
    this.#core = core;
    this.#version = {
      version: native.version,
      native,
      runtime: { node: process.versions.node, pinning: PINNING_IS_SOUND },
    };
  }

  /**
   * Sends one batch or table and waits for its outcome.
   *
   * @returns What became of it. A failed delivery is a result, too, and rejects nothing.
   * @throws {IngestError} `BATCH_INVALID`, `HANDOFF_UNSAFE`, `CONFIG_INVALID`, `CLOSED`; or the reason of the
   * signal, if it was aborted before admission. Nothing was sent then.
   */
  async send(batch: BatchInput, options?: SendOptions): Promise<TransmissionResult> {
    const inFlight = this.#core.prepare(batch, options, "send");
    const waiting = this.#core.admit([inFlight]);
    if (waiting !== undefined) await waiting;
    return inFlight.promise;
  }

  /**
   * Sends one batch or table and waits until it is admitted: that wait is the back-pressure.
   *
   * @returns Its number, and the promise of its outcome. The failure of a delivery whose result nobody reads
   * makes {@link close} reject.
   * @throws {IngestError} As {@link send}.
   */
  async enqueue(batch: BatchInput, options?: SendOptions): Promise<Delivery> {
    const inFlight = this.#core.prepare(batch, options, "enqueue");
    const waiting = this.#core.admit([inFlight]);
    if (waiting !== undefined) await waiting;
    return new Delivery(inFlight);
  }

  /**
   * Sends all batches of a source, each a delivery, and yields their outcomes in order. It reads on while
   * there is room in the budget, whether or not the outcomes are asked for; several small batches that are
   * at hand cross in one native call. Leaving the loop early reads no further; what was admitted is delivered.
   *
   * @throws {IngestError} As {@link send}, after the outcomes of all that came before; and what the source
   * throws.
   */
  sendAll(
    source: BatchSource,
    options?: SendAllOptions,
  ): AsyncGenerator<TransmissionResult, void, undefined> {
    return sendAll(this.#core, source, options);
  }

  /**
   * A stream to pipe batches into, with back-pressure. It fails with the error of the first delivery that is
   * not acknowledged; closing it flushes.
   */
  writable(options?: WritableOptions): WritableStream<BatchInput> {
    return writable(this.#core, options);
  }

  /** Waits until everything admitted before is settled. Failed deliveries do not make it reject. */
  async flush(): Promise<void> {
    this.#core.refuseIfClosed("flush");
    await this.#core.operation((operation) => this.#core.binding.flush(operation));
  }

  /**
   * Tries connection, credentials and table without writing.
   *
   * @throws {IngestError} What is wrong with them.
   */
  async check(): Promise<void> {
    this.#core.refuseIfClosed("check");
    await this.#core.operation((operation) => this.#core.binding.check(operation));
  }

  /** A snapshot of all numbers: cheap and synchronous. After `close`, the last one. */
  stats(): ClientStats {
    return this.#core.stats();
  }

  /** Versions of this package and its native part, and what the runtime allows. */
  version(): VersionInfo {
    return this.#version;
  }

  /**
   * Takes nothing more, waits for the outcomes of what was admitted, and lets go of the destination. What is
   * left at the deadline is `failed` or `unknown`. Closing again waits for the first close and reports nothing.
   *
   * @throws {IngestError} `UNDELIVERED` if a delivery was not acknowledged and nobody read its result.
   */
  close(options?: CloseOptions): Promise<void> {
    return this.#core.close(options);
  }

  /** What `await using` calls: {@link close} with its defaults. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#core.close(undefined);
  }
}

interface Waiter {
  readonly group: readonly InFlight[];
  readonly admitted: () => void;
  readonly refused: (reason: unknown) => void;
  readonly onAbort: (() => void) | undefined;
}

/** What the client's parts share. @internal */
export class Core implements Listener {
  readonly binding: Binding;
  readonly mode: HandoffMode;
  telemetry: Telemetry | undefined;
  closing: Promise<void> | undefined;
  readonly #logger: Logger | undefined;
  readonly #packer: Packer;
  readonly #inFlight = new Map<number, InFlight>();
  readonly #waiting = new Map<number, Waiter>();
  readonly #operations = new Map<number, (error: IngestError | null) => void>();
  readonly #unread = new UnreadOutcomes();
  #lastSequence = 0;
  #lastOperation = 0;
  #lastStats: ClientStats | undefined;

  static async create(url: string, split: SplitOptions): Promise<Core> {
    let core: Core | undefined;
    // Rust tells nothing before the constructor is through; a listener is needed to call it.
    const listener: Listener = {
      settled: (outcome) => core?.settled(outcome),
      granted: (ticket) => core?.granted(ticket),
      answered: (operation, error) => core?.answered(operation, error),
      log: (level, message, fields) => core?.log(level, message, fields),
      done: () => core?.done(),
      broken: (error) => core?.broken(error),
    };
    const binding = await Binding.create(url, split.json, listener);
    core = new Core(binding, split);
    return core;
  }

  private constructor(binding: Binding, split: SplitOptions) {
    this.binding = binding;
    this.mode = split.mode;
    this.#logger = split.logger;
    this.#packer = new Packer((message) => binding.registerSchema(message));
  }

  /** Tells Rust the schema to come, before it opens. */
  expect(schema: unknown): void {
    this.binding.expectSchema(this.#packer.schemaId(schema as object));
  }

  prepare(batch: unknown, options: SendOptions | undefined, operation: "send" | "enqueue"): InFlight {
    this.refuseIfClosed(operation);
    checkSendOptions(options);
    const signal = options?.signal;
    signal?.throwIfAborted();
    const cargo = toCargo(batch);
    const span = this.telemetry?.start(operation) ?? null;
    return new InFlight(cargo, options?.handoff ?? this.mode, signal, span, operation === "send");
  }

  refuseIfClosed(operation: string): void {
    if (this.closing !== undefined) throw closed(operation);
  }

  /**
   * Hands a group over in one call. Undefined: admitted at once; else the promise that it will be.
   *
   * @throws {IngestError} The group cannot be handed over; none of it was.
   */
  admit(group: readonly InFlight[]): Promise<void> | undefined {
    try {
      const ticket = this.#submit(0, group);
      return ticket === 0 ? undefined : this.#wait(ticket, group);
    } catch (error) {
      this.#refused(group, error);
      throw error;
    }
  }

  /** Takes back a group that waits. */
  withdraw(group: readonly InFlight[], reason: unknown): void {
    for (const [ticket, waiter] of this.#waiting) if (waiter.group === group) this.#cancel(ticket, reason);
  }

  async operation(start: (operation: number) => void): Promise<void> {
    const operation = ++this.#lastOperation;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#operations.set(operation, (error) => (error === null ? resolve() : reject(error)));
    try {
      start(operation);
    } catch (error) {
      this.#operations.delete(operation);
      throw error;
    }
    return promise;
  }

  stats(): ClientStats {
    if (this.#lastStats !== undefined) return this.#lastStats;
    return this.binding.stats() as ClientStats;
  }

  close(options: CloseOptions | undefined): Promise<void> {
    if (this.closing !== undefined) {
      // Whoever closed first has been told; saying it again would hide the error of an `await using` block.
      return this.closing.catch(() => {});
    }
    const deadline = options?.deadline === undefined ? CLOSE_DEADLINE_MS : milliseconds(options.deadline);
    if (deadline === undefined) {
      const message = `must be a number of milliseconds or a duration such as "30s", not ${describe(options?.deadline)}`;
      return Promise.reject(configInvalid([{ path: "deadline", message }], "close"));
    }
    this.closing = this.#close(deadline);
    return this.closing;
  }

  /** Gives up a client that never opened, or whose options were wrong. */
  abandon(): void {
    this.closing ??= this.operation((operation) => this.binding.close(operation, 0)).then(
      () => this.binding.dispose(),
      () => this.binding.dispose(),
    );
  }

  settled(outcome: Settled): void {
    const inFlight = this.#inFlight.get(outcome.sequence);
    if (inFlight === undefined) return;
    this.#inFlight.delete(outcome.sequence);
    this.#settle(inFlight, toResult(inFlight, outcome), outcome.retries);
    if (outcome.payloadChanged)
      this.log("warn", "the bytes of a batch changed in flight", { sequence: outcome.sequence });
  }

  granted(ticket: number): void {
    const waiter = this.#waiting.get(ticket);
    if (waiter === undefined) return;
    this.#forget(ticket, waiter);
    let packed = false;
    try {
      this.#pack(ticket, waiter.group);
      packed = true;
      this.#admitted(waiter.group, this.binding.submit(this.#packer.finish(), this.#packer.buffers));
      waiter.admitted();
    } catch (error) {
      // A ticket that nobody redeems would hold up all behind it.
      if (!packed) this.binding.cancel(ticket);
      this.#refused(waiter.group, error);
      waiter.refused(error);
    }
  }

  answered(operation: number, error: IngestError | null): void {
    const answer = this.#operations.get(operation);
    this.#operations.delete(operation);
    answer?.(error);
  }

  log(level: string, message: string, fields: Record<string, unknown>): void {
    const known = LEVELS.find((name) => name === level) ?? "info";
    try {
      const logged = this.#logger?.[known]?.(message, fields);
      if (logged instanceof Promise) logged.catch(() => {});
    } catch {
      // A logger that fails must not fail a delivery.
    }
  }

  done(): void {}

  broken(error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    this.log("error", "an event could not be handled; please report this", { message });
  }

  #submit(ticket: number, group: readonly InFlight[]): number {
    // Others wait, so this call will: packing it now would be for nothing, and would hold memory that the
    // budget does not know of.
    if (ticket === 0 && this.#waiting.size > 0) {
      let bytes = 0;
      for (const inFlight of group) bytes += measure(inFlight.cargo);
      if (bytes > 0) return this.binding.submit(Float64Array.of(0, bytes, 0), []);
    }
    this.#pack(ticket, group);
    const queued = this.binding.submit(this.#packer.finish(), this.#packer.buffers);
    if (queued === 0) this.#admitted(group, 0);
    return queued;
  }

  #pack(ticket: number, group: readonly InFlight[]): void {
    const packer = this.#packer;
    const start = performance.now();
    packer.begin(ticket);
    for (let i = 0; i < group.length; i++) {
      const inFlight = group[i]!;
      inFlight.packing = packer.add(this.#lastSequence + 1 + i, inFlight.cargo, inFlight.mode);
    }
    const share = (performance.now() - start) / group.length;
    for (let i = 0; i < group.length; i++) group[i]!.packMs = share;
  }

  #admitted(group: readonly InFlight[], queued: number): void {
    if (queued !== 0)
      throw ingestError({
        code: "INTERNAL",
        message: "a granted ticket was queued again",
        operation: "submit",
      });
    for (let i = 0; i < group.length; i++) {
      const inFlight = group[i]!;
      const sequence = ++this.#lastSequence;
      inFlight.sequence = sequence;
      this.#inFlight.set(sequence, inFlight);
      const { signal } = inFlight;
      if (signal === undefined) continue;
      inFlight.onAbort = () => {
        if (this.#inFlight.has(sequence)) this.binding.abort(sequence);
      };
      signal.addEventListener("abort", inFlight.onAbort, { once: true });
    }
  }

  #wait(ticket: number, group: readonly InFlight[]): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const signal = group[0]?.signal;
    const onAbort = signal === undefined ? undefined : () => this.#cancel(ticket, signal.reason);
    this.#waiting.set(ticket, { group, admitted: resolve, refused: reject, onAbort });
    if (onAbort !== undefined) signal?.addEventListener("abort", onAbort, { once: true });
    return promise;
  }

  #cancel(ticket: number, reason: unknown): void {
    const waiter = this.#waiting.get(ticket);
    if (waiter === undefined) return;
    this.#forget(ticket, waiter);
    this.binding.cancel(ticket);
    this.#refused(waiter.group, reason);
    waiter.refused(reason);
  }

  #forget(ticket: number, waiter: Waiter): void {
    this.#waiting.delete(ticket);
    if (waiter.onAbort !== undefined) waiter.group[0]?.signal?.removeEventListener("abort", waiter.onAbort);
  }

  #refused(group: readonly InFlight[], reason: unknown): void {
    if (this.telemetry === undefined) return;
    for (const inFlight of group) this.telemetry.refused(inFlight.span, reason);
  }

  #settle(inFlight: InFlight, result: TransmissionResult, retries: number): void {
    if (inFlight.onAbort !== undefined) inFlight.signal?.removeEventListener("abort", inFlight.onAbort);
    if (!result.success && !inFlight.observed) {
      // Not the result itself, which would keep the batch in memory for as long as nobody looks.
      const unread: Unread = { sequence: result.sequence, status: result.status, error: result.error };
      this.#unread.add(unread);
      inFlight.onObserved = () => this.#unread.delete(unread);
    }
    inFlight.settle(result);
    this.telemetry?.settled(inFlight.span, result, retries);
  }

  async #close(deadlineMs: number): Promise<void> {
    for (const ticket of [...this.#waiting.keys()]) this.#cancel(ticket, closed("send"));
    try {
      await this.operation((operation) => this.binding.close(operation, deadlineMs));
    } finally {
      this.#end();
    }
    const error = this.#unread.toError();
    if (error !== null) throw error;
  }

  #end(): void {
    for (const [sequence, inFlight] of this.#inFlight) {
      const message = `the client ended without a word about delivery ${sequence}`;
      const error = ingestError({ code: "INTERNAL", message, operation: "close" });
      this.#settle(inFlight, unknownResult(inFlight, error), 0);
    }
    this.#inFlight.clear();
    this.#lastStats = this.stats();
    this.telemetry?.close();
    this.#retire(0);
  }

  /** Lets go of the event callback, once Rust has let go of the last batch: references need it for that. */
  #retire(tries: number): void {
    const { pinned } = this.binding.stats() as ClientStats;
    if (pinned.pins === 0 || tries >= 100) return this.binding.dispose();
    setTimeout(() => this.#retire(tries + 1), 10).unref();
  }
}

function closed(operation: string): IngestError {
  return ingestError({ code: "CLOSED", message: "the client is closed", operation });
}
