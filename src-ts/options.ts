// What users may ask for: types alone.
//
// Invariant: no default lives here. Rust's are in `src-rs/config.rs`; "Default:" below is a quote. What is checked
// before it crosses to Rust is in `options/checks.ts`.

import type { Schema } from "apache-arrow";
import type { IngestError } from "./errors.js";
import type { HandoffMode } from "./handoff/call-buffer.js";
import type { TransmissionResult } from "./result.js";
import type { StandardSchema } from "./schema.js";

/**
 * A span of time: milliseconds as a number, or a string with units such as `"50ms"`, `"5m"`, `"1h 30m"`.
 */
export type Duration =
  | number
  | `${number}${"ns" | "us" | "ms" | "s" | "sec" | "m" | "min" | "h" | "hr" | "d"}`
  | `${number}${string} ${number}${string}`;

/**
 * An amount of memory: bytes as a number, or a string with units such as `"8MiB"` (1024-based) or
 * `"8MB"` (1000-based).
 */
export type ByteSize =
  | number
  | `${number}${"" | " "}${"B" | "KB" | "MB" | "GB" | "TB" | "KiB" | "MiB" | "GiB" | "TiB" | "k" | "M" | "G"}`;

export type { HandoffMode };

/** When rows that were admitted become a write. A write is full at whichever comes first. */
export interface BatchingOptions {
  /** Rows of a write. Default: 65,536. */
  readonly maxRows?: number;
  /** Bytes of a write. Default: 8 MiB. */
  readonly maxBytes?: ByteSize;
  /** How long rows may wait for company. Default: 50 ms. */
  readonly linger?: Duration;
}

/** What may be under way at once. */
export interface InflightOptions {
  /**
   * Bytes admitted and not settled. Past it, `send` and `enqueue` wait; a batch above the whole budget is
   * admitted alone. Default: 256 MiB.
   */
  readonly maxBytes?: ByteSize;
  /** JavaScript memory held, by distinct ArrayBuffer; past it batches are copied. Default: 4 × `maxBytes`. */
  readonly maxPinnedBytes?: ByteSize;
  /** Writes handed to the destination and not acknowledged. Default: 1,024. */
  readonly maxWrites?: number;
}

/** What a {@link RetryPredicate} gets beside the error. */
export interface RetryAttempt {
  /** Tries so far, the first included. */
  readonly attempts: number;
  /** Milliseconds since the first one. */
  readonly elapsedMs: number;
}

/**
 * Whether to try again: asked after each failure that would be tried again, of connecting and of writes, once
 * for all writes that it hit and that were tried equally often. `false` ends it: connecting fails, or the
 * deliveries do, with that error. It is never asked where trying again cannot help, where the limits of
 * `retry` are reached, or where a connection ended as it was to; so it can end tries, and never add one.
 *
 * If it throws or rejects, gives something else than a boolean or gives it too late, what would have been is:
 * another try, and a line in the log. While it thinks, nothing is sent, and what reaches the deadline of `retry`
 * meanwhile fails.
 *
 * @example
 * ```ts
 * retry: { when: (error, { attempts }) => error.code !== "RESOURCE_EXHAUSTED" || attempts < 2 },
 * ```
 */
export type RetryPredicate = (error: IngestError, attempt: RetryAttempt) => boolean | PromiseLike<boolean>;

/** How failures are tried again: of connecting, and of each write. */
export interface RetryOptions {
  /** Tries, the first included. Default: 5. */
  readonly attempts?: number;
  /** Before the second try; doubles from there, with jitter. Default: 100 ms. */
  readonly baseDelay?: Duration;
  /** No wait is longer. Default: 30 s. */
  readonly maxDelay?: Duration;
  /**
   * For how long a delivery is tried: no new try begins later than this after it was admitted, or after the
   * destination's last acknowledgement where that is later. Of connecting: from the first try. Default: 5 min.
   */
  readonly deadline?: Duration;
  /** What becomes of later writes when one has failed for good. Default: `"continue"`. */
  readonly onExhausted?: "continue" | "stop";
  /** Asked before another try; `false` ends it. Default: all that may help is tried. */
  readonly when?: RetryPredicate;
  /** For an answer of `when`. Default: 5 s. */
  readonly whenTimeout?: Duration;
}

/**
 * Told what became of each delivery, however it was sent: called on the JavaScript thread when it is settled,
 * and before `close` settles. What a listener throws or rejects with is a line in the log and changes no outcome.
 * Only `close` waits for promises that listeners return: for those of `onFailed`, until its deadline.
 *
 * @example
 * ```ts
 * listeners: {
 *   onAcknowledged: ({ rows }) => delivered.add(rows),
 *   onFailed: (result) => alarm(result.status, result.error),
 * },
 * ```
 */
export interface ResultListeners {
  /** `result.success` is true. */
  onAcknowledged?(result: TransmissionResult): unknown;
  /**
   * All other results: partial, failed and unknown. A result that it took counts as read, so {@link
   * IngestClient.close} does not reject for it; one that it threw or rejected at does not, nor one at which it
   * is still busy at the deadline of `close`.
   */
  onFailed?(result: TransmissionResult): unknown;
}

/**
 * How rows that make a destination refuse a write are looked for: the write is tried in halves until they are
 * alone. Only where a refusal is known to have kept nothing (for Flight: `flight.atomicRefusals`); elsewhere, and
 * when disabled, all rows of the write fail.
 */
export interface QuarantineOptions {
  /** Default: true. */
  readonly enabled?: boolean;
  /** Refusals that may be spent on one delivery; then what is undecided of it fails. Default: 1,000. */
  readonly maxAttempts?: number;
  /** Of one search. Then what is undecided fails, and one more try is made with the rest. Default: 1 min. */
  readonly deadline?: Duration;
}

/**
 * Keeps refused rows as Arrow files; read them with `listDeadLetters` and `readDeadLetter`. The outcome of a
 * delivery is told when its refused rows are on the disk.
 */
export interface DeadLetterOptions {
  /** Made if it does not exist. Several clients may share it. */
  readonly directory: string;
  /** A file is closed at this size, or when nothing came for a second. Default: 64 MiB. */
  readonly maxFileBytes?: ByteSize;
  /** Of all files; the oldest are removed first, with a line in the log. Default: 1 GiB. */
  readonly maxBytes?: ByteSize;
  /** Default: 1,000. */
  readonly maxFiles?: number;
  /** Older files are removed, whenever a file is closed. Default: never. */
  readonly maxAge?: Duration;
}

/**
 * Records what was handed over in files, to look for a fault: each delivery once, in the order of admission, whatever
 * becomes of it; with `discard:` it is a dry run. Nothing waits for it: rows that come faster than the disk takes them,
 * with 64 MiB in a queue, are left out and counted in `stats().capture`.
 */
export interface CaptureOptions {
  /** Made if it does not exist. Several clients may share it. */
  readonly directory: string;
  /** Arrow IPC files, Arrow IPC streams, or a line of JSON for each row. Default: `"arrow-file"`. */
  readonly format?: "arrow-file" | "arrow-stream" | "ndjson";
  /** A file is closed at this size. Default: 64 MiB. */
  readonly maxFileBytes?: ByteSize;
  /** A file is closed at this age. Default: 1 min. */
  readonly rotateAfter?: Duration;
  /** The oldest are removed first. Default: 16. */
  readonly maxFiles?: number;
  /** Older files are removed, whenever a file is closed. Default: never. */
  readonly maxAge?: Duration;
  /** The part of the deliveries that is recorded, spread evenly: above 0, at most 1. Default: 1. */
  readonly sample?: number;
}

/** How batches cross into Rust. */
export interface HandoffOptions {
  /** Default: `"auto"`. */
  readonly mode?: HandoffMode;
  /**
   * For development: digests pinned bytes at handoff and again at settlement; a batch that was changed in
   * between gets `PAYLOAD_CHANGED`. Costs a pass over all bytes on the JavaScript thread. Default: false.
   */
  readonly verifyPayload?: boolean;
}

/** For `delta:` targets. */
export interface DeltaOptions {
  /** Columns that a new table is partitioned by. Default: none. */
  readonly partitionBy?: readonly string[];
  /** Of the Parquet files. Default: `"snappy"`. */
  readonly compression?: "none" | "snappy" | "zstd" | "lz4";
  /** A file is closed, and committed, at this size. Default: 128 MiB. */
  readonly targetFileSize?: ByteSize;
  /**
   * The longest that rows wait for their commit. Default: 1 s. A `send` to a table that has been quiet for so long is
   * committed at once, any other by then. `0` commits each write: every `send` is durable in milliseconds, at the
   * price of a table version for each. Longer: fewer versions and larger files.
   */
  readonly commitInterval?: Duration;
  /** `"merge"` adds new nullable columns to the table. Default: `"none"`. */
  readonly schemaEvolution?: "none" | "merge";
  /** Options of the object store (credentials, endpoint, …), by the store's own names. Never logged. */
  readonly storage?: Readonly<Record<string, string | number | boolean>>;
}

/** A span, as OpenTelemetry has it: what this package calls of one. Times are milliseconds since 1970. */
export interface TelemetrySpan {
  spanContext(): {
    readonly traceId: string;
    readonly spanId: string;
    readonly traceFlags: number;
    readonly traceState?: { serialize(): string } | undefined;
  };
  setAttribute(name: string, value: string | number | boolean): unknown;
  setAttributes(attributes: Record<string, string | number | boolean>): unknown;
  addEvent(name: string, attributes?: Record<string, string | number | boolean>, atMs?: number): unknown;
  setStatus(status: { readonly code: number; readonly message?: string }): unknown;
  end(atMs?: number): void;
  /** A span that says no is not used. */
  isRecording?(): boolean;
}

/** What makes spans: a `Tracer` of OpenTelemetry fits. */
export interface TelemetryTracer {
  startSpan(name: string, options?: object, context?: TelemetryContext): TelemetrySpan;
}

/** What durations and sizes are recorded with. */
export interface TelemetryHistogram {
  record(value: number, attributes?: Record<string, string | number | boolean>): void;
}

/** What makes instruments: a `Meter` of OpenTelemetry fits. */
export interface TelemetryMeter {
  createHistogram(name: string, options?: object): TelemetryHistogram;
  createObservableCounter(name: string, options?: object): object;
  createObservableGauge(name: string, options?: object): object;
  addBatchObservableCallback(
    read: (observer: {
      observe(
        instrument: object,
        value: number,
        attributes?: Record<string, string | number | boolean>,
      ): void;
    }) => void,
    instruments: object[],
  ): void;
}

/** A context of OpenTelemetry, as `context.active()` gives it. */
export interface TelemetryContext {
  getValue(key: symbol): unknown;
}

/**
 * OpenTelemetry, through the `@opentelemetry/api` that is installed beside this package, if any, or through what is
 * given here. With one of `tracer` and `meter` given, only what is given is used, and no package is looked for.
 *
 * @example
 * ```ts
 * telemetry: { tracer: provider.getTracer("ingest"), meter: meters.getMeter("ingest") },
 * ```
 */
export interface TelemetryOptions {
  /** Default: true. Nothing is paid while no OpenTelemetry SDK is registered. */
  readonly enabled?: boolean;
  /** Makes spans. */
  readonly tracer?: TelemetryTracer;
  /** Makes instruments, once for all clients that are given it. */
  readonly meter?: TelemetryMeter;
}

/**
 * Receives what the client has to say. `console` and winston fit, and each method gets a line and an object of
 * facts; so do pino (and Fastify's `app.log`) and bunyan, which are recognised and get the object first, as they
 * want it. What a method throws or rejects with is swallowed. A logger that captures the client keeps it from being
 * collected, and so from being ended, where it is dropped without `close()`.
 *
 * A logger that wants something else takes an adapter:
 *
 * @example
 * ```ts
 * logger: { warn: (message, fields) => log.write({ level: "warn", message, ...fields }) },
 * ```
 */
export interface Logger {
  debug?(message: string, fields: Record<string, unknown>): unknown;
  info?(message: string, fields: Record<string, unknown>): unknown;
  warn?(message: string, fields: Record<string, unknown>): unknown;
  error?(message: string, fields: Record<string, unknown>): unknown;
}

/** The destinations `grpc:`, `grpc+tls:`, `grpc+unix:` and `flightsql:`. */
export interface FlightOptions {
  /**
   * What makes a write count as durable. `"stream"`: the server ended the stream well; streams are ended at
   * `flush`, `close`, half the budget and `commitInterval`. `"part"`: the server answers every part, in order.
   * `"cumulative"`: the server says how far it got, as `specs/flight-ack.md` has it. Default: `"stream"`.
   */
  readonly acknowledgement?: "stream" | "part" | "cumulative";
  /** Streams in parallel; order is kept within each. Default: 1. */
  readonly streams?: number;
  /** Of the buffers of a message. Default: `"none"`. */
  readonly compression?: "none" | "lz4" | "zstd";
  /** The largest message that the server takes. Default: 4 MiB. */
  readonly maxMessageSize?: ByteSize;
  /** Instead of the path in the URL: another path, or a command as text or as base64. Exactly one. */
  readonly descriptor?:
    | { readonly path: readonly string[] }
    | { readonly command: string }
    | { readonly commandBase64: string };
  /** How long rows may wait for the end of their stream. Default: 1 s. `send` is urgent, as with `delta`. */
  readonly commitInterval?: Duration;
  /**
   * Promise that the server keeps nothing of what it refuses for its data: of the stream, and by `"part"` of the
   * part and all that follows. Rows at fault are then looked for (see {@link QuarantineOptions}) with one
   * stream and any acknowledgement but `"cumulative"`. Default: false.
   */
  readonly atomicRefusals?: boolean;
  /**
   * Silence after which the server is asked, by a ping of HTTP/2, whether it is still there; 0 never asks. Servers
   * in C++, Go and Python hang up on a client that asks more than once in five minutes, unless they are told
   * otherwise; a client that was hung up on for it asks less often from then on. A machine that is gone is found
   * by TCP within two minutes, whatever this says. Default: 5 min 30 s.
   */
  readonly keepAlive?: Duration;
  /** Of one try at a connection, and for each answer that begins a session or a transaction. Default: 10 s. */
  readonly connectTimeout?: Duration;
  /**
   * How long the server may owe an answer before the connection counts as stuck: from the end of a stream, from a
   * part that it has to answer, or from the last answer since; and how long it may take nothing of what is sent.
   * Rows that were sent are then in doubt: they are sent again as `retry` allows, and may be held twice but by
   * `"cumulative"`. Default: 5 min.
   */
  readonly acknowledgementTimeout?: Duration;
  /** Dictionary-encoded columns: sent as plain values, or as dictionary batches. Default: `"hydrate"`. */
  readonly dictionaries?: "hydrate" | "keep";
  /** The basic-auth handshake of Flight. Never logged. */
  readonly auth?: { readonly username: string; readonly password: string };
}

/**
 * The destination `zerobus:`. Without headers of your own, `unityCatalogUrl`, `clientId` and `clientSecret`
 * are needed, from here or from the environment. No secret is ever logged.
 */
export interface ZerobusOptions {
  /**
   * The workspace's address: where tokens and the table's schema are asked for. `https`, or `http` on this
   * machine. Default: `ZEROBUS_UNITY_CATALOG_URL`, `DATABRICKS_HOST` or `DATABRICKS_WORKSPACE_URL`.
   */
  readonly unityCatalogUrl?: string;
  /** Of a service principal. Default: `ZEROBUS_CLIENT_ID` or `DATABRICKS_CLIENT_ID`. */
  readonly clientId?: string;
  /** Never logged. Default: `ZEROBUS_CLIENT_SECRET` or `DATABRICKS_CLIENT_SECRET`. */
  readonly clientSecret?: string;
  /** Of the buffers of a message. Default: `"zstd"`. */
  readonly compression?: "none" | "lz4" | "zstd";
  /** Batches sent and not acknowledged, after which writing waits. Default: 1000. */
  readonly maxInflightBatches?: number;
  /** Of one try at a token, at the table's schema and at a stream, each. Default: 30 s. */
  readonly connectTimeout?: Duration;
  /** How long a batch may wait for its acknowledgement before the stream counts as stuck. Default: 60 s. */
  readonly acknowledgementTimeout?: Duration;
  /**
   * How long to stay away when the service asks for a pause (error 6006) and does not say how long; up to
   * half of it comes on top. Default: 60 s.
   */
  readonly pause?: Duration;
  /** The service keeps nothing of a batch that it refuses. Default: true. */
  readonly atomicRefusals?: boolean;
}

/**
 * Certificates of `grpc+tls:` and `zerobus:` (its token endpoint and Unity Catalog included), as PEM text or as the
 * path of a file of it.
 */
export interface TlsOptions {
  /**
   * The authorities that may sign the server's certificate, and the only ones. Default: those of the system and
   * the bundled ones, which serve alone where the system has none.
   */
  readonly ca?: string;
  /** With `key`: the client's own. */
  readonly cert?: string;
  /** Never logged. */
  readonly key?: string;
  /** The name that the server's certificate must have, when it is not that of the URL. */
  readonly serverName?: string;
}

/** What a {@link HeadersProvider} gets. */
export interface HeadersRequest {
  /**
   * `"connect"`: a connection is about to be made. `"unauthenticated"`: so it is, because the last try failed
   * for its credentials; what is cached should be made anew.
   */
  readonly reason: "connect" | "unauthenticated";
}

/**
 * Gives headers that change, such as a token: by name, strings of visible ASCII. Asked before each connection
 * to a server is made, also after it was lost and after `UNAUTHENTICATED`; once, however many wait for it.
 *
 * If it throws or rejects, or does not answer in time, connecting fails with `UNAUTHENTICATED` and is tried
 * again as `retry` allows; the messages of what it threw are the causes of that error. If it gives something
 * else than an object of strings, or headers that cannot be sent: `CONFIG_INVALID`.
 *
 * @example
 * ```ts
 * headers: async ({ reason }) => ({
 *   authorization: `Bearer ${await tokens.get({ fresh: reason === "unauthenticated" })}`,
 * }),
 * ```
 */
export type HeadersProvider = (
  request: HeadersRequest,
) => Readonly<Record<string, string>> | PromiseLike<Readonly<Record<string, string>>>;

/** A {@link HeadersProvider} with a limit to its time. */
export interface HeadersOptions {
  readonly provider: HeadersProvider;
  /** For an answer. Default: 10 s. */
  readonly timeout?: Duration;
}

/** A `Schema` of another copy or version of `apache-arrow`. */
export interface ForeignSchema {
  readonly fields: readonly { readonly name: string; readonly type: object; readonly nullable: boolean }[];
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * What says the columns: `t.schema(…)`, a `Schema` of any copy of `apache-arrow`, or a Standard JSON Schema (Zod,
 * ArkType, Valibot; by itself where JSON Schema can say all types, else by `t.fromStandard`).
 */
export type SchemaInput = Schema | ForeignSchema | StandardSchema;

/** Options of {@link connect}. All are optional; every mistake in them is reported at once. */
export interface ConnectOptions {
  readonly batching?: BatchingOptions;
  readonly inflight?: InflightOptions;
  readonly retry?: RetryOptions;
  /** `false` is short for `{ enabled: false }`. */
  readonly quarantine?: boolean | QuarantineOptions;
  /** Default: refused rows are in the result and nowhere else. */
  readonly deadLetter?: DeadLetterOptions;
  /** Default: none. What was admitted is gone when the process is. */
  readonly spool?: SpoolOptions;
  /** Default: nothing is recorded. */
  readonly capture?: CaptureOptions;
  /** A mode alone is short for `{ mode }`. */
  readonly handoff?: HandoffMode | HandoffOptions;
  readonly delta?: DeltaOptions;
  readonly flight?: FlightOptions;
  /**
   * Sent with every call to a network destination: known beforehand, or asked for. Values of visible ASCII; names
   * that the protocols set themselves (`host`, `te`, `content-length`, `grpc-…`) are refused. Never logged.
   */
  readonly headers?: Readonly<Record<string, string>> | HeadersProvider | HeadersOptions;
  readonly zerobus?: ZerobusOptions;
  readonly tls?: TlsOptions;
  /** Create the destination when it does not exist. Default: true. */
  readonly createIfMissing?: boolean;
  /** The schema to come, for those who know it: the table is opened, checked or created by it at once. */
  readonly schema?: SchemaInput;
  /** Told what became of each delivery. */
  readonly listeners?: ResultListeners;
  readonly telemetry?: TelemetryOptions;
  readonly logger?: Logger;
  /** Gives up connecting. It has no effect once `connect` has settled. */
  readonly signal?: AbortSignal;
  /**
   * Where `ARROW_INGEST_*` and what `${env:…}` refers to are looked up: `false` for nowhere, or an object in place of
   * `process.env`. What the call gives goes before. In a call alone. Default: true.
   */
  readonly environment?: boolean | Readonly<Record<string, string | undefined>>;
}

/** Options of {@link connectFrom}: those of {@link connect} go before what the file says. */
export interface ConnectFromOptions extends ConnectOptions {
  /** The destination, instead of the one in the environment or in the file. */
  readonly url?: string | URL;
}

/**
 * A log on the disk that every delivery goes to first, and from which it is delivered. What is in it survives the end of
 * the process, and an outage of the destination fills it in place of the memory.
 */
export interface SpoolOptions {
  /** Where spools are; each has a folder of its name there. It is made if it is missing. */
  readonly directory: string;
  /** Letters, digits, `-`, `_` and `.`. One client at a time has a spool open. Default: "default". */
  readonly name?: string;
  /**
   * When a delivery counts as being in the spool. `"synced"`: its bytes are on the disk and survive a power cut.
   * `"written"`: the system has them, and they survive the end of the process. Default: "synced".
   */
  readonly durability?: "synced" | "written";
  /** Of all files together, those of failed deliveries and dead letters included. Default: what the disk has. */
  readonly maxBytes?: ByteSize;
  /** So much of the disk is left free. Default: 0. */
  readonly minFreeBytes?: ByteSize;
  /** A new file is begun once one has grown to this. Default: 64 MiB. */
  readonly segmentBytes?: ByteSize;
  /** What becomes of a delivery for which there is no room: it waits, or fails with `SPOOL_FULL`. Default: "wait". */
  readonly whenFull?: "wait" | "reject";
  /** Of what is on the disk. Default: "none". */
  readonly compression?: "none" | "lz4" | "zstd";
}

/** How rows are read. Of what was given as Arrow, none of it has an effect. */
export interface RowReadingOptions {
  /**
   * What the columns of rows, and of an object of columns, are. Arrow data, and tables of other libraries that know their
   * types, have a schema of their own. Default: the schema of `connect`, else the table's own.
   */
  readonly schema?: SchemaInput;
  /**
   * What becomes of rows with keys that the schema does not know: refused, or taken without them. Default: `"reject"`.
   */
  readonly unknownKeys?: "reject" | "drop";
  /**
   * What becomes of rows that do not fit. `"reject-row"`: they are refused alone, and the others go. `"reject-delivery"`:
   * nothing of their delivery is sent, and its result is `failed`; no dead letters are kept of it. Default:
   * `"reject-row"`.
   */
  readonly onInvalid?: "reject-row" | "reject-delivery";
}

/** Options of one {@link IngestClient.send} or {@link IngestClient.enqueue}. */
export interface SendOptions extends RowReadingOptions {
  /** For this call alone. Default: the client's. */
  readonly handoff?: HandoffMode;
  /**
   * Before admission: the call rejects with the signal's reason and nothing is sent. After it: the outcome is
   * `failed` if nothing was written yet, else `unknown` at once, while the delivery goes on. With a spool it ends the
   * wait of `send`: the result is `spooled`, and the delivery goes on, or `failed` if the spool had no room for it yet.
   * What was enqueued is taken back, and the outcome comes when that is as durable as the batch was.
   */
  readonly signal?: AbortSignal;
  /**
   * The context of OpenTelemetry under which its span is made, for those who queue work and hand it over later.
   * Default: the one that is active.
   */
  readonly context?: TelemetryContext;
}

/** Options of {@link IngestClient.events}. */
export interface EventsOptions {
  /** Ends the iteration, without an error. */
  readonly signal?: AbortSignal;
}

/** Options of {@link IngestClient.sendAll}. */
export interface SendAllOptions extends SendOptions {}

/** Options of {@link IngestClient.rows}. */
export interface RowWriterOptions {
  /** As {@link RowReadingOptions.unknownKeys}. */
  readonly unknownKeys?: "reject" | "drop";
  /** For all rows of the writer. Default: the client's. */
  readonly handoff?: HandoffMode;
}

/** Options of one {@link RowWriter.send}. */
export interface SendRowOptions {
  /**
   * Before the row is handed over: the call rejects with the signal's reason, and the row is taken out. After it: no
   * effect, as the row is on its way with others.
   */
  readonly signal?: AbortSignal;
}

/** Options of {@link IngestClient.writable}. */
export interface WritableOptions extends RowReadingOptions {
  /** For all batches of the stream. Default: the client's. */
  readonly handoff?: HandoffMode;
}

/** Options of {@link IngestClient.close}. */
export interface CloseOptions {
  /** The longest to wait for what was admitted; it also caps retries. Default: 30 s. */
  readonly deadline?: Duration;
}
