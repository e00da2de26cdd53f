// One delivery on its way, and what its sender sees of it.
//
// Invariants:
// - A delivery's promise is fulfilled once, with a result, and never rejected: outcomes are values.
// - Only this file knows whether the outcome was read.

import type { Outcome } from "./binding.js";
import type { IngestError } from "./errors.js";
import { pinningIsSound } from "./handoff/memory.js";
import type { DeliveryContent, Packing } from "./handoff.js";
import type { HandoffMode } from "./options.js";
import { type HandoffWay, type Rejection, type ResultFacts, TransmissionResult } from "./result.js";
import type { EncodedRows } from "./rows/encoded.js";

/** What a delivery of rows knows of those that its content does not have. */
export interface GivenRows extends Pick<EncodedRows, "given" | "rejections" | "missing"> {
  /** Among all that the source or the writer gave; null where they were given together. */
  readonly firstRow: number | null;
  /** Rows are refused alone: false where one that does not fit keeps all others from being sent. */
  readonly refusesAlone: boolean;
}

export class UnsettledDelivery {
  /** What was given; null once it is in the spool, or a long outage would fill the memory. */
  content: DeliveryContent | null;
  readonly mode: HandoffMode;
  readonly signal: AbortSignal | undefined;
  /** Its sender waits for the outcome. */
  readonly urgent: boolean;
  /** Telemetry's own, and opaque: its type is of an optional peer, which users of these types may not have. */
  readonly span: object | null;
  /** What measures the operation that it is part of. */
  readonly measurement: Measurement | undefined;
  sequence = 0;
  /** Under which its call waits for room; 0 if it does not. */
  ticket = 0;
  /** Of rows, what did not become Arrow values, and how many were given. */
  rows: GivenRows | null = null;
  /** Settles when the refused rows of `rows` are among the dead letters, or never will be. */
  keeping: Promise<void> | undefined;
  /** Refused rows that are to become dead letters once it is admitted. */
  dead: EncodedRows | undefined;
  /** It was taken back before it had a ticket. */
  withdrawn: { readonly reason: unknown } | undefined;
  packing: Packing | null = null;
  packMs = 0;
  /** Somebody has, or is given, the promise. */
  observed: boolean;
  /** The outcome, once it is there. */
  result: TransmissionResult | null = null;
  /** Called with the outcome, before whoever awaits the promise. */
  onSettled: ((delivery: UnsettledDelivery) => void) | undefined;
  /** `onSettled` does without the outcome of what is in the spool. */
  mayLeave = false;
  /** Called when it is first looked at after it was settled unseen. */
  onObserved: (() => void) | undefined;
  onAbort: (() => void) | undefined;
  /** With a spool, until it is on the disk: for who waits for that. */
  #durable: PromiseWithResolvers<void> | undefined;
  #isSpooled = false;
  #promise: Promise<TransmissionResult> | undefined;
  #resolve: ((result: TransmissionResult) => void) | undefined;

  constructor(
    content: DeliveryContent,
    mode: HandoffMode,
    signal: AbortSignal | undefined,
    span: object | null,
    urgent: boolean,
    measurement?: Measurement,
  ) {
    this.content = content;
    this.mode = mode;
    this.signal = signal;
    this.span = span;
    this.measurement = measurement;
    this.urgent = urgent;
    this.observed = urgent;
  }

  /** Of the outcome. Made when it is first asked for: some never are, and of `sendAll` few. */
  get promise(): Promise<TransmissionResult> {
    if (this.#promise !== undefined) return this.#promise;
    if (this.result !== null) {
      this.#promise = Promise.resolve(this.result);
    } else {
      const { promise, resolve } = Promise.withResolvers<TransmissionResult>();
      this.#promise = promise;
      this.#resolve = resolve;
    }
    return this.#promise;
  }

  /** Somebody waits for the outcome, or may still take it back. */
  get isAwaited(): boolean {
    const waits = this.urgent || this.#promise !== undefined || this.measurement !== undefined;
    return waits || this.signal !== undefined || (this.onSettled !== undefined && !this.mayLeave);
  }

  /** Settles when it is on the disk. Rejects with the reason why it never will be. */
  get durable(): Promise<void> {
    if (this.#isSpooled) return Promise.resolve();
    if (this.result !== null) {
      const reason = this.#whyNever(this.result);
      if (reason === undefined) return Promise.resolve();
      this.look();
      return Promise.reject(reason);
    }
    this.#durable ??= Promise.withResolvers<void>();
    return this.#durable.promise;
  }

  /** It is on the disk. */
  spooled(): void {
    this.#isSpooled = true;
    this.content = null;
    this.#durable?.resolve();
    this.#durable = undefined;
  }

  fulfil(result: TransmissionResult): void {
    if (this.#durable !== undefined) this.#neverSpooled(this.#durable, result);
    this.result = result;
    this.onSettled?.(this);
    this.#resolve?.(result);
  }

  /** Its outcome came before the disk had it. */
  #neverSpooled(durable: PromiseWithResolvers<void>, result: TransmissionResult): void {
    this.#durable = undefined;
    const reason = this.#whyNever(result);
    if (reason === undefined) return durable.resolve();
    // Whoever waits is told by this, and has no delivery of which to read the result.
    this.observed = true;
    durable.reject(reason);
  }

  /** Undefined for a delivery that has no row to keep. */
  #whyNever({ error }: TransmissionResult): unknown {
    // Rows that did not fit their schema had nothing to go to the disk; the outcome tells of them.
    if (error === null || error.code === "ROWS_REJECTED") return undefined;
    return error.code === "ABORTED" && this.signal?.aborted === true ? this.signal.reason : error;
  }

  observe(): Promise<TransmissionResult> {
    this.look();
    return this.promise;
  }

  /** Somebody has seen the outcome, or is about to. */
  look(): void {
    this.observed = true;
    this.onObserved?.();
    this.onObserved = undefined;
  }
}

/** What `enqueue` gives: an admitted batch whose outcome is still to come. */
export class Delivery {
  readonly #ledger: UnsettledDelivery;
  /** Number of the delivery within its client, in the order of admission. */
  readonly sequence: bigint;

  constructor(delivery: UnsettledDelivery) {
    this.#ledger = delivery;
    this.sequence = BigInt(delivery.sequence);
  }

  /**
   * The outcome. It never rejects. Reading this property counts as looking at it: a failure that nobody
   * looked at makes `close` reject with `UNDELIVERED`. What `listeners.onFailed` took has been looked at.
   *
   * With a spool, ask for it at once if you need it: in a long outage it becomes `spooled` where nobody has.
   */
  get result(): Promise<TransmissionResult> {
    return this.#ledger.observe();
  }
}

/** The outcome of a delivery that an earlier client has left in the spool, or whose caller waits no longer. */
export function recoveredResult(outcome: Outcome): TransmissionResult {
  const facts = factsOf(outcome, "copied", "copied: it was read from the spool", 0);
  return new TransmissionResult({ ...facts, recovered: true });
}

/** The outcome from Rust, with the facts of the handoff that only this side knows. */
export function toResult(delivery: UnsettledDelivery, outcome: Outcome): TransmissionResult {
  const { packing, rows } = delivery;
  const limited = outcome.buffersCopiedForPinLimit > 0;
  const facts = factsOf(
    outcome,
    wayOf(packing, delivery.mode, limited),
    reasonOf(packing, outcome, limited),
    outcome.handoffMs + delivery.packMs,
  );
  if (rows === null) return new TransmissionResult(facts, delivery.content);
  const ofContent = outcome.rejections.map(({ row }) => row);
  return new TransmissionResult(withRows(facts, rows), delivery.content, ofContent);
}

function factsOf(
  outcome: Outcome,
  handoff: HandoffWay,
  handoffReason: string | null,
  handoffMs: number,
): ResultFacts {
  return {
    status: outcome.status,
    sequence: BigInt(outcome.sequence),
    rows: outcome.rows,
    acceptedRows: outcome.acceptedRows,
    rejectedRows: outcome.rejectedRows,
    rejections: outcome.rejections,
    attempts: outcome.attempts,
    batchBytes: outcome.batchBytes,
    handoff,
    handoffReason,
    timings: {
      handoffMs,
      queueMs: outcome.queueMs,
      encodeMs: outcome.encodeMs,
      transmitMs: outcome.transmitMs,
      acknowledgeMs: outcome.acknowledgeMs,
    },
    latencyMs: outcome.latencyMs,
    position: outcome.position,
    error: outcome.error,
  };
}

/** The facts in the numbers of the rows as they were given. */
function withRows(facts: ResultFacts, rows: GivenRows): ResultFacts {
  const { given, rejections, firstRow, refusesAlone } = rows;
  if (rejections.length === 0 && rows.missing.length === 0) return { ...facts, rows: given, firstRow };
  const { status, acceptedRows } = facts;
  const nothingWent = acceptedRows === 0 || !refusesAlone;
  return {
    ...facts,
    status:
      rejections.length === 0 || status === "failed" || status === "unknown" || status === "spooled"
        ? status
        : nothingWent
          ? "failed"
          : "partial",
    rows: given,
    rejectedRows: facts.rejectedRows + rejections.length,
    rejections: merged(rejections, asGiven(facts.rejections, rows.missing)),
    firstRow,
  };
}

/** Rejections of rows as the content has them → the same by the numbers of what was given. */
function asGiven(rejections: readonly Rejection[], missing: readonly number[]): Rejection[] {
  let before = 0;
  return rejections.map((rejection) => {
    while (before < missing.length && missing[before]! <= rejection.row + before) before++;
    return { ...rejection, row: rejection.row + before };
  });
}

/** Both in order of their rows. */
function merged(ones: readonly Rejection[], others: readonly Rejection[]): readonly Rejection[] {
  if (others.length === 0) return ones;
  return [...ones, ...others].sort((one, other) => one.row - other.row);
}

/** Told of what becomes of a delivery. */
export interface Measurement {
  settled(result: TransmissionResult): void;
  dropped(): void;
}

/** The outcome of a delivery whose outcome Rust can no longer give. */
export function unknownResult(delivery: UnsettledDelivery, error: IngestError): TransmissionResult {
  return toResult(delivery, {
    sequence: delivery.sequence,
    status: "unknown",
    rows: delivery.content?.batches?.reduce((sum, batch) => sum + batch.data.length, 0) ?? 0,
    acceptedRows: 0,
    rejectedRows: 0,
    attempts: 0,
    batchBytes: 0,
    buffersCopiedForPinLimit: 0,
    buffersRealigned: 0,
    position: null,
    handoffMs: 0,
    queueMs: 0,
    encodeMs: 0,
    transmitMs: 0,
    acknowledgeMs: 0,
    latencyMs: 0,
    retries: 0,
    writes: 0,
    payloadChanged: false,
    error,
    rejections: [],
  });
}

function wayOf(packing: Packing | null, mode: HandoffMode, limited: boolean): HandoffWay {
  if (packing === null) return "copied";
  if (packing.ipc > 0 && packing.pinned === 0 && packing.copied === 0) return "ipc";
  if (packing.pinned > 0 && !limited) return "pinned";
  if (packing.copied > 0 || limited) return "copied";
  // No buffer at all: the way that one would have gone.
  return mode === "copy" || !pinningIsSound() ? "copied" : "pinned";
}

function reasonOf(packing: Packing | null, outcome: Outcome, limited: boolean): string | null {
  const reason = packing?.reason ?? null;
  const realigned = outcome.buffersRealigned;
  // Nearly always so, and at the rate of small batches an array each is seen in a profile.
  if (!limited && realigned === 0) return reason;
  const reasons = reason === null ? [] : [reason];
  if (limited) reasons.push("copied: inflight.maxPinnedBytes is reached");
  if (realigned > 0)
    reasons.push(`copied by Rust: ${realigned} ${realigned === 1 ? "buffer is" : "buffers are"} misaligned`);
  return reasons.join("; ");
}
