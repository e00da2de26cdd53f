// The client as users see it.
//
// Invariants:
// - Misuse rejects. What became of a delivery is a value.
// - `connect` gives an open client; where it rejects, nothing is left open.
//
// client/core.ts has how calls wait, settle and end. Neither retries deliveries: the transmitter does.

/// <reference lib="es2024.promise" />
/// <reference lib="es2024.arraybuffer" />

import type { Schema } from "apache-arrow";
import { type NativeVersion, nativeVersion } from "./binding.js";
import { Core } from "./client/core.js";
import { open } from "./client/open.js";
import { RowWriter } from "./client/row-writer.js";
import { sendAll } from "./client/send-all.js";
import { type BytesResult, type SendBytesOptions, sendBytes } from "./client/send-bytes.js";
import { writable } from "./client/writable.js";
import { type Configured, configure, placed } from "./configuration.js";
import type { BytesSource } from "./decode.js";
import { Delivery, type UnsettledDelivery } from "./delivery.js";
import { ConfigError, type ConfigIssue } from "./errors.js";
import { isSchema } from "./handoff/arrow.js";
import { pinningIsSound } from "./handoff/memory.js";
import type { ClientEvent, Profile } from "./observation.js";
import {
  checkEventsOptions,
  checkNames,
  configInvalid,
  describe,
  groupsOfOthers,
  type SplitOptions,
  splitOptions,
  withOurNames,
} from "./options/checks.js";
import type {
  CloseOptions,
  ConnectFromOptions,
  ConnectOptions,
  EventsOptions,
  RetryOptions,
  RowWriterOptions,
  SchemaInput,
  SendAllOptions,
  SendOptions,
  TelemetryOptions,
  WritableOptions,
} from "./options.js";
import type { TransmissionResult } from "./result.js";
import { type RowOf, type RowSchema, toSchema } from "./schema.js";
import type { BatchInput, BatchSource, RowSource } from "./source.js";
import { loadApi, type StatNumbers, Telemetry } from "./telemetry.js";

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
    /** With a spool: left in it, without an outcome. */
    readonly spooled: number;
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
    /** Refused for rows that were then looked for. */
    readonly refused: number;
    /** Now: sent and not acknowledged. */
    readonly inWindow: number;
  };
  /**
   * Refused rows that are on the disk, that could not be put there, files removed to make room, and files that
   * were found damaged and set aside.
   */
  readonly deadLetters: {
    readonly kept: number;
    readonly failed: number;
    readonly filesRemoved: number;
    readonly filesDamaged: number;
  };
  /**
   * Rows in capture files, rows left out because the disk was slower than what was sent, rows that could not be
   * recorded, and files removed by `capture.maxFiles` and `maxAge`.
   */
  readonly capture: {
    readonly rowsWritten: number;
    readonly rowsDropped: number;
    readonly rowsFailed: number;
    readonly filesRemoved: number;
  };
  readonly sessions: {
    readonly opened: number;
    readonly broken: number;
    /** Of the broken ones: ended because the destination asked for another one. */
    readonly rotated: number;
  };
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
    /** Failures of a session after which all that was not acknowledged was tried again. */
    readonly tries: number;
    /** Of these, those at which the destination asked for patience. */
    readonly pauses: number;
    /** Now: milliseconds between the last failure and the next try; 0 once a session is open again. */
    readonly delayMs: number;
  };
  /** Null without a spool. */
  readonly spool: SpoolStats | null;
}

/** The spool, in {@link ClientStats}. Now, unless said otherwise. */
export interface SpoolStats {
  /** On the disk: the log, failed deliveries and dead letters. */
  readonly bytes: number;
  /** Rows that are not delivered. */
  readonly rows: number;
  /** Milliseconds since the oldest of them came, as far as they are being delivered; null if none is. */
  readonly oldestMs: number | null;
  /** Nothing is delivered, because the destination fails; it is tried again and again. */
  readonly paused: boolean;
  /** Since `connect`: bytes that could not be read, and were set aside. */
  readonly damagedBytes: number;
  /** What an earlier client had left when this one was opened. */
  readonly recovered: RecoveredSpool;
}

/** What was in the spool when it was opened. */
export interface RecoveredSpool {
  readonly deliveries: number;
  readonly rows: number;
  readonly bytes: number;
  /** How old the oldest of them was when the spool was opened, in milliseconds; null if there were none. */
  readonly oldestMs: number | null;
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

/**
 * Connects to a destination.
 *
 * What is not given in the call is taken from the environment (`ARROW_INGEST_*`), then from the file that
 * `ARROW_INGEST_CONFIG` names, then from the defaults, option by option: `docs/configuration.md` has the names.
 *
 * @param url `delta:./path`, `delta:s3://bucket/table`, `discard:`. Never a secret in it. Default: `ARROW_INGEST_URL`,
 * then `url` of the file.
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
export async function connect(url?: string | URL, options?: ConnectOptions): Promise<IngestClient> {
  const configured = configure({ url, options });
  return start(configured instanceof Promise ? await configured : configured);
}

/**
 * Connects as a file says, `.json`, `.yaml`, `.yml` or `.toml`: the options of {@link connect}, and `url`. Options of
 * the call go before the environment, and that before the file. `${env:NAME}` and `${file:PATH}` in the file's texts
 * stand for secrets that are elsewhere; paths begin at the file's directory.
 *
 * @throws {IngestError} As {@link connect}; each of `issues` has the file's line in `source`.
 *
 * @example
 * ```ts
 * await using client = await connectFrom("ingest.yaml", { logger: console });
 * ```
 */
export async function connectFrom(file: string | URL, options?: ConnectFromOptions): Promise<IngestClient> {
  if (typeof file !== "string" && !(file instanceof URL))
    throw configInvalid(
      [{ path: "file", message: `must be a path or a URL, not ${describe(file)}` }],
      "connectFrom",
    );
  if (typeof options !== "object" || options === null) return start(await configure({ file, options }));
  const { url, ...others } = options;
  return start(await configure({ file, url, options: others }));
}

async function start(configured: Configured): Promise<IngestClient> {
  const split = splitOptions(configured.options);
  const { signal } = split;
  if (split.issues.length + configured.issues.length === 0) signal?.throwIfAborted();
  const [core, version, schema] = await prepare(configured, split);
  try {
    const url = String(configured.url);
    const others = groupsOfOthers(url, configured.call.options as ConnectOptions | undefined);
    if (others.length > 0)
      core.log("warn", "options of another destination have no effect", { options: others });
    const endless = split.spooled ? retryLimits(split.retry) : [];
    if (endless.length > 0)
      core.log("warn", "with a spool, deliveries are tried until they pass: these have no effect on them", {
        options: endless,
      });
    if (schema !== undefined) core.expect(schema);
    core.telemetry = await telemetryOf(split.telemetry, core, url, version.version);
    await core.connecting(() => open((operation) => core.binding.open(operation), core, split.retry, signal));
    return new IngestClient(core, version);
  } catch (error) {
    core.abandon();
    throw error;
  }
}

/** The options that end a delivery which is in no spool. */
function retryLimits(retry: RetryOptions): string[] {
  const names = ["attempts", "deadline", "onExhausted", "when"] as const;
  return names.filter((name) => retry[name] !== undefined).map((name) => `retry.${name}`);
}

async function prepare(
  configured: Configured,
  split: SplitOptions,
): Promise<[Core, NativeVersion, object | undefined]> {
  const { url } = configured;
  let issues = [...configured.issues, ...split.issues];
  const isTarget = typeof url === "string" || url instanceof URL;
  if (url === undefined || url === null) issues.push({ path: "url", message: NO_TARGET });
  else if (!isTarget)
    issues.push({ path: "url", message: `must be a string or a URL, not ${describe(url)}` });
  const schema = schemaToCome(split.schema, issues);
  const version = await nativeVersion();
  try {
    // Rust looks at its part even when ours is wrong: all mistakes at once.
    const core = await Core.create(isTarget ? String(url) : "discard:", split);
    if (issues.length === 0) return [core, version, schema];
    core.abandon();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const ours = configured.places.size > 0;
    if (error.issues.length === 0 && issues.length === 0 && !ours) throw error;
    // A mistake in the target has no path of its own.
    if (error.issues.length === 0) issues.push({ path: "url", message: error.message });
    issues = [...issues, ...withOurNames(error.issues)];
  }
  throw configInvalid(placed(issues, configured), "connect");
}

const NO_TARGET =
  "is missing: give it in the call, as ARROW_INGEST_URL, or as url in the file that ARROW_INGEST_CONFIG names";

/** The schema to come, of whatever copy of `apache-arrow`; its mistakes go to `issues`. */
function schemaToCome(given: unknown, issues: ConfigIssue[]): object | undefined {
  if (given === undefined || isSchema(given)) return given;
  try {
    const schema = toSchema(given);
    if (schema !== undefined) return schema;
    const message = `must be t.schema(…), a Schema of apache-arrow or a Standard JSON Schema, not ${describe(given)}`;
    issues.push({ path: "schema", message });
  } catch (error) {
    // Nothing but mistakes in the schema comes from there.
    for (const { path, ...rest } of (error as ConfigError).issues)
      issues.push({ path: path === "schema" ? path : `schema.${path}`, ...rest });
  }
  return undefined;
}

async function telemetryOf(
  { enabled, tracer, meter }: TelemetryOptions,
  core: Core,
  url: string,
  version: string,
): Promise<Telemetry | undefined> {
  if (enabled === false) return undefined;
  // What was given is all that is used: nothing global, and nothing that would have to be loaded.
  const api = tracer === undefined && meter === undefined ? await loadApi() : undefined;
  if (api === undefined && tracer === undefined && meter === undefined) return undefined;
  return new Telemetry({
    api,
    tracer,
    meter,
    version,
    url,
    client: core.events.client,
    stats: () => core.stats() as unknown as StatNumbers,
    follow: (writes) => core.binding.follow(writes),
    carry: (parent, state) => core.binding.trace(parent, state),
  });
}

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
      runtime: { node: process.versions.node, pinning: pinningIsSound() },
    };
  }

  /**
   * Sends one batch, table or array of rows and waits for its outcome.
   *
   * It is urgent, because you wait: on a destination that was quiet for its `commitInterval`, it is written and
   * committed at once, together with everything admitted before and in the same turn of the event loop (a local
   * Delta table: some milliseconds). Otherwise it is committed at the interval, by default within about a second, so
   * a loop that awaits each `send` takes an interval for each. For throughput use {@link enqueue} or {@link sendAll};
   * choose `commitInterval: 0` where every call has to be durable at once and a table version for each is no trouble.
   *
   * Rows are objects with the columns as keys (`docs/rows.md`). One that does not fit its schema is refused alone, and the
   * result is `partial`; `onInvalid` says otherwise. They are read while the call is under way: change none of them
   * before it settles.
   *
   * @returns What became of it. A failed delivery is a result, too, and rejects nothing.
   * @throws {IngestError} `BATCH_INVALID`, `HANDOFF_UNSAFE`, `CONFIG_INVALID`, `CLOSED`; of rows, `SCHEMA_REQUIRED` and,
   * for a column that rows cannot fill, `SCHEMA_MISMATCH`; or the reason of the signal, if it was aborted before
   * admission. Nothing was sent then.
   */
  send(batch: BatchInput, options?: SendOptions): Promise<TransmissionResult>;
  send<S extends RowSchema>(
    rows: readonly RowOf<S>[],
    options: SendOptions & { readonly schema: S },
  ): Promise<TransmissionResult>;
  send(rows: readonly object[], options?: SendOptions): Promise<TransmissionResult>;
  async send(input: BatchInput | readonly object[], options?: SendOptions): Promise<TransmissionResult> {
    const taken = this.#core.take(input, options, "send");
    const delivery = taken instanceof Promise ? await taken : taken;
    return delivery.promise;
  }

  /**
   * Sends one batch, table or array of rows and waits until it is admitted, or, with a spool, until it is on the disk:
   * that wait is the back-pressure.
   *
   * @returns Its number, and the promise of its outcome. The failure of a delivery whose result nobody reads
   * makes {@link close} reject.
   * @throws {IngestError} As {@link send}; with a spool also what the disk says, such as `SPOOL_FULL`.
   */
  enqueue(batch: BatchInput, options?: SendOptions): Promise<Delivery>;
  enqueue<S extends RowSchema>(
    rows: readonly RowOf<S>[],
    options: SendOptions & { readonly schema: S },
  ): Promise<Delivery>;
  enqueue(rows: readonly object[], options?: SendOptions): Promise<Delivery>;
  enqueue(input: BatchInput | readonly object[], options?: SendOptions): Promise<Delivery> {
    // Not an async function: most calls are admitted at once, and need no frame to come back to.
    try {
      const taken = this.#core.take(input, options, "enqueue");
      if (this.#core.isSpooled) return this.#durable(taken);
      if (taken instanceof Promise) return taken.then((delivery) => new Delivery(delivery));
      return Promise.resolve(new Delivery(taken));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async #durable(taken: UnsettledDelivery | Promise<UnsettledDelivery>): Promise<Delivery> {
    const delivery = taken instanceof Promise ? await taken : taken;
    await this.#core.durable(delivery);
    return new Delivery(delivery);
  }

  /**
   * Sends all batches or rows of a source and yields their outcomes in order. It reads on while
   * there is room in the budget, whether or not the outcomes are asked for; several small batches that are
   * at hand cross in one native call. Each batch is a delivery, and so is each array of rows; single rows are gathered
   * by `batching`, and `firstRow` of a result says which of them its first one is. Leaving the loop
   * early reads no further; what was admitted is delivered.
   *
   * @throws {IngestError} As {@link send}, after the outcomes of all that came before; and what the source
   * throws.
   */
  sendAll(source: BatchSource, options?: SendAllOptions): AsyncGenerator<TransmissionResult, void, undefined>;
  sendAll<S extends RowSchema>(
    source: RowSource<RowOf<S>>,
    options: SendAllOptions & { readonly schema: S },
  ): AsyncGenerator<TransmissionResult, void, undefined>;
  sendAll(
    source: RowSource<object>,
    options?: SendAllOptions,
  ): AsyncGenerator<TransmissionResult, void, undefined>;
  sendAll(
    source: BatchSource | RowSource<object>,
    options?: SendAllOptions,
  ): AsyncGenerator<TransmissionResult, void, undefined> {
    return sendAll(this.#core, source, options);
  }

  /**
   * Sends JSON (lines of it, or one array), CSV or Parquet: decoded by Rust, off the JavaScript thread, by the rules of
   * rows. A line that does not fit the schema is left out and reported by its number; all others go. It reads on
   * while there is room in the budget. `docs/files.md` says which text is which value.
   *
   * @param source A path or `file:` URL, bytes, a `Blob`, or a stream or iterable of bytes. Gzip and Zstandard are
   * known by their content.
   * @throws {IngestError} As {@link sendAll}; `SCHEMA_REQUIRED`, `INPUT_INVALID`, `INPUT_TOO_LARGE` as `decodeBytes`.
   *
   * @example
   * ```ts
   * for await (const { result, rejections } of client.sendBytes("orders.ndjson.gz")) {
   *   result.orThrow();
   *   for (const { line, path, message } of rejections) console.warn(line, path, message);
   * }
   * ```
   */
  sendBytes(source: BytesSource, options?: SendBytesOptions): AsyncGenerator<BytesResult, void, undefined> {
    return sendBytes(this.#core, source, options);
  }

  /**
   * A stream to pipe batches or rows into, with back-pressure. It fails with the error of the first delivery that is
   * not acknowledged; closing it flushes. Rows are gathered as by {@link sendAll}.
   */
  writable(options?: WritableOptions): WritableStream<BatchInput | object> {
    return writable(this.#core, options);
  }

  /**
   * A writer of single rows, which are gathered to deliveries.
   *
   * @param schema What the columns are. Default: the schema of `connect`, else the table's own.
   * @throws {IngestError} `CONFIG_INVALID`, `CLOSED`.
   */
  rows<S extends RowSchema>(schema: S, options?: RowWriterOptions): RowWriter<RowOf<S> & object>;
  rows(schema?: SchemaInput, options?: RowWriterOptions): RowWriter;
  rows(schema?: unknown, options?: RowWriterOptions): RowWriter {
    this.#core.refuseIfClosed("rows");
    return new RowWriter(this.#core, schema, options);
  }

  /** Waits until everything admitted before is settled. Failed deliveries do not make it reject. */
  async flush(): Promise<void> {
    // biome-ignore lint/complexity/noArguments: it takes none, and whoever gives some is to be told
    checkNames(arguments[0], [], "flush");
    this.#core.refuseIfClosed("flush");
    await this.#core.flush();
  }

  /**
   * Tries connection, credentials and table without writing.
   *
   * @throws {IngestError} What is wrong with them.
   */
  async check(): Promise<void> {
    // biome-ignore lint/complexity/noArguments: it takes none, and whoever gives some is to be told
    checkNames(arguments[0], [], "check");
    this.#core.refuseIfClosed("check");
    await this.#core.operation((operation) => this.#core.binding.check(operation));
  }

  /** What an earlier client had left in the spool when this one was opened; null without a spool. */
  get recovered(): RecoveredSpool | null {
    return this.stats().spool?.recovered ?? null;
  }

  /**
   * For a readiness probe: whether the client is open and takes rows to its destination. With a spool false while that
   * fails and rows wait on the disk.
   */
  get ready(): boolean {
    return this.#core.closing === undefined && this.stats().spool?.paused !== true;
  }

  /**
   * The table's own schema, asked for anew: of a Delta table its newest version's, of a Zerobus table Unity
   * Catalog's, of a Flight server what it answers to `GetSchema` or lists of its tables.
   *
   * @returns Null where nobody can tell: there is no table yet, the server does not say, a type is one that
   * `apache-arrow` does not have; always of `discard:`.
   * @throws {IngestError} What keeps the destination from answering: `UNAVAILABLE`, `UNAUTHENTICATED`,
   * `PERMISSION_DENIED`, `NOT_FOUND`, `CLOSED`.
   */
  async schema(): Promise<Schema | null> {
    // biome-ignore lint/complexity/noArguments: it takes none, and whoever gives some is to be told
    checkNames(arguments[0], [], "schema");
    this.#core.refuseIfClosed("schema");
    return this.#core.schemas.table.anew();
  }

  /** A snapshot of all numbers: cheap and synchronous. After `close`, the last one. */
  stats(): ClientStats {
    return this.#core.stats();
  }

  /**
   * What happens to this client, from now on: tries and their delays, rotations, refused rows. Any number of loops
   * may read. One that falls behind by 1,024 events misses the oldest, and is told how many by an event `missed`. The
   * iteration ends when the client is closed or the signal is aborted, and keeps neither the process nor a client
   * alive.
   *
   * @throws {IngestError} `CONFIG_INVALID`.
   *
   * @example
   * ```ts
   * for await (const event of client.events()) if (event.type === "retry") console.warn(event.error.code);
   * ```
   */
  events(options?: EventsOptions): AsyncIterableIterator<ClientEvent, undefined> {
    checkEventsOptions(options);
    return this.#core.events.read(options?.signal ?? undefined);
  }

  /**
   * Runs an operation and tells where the time of its deliveries went: those that it, and whatever it calls, hands
   * over to this client. Waits until all of them are settled.
   *
   * @returns The operation's result, with times by stage.
   * @throws {IngestError} `CONFIG_INVALID` for what is no function; and whatever the operation throws.
   *
   * @example
   * ```ts
   * const { result, stages } = await client.profile(() => client.send(batch));
   * console.log(stages.encode.meanMs, stages.acknowledge.meanMs);
   * ```
   */
  async profile<T>(operation: () => T | PromiseLike<T>): Promise<Profile<T>> {
    if (typeof operation !== "function") {
      const message = `must be a function, not ${describe(operation)}`;
      throw configInvalid([{ path: "operation", message }], "profile");
    }
    return this.#core.profiler.run(operation);
  }

  /** Versions of this package and its native part, and what the runtime allows. */
  version(): VersionInfo {
    return this.#version;
  }

  /**
   * Takes nothing more, waits for the outcomes of what was admitted, and lets go of the destination. What is
   * left at the deadline is `failed` or `unknown`. Until then it also waits for what `listeners.onFailed` returned
   * for results that nobody else has read. A client that is dropped unclosed is ended once it is collected, with a
   * line in the log; until then it holds its connection. Closing again waits for the first close and reports nothing.
   *
   * @throws {IngestError} `UNDELIVERED` if a delivery was not acknowledged and nobody read its result, nor took it as
   * `listeners.onFailed`.
   */
  close(options?: CloseOptions): Promise<void> {
    return this.#core.close(options);
  }

  /** What `await using` calls: {@link close} with its defaults. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#core.close(undefined);
  }
}
