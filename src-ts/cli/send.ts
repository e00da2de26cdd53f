// `arrow-ingest send`: files, one piece after another, into a client with back-pressure.
//
// Invariants:
// - No more is read than there is room for in the client's budget.
// - Every row that was read has an outcome in the summary, also after an interruption or a failure.

import { parseArgs } from "node:util";
import { type ConnectOptions, connect, IngestError, type Logger } from "../index.js";
import { type Input, inspect } from "./input.js";
import { Interruption, type Io, Misuse, NOT_ALL, OK } from "./io.js";
import { Progress } from "./progress.js";
import { SETTING_FLAGS, settings } from "./settings.js";
import { describeSummary, type Origin, type Summary, Tally } from "./tally.js";
import { explain, messageOf, withoutCredentials } from "./text.js";

export const OUTPUT_FLAGS = {
  quiet: { type: "boolean", short: "q", default: false },
  verbose: { type: "boolean", short: "v", default: false },
  json: { type: "boolean", default: false },
} as const;

export async function send(args: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { ...SETTING_FLAGS, ...OUTPUT_FLAGS },
  });
  const [target, ...paths] = positionals;
  if (target === undefined || paths.length === 0)
    throw new Misuse("send needs a target and at least one file (- is standard input)");
  if (paths.indexOf("-") !== paths.lastIndexOf("-"))
    throw new Misuse("standard input (-) can be read only once");
  const options = { ...settings(values, io), logger: logger(io, values) };
  const inputs: Input[] = [];
  for (const path of paths) inputs.push(await inspect(path, io));
  return sendInputs(target, options, inputs, values, io);
}

export interface OutputFlags {
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly json: boolean;
}

/** Sends and sums up. */
async function sendInputs(
  target: string,
  options: ConnectOptions,
  inputs: readonly Input[],
  flags: OutputFlags,
  io: Io,
): Promise<number> {
  using interruption = new Interruption(io, "no more is read, what was admitted is delivered");
  const { signal } = interruption;
  const tally = new Tally();
  let failure: unknown;
  try {
    // Not `await using`: what `close` says is to be in the summary.
    const client = await connect(target, { ...options, signal });
    const total = inputs.reduce<number | null>(
      (sum, { size }) => (sum === null || size === null ? null : sum + size),
      0,
    );
    let read = 0;
    const origins: Origin[] = [];
    async function* source(): AsyncGenerator<Uint8Array, void, undefined> {
      for (const input of inputs) {
        const pieces = input.pieces(signal, (bytes) => {
          read += bytes;
        });
        try {
          for await (const { bytes, firstRow } of pieces) {
            if (signal.aborted) return;
            origins.push({ file: input.name, firstRow });
            yield bytes;
          }
        } catch (error) {
          throw new Error(`${input.name}: ${messageOf(error)}`, { cause: error });
        }
      }
    }
    using _progress = new Progress(io.stderr, flags.quiet, () => ({ stats: client.stats(), read, total }));
    try {
      // Outcomes come in the order of the source.
      for await (const result of client.sendAll(source())) tally.add(result, origins.shift()!);
    } finally {
      await client.close();
    }
  } catch (error) {
    if (isMisuse(error)) throw error;
    // An interruption while connecting is no failure of the connection.
    if (!signal.aborted || error instanceof IngestError) failure = error;
  }
  const interrupted = interruption.exitCode !== undefined;
  report(tally.summary(withoutCredentials(target), interrupted, errorFacts(failure)), failure, flags, io);
  return interruption.exitCode ?? exitCode(failure, tally);
}

/** Writes the summary where it was asked for, and what went wrong. */
export function report(summary: Summary, failure: unknown, flags: OutputFlags, io: Io): void {
  if (failure !== undefined) io.stderr.write(explain(failure));
  if (flags.json) io.stdout.write(`${JSON.stringify(summary)}\n`);
  else if (!flags.quiet) io.stdout.write(describeSummary(summary));
}

export function exitCode(failure: unknown, tally: Tally): number {
  return failure === undefined && tally.isGood ? OK : NOT_ALL;
}

/** The options were wrong, and nothing was tried. */
export const isMisuse = (error: unknown): boolean =>
  error instanceof IngestError && error.code === "CONFIG_INVALID";

export function errorFacts(failure: unknown): Summary["error"] {
  if (failure === undefined) return null;
  return { code: failure instanceof IngestError ? failure.code : null, message: messageOf(failure) };
}

/** The client's own lines go to standard error: warnings always, everything with `--verbose`. */
export function logger(io: Io, { quiet, verbose }: Pick<OutputFlags, "quiet" | "verbose">): Logger {
  const line = (level: string) => (message: string, fields: Record<string, unknown>) => {
    const facts = Object.keys(fields).length === 0 ? "" : ` ${JSON.stringify(fields)}`;
    io.stderr.write(`${level}: ${message}${facts}\n`);
  };
  if (verbose) return { debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error") };
  return quiet ? { error: line("error") } : { warn: line("warn"), error: line("error") };
}
