// What became of one delivery, as a value.
//
// Invariants:
// - Every fact is an own property, so that it survives `structuredClone` and `postMessage`.
// - A result never changes, and it never throws but in `orThrow`.
// - A result that is no success has an error, unless its delivery goes on from the spool.
//
// It keeps what was sent reachable, for `rejectedBatch` and `acceptedBatch`. Whoever collects results for
// longer keeps `toJSON()` of them instead.

import { inspect } from "node:util";
import type { RecordBatch } from "apache-arrow";
import { type ErrorCode, type ErrorJson, type IngestError, ingestError } from "./errors.js";
import type { DeliveryContent } from "./handoff.js";
import { selectRows } from "./row-selection.js";

/**
 * - `acknowledged`: all rows are durable at the destination, as `specs/delivery.md` defines it.
 * - `partial`: some rows were refused, the others are durable.
 * - `failed`: no row was kept but those that `acceptedRows` counts; every row was refused, or some failed.
 * - `unknown`: rows may have been kept; nobody can say.
 * - `spooled`: with a spool, nobody waited for the outcome; the delivery is on the disk, and this client or a later one
 *   on the spool goes on with it. Some of its rows may have landed.
 */
export type DeliveryStatus = "acknowledged" | "partial" | "failed" | "unknown" | "spooled";

/** How a batch crossed: `pinned` if any of its memory was lent, else `copied`, else `ipc`. */
export type HandoffWay = "pinned" | "copied" | "ipc";

/** A row that the destination refused. */
export interface Rejection {
  /** From 0, through all batches of what was sent. */
  readonly row: number;
  /** The destination's own word for the reason. */
  readonly code: string;
  readonly message: string;
}

/** Milliseconds that each stage took. Stages overlap, so they need not add up to the latency. */
export interface Timings {
  /** On the JavaScript thread. */
  readonly handoffMs: number;
  /** From admission to being part of a write. */
  readonly queueMs: number;
  readonly encodeMs: number;
  readonly transmitMs: number;
  /** From the last byte sent to the acknowledgement. */
  readonly acknowledgeMs: number;
}

/** Where rows went: the version of a Delta table, or an offset. */
export interface Position {
  readonly kind: "version" | "offset";
  readonly value: bigint;
}

/** The facts of a {@link TransmissionResult}: all others follow from them. */
export interface ResultFacts
  extends Pick<
    Result,
    | "status"
    | "sequence"
    | "rows"
    | "acceptedRows"
    | "rejectedRows"
    | "rejections"
    | "attempts"
    | "batchBytes"
    | "handoff"
    | "handoffReason"
    | "timings"
    | "latencyMs"
    | "position"
    | "error"
  > {
  /** Default: false. */
  readonly recovered?: boolean;
}

/** A {@link TransmissionResult} whose rows are all durable. */
export interface SuccessfulResult extends Result {
  readonly status: "acknowledged";
  readonly success: true;
}

/** A {@link TransmissionResult} of which some row is not known to be durable. */
export interface UnsuccessfulResult extends Result {
  readonly status: "partial" | "failed" | "unknown";
  readonly success: false;
  readonly error: IngestError;
  readonly errorCode: ErrorCode;
}

/** A {@link TransmissionResult} of a delivery that waits in the spool. */
export interface SpooledResult extends Result {
  readonly status: "spooled";
  readonly success: false;
  readonly error: null;
  readonly errorCode: null;
}

/**
 * What became of one `send`, `enqueue` or batch of `sendAll`. Read-only. After a look at `success` or `status`, its
 * type says whether there is an `error`.
 *
 * @example
 * ```ts
 * const result = await client.send(batch);
 * if (result.status === "partial") await deadLetters.send(result.rejectedBatch()!);
 * else result.orThrow();
 * ```
 */
export type TransmissionResult = SuccessfulResult | UnsuccessfulResult | SpooledResult;

/** What {@link TransmissionResult.toJSON} gives: bigints are strings. */
export interface ResultJson extends Omit<ResultFacts, "sequence" | "position" | "error"> {
  readonly success: boolean;
  readonly sequence: string;
  readonly position: { readonly kind: "version" | "offset"; readonly value: string } | null;
  readonly error: ErrorJson | null;
  readonly errorCode: ErrorCode | null;
}

/** The members of a {@link TransmissionResult}. */
export class Result implements ResultFacts {
  /** A table of several batches has the worst status of its parts. */
  readonly status: DeliveryStatus;
  /** Whether all rows are durable: `status === "acknowledged"`. */
  readonly success: boolean;
  /** Number of the delivery within its client, in the order of admission. Of a recovered one, its place in the spool. */
  readonly sequence: bigint;
  /**
   * With a spool: nobody waits for this result any more. An earlier client on the spool took the delivery, or the wait
   * for it was ended.
   */
  readonly recovered: boolean;
  /** Rows that were given, and that arrived. */
  readonly rows: number;
  /** Rows known to be durable. */
  readonly acceptedRows: number;
  /** Rows that the destination refused. */
  readonly rejectedRows: number;
  /** One for each refused row, in order. */
  readonly rejections: readonly Rejection[];
  /** Writes tried for the rows that took most, the first included; 0 if none was. */
  readonly attempts: number;
  /** Bytes handed over. */
  readonly batchBytes: number;
  readonly handoff: HandoffWay;
  /** What did not cross the fastest way, and why; null if everything did. */
  readonly handoffReason: string | null;
  readonly timings: Timings;
  /** Milliseconds from admission to the outcome. */
  readonly latencyMs: number;
  /** Null if nothing was kept, or if the destination does not tell. */
  readonly position: Position | null;
  /** Why, unless all rows are durable: `ROWS_REJECTED` if some were refused. Else null, or `PAYLOAD_CHANGED`. */
  readonly error: IngestError | null;
  /** The code of {@link error}. Of an error, `structuredClone` keeps little more than its message; this stays. */
  readonly errorCode: ErrorCode | null;
  readonly #content: DeliveryContent | null;

  /** Made by the client; public so that tests of your own code can make some. */
  constructor(facts: ResultFacts, content: DeliveryContent | null = null) {
    this.status = facts.status;
    this.success = facts.status === "acknowledged";
    this.sequence = facts.sequence;
    this.rows = facts.rows;
    this.acceptedRows = facts.acceptedRows;
    this.rejectedRows = facts.rejectedRows;
    this.rejections = facts.rejections;
    this.attempts = facts.attempts;
    this.batchBytes = facts.batchBytes;
    this.handoff = facts.handoff;
    this.handoffReason = facts.handoffReason;
    this.timings = facts.timings;
    this.latencyMs = facts.latencyMs;
    this.position = facts.position;
    this.recovered = facts.recovered ?? false;
    this.error = facts.error ?? (this.success || this.status === "spooled" ? null : refusedRows(facts));
    this.errorCode = this.error?.code ?? null;
    this.#content = content;
    Object.freeze(this);
  }

  /**
   * The refused rows as one record batch in the schema that was given, in order, or null if there are none. Made
   * when asked for: a slice where they are one run, else a copy. It reads what you handed over: where that was
   * copied and you have written to it since, look into the dead-letter directory instead. With a spool null: what is
   * on the disk is not kept in memory, and the refused rows are dead letters.
   */
  rejectedBatch(): RecordBatch | null {
    if (this.#content === null || this.rejections.length === 0) return null;
    return selectRows(this.#content, this.#refused(), "refused");
  }

  /**
   * The rows known to be durable as one record batch, in order, or null if there are none. Of a delivery that
   * failed or whose outcome is unknown, no row is.
   */
  acceptedBatch(): RecordBatch | null {
    if (this.#content === null || this.status === "failed" || this.status === "unknown") return null;
    if (this.status === "spooled") return null;
    return selectRows(this.#content, this.#refused(), "others");
  }

  /** The refused rows grouped by the destination's code for the reason, in order of first appearance. */
  rejectionsByCode(): Map<string, readonly Rejection[]> {
    const groups = new Map<string, Rejection[]>();
    for (const rejection of this.rejections) {
      const group = groups.get(rejection.code);
      if (group === undefined) groups.set(rejection.code, [rejection]);
      else group.push(rejection);
    }
    return groups;
  }

  /**
   * This result if all rows are durable.
   *
   * @throws {IngestError} {@link error}, or `ROWS_REJECTED` if rows were refused; `SPOOLED` if it waits in the spool.
   */
  orThrow(): this {
    if (this.status === "spooled") throw waitsInTheSpool(this);
    if (this.error !== null) throw this.error;
    return this;
  }

  /** Whether two results say the same; how long it took does not count. A clone equals its original. */
  equals(other: unknown): boolean {
    if (typeof other !== "object" || other === null) return false;
    const that = other as Partial<ResultFacts>;
    return (
      this.status === that.status &&
      this.sequence === that.sequence &&
      this.rows === that.rows &&
      this.acceptedRows === that.acceptedRows &&
      this.rejectedRows === that.rejectedRows &&
      this.attempts === that.attempts &&
      this.batchBytes === that.batchBytes &&
      this.handoff === that.handoff &&
      this.handoffReason === that.handoffReason &&
      this.position?.kind === that.position?.kind &&
      this.position?.value === that.position?.value &&
      this.error?.message === that.error?.message &&
      this.rejections.length === that.rejections?.length &&
      this.rejections.every((mine, index) => {
        const theirs = that.rejections?.[index];
        return mine.row === theirs?.row && mine.code === theirs.code && mine.message === theirs.message;
      })
    );
  }

  /** All facts in a form that JSON holds: bigints are strings. */
  toJSON(): ResultJson {
    return {
      ...this,
      sequence: String(this.sequence),
      position: this.position && { kind: this.position.kind, value: String(this.position.value) },
      error: this.error?.toJSON() ?? null,
    };
  }

  /** One line: what happened, to how many rows, how, how long it took, where they are. */
  toString(): string {
    const { status, rows, rejectedRows, attempts, handoff, position, error } = this;
    const facts = [
      `${status}: ${rows} rows`,
      rejectedRows > 0 ? `${rejectedRows} refused` : "",
      attempts > 1 ? `${attempts} attempts` : "",
      handoff,
      `${this.latencyMs.toFixed(1)} ms`,
      position === null ? "" : `${position.kind} ${position.value}`,
      error === null ? "" : `${error.code}: ${error.message}`,
    ];
    return `TransmissionResult #${this.sequence} ${facts.filter((fact) => fact !== "").join(", ")}`;
  }

  /** For `console.log` and `util.inspect`: the line of {@link toString}, and the reasons of refused rows. */
  [inspect.custom](depth: number, options: { stylize?: (text: string, style: "special") => string }): string {
    const line = options.stylize?.(this.toString(), "special") ?? this.toString();
    if (depth < 0 || this.rejections.length === 0) return line;
    const groups = [...this.rejectionsByCode()].map(([code, rejections]) => {
      const rows = rejections.slice(0, 5).map((rejection) => rejection.row);
      const more = rejections.length > rows.length ? ", …" : "";
      return `\n  ${code} × ${rejections.length} (rows ${rows.join(", ")}${more}): ${rejections[0]!.message}`;
    });
    return line + groups.join("");
  }

  #refused(): ReadonlySet<number> {
    return new Set(this.rejections.map((rejection) => rejection.row));
  }
}

function waitsInTheSpool({ sequence, rows, latencyMs }: ResultFacts): IngestError {
  return ingestError({
    code: "SPOOLED",
    operation: "send",
    elapsedMs: latencyMs,
    message: `delivery ${sequence} with ${rows} rows is in the spool and not delivered yet`,
  });
}

/** What the code that makes a result leaves out, when it leaves out why. */
function refusedRows(facts: ResultFacts): IngestError {
  const { status, sequence, rows, rejectedRows, rejections, attempts, latencyMs } = facts;
  const first = rejections[0];
  return ingestError({
    code: rejectedRows > 0 ? "ROWS_REJECTED" : "INTERNAL",
    operation: "send",
    row: first?.row ?? null,
    attempts,
    elapsedMs: latencyMs,
    message:
      `delivery ${sequence} is ${status}: ${rejectedRows} of ${rows} rows were refused` +
      (first === undefined ? "" : `, first row ${first.row} (${first.code}: ${first.message})`),
  });
}

// Whoever inspects one should see the name that the package exports.
Object.defineProperty(Result, "name", { value: "TransmissionResult" });

/** Made by the client; public so that tests of your own code can make some. */
export const TransmissionResult = Result as new (
  facts: ResultFacts,
  content?: DeliveryContent | null,
) => TransmissionResult;
