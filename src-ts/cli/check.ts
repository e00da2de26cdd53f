// `arrow-ingest check`: connection, credentials and table are tried, and nothing is written.

import { parseArgs } from "node:util";
import { type ConnectOptions, connect, IngestError, type VersionInfo } from "../index.js";
import { errorFacts, isMisuse, logger, OUTPUT_FLAGS } from "./deliver.js";
import { Interruption, type Io, Misuse, NOT_ALL, OK } from "./io.js";
import { SETTING_FLAGS, settings } from "./settings.js";
import { explain, oneLine, seconds, withoutCredentials } from "./text.js";

export async function check(args: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { ...SETTING_FLAGS, ...OUTPUT_FLAGS },
  });
  const [target, ...rest] = positionals;
  if (target === undefined || rest.length > 0) throw new Misuse("check needs exactly one target");
  const given = settings(values, io);
  const options: ConnectOptions = {
    ...given,
    // Whoever asks wants to be told now; whoever wants patience says so.
    retry: { attempts: 1, ...given.retry },
    logger: logger(io, values),
  };
  using interruption = new Interruption(io, "the check is given up");
  const began = performance.now();
  let version: VersionInfo | undefined;
  let missing = false;
  let failure: unknown;
  try {
    try {
      version = await look(target, { ...options, createIfMissing: false }, interruption.signal);
    } catch (error) {
      // A table that is to be made is no mistake, and good to know of: a name may be misspelt.
      if (!isNotFound(error) || given.createIfMissing === false) throw error;
      missing = true;
      version = await look(target, options, interruption.signal);
    }
  } catch (error) {
    if (isMisuse(error)) throw error;
    failure = error;
  }
  if (interruption.exitCode !== undefined) return interruption.exitCode;
  const elapsedMs = performance.now() - began;
  const shown = withoutCredentials(target);
  if (values.json) {
    const facts = { target: shown, success: failure === undefined, missing, elapsedMs };
    io.stdout.write(
      `${JSON.stringify({ ...facts, version: version ?? null, error: errorFacts(failure) })}\n`,
    );
  } else if (version !== undefined && !values.quiet) {
    const { native, runtime } = version;
    const found = missing
      ? "can be reached; the table is missing and would be made by the first rows"
      : "is there, and would take rows";
    io.stdout.write(
      `${oneLine(shown)} ${found} (${seconds(elapsedMs)})\n` +
        `  arrow-ingest ${version.version}, arrow ${native.arrow}, ${native.target}, Node ${runtime.node}, ` +
        `batches are ${runtime.pinning ? "pinned" : "copied"}\n`,
    );
  }
  if (failure === undefined) return OK;
  io.stderr.write(explain(failure));
  return NOT_ALL;
}

const isNotFound = (error: unknown): boolean => error instanceof IngestError && error.code === "NOT_FOUND";

async function look(target: string, options: ConnectOptions, signal: AbortSignal): Promise<VersionInfo> {
  await using client = await connect(target, { ...options, signal });
  // Nothing is under way that an abort could harm.
  const stop = (): void => void client.close({ deadline: 0 });
  signal.addEventListener("abort", stop, { once: true });
  try {
    await client.check();
  } finally {
    signal.removeEventListener("abort", stop);
  }
  return client.version();
}
