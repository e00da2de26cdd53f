// A Zerobus service on this machine, for tests and development.
//
// Invariants:
// - `startEmulator` gives an emulator that listens; where it rejects, nothing is left running.
// - A forgotten emulator keeps no process alive, and one that is closed has committed what it acknowledged.
//
// What it does is all in Rust; `specs/emulator.md` has what is promised.

import { EmulatorBinding } from "./binding.js";
import { ignoreRejection } from "./callbacks.js";
import { type IngestError, ingestError } from "./errors.js";
import { configInvalid, describe, toJson } from "./options/checks.js";
import type { ByteSize, Duration } from "./options.js";

/** Options of {@link startEmulator}. All are optional; every mistake in them is reported at once. */
export interface EmulatorOptions {
  /** Default: `"127.0.0.1"`. */
  readonly host?: string;
  /** Default: 0, one that is free. */
  readonly port?: number;
  /** Directory for Delta tables, `<lake>/<catalog>/<schema>/<table>`. Default: none; rows are counted only. */
  readonly lake?: string;
  /** Tables that there are, by `catalog.schema.table`. */
  readonly tables?: Readonly<
    Record<string, readonly EmulatorColumn[] | { readonly schema: readonly EmulatorColumn[] }>
  >;
  /** Makes a table that is not declared from the schema of its first stream. Default: true, unless `tables` names some. */
  readonly autoCreate?: boolean;
  /** What goes wrong on purpose. */
  readonly faults?: readonly EmulatorFault[];
  /** Default: false, plain text. */
  readonly tls?: boolean;
  /** Who may have tokens. Default: everybody. */
  readonly clientId?: string;
  /** With `clientId`. Never logged. */
  readonly clientSecret?: string;
  /** Bearer tokens that are good for every table, for ever. Never logged. */
  readonly tokens?: readonly string[];
  /** Default: 1 h. */
  readonly tokenLifetime?: Duration;
  /** The longest that rows wait for the commit of their table. Default: 100 ms. */
  readonly commitInterval?: Duration;
  /** Rows of this many bytes wait no longer. Default: 32 MiB. */
  readonly commitBytes?: ByteSize;
  /** The largest gRPC message taken. Default: 4 MiB. */
  readonly maxMessageSize?: ByteSize;
  /** Told of everything that happens. What it throws or rejects with is swallowed. */
  readonly onEvent?: (event: EmulatorEvent) => unknown;
}

/** A column as Unity Catalog has it: `{ name: "id", type: "BIGINT", nullable: false }`. */
export interface EmulatorColumn {
  readonly name: string;
  /** A type of SQL, such as `STRING` or `ARRAY<INT>`. */
  readonly type: string;
  /** Default: true. */
  readonly nullable?: boolean;
}

/**
 * Something that goes wrong on purpose, as text or as an object: `"rotate:after=1000rows,grace=2s"`.
 * `specs/emulator.md` lists all kinds.
 */
export type EmulatorFault = string | (Readonly<Record<string, unknown>> & { readonly kind: string });

/** What happened in an emulator: `event` says what, the other properties are its facts. Never a secret. */
export interface EmulatorEvent {
  readonly event: string;
  /** All of it, as a line for a log. */
  readonly line: string;
  readonly [fact: string]: unknown;
}

/** What an emulator did so far. */
export interface EmulatorSummary {
  /** Streams that were asked for, refused ones included. */
  readonly streams: number;
  readonly tokensIssued: number;
  readonly faultsFired: number;
  /** By `catalog.schema.table`. */
  readonly tables: Readonly<Record<string, EmulatorTableSummary>>;
}

/** Counts of one table. */
export interface EmulatorTableSummary {
  readonly streams: number;
  readonly rowsReceived: number;
  /** Committed; without a lake: counted. */
  readonly rowsDurable: number;
  readonly rowsAcknowledged: number;
  readonly batchesRefused: number;
  readonly commits: number;
}

/** What `connect` needs beside the URL to reach an emulator. */
export interface EmulatorConnectOptions {
  readonly zerobus: {
    readonly unityCatalogUrl: string;
    readonly clientId: string;
    readonly clientSecret: string;
  };
  readonly tls?: { readonly ca: string };
}

/**
 * Starts a Zerobus emulator in this process, on threads of its own.
 *
 * @returns It listens. `await using` closes it at the end of the block; or call `close()`. It keeps no process alive.
 * @throws {IngestError} `CONFIG_INVALID` with every mistake in `issues`; `UNAVAILABLE` if the port cannot be had;
 * what a declared table is refused for; `NATIVE_UNAVAILABLE`.
 *
 * @example
 * ```ts
 * await using emulator = await startEmulator({ lake: "./lake", faults: ["rotate:after=1000rows"] });
 * await using client = await connect(emulator.url("main.default.flights"), emulator.options);
 * ```
 */
export async function startEmulator(options: EmulatorOptions = {}): Promise<Emulator> {
  const { onEvent, ...rest } = options;
  if (onEvent !== undefined && typeof onEvent !== "function")
    throw configInvalid(
      [{ path: "onEvent", message: `must be a function, not ${describe(onEvent)}` }],
      "start",
    );
  const operations = new Operations(onEvent);
  const binding = await EmulatorBinding.create(toJson(rest), onEvent !== undefined, operations);
  try {
    const started = await operations.run((operation) => binding.start(operation));
    return new Emulator(binding, operations, started as Started, rest);
  } catch (error) {
    binding.dispose();
    throw error;
  }
}

interface Started {
  readonly base: string;
  readonly unityCatalogUrl: string;
  readonly ca: string | null;
}

/** A Zerobus service on this machine. Made by {@link startEmulator}. */
export class Emulator implements AsyncDisposable {
  /** What `connect` needs beside {@link url}. */
  readonly options: EmulatorConnectOptions;
  readonly #binding: EmulatorBinding;
  readonly #operations: Operations;
  readonly #base: string;
  #closing: Promise<void> | undefined;
  /** Of an emulator that is closed. */
  #last: EmulatorSummary | undefined;

  /** @internal */
  constructor(binding: EmulatorBinding, operations: Operations, started: Started, given: EmulatorOptions) {
    this.#binding = binding;
    this.#operations = operations;
    this.#base = started.base;
    // Where everybody is known, anybody will do.
    const { clientId = "emulator", clientSecret = "emulator" } = given;
    const zerobus = { unityCatalogUrl: started.unityCatalogUrl, clientId, clientSecret };
    this.options = started.ca === null ? { zerobus } : { zerobus, tls: { ca: started.ca } };
  }

  /** The target for `connect` that names this table, `catalog.schema.table`. */
  url(table: string): string {
    return this.#base + table;
  }

  /**
   * Lets something go wrong from now on.
   *
   * @throws {IngestError} `CONFIG_INVALID` with every mistake in it; `CLOSED`.
   */
  addFault(fault: EmulatorFault): void {
    if (this.#closing !== undefined) throw closed();
    this.#binding.addFault(JSON.stringify(fault));
  }

  /** What it did so far; once it is closed, what it did. */
  async summary(): Promise<EmulatorSummary> {
    if (this.#last !== undefined) return this.#last;
    // A close under way ends with a summary, and nothing can be asked after it.
    if (this.#closing !== undefined) {
      await this.#closing;
      return this.summary();
    }
    return this.#ask();
  }

  /** Rows of this table that are durable, of this emulator's life. */
  async rows(table: string): Promise<number> {
    const { tables } = await this.summary();
    return tables[table]?.rowsDurable ?? 0;
  }

  /**
   * Acknowledges what came, ends every stream, commits every table, and gives the port back. Closing again
   * waits for the first close.
   *
   * @throws {IngestError} What the last commit of a table says.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** What `await using` calls: {@link close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    try {
      await this.#operations.run((operation) => this.#binding.close(operation));
    } finally {
      this.#last = await this.#ask();
      this.#binding.dispose();
    }
  }

  async #ask(): Promise<EmulatorSummary> {
    return (await this.#operations.run((operation) => this.#binding.summary(operation))) as EmulatorSummary;
  }
}

/** Who waits for what. */
class Operations {
  readonly #open = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #onEvent: EmulatorOptions["onEvent"];
  #last = 0;

  constructor(onEvent: EmulatorOptions["onEvent"]) {
    this.#onEvent = onEvent;
  }

  run(start: (operation: number) => void): Promise<unknown> {
    const operation = ++this.#last;
    const waiting = Promise.withResolvers<unknown>();
    this.#open.set(operation, waiting);
    start(operation);
    return waiting.promise;
  }

  replied(operation: number, value: unknown, error: IngestError | null): void {
    const waiting = this.#open.get(operation);
    this.#open.delete(operation);
    if (error === null) waiting?.resolve(value);
    else waiting?.reject(error);
  }

  happened(event: unknown): void {
    try {
      ignoreRejection(this.#onEvent?.(event as EmulatorEvent));
    } catch {
      // A log that fails must not end what it is about.
    }
  }

  /** A bug of ours, which nobody can be told of but whoever listens. */
  broken(error: unknown): void {
    this.happened({ event: "broken", line: `an event could not be handled: ${describe(error)}` });
  }
}

const closed = (): IngestError =>
  ingestError({ code: "CLOSED", message: "the emulator is closed", operation: "emulator" });
