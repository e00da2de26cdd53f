// What a command has to do with the world around it.
//
// Everything that the process owns comes in by `Io`, so that tests call commands like functions.

import type { Readable } from "node:stream";

export interface Io {
  readonly stdin: Readable;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Calls back at SIGINT and SIGTERM. Returns what ends that. */
  onSignal(called: (signal: Signal) => void): () => void;
  /** Ends the process at once. */
  exit(code: number): void;
  /** Milliseconds that what was admitted may take after a signal. Default: 30 s. */
  readonly patienceMs?: number;
}

export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export type Signal = "SIGINT" | "SIGTERM";

/** Exit codes, as `specs/cli.md` promises them. */
export const OK = 0;
export const NOT_ALL = 1;
export const MISUSE = 2;
/** Some of it waits in the spool, all else is durable. */
export const SPOOLED = 3;
const BY_SIGNAL = { SIGINT: 130, SIGTERM: 143 } as const;

/** The command line is wrong. Its message goes to standard error, and the exit code is 2. */
export class Misuse extends Error {}

/**
 * The first signal asks for a graceful end, the second ends the process at once.
 *
 * Dispose of it when the command is over: a listener that stays would swallow the next SIGINT.
 */
export class Interruption implements Disposable {
  readonly #controller = new AbortController();
  readonly #off: () => void;
  #exitCode: number | undefined;

  constructor(io: Io, says: string) {
    this.#off = io.onSignal((signal) => {
      if (this.#exitCode !== undefined) {
        io.stderr.write(`\n${signal} again: stopped at once\n`);
        io.exit(BY_SIGNAL[signal]);
        return;
      }
      this.#exitCode = BY_SIGNAL[signal];
      io.stderr.write(`\n${signal}: ${says}; once more stops at once\n`);
      this.#controller.abort();
    });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** 130 or 143 after a signal, else undefined. */
  get exitCode(): number | undefined {
    return this.#exitCode;
  }

  /** Resolves at the first signal. */
  async wait(): Promise<void> {
    if (this.signal.aborted) return;
    await new Promise((resolve) => this.signal.addEventListener("abort", resolve, { once: true }));
  }

  [Symbol.dispose](): void {
    this.#off();
  }
}
