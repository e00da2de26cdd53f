// What can go wrong, as classes with a stable `code`.
//
// Invariants:
// - A code has exactly one class, and the table below does not compile without a line for each code.
// - Retry classes come from Rust, which owns them; an error that TypeScript makes itself has the class `never`.
// - An error is complete when it is thrown: nothing adds to it afterwards but `connect`, which knows how
//   often it tried.
//
// It does not log, and it does not decide whether anything is tried again.

import { types } from "node:util";

/**
 * Why something failed, in one stable word. `specs/errors.md` lists origin, retry class and remedy of each.
 */
export type ErrorCode =
  | "CONFIG_INVALID"
  | "HANDOFF_UNSAFE"
  | "BATCH_INVALID"
  | "INPUT_INVALID"
  | "INPUT_TOO_LARGE"
  | "PAYLOAD_CHANGED"
  | "SCHEMA_MISMATCH"
  | "SCHEMA_REQUIRED"
  | "UNSUPPORTED"
  | "NOT_FOUND"
  | "TABLE_CORRUPT"
  | "PERMISSION_DENIED"
  | "UNAUTHENTICATED"
  | "UNAVAILABLE"
  | "RESOURCE_EXHAUSTED"
  | "CONFLICT"
  | "DEADLINE_EXCEEDED"
  | "ABORTED"
  | "CLOSED"
  | "ROWS_REJECTED"
  | "UNDELIVERED"
  | "SPOOL_LOCKED"
  | "SPOOL_FULL"
  | "SPOOL_FORMAT"
  | "SPOOL_FAILED"
  | "SPOOL_FOREIGN"
  | "SPOOLED"
  | "NATIVE_UNAVAILABLE"
  | "INTERNAL";

/**
 * Whether the same call may pass when it is made again: `never`; `transient`, after a while; `throttled`,
 * at a slower pace; `reauthenticate`, with fresh credentials.
 */
export type RetryClass = "never" | "transient" | "throttled" | "reauthenticate";

/** One mistake in the options: where, what, and the nearest valid name if there is one. */
export interface ConfigIssue {
  /** Dotted, as in `batching.maxRows`. */
  readonly path: string;
  readonly message: string;
  readonly suggestion?: string;
  /** Where it stands, if that is not the call: a variable of the environment, or a file and a line (`app.yaml:12`). */
  readonly source?: string;
}

/** What an {@link IngestError} is made from. Whatever is left out is `null`, 0 or empty. */
export interface ErrorFacts {
  readonly code: ErrorCode;
  readonly message: string;
  readonly retry?: RetryClass | undefined;
  readonly operation?: string | null | undefined;
  readonly field?: string | null | undefined;
  readonly row?: number | null | undefined;
  readonly attempts?: number | undefined;
  readonly elapsedMs?: number | undefined;
  readonly retryAfterMs?: number | null | undefined;
  readonly issues?: readonly ConfigIssue[] | undefined;
  readonly cause?: unknown;
}

/** What {@link IngestError.toJSON} gives. */
export interface ErrorJson
  extends Readonly<
    Pick<
      IngestError,
      | "name"
      | "code"
      | "message"
      | "retry"
      | "operation"
      | "field"
      | "row"
      | "attempts"
      | "elapsedMs"
      | "retryAfterMs"
      | "issues"
    >
  > {
  /** Messages of the causes, outermost first. */
  readonly causes: readonly string[];
}

/**
 * Every error that this package throws, or puts on a result, is one of these (an abort excepted, which
 * rejects with the reason of its signal).
 *
 * @example
 * ```ts
 * try {
 *   await using client = await connect("delta:./lake/flights");
 * } catch (error) {
 *   if (error instanceof IngestError && error.code === "SCHEMA_MISMATCH") console.error(error.field);
 *   else throw error;
 * }
 * ```
 */
export class IngestError extends Error {
  /** Stable across releases. */
  readonly code: ErrorCode;
  /** Whether trying the same again can help. */
  readonly retry: RetryClass;
  /** What was being done: `connect`, `open`, `handoff`, `write`, `commit`, …; `null` when it does not matter. */
  readonly operation: string | null;
  /** The column that it is about, as a dotted path. */
  readonly field: string | null;
  /** The row that it is about, from 0 within what was handed over. */
  readonly row: number | null;
  /** How often it was tried, the first try included; 0 where nothing was tried. */
  readonly attempts: number;
  /** Milliseconds from the first try to giving up. */
  readonly elapsedMs: number;
  /** The destination's own word, in milliseconds, on when to come back. */
  readonly retryAfterMs: number | null;
  /** Every mistake in the options, when the code is `CONFIG_INVALID`. */
  readonly issues: readonly ConfigIssue[];

  constructor(facts: ErrorFacts) {
    // An own `cause` that is undefined would be printed by Node as "[cause]: undefined".
    super(facts.message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.name = new.target.name;
    this.code = facts.code;
    this.retry = facts.retry ?? "never";
    this.operation = facts.operation ?? null;
    this.field = facts.field ?? null;
    this.row = facts.row ?? null;
    this.attempts = facts.attempts ?? 0;
    this.elapsedMs = facts.elapsedMs ?? 0;
    this.retryAfterMs = facts.retryAfterMs ?? null;
    this.issues = facts.issues ?? [];
  }

  /** All facts, without the stack. */
  toJSON(): ErrorJson {
    const causes: string[] = [];
    for (const cause of chainOf(this.cause)) causes.push(isError(cause) ? cause.message : String(cause));
    const { name, code, message, retry, operation, field, row, attempts, elapsedMs, retryAfterMs, issues } =
      this;
    return {
      name,
      code,
      message,
      retry,
      operation,
      field,
      row,
      attempts,
      elapsedMs,
      retryAfterMs,
      issues,
      causes,
    };
  }
}

/**
 * Whether something that was thrown is an error, of whatever realm: those of a test runner's or of `node:vm`'s are no
 * instances of our `Error`.
 */
export function isError(value: unknown): value is Error {
  return value instanceof Error || types.isNativeError(value);
}

/** What was thrown and its causes, outermost first. Bounded: somebody else's errors may be their own cause. */
export function* chainOf(thrown: unknown): Generator<unknown, void, undefined> {
  let error = thrown;
  for (let count = 0; error != null && count < MOST_CAUSES; count++) {
    yield error;
    error = isError(error) ? error.cause : undefined;
  }
}

const MOST_CAUSES = 16;

/** The options are wrong; `issues` lists every mistake. Code `CONFIG_INVALID`. */
export class ConfigError extends IngestError {}
/** What was asked of the handoff is not sound here. Code `HANDOFF_UNSAFE`. */
export class HandoffError extends IngestError {}
/** The batch is no batch, contradicts itself, or changed in flight. Codes `BATCH_INVALID`, `PAYLOAD_CHANGED`. */
export class BatchError extends IngestError {}
/**
 * Bytes of `sendBytes` that are not what they are said to be, break off, or cost more than allowed.
 * Codes `INPUT_INVALID`, `INPUT_TOO_LARGE`.
 */
export class InputError extends IngestError {}
/**
 * The destination cannot hold this schema exactly, or nobody says what the columns of rows are. Codes
 * `SCHEMA_MISMATCH`, `SCHEMA_REQUIRED`.
 */
export class SchemaError extends IngestError {}
/** The destination's own state. Codes `UNSUPPORTED`, `NOT_FOUND`, `TABLE_CORRUPT`, `RESOURCE_EXHAUSTED`, `CONFLICT`. */
export class DestinationError extends IngestError {}
/** Credentials. Codes `PERMISSION_DENIED`, `UNAUTHENTICATED`. */
export class AuthenticationError extends IngestError {}
/** The destination cannot be reached or broke off. Code `UNAVAILABLE`. */
export class ConnectionError extends IngestError {}
/** What became of deliveries. Codes `ROWS_REJECTED`, `UNDELIVERED`, `DEADLINE_EXCEEDED`, `ABORTED`. */
export class DeliveryError extends IngestError {}
/** The client is closed or closing. Code `CLOSED`. */
export class ClosedError extends IngestError {}
/**
 * The spool on the disk. Codes `SPOOL_LOCKED`, `SPOOL_FULL`, `SPOOL_FORMAT`, `SPOOL_FAILED`, `SPOOL_FOREIGN`,
 * `SPOOLED`.
 */
export class SpoolError extends IngestError {}
/** The native addon cannot be loaded. Code `NATIVE_UNAVAILABLE`. */
export class NativeError extends IngestError {}
/** A bug of ours; please report it. Code `INTERNAL`. */
export class InternalError extends IngestError {}

type ErrorClass = new (facts: ErrorFacts) => IngestError;

const CLASSES: { readonly [Code in ErrorCode]: ErrorClass } = {
  CONFIG_INVALID: ConfigError,
  HANDOFF_UNSAFE: HandoffError,
  BATCH_INVALID: BatchError,
  INPUT_INVALID: InputError,
  INPUT_TOO_LARGE: InputError,
  PAYLOAD_CHANGED: BatchError,
  SCHEMA_MISMATCH: SchemaError,
  SCHEMA_REQUIRED: SchemaError,
  UNSUPPORTED: DestinationError,
  NOT_FOUND: DestinationError,
  TABLE_CORRUPT: DestinationError,
  RESOURCE_EXHAUSTED: DestinationError,
  CONFLICT: DestinationError,
  PERMISSION_DENIED: AuthenticationError,
  UNAUTHENTICATED: AuthenticationError,
  UNAVAILABLE: ConnectionError,
  DEADLINE_EXCEEDED: DeliveryError,
  ABORTED: DeliveryError,
  ROWS_REJECTED: DeliveryError,
  UNDELIVERED: DeliveryError,
  CLOSED: ClosedError,
  SPOOL_LOCKED: SpoolError,
  SPOOL_FULL: SpoolError,
  SPOOL_FORMAT: SpoolError,
  SPOOL_FAILED: SpoolError,
  SPOOL_FOREIGN: SpoolError,
  SPOOLED: SpoolError,
  NATIVE_UNAVAILABLE: NativeError,
  INTERNAL: InternalError,
};

/** Every code, in the order of {@link ErrorCode}. */
export const ERROR_CODES: readonly ErrorCode[] = Object.keys(CLASSES) as ErrorCode[];

/** The error of the class that its code has. */
export function ingestError(facts: ErrorFacts): IngestError {
  return new CLASSES[facts.code](facts);
}

export const isErrorCode = (code: unknown): code is ErrorCode =>
  typeof code === "string" && Object.hasOwn(CLASSES, code);

/** An error of what {@link IngestError.toJSON} gave; its code must be one. */
export const errorFromJson = (json: unknown): IngestError => errorFromNative(json);

/**
 * An error as it crosses the native boundary → ours. A code from a newer addon than this file becomes
 * `INTERNAL`, with the unknown word in the message.
 */
export function errorFromNative(wire: unknown): IngestError {
  const given = (typeof wire === "object" && wire !== null ? wire : {}) as Record<string, unknown>;
  const known = typeof given.code === "string" && Object.hasOwn(CLASSES, given.code);
  const message = typeof given.message === "string" ? given.message : `the addon said: ${String(wire)}`;
  return ingestError({
    code: known ? (given.code as ErrorCode) : "INTERNAL",
    message: known || given.code === undefined ? message : `${String(given.code)}: ${message}`,
    retry: RETRY_CLASSES.find((retry) => retry === given.retry),
    operation: text(given.operation),
    field: text(given.field),
    row: number(given.row),
    attempts: number(given.attempts) ?? 0,
    elapsedMs: number(given.elapsedMs) ?? 0,
    retryAfterMs: number(given.retryAfterMs),
    issues: Array.isArray(given.issues) ? given.issues.filter(isIssue) : [],
    cause: Array.isArray(given.causes) ? chain(given.causes) : undefined,
  });
}

const isIssue = (issue: unknown): issue is ConfigIssue =>
  typeof (issue as Partial<ConfigIssue> | null)?.path === "string" &&
  typeof (issue as Partial<ConfigIssue>).message === "string";

const RETRY_CLASSES: readonly RetryClass[] = ["never", "transient", "throttled", "reauthenticate"];

/** Rust keeps causes as lines, outermost first; users follow `error.cause`. */
function chain(lines: readonly unknown[]): Error | undefined {
  let cause: Error | undefined;
  for (let i = lines.length - 1; i >= 0; i--) {
    cause = cause === undefined ? new Error(String(lines[i])) : new Error(String(lines[i]), { cause });
    // Made here, on the way up: the stack would point at this file and nowhere useful.
    cause.stack = `${cause.name}: ${cause.message}`;
  }
  return cause;
}

const text = (value: unknown): string | null => (typeof value === "string" ? value : null);
const number = (value: unknown): number | null => (typeof value === "number" ? value : null);
