// Items in, outcomes summed up: what `send` and `deadletter resend` share.
//
// Invariants:
// - No more is read than there is room for in the client's budget.
// - Everything that was admitted has an outcome in the summary, also after an interruption or a failure.
// - A signal ends it within `PATIENCE_MS`, whatever the destination owes.

import {
  type BatchInput,
  type ConnectOptions,
  type IngestClient,
  IngestError,
  type Logger,
  type RowReadingOptions,
  type TransmissionResult,
} from "../index.js";
import { Interruption, type Io, NOT_ALL, OK, SPOOLED } from "./io.js";
import { Progress } from "./progress.js";
import { open } from "./settings.js";
import { describeSummary, type Origin, type Summary, Tally } from "./tally.js";
import { explain, messageOf, oneLine, withoutCredentials } from "./text.js";

/** What `specs/cli.md` promises of the first signal. */
const PATIENCE_MS = 30_000;
/** In which an input that was told to stop says that it has. */
const STOPPING_MS = 100;

/** What `parseArgs` is told, by every command that sums up. */
export const OUTPUT_FLAGS = {
  quiet: { type: "boolean", short: "q", default: false },
  verbose: { type: "boolean", short: "v", default: false },
  json: { type: "boolean", default: false },
} as const;

export interface OutputFlags {
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly json: boolean;
}

/** One delivery to be: a batch, or rows and how they are read. */
export interface Item {
  readonly batch: BatchInput | readonly object[];
  readonly reading?: RowReadingOptions;
  readonly origin: Origin;
}

export interface Job {
  readonly target: string;
  readonly options: ConnectOptions;
  /** A file of options below those. */
  readonly config: string | undefined;
  readonly flags: OutputFlags;
  /** Bytes to read; null if nobody knows. */
  readonly total: number | null;
  /** Ends early, without an error, once `signal` is aborted. */
  items(signal: AbortSignal, onRead: (bytes: number) => void, client: IngestClient): AsyncIterable<Item>;
  /** Called for each outcome, in the order of the items. */
  settled?(result: TransmissionResult, origin: Origin, client: IngestClient): Promise<void>;
  /** Lines for the summary: an object for `--json`, text for people. */
  addition?(): { readonly json: object; readonly text: string };
}

/**
 * Sends, sums up, and gives the exit code.
 *
 * @throws {IngestError} `CONFIG_INVALID`; nothing was tried then.
 */
export async function deliver(job: Job, io: Io): Promise<number> {
  using interruption = new Interruption(io, "no more is read, what was admitted is delivered");
  const { signal } = interruption;
  const tally = new Tally();
  let failure: unknown;
  try {
    const options = { ...job.options, logger: logger(io, job.flags), signal };
    await run(job, await open(job.config, job.target, options), tally, signal, io);
  } catch (error) {
    if (isMisuse(error)) throw error;
    // An interruption while connecting is no failure of the connection.
    // Nor is it one that what still waited for room was not let in any more.
    if (!signal.aborted || (error instanceof IngestError && error.code !== "CLOSED")) failure = error;
  }
  const { exitCode } = interruption;
  const shown = withoutCredentials(job.target);
  report(job, tally.summary(shown, exitCode !== undefined, errorFacts(failure)), failure, io);
  if (exitCode !== undefined) return exitCode;
  if (failure !== undefined || !tally.isSafe) return NOT_ALL;
  return tally.isGood ? OK : SPOOLED;
}

async function run(job: Job, client: IngestClient, tally: Tally, signal: AbortSignal, io: Io): Promise<void> {
  let read = 0;
  const origins: Origin[] = [];
  const onRead = (bytes: number): void => {
    read += bytes;
  };
  const items = job.items(signal, onRead, client)[Symbol.asyncIterator]();
  /** The first of those that follow, where it is read in another way. */
  let next: Item | undefined;
  /** Items that are read in one way. */
  async function* batches(reading: RowReadingOptions | undefined): AsyncGenerator<BatchInput> {
    while (next !== undefined && next.reading === reading && !signal.aborted) {
      const { batch, origin } = next;
      origins.push(origin);
      yield batch as BatchInput;
      next = await following();
    }
  }
  const following = async (): Promise<Item | undefined> => {
    const { done, value } = await items.next();
    return done ? undefined : value;
  };
  // Not behind the loop, which waits for every outcome, as long as one is owed.
  const close = () => client.close({ deadline: io.patienceMs ?? PATIENCE_MS });
  const stop = () => void setTimeout(() => close().catch(() => {}), STOPPING_MS);
  signal.addEventListener("abort", stop, { once: true });
  const facts = () => ({ stats: client.stats(), read, total: job.total });
  using _progress = new Progress(io.stderr, job.flags.quiet, facts);
  try {
    // Outcomes come in the order of the source.
    next = await following();
    while (next !== undefined && !signal.aborted) {
      const { reading }: Item = next;
      for await (const result of client.sendAll(batches(reading), reading ?? {})) {
        const origin = origins.shift()!;
        tally.add(result, origin);
        await job.settled?.(result, origin, client);
      }
    }
  } finally {
    signal.removeEventListener("abort", stop);
    await close();
  }
}

function report(job: Job, summary: Summary, failure: unknown, io: Io): void {
  if (failure !== undefined) io.stderr.write(explain(failure));
  const more = job.addition?.();
  if (job.flags.json) io.stdout.write(`${JSON.stringify({ ...summary, ...more?.json })}\n`);
  else if (!job.flags.quiet) io.stdout.write(describeSummary(summary) + (more?.text ?? ""));
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
    io.stderr.write(`${oneLine(`${level}: ${message}${verbose ? allOf(fields) : gistOf(fields)}`)}\n`);
  };
  if (verbose) return { debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error") };
  return quiet ? { error: line("error") } : { warn: line("warn"), error: line("error") };
}

const allOf = (fields: Record<string, unknown>): string =>
  Object.keys(fields).length === 0 ? "" : ` ${JSON.stringify(fields)}`;

/** For people: which error, and what can be said in a word. */
function gistOf({ error, ...others }: Record<string, unknown>): string {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  const why = message === undefined ? "" : `: ${code === undefined ? "" : `${code}: `}${message}`;
  const words = Object.entries(others)
    .filter(([, value]) => typeof value !== "object")
    .map(([name, value]) => `${name} ${value}`);
  return words.length === 0 ? why : `${why} (${words.join(", ")})`;
}
