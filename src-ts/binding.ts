// BOUNDARY. The only importer of ./generated/.
//
// Invariants:
// - Every native error becomes an `IngestError` here, once, and nowhere else.
// - Everything that crosses is what `specs/boundary.md` says; this file converts and never decides.
// - An event callback never throws into native code: the client gets its error.

import {
  type ConfigIssue,
  type ErrorCode,
  errorFromNative,
  type IngestError,
  ingestError,
  isError,
} from "./errors.js";
import { otherVersion, unavailable } from "./unavailable.js";

/** The addon's own client, as `specs/boundary.md` has it. */
interface NativeClient {
  open(operation: number): void;
  check(operation: number): void;
  schema(operation: number): void;
  keptSchema(operation: number): void;
  hurry(): void;
  resume(): void;
  flush(operation: number): void;
  close(operation: number, deadlineMs: number): void;
  dispose(): void;
  registerSchema(message: Uint8Array): number;
  forgetSchema(schemaId: number): void;
  expectSchema(schemaId: number): void;
  submit(call: Float64Array, buffers: ArrayBuffer[]): number;
  cancel(ticket: number): boolean;
  abort(sequence: number): void;
  leave(sequence: number): void;
  answerHeaders(request: number, answer: string): void;
  answerRetry(request: number, answer: string): void;
  follow(writes: boolean): void;
  trace(parent: string, state: string): void;
  keepRefused(operation: number, sequence: number, rows: string): void;
  gathering(): string;
  stats(): string;
}

/** The addon's emulator. */
interface NativeEmulator {
  start(operation: number): void;
  addFault(fault: string): void;
  summary(operation: number): void;
  close(operation: number): void;
  resume(): void;
  dispose(): void;
}

/** The addon's decoder. */
interface NativeDecoder {
  push(bytes: Uint8Array): void;
  queued(): number;
  end(): void;
  useSchema(message: Uint8Array): void;
  step(cut: boolean): Promise<DecodedStep>;
  take(into: Uint8Array): Promise<void>;
}

/** What came of a step of a decoder. */
export interface DecodedStep {
  /** 0 a part, 1 more bytes are needed, 2 the same and rows wait, 3 nothing yet, 4 the end, 5 a schema is wanted. */
  readonly state: number;
  readonly rows: number;
  /** Bytes of the input that were read so far. */
  readonly read: number;
  /** Of a part: bytes of its Arrow IPC stream, to be taken. */
  readonly bytes: number;
  /** Of a part: row and line, in turn. */
  readonly lines?: Float64Array;
  /** Of a part: JSON, if there are some. */
  readonly rejections?: string;
}

interface Addon {
  NativeDecoder: new (options: string, schema: Uint8Array | null) => NativeDecoder;
  NativeClient: new (
    target: string,
    options: string,
    onEvents: (numbers: Float64Array, details: string) => void,
  ) => NativeClient;
  NativeEmulator: new (
    options: string,
    listening: boolean,
    onEvents: (numbers: Float64Array, details: string) => void,
  ) => NativeEmulator;
  explainOptions(target: string | null, options: string): string;
  listSpools(directory: string): Promise<string>;
  inspectSpool(directory: string, name: string, limit: number): Promise<string>;
  verifySpool(directory: string, name: string): Promise<string>;
  exportSpool(directory: string, name: string, to: string): Promise<string>;
  retargetSpool(directory: string, name: string, target: string): Promise<string>;
  version(): string;
}

/** An option as it would be in force, as Rust read it. */
export interface OptionInForce {
  readonly path: string;
  readonly kind:
    | "count"
    | "part"
    | "bytes"
    | "duration"
    | "flag"
    | "choice"
    | "text"
    | "secret"
    | "names"
    | "record";
  /** Bytes, milliseconds, …; null of a secret and where there is none; of a record its names. */
  readonly value: unknown;
  readonly default: unknown;
  readonly given: boolean;
  readonly words?: readonly string[];
}

/** What became of a delivery, as it arrives. Durations in milliseconds. */
export interface Outcome {
  readonly sequence: number;
  readonly status: (typeof STATUSES)[number];
  readonly rows: number;
  readonly acceptedRows: number;
  readonly rejectedRows: number;
  readonly attempts: number;
  readonly batchBytes: number;
  readonly buffersCopiedForPinLimit: number;
  readonly buffersRealigned: number;
  readonly position: { readonly kind: "version" | "offset"; readonly value: bigint } | null;
  readonly handoffMs: number;
  readonly queueMs: number;
  readonly encodeMs: number;
  readonly transmitMs: number;
  readonly acknowledgeMs: number;
  readonly latencyMs: number;
  readonly retries: number;
  readonly writes: number;
  readonly payloadChanged: boolean;
  readonly error: IngestError | null;
  readonly rejections: readonly { readonly row: number; readonly code: string; readonly message: string }[];
}

/** Something that happened on the way of rows. `atMs`: since 1970, by the clock of the machine. */
export type Fact = { readonly atMs: number } & (
  | { readonly fact: "opening"; readonly again: boolean }
  | { readonly fact: "opened"; readonly again: boolean; readonly tookMs: number }
  | { readonly fact: "closed" }
  | {
      readonly fact: "broke";
      readonly error: IngestError;
      readonly delayMs: number;
      readonly writes: number;
      readonly throttled: boolean;
    }
  | { readonly fact: "rotated"; readonly error: IngestError; readonly writes: number }
  | { readonly fact: "refused-for-good"; readonly error: IngestError }
  | { readonly fact: "searching"; readonly error: IngestError }
  | {
      readonly fact: "sent";
      readonly id: number;
      readonly attempt: number;
      readonly rows: number;
      readonly bytes: number;
      /** First and last of deliveries in a row. */
      readonly sequences: readonly (readonly [number, number])[];
      /** How many it has rows of that an earlier client left in the spool. */
      readonly recovered: number;
    }
  | { readonly fact: "taken"; readonly id: number; readonly tookMs: number }
  | {
      readonly fact: "acknowledged";
      readonly through: number;
      readonly position: "version" | "offset" | "none";
      readonly value: number | null;
    }
  | { readonly fact: "gone"; readonly before: number }
  /** Nothing is left of what an earlier client had left in the spool. */
  | { readonly fact: "replayed" }
);

/** Gets the events of a client. */
export interface Listener {
  settled(outcome: Outcome): void;
  /** With a spool: a delivery is on the disk. */
  spooled(sequence: number): void;
  /** With a spool: what became of a delivery that nobody waits for. Its sequence is its position in the spool. */
  recovered(outcome: Outcome): void;
  granted(ticket: number): void;
  answered(operation: number, error: IngestError | null): void;
  /** What {@link Binding.schema} asked for: an IPC stream that holds just a schema; null where nobody can tell. */
  described(operation: number, schema: Uint8Array | null): void;
  log(level: string, message: string, fields: Record<string, unknown>): void;
  /** Nobody waits for one. */
  told(fact: Fact): void;
  /** A connection wants headers; to be answered by {@link Binding.answerHeaders}. */
  headersWanted(request: number, reason: "connect" | "unauthenticated"): void;
  /** Whether to try again after an error that says what was tried; to be answered by {@link Binding.answerRetry}. */
  retryAsked(request: number, error: IngestError): void;
  /** An event that cannot be understood, or a listener that failed: a bug of ours. */
  broken(error: unknown): void;
}

/** What became of a question for headers; which of them can be sent is Rust's to say. */
export type HeadersAnswer =
  | { readonly headers: Readonly<Record<string, string | null>> }
  /** Messages of what was thrown and of its causes, outermost first. */
  | { readonly failed: readonly string[] }
  /** What was given in place of an object. */
  | { readonly invalid: string };

/** What became of the question whether to try again. */
export type RetryAnswer =
  | { readonly retry: boolean }
  /** Messages of what was thrown and of its causes, outermost first. */
  | { readonly failed: readonly string[] }
  /** What was given in place of a boolean. */
  | { readonly invalid: string };

/** Rows that are no Arrow values, for the dead letters. All text is well-formed. */
export interface RefusedRows {
  /** Of the file's schema. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly rows: readonly {
    readonly row: number;
    readonly code: string;
    readonly message: string;
    readonly json: string;
  }[];
}

/** What rows are gathered by: options as they are meant. */
export interface GatheringLimits {
  readonly maxRows: number;
  readonly maxBytes: number;
  readonly lingerMs: number;
  /** Whether refused rows are kept. */
  readonly deadLetters: boolean;
}

/** A connection to the addon whose errors are ours. */
export class Binding {
  readonly #native: NativeClient;
  #disposed = false;

  /** @throws {IngestError} `CONFIG_INVALID` with every mistake; `NATIVE_UNAVAILABLE` without an addon. */
  static async create(target: string, options: string, listener: Listener): Promise<Binding> {
    const addon = await load();
    return new Binding(addon, target, options, listener);
  }

  private constructor(addon: Addon, target: string, options: string, listener: Listener) {
    const resume = (): void => this.#native.resume();
    this.#native = ours(
      () =>
        new addon.NativeClient(target, options, (numbers, details) =>
          tell(listener, numbers, details, resume),
        ),
    );
  }

  // One method for each of the addon's, written out: what stands here is all of the native surface that the other
  // files can reach, with types of our own, and a stack trace names the call.
  open(operation: number): void {
    ours(() => this.#native.open(operation));
  }
  check(operation: number): void {
    ours(() => this.#native.check(operation));
  }
  schema(operation: number): void {
    ours(() => this.#native.schema(operation));
  }
  /** What the spool keeps of what `schema` was told. */
  keptSchema(operation: number): void {
    ours(() => this.#native.keptSchema(operation));
  }
  /** Somebody waits for the outcome of what was admitted before. */
  hurry(): void {
    ours(() => this.#native.hurry());
  }
  flush(operation: number): void {
    ours(() => this.#native.flush(operation));
  }
  close(operation: number, deadlineMs: number): void {
    ours(() => this.#native.close(operation, deadlineMs));
  }
  /** Lets go of the event callback, so that the client can be collected. No event follows. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    ours(() => this.#native.dispose());
  }
  registerSchema(message: Uint8Array): number {
    return ours(() => this.#native.registerSchema(message));
  }
  /** No call to come has it. */
  forgetSchema(schemaId: number): void {
    ours(() => this.#native.forgetSchema(schemaId));
  }
  expectSchema(schemaId: number): void {
    ours(() => this.#native.expectSchema(schemaId));
  }
  /** 0: admitted · n > 0: ticket n is queued, and nothing of the call was read. */
  submit(call: Float64Array, buffers: ArrayBuffer[]): number {
    // Not through `ours`: this is the hot call, and a closure is a quarter of what it costs.
    try {
      return this.#native.submit(call, buffers);
    } catch (error) {
      throw fromNative(error);
    }
  }
  cancel(ticket: number): boolean {
    return ours(() => this.#native.cancel(ticket));
  }
  /** The caller waits no longer, and wants the delivery to go on. Only with a spool. */
  leave(sequence: number): void {
    ours(() => this.#native.leave(sequence));
  }
  abort(sequence: number): void {
    ours(() => this.#native.abort(sequence));
  }
  /** Does nothing when nobody waits for it any more. */
  answerHeaders(request: number, answer: HeadersAnswer): void {
    ours(() => this.#native.answerHeaders(request, JSON.stringify(answer)));
  }
  /** Does nothing when nobody waits for it any more. */
  answerRetry(request: number, answer: RetryAnswer): void {
    ours(() => this.#native.answerRetry(request, JSON.stringify(answer)));
  }
  /** Whether facts of each write are told, too. */
  follow(writes: boolean): void {
    ours(() => this.#native.follow(writes));
  }
  /** What calls to a server carry from now on, by W3C Trace Context; an empty text takes it away. */
  trace(parent: string, state: string): void {
    ours(() => this.#native.trace(parent, state));
  }
  /** Answered when the dead letters have the rows, or never will. */
  keepRefused(operation: number, sequence: number, rows: RefusedRows): void {
    ours(() => this.#native.keepRefused(operation, sequence, JSON.stringify(rows)));
  }
  gathering(): GatheringLimits {
    return JSON.parse(ours(() => this.#native.gathering()));
  }
  stats(): unknown {
    return JSON.parse(ours(() => this.#native.stats()));
  }
}

/** Gets the events of an emulator. */
export interface EmulatorListener {
  /** An operation is done: with a value, or with an error. */
  replied(operation: number, value: unknown, error: IngestError | null): void;
  happened(event: unknown): void;
  broken(error: unknown): void;
}

/** An emulator of the addon's, whose errors are ours. */
export class EmulatorBinding {
  readonly #native: NativeEmulator;

  /** @throws {IngestError} `CONFIG_INVALID` with every mistake; `NATIVE_UNAVAILABLE` without an addon. */
  static async create(
    options: string,
    listening: boolean,
    listener: EmulatorListener,
  ): Promise<EmulatorBinding> {
    const addon = await load();
    return new EmulatorBinding(addon, options, listening, listener);
  }

  private constructor(addon: Addon, options: string, listening: boolean, listener: EmulatorListener) {
    const resume = (): void => this.#native.resume();
    const told = (numbers: Float64Array, details: string) =>
      walk(listener, numbers, details, resume, (at, told) => emulatorRecord(listener, numbers, at, told));
    this.#native = ours(() => new addon.NativeEmulator(options, listening, told));
  }

  start(operation: number): void {
    ours(() => this.#native.start(operation));
  }
  /** The fault as JSON. */
  addFault(fault: string): void {
    ours(() => this.#native.addFault(fault));
  }
  summary(operation: number): void {
    ours(() => this.#native.summary(operation));
  }
  close(operation: number): void {
    ours(() => this.#native.close(operation));
  }
  dispose(): void {
    ours(() => this.#native.dispose());
  }
}

function emulatorRecord(
  listener: EmulatorListener,
  numbers: Float64Array,
  at: number,
  details: readonly unknown[],
): void {
  if (numbers[at] === 3) listener.replied(numbers[at + 2]!, null, errorFromNative(details[numbers[at + 3]!]));
  else if (numbers[at] === 6) listener.replied(numbers[at + 2]!, details[numbers[at + 3]!], null);
  else if (numbers[at] === 7) listener.happened(details[numbers[at + 2]!]);
}

/** A decoder of the addon whose errors are ours. */
export class Decoder {
  readonly #native: NativeDecoder;

  /** @throws {IngestError} `BATCH_INVALID`: the schema is none; `NATIVE_UNAVAILABLE`. */
  static async create(options: string, schema: Uint8Array | undefined): Promise<Decoder> {
    const { NativeDecoder } = await load();
    return new Decoder(ours(() => new NativeDecoder(options, schema ?? null)));
  }

  private constructor(native: NativeDecoder) {
    this.#native = native;
  }

  /** Copies the bytes. */
  push(bytes: Uint8Array): void {
    ours(() => this.#native.push(bytes));
  }

  /** Bytes that wait to be decoded. */
  queued(): number {
    return this.#native.queued();
  }

  /** Nothing more is pushed. */
  end(): void {
    this.#native.end();
  }

  useSchema(message: Uint8Array): void {
    ours(() => this.#native.useSchema(message));
  }

  /** One at a time, and not before a part is taken. @throws {IngestError} What ends the input. */
  async step(cut: boolean): Promise<DecodedStep> {
    try {
      return await this.#native.step(cut);
    } catch (error) {
      throw fromNative(error);
    }
  }

  /** The part that the last step gave. */
  async take({ bytes }: DecodedStep): Promise<Uint8Array> {
    const into = new Uint8Array(bytes);
    try {
      await this.#native.take(into);
    } catch (error) {
      throw fromNative(error);
    }
    return into;
  }
}

/** What the addon is. */
export interface NativeVersion {
  readonly version: string;
  /** Of the arrow crate. */
  readonly arrow: string;
  /** Of the deltalake crate. */
  readonly delta: string;
  /** Operating system and architecture that it was built for. */
  readonly target: string;
}

export async function nativeVersion(): Promise<NativeVersion> {
  const addon = await load();
  return JSON.parse(ours(() => addon.version())) as NativeVersion;
}

/** Reaches for nothing. `target` is looked at where the options have no mistake. */
export async function explainOptions(
  target: string | null,
  options: string,
): Promise<{
  readonly options: readonly OptionInForce[];
  readonly issues: readonly ConfigIssue[];
  readonly fault: IngestError | null;
}> {
  const addon = await load();
  const told = JSON.parse(ours(() => addon.explainOptions(target, options)));
  return { ...told, fault: told.fault === null ? null : errorFromNative(told.fault) };
}

// What the functions of `specs/boundary.md` about spools answer, parsed.

export const listSpools = (directory: string): Promise<unknown> =>
  answered((addon) => addon.listSpools(directory));

export const inspectSpool = (directory: string, name: string, limit: number): Promise<unknown> =>
  answered((addon) => addon.inspectSpool(directory, name, limit));

export const verifySpool = (directory: string, name: string): Promise<unknown> =>
  answered((addon) => addon.verifySpool(directory, name));

export const exportSpool = (directory: string, name: string, to: string): Promise<unknown> =>
  answered((addon) => addon.exportSpool(directory, name, to));

export const retargetSpool = (directory: string, name: string, target: string): Promise<unknown> =>
  answered((addon) => addon.retargetSpool(directory, name, target));

async function answered(call: (addon: Addon) => Promise<string>): Promise<unknown> {
  const addon = await load();
  try {
    return JSON.parse(await call(addon)) as unknown;
  } catch (error) {
    throw fromNative(error);
  }
}

let loading: Promise<Addon> | undefined;

function load(): Promise<Addon> {
  loading ??= import("./generated/index.js")
    .then(addonOf, (cause: unknown) => {
      throw unavailable(cause);
    })
    .catch((error: unknown) => {
      // Not kept: a package that is installed while the process runs would never be found.
      loading = undefined;
      throw error;
    });
  return loading;
}

/** Bundlers put what they make of the loader in its place. Exported for its test. */
export function addonOf(loaded: unknown): Addon {
  const addon = loaded as Addon;
  const error = otherVersion(versionOf(addon));
  if (error !== undefined) throw error;
  return addon;
}

function versionOf(addon: Partial<Addon>): string {
  try {
    const { NativeClient, NativeEmulator, version } = addon;
    if (typeof NativeClient !== "function" || typeof NativeEmulator !== "function" || version === undefined)
      throw new TypeError("what was loaded is no addon");
    return (JSON.parse(version()) as NativeVersion).version;
  } catch (cause) {
    throw unavailable(cause);
  }
}

function ours<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw fromNative(error);
  }
}

/** Exported for its test. */
export function fromNative(error: unknown): IngestError {
  const message = isError(error) ? error.message : String(error);
  try {
    return errorFromNative(JSON.parse(message));
  } catch {
    // napi's own complaints (a wrong argument, a caught panic) are plain text.
    const code: ErrorCode = "INTERNAL";
    return ingestError({ code, message: `the addon failed: ${message}`, cause: error });
  }
}

const STATUSES = ["acknowledged", "partial", "failed", "unknown", "spooled"] as const;
const NO_REJECTIONS: Outcome["rejections"] = Object.freeze([]);

/** Exported for its test. */
export function tell(listener: Listener, numbers: Float64Array, details: string, resume: () => void): void {
  walk(listener, numbers, details, resume, (at, told) => record(listener, numbers, at, told));
}

function walk(
  listener: { broken(error: unknown): void },
  numbers: Float64Array,
  details: string,
  resume: () => void,
  record: (at: number, details: readonly unknown[]) => void,
): void {
  try {
    const told = details === "" ? NO_DETAILS : (JSON.parse(details) as readonly unknown[]);
    for (let at = 0; at < numbers.length; ) {
      const length = numbers[at + 1]!;
      // A length of zero or NaN would loop for ever, on the user's only thread.
      if (!(length >= 2)) throw new RangeError(`an event record of length ${length}`);
      // There is more, and timers, sockets and signals have their turn before it.
      if (numbers[at] === MORE) setImmediate(resume);
      // One listener that fails must not keep the records behind it from being told.
      try {
        record(at, told);
      } catch (error) {
        listener.broken(error);
      }
      at += length;
    }
  } catch (error) {
    listener.broken(error);
  }
}

const NO_DETAILS: readonly unknown[] = [];
const MORE = 9;

/** The details of an outcome. Deliveries that end for the same reason share them. */
interface Ending {
  readonly error?: unknown;
  readonly rejections?: Outcome["rejections"];
  ours?: IngestError;
}

function outcomeOf(numbers: Float64Array, at: number, details: readonly unknown[]): Outcome {
  const index = numbers[at + 19]!;
  const detail = index < 0 ? undefined : (details[index] as Ending);
  if (detail?.error != null) detail.ours ??= errorFromNative(detail.error);
  const kind = numbers[at + 11]!;
  return {
    sequence: numbers[at + 2]!,
    status: STATUSES[numbers[at + 3]!]!,
    rows: numbers[at + 4]!,
    acceptedRows: numbers[at + 5]!,
    rejectedRows: numbers[at + 6]!,
    attempts: numbers[at + 7]!,
    batchBytes: numbers[at + 8]!,
    buffersCopiedForPinLimit: numbers[at + 9]!,
    buffersRealigned: numbers[at + 10]!,
    position:
      kind === 0 ? null : { kind: kind === 1 ? "version" : "offset", value: BigInt(numbers[at + 12]!) },
    handoffMs: numbers[at + 13]!,
    queueMs: numbers[at + 14]!,
    encodeMs: numbers[at + 15]!,
    transmitMs: numbers[at + 16]!,
    acknowledgeMs: numbers[at + 17]!,
    latencyMs: numbers[at + 18]!,
    retries: numbers[at + 20]!,
    writes: numbers[at + 21]!,
    payloadChanged: numbers[at + 22] === 1,
    error: detail?.ours ?? null,
    rejections: detail?.rejections ?? NO_REJECTIONS,
  };
}

function record(listener: Listener, numbers: Float64Array, at: number, details: readonly unknown[]): void {
  switch (numbers[at]) {
    case 1:
      listener.settled(outcomeOf(numbers, at, details));
      return;
    case 10:
      listener.spooled(numbers[at + 2]!);
      return;
    case 11:
      listener.recovered(outcomeOf(numbers, at, details));
      return;
    case 2:
      listener.granted(numbers[at + 2]!);
      return;
    case 3: {
      const index = numbers[at + 3]!;
      listener.answered(numbers[at + 2]!, index < 0 ? null : errorFromNative(details[index]));
      return;
    }
    case 4: {
      const { level, message, fields } = details[numbers[at + 2]!] as {
        level: string;
        message: string;
        fields?: Record<string, unknown>;
      };
      listener.log(level, message, fields ?? {});
      return;
    }
    case 5:
      listener.headersWanted(numbers[at + 2]!, numbers[at + 3] === 1 ? "unauthenticated" : "connect");
      return;
    case 8:
      listener.retryAsked(numbers[at + 2]!, errorFromNative(details[numbers[at + 3]!]));
      return;
    case 12: {
      const index = numbers[at + 3]!;
      const schema = index < 0 ? null : Buffer.from(details[index] as string, "base64");
      listener.described(numbers[at + 2]!, schema);
      return;
    }
    case 20: {
      const told = details[numbers[at + 2]!] as { error?: unknown };
      const error = told.error === undefined ? {} : { error: errorFromNative(told.error) };
      listener.told({ ...told, ...error } as Fact);
      return;
    }
    default:
      // A newer addon may tell more than this file knows; the length lets it be skipped.
      return;
  }
}
