// What became of one delivery, as a value.
//
// Invariants:
// - Every fact is an own property, so that it survives `structuredClone` and `postMessage`.
// - A result never changes, and it never throws but in `orThrow`, and where batches of several schemas would have to be
//   one.
// - A result that is no success has an error, unless its delivery goes on from the spool.
// - Several results as one (`merge`) say what one delivery of all their rows would have said.
//
// It keeps what was sent reachable, for `rejectedBatch` and `acceptedBatch`. Whoever collects results for
// longer keeps `toJSON()` of them instead.

import { inspect } from "node:util";
import type { RecordBatch } from "apache-arrow";
import { type ConfigIssue, type ErrorCode, type ErrorJson, type IngestError, ingestError } from "./errors.js";
import type { DeliveryContent } from "./handoff.js";
import { factsOf, NO_DELIVERIES } from "./result/facts.js";
import { joinBatches, selectRows } from "./row-selection.js";

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

/** A row that was refused: by the destination, or before, because it does not fit its schema. */
export interface Rejection {
  /** From 0, through all that was sent: batches, or rows as they were given. */
  readonly row: number;
  /** The destination's own word for the reason; of a row that does not fit, a {@link RowRefusalCode}. */
  readonly code: string;
  readonly message: string;
  /** Of a row that does not fit: where in it, as in `tags[2].name`; empty for the row itself. */
  readonly path?: string;
  /**
   * Of a row that does not fit: what was found there; of `VALUE_THREW`, what was thrown. It is in no JSON and no clone
   * of the result.
   */
  readonly value?: unknown;
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
  /** Null if it is left out. */
  readonly firstRow?: number | null;
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

/** What {@link Result.summary} gives: counts, and one example of each kind. It holds no row and fits in a log line. */
export interface ResultSummary {
  readonly status: DeliveryStatus;
  readonly success: boolean;
  /** By status; of a result that is not of {@link TransmissionResult.merge}, one in all. */
  readonly deliveries: Readonly<Record<DeliveryStatus, number>>;
  readonly rows: number;
  readonly acceptedRows: number;
  readonly rejectedRows: number;
  /** Neither accepted nor rejected: they failed, or nobody knows. */
  readonly undecidedRows: number;
  readonly batchBytes: number;
  readonly attempts: number;
  /** Milliseconds. */
  readonly latencyMs: number;
  /** Refused rows by the destination's code, in order of first appearance. */
  readonly rejections: readonly {
    readonly code: string;
    readonly rows: number;
    readonly firstRow: number;
    readonly message: string;
  }[];
  /** Errors by code, in order of first appearance. */
  readonly errors: readonly {
    readonly code: ErrorCode;
    readonly deliveries: number;
    readonly message: string;
  }[];
}

/** What {@link Result.toJSON} gives: bigints are strings. */
export interface ResultJson extends Omit<ResultFacts, "sequence" | "position" | "error" | "firstRow"> {
  readonly firstRow: number | null;
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
  /** Rows that were given, and that arrived; of rows, all that were given. */
  readonly rows: number;
  /** Rows known to be durable. */
  readonly acceptedRows: number;
  /** Rows that were refused. */
  readonly rejectedRows: number;
  /** One for each refused row, in order. */
  readonly rejections: readonly Rejection[];
  /**
   * Of rows that were gathered (`sendAll`, `writable`, a {@link RowWriter}): the number of the first of them among all
   * that the source or the writer gave, from 0. Else null. `row` of a rejection counts from it.
   */
  readonly firstRow: number | null;
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
  /** The refused rows that `#content` has, by their numbers there; null: all that were refused, by their own. */
  readonly #refusedOfContent: readonly number[] | null;

  /** Of a merged result. */
  readonly #parts: readonly Result[] | null;

  /**
   * Made by the client; public so that tests of your own code can make some.
   *
   * @param content What was sent, for `rejectedBatch` and `acceptedBatch`.
   * @param refusedOfContent The refused rows that `content` has, by their numbers there. Default: those of `rejections`.
   */
  constructor(
    facts: ResultFacts,
    content: DeliveryContent | readonly Result[] | null = null,
    refusedOfContent: readonly number[] | null = null,
  ) {
    this.status = facts.status;
    this.success = facts.status === "acknowledged";
    this.sequence = facts.sequence;
    this.rows = facts.rows;
    this.acceptedRows = facts.acceptedRows;
    this.rejectedRows = facts.rejectedRows;
    this.rejections = facts.rejections;
    this.firstRow = facts.firstRow ?? null;
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
    this.#parts = Array.isArray(content) ? content : null;
    this.#content = Array.isArray(content) ? null : (content as DeliveryContent | null);
    this.#refusedOfContent = refusedOfContent;
    Object.freeze(this);
  }

  /**
   * Several results as one: what one delivery of all their rows, in this order, would have said. Row numbers count
   * through all of them. `sequence` is that of the first, `position` the last that there is; `attempts` and
   * `latencyMs` are the largest, `timings` and counts are sums. Of none: acknowledged, with no rows.
   *
   * It keeps what was sent reachable, as its parts do. A clone of a result (`structuredClone`) is taken, too.
   *
   * @throws {IngestError} `CONFIG_INVALID` if something is no result; `issues` says which.
   *
   * @example
   * ```ts
   * const results = await Promise.all(batches.map((batch) => client.send(batch)));
   * const all = TransmissionResult.merge(results);
   * console.log(all.summary());
   * all.orThrow();
   * ```
   */
  static merge(results: Iterable<TransmissionResult>): TransmissionResult {
    const issues: ConfigIssue[] = [];
    const parts: Result[] = [];
    let index = 0;
    for (const result of iterated(results)) {
      const path = `results[${index++}]`;
      if (result instanceof Result) {
        if (result.#parts === null) parts.push(result);
        else for (const part of result.#parts) parts.push(part);
      } else {
        const facts = factsOf(result, path, issues, false);
        if (facts !== undefined) parts.push(new Result(facts));
      }
    }
    if (issues.length > 0) throw notAResult(issues, "merge");
    return new Result(merged(parts), parts) as TransmissionResult;
  }

  /**
   * A result of what {@link toJSON} gave, as an object or as text. It equals the one that it was made of; it has no
   * rows to give back, so `rejectedBatch` and `acceptedBatch` are null. Facts that are not known here are left out.
   *
   * @throws {IngestError} `CONFIG_INVALID`, with every mistake in `issues`.
   */
  static fromJSON(json: string | ResultJson): TransmissionResult {
    const issues: ConfigIssue[] = [];
    const facts = factsOf(typeof json === "string" ? parsed(json) : json, "", issues, true);
    if (facts === undefined || issues.length > 0) throw notAResult(issues, "fromJSON");
    return new Result(facts) as TransmissionResult;
  }

  /**
   * The refused rows as one record batch in the schema that was given, in order, or null if there are none; rows that
   * do not fit that schema are not in it. Made when asked for: a slice where they are one run, else a copy. It reads
   * what you handed over: where that was copied and you have written to it since, look into the dead-letter directory
   * instead. With a spool null: what is on the disk is not kept in memory, and the refused rows are dead letters.
   *
   * @throws {IngestError} `SCHEMA_MISMATCH` if the rows of a merged result are of several schemas.
   */
  rejectedBatch(): RecordBatch | null {
    if (this.#parts !== null) return joined(this.#parts.map((part) => part.rejectedBatch()));
    if (this.#content === null || this.rejections.length === 0) return null;
    const refused = this.#refused();
    return refused.size === 0 ? null : selectRows(this.#content, refused, "refused");
  }

  /**
   * The rows known to be durable as one record batch, in order, or null if there are none. Of a delivery that
   * failed or whose outcome is unknown, no row is.
   *
   * @throws {IngestError} `SCHEMA_MISMATCH` if the rows of a merged result are of several schemas.
   */
  acceptedBatch(): RecordBatch | null {
    if (this.#parts !== null) return joined(this.#parts.map((part) => part.acceptedBatch()));
    if (this.#content === null || this.status === "failed" || this.status === "unknown") return null;
    if (this.status === "spooled") return null;
    return selectRows(this.#content, this.#refused(), "others");
  }

  /** The refused rows grouped by the code for the reason, in order of first appearance. */
  rejectionsByCode(): Map<string, readonly Rejection[]> {
    const groups = new Map<string, Rejection[]>();
    for (const rejection of this.rejections) {
      const group = groups.get(rejection.code);
      if (group === undefined) groups.set(rejection.code, [rejection]);
      else group.push(rejection);
    }
    return groups;
  }

  /** Counts, and one example of each kind of refusal and error: what a log line or a report wants. */
  summary(): ResultSummary {
    const deliveries: Record<DeliveryStatus, number> = { ...NO_DELIVERIES };
    const errors = new Map<ErrorCode, { code: ErrorCode; deliveries: number; message: string }>();
    for (const { status, error } of this.#parts ?? [this as Result]) {
      deliveries[status] += 1;
      if (error === null) continue;
      const group = errors.get(error.code);
      if (group === undefined)
        errors.set(error.code, { code: error.code, deliveries: 1, message: error.message });
      else group.deliveries += 1;
    }
    const { status, success, rows, acceptedRows, rejectedRows, batchBytes, attempts, latencyMs } = this;
    const rejections = [...this.rejectionsByCode()].map(([code, group]) => {
      const { row: firstRow, message } = group[0]!;
      return { code, rows: group.length, firstRow, message };
    });
    const undecidedRows = rows - acceptedRows - rejectedRows;
    return {
      ...{ status, success, deliveries, rows, acceptedRows, rejectedRows, undecidedRows },
      ...{ batchBytes, attempts, latencyMs, rejections, errors: [...errors.values()] },
    };
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
      this.firstRow === (that.firstRow ?? null) &&
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
    return new Set(this.#refusedOfContent ?? this.rejections.map((rejection) => rejection.row));
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

const wasRefused = ({ rows, rejectedRows }: Result): boolean => rows > 0 && rows === rejectedRows;

/** The facts of one delivery that holds the rows of all. */
function merged(parts: readonly Result[]): ResultFacts {
  const sum = (of: (part: Result) => number): number => parts.reduce((total, part) => total + of(part), 0);
  const most = (of: (part: Result) => number): number =>
    parts.reduce((top, part) => Math.max(top, of(part)), 0);
  const [acceptedRows, rejectedRows] = [sum((part) => part.acceptedRows), sum((part) => part.rejectedRows)];
  const unknown = parts.find((part) => part.status === "unknown");
  const failed = parts.find((part) => part.status === "failed" && !wasRefused(part));
  const rejections: Rejection[] = [];
  let base = 0;
  for (const part of parts) {
    for (const rejection of part.rejections) rejections.push(moved(rejection, base));
    base += part.rows;
  }
  let status: DeliveryStatus = "acknowledged";
  if (unknown !== undefined) status = "unknown";
  else if (failed !== undefined) status = "failed";
  else if (parts.some((part) => part.status === "spooled")) status = "spooled";
  else if (rejectedRows > 0) status = acceptedRows > 0 ? "partial" : "failed";
  const reasons = new Set(parts.map((part) => part.handoffReason).filter((reason) => reason !== null));
  const ways: readonly HandoffWay[] = ["pinned", "copied", "ipc"];
  const changed = status === "acknowledged" ? parts.find((part) => part.error !== null) : undefined;
  return {
    status,
    sequence: parts[0]?.sequence ?? 0n,
    rows: base,
    acceptedRows,
    rejectedRows,
    rejections,
    attempts: most((part) => part.attempts),
    batchBytes: sum((part) => part.batchBytes),
    handoff: ways.find((way) => parts.some((part) => part.handoff === way)) ?? "pinned",
    handoffReason: reasons.size === 0 ? null : [...reasons].join("; "),
    timings: {
      handoffMs: sum((part) => part.timings.handoffMs),
      queueMs: sum((part) => part.timings.queueMs),
      encodeMs: sum((part) => part.timings.encodeMs),
      transmitMs: sum((part) => part.timings.transmitMs),
      acknowledgeMs: sum((part) => part.timings.acknowledgeMs),
    },
    latencyMs: most((part) => part.latencyMs),
    position: parts.findLast((part) => part.position !== null)?.position ?? null,
    recovered: parts.some((part) => part.recovered),
    // Where rows were refused and nothing else went wrong, the constructor counts them anew.
    error: (unknown ?? failed ?? changed)?.error ?? null,
  };
}

/** With the number that its row has behind `base` others. Its `value` stays out of JSON and clones. */
function moved(rejection: Rejection, base: number): Rejection {
  const { row, code, message, path, value } = rejection;
  if (path === undefined) return { row: base + row, code, message };
  return Object.defineProperty({ row: base + row, path, code, message }, "value", { value });
}

/** Rows of several deliveries as one batch. */
function joined(batches: readonly (RecordBatch | null)[]): RecordBatch | null {
  const pieces = batches.filter((batch) => batch !== null);
  const batch = joinBatches(pieces);
  if (batch !== undefined) return batch;
  throw ingestError({
    code: "SCHEMA_MISMATCH",
    operation: "merge",
    message: "rows of several schemas cannot be one batch: take those of each result by itself",
  });
}

function iterated(results: unknown): Iterable<unknown> {
  const isIterable = typeof (results as Partial<Iterable<unknown>> | null)?.[Symbol.iterator] === "function";
  if (typeof results === "object" && isIterable) return results as Iterable<unknown>;
  throw notAResult(
    [{ path: "results", message: "must be an array or another iterable of results" }],
    "merge",
  );
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    // What JSON.parse says quotes the text.
    return undefined;
  }
}

const notAResult = (issues: readonly ConfigIssue[], operation: string): IngestError =>
  ingestError({
    code: "CONFIG_INVALID",
    operation,
    issues,
    message: issues.map(({ path, message }) => `${path} ${message}`).join("; "),
  });

// Whoever inspects one should see the name that the package exports.
Object.defineProperty(Result, "name", { value: "TransmissionResult" });

/** Made by the client; public so that tests of your own code can make some. */
export const TransmissionResult = Result as unknown as {
  new (
    facts: ResultFacts,
    content?: DeliveryContent | null,
    refusedOfContent?: readonly number[] | null,
  ): TransmissionResult;
  merge: typeof Result.merge;
  fromJSON: typeof Result.fromJSON;
};
