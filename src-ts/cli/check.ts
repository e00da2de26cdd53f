// `arrow-ingest check`: connection, credentials and table are tried, and nothing is written.

import { parseArgs } from "node:util";
import {
  type ConnectOptions,
  type IngestClient,
  IngestError,
  inspectConfig,
  type VersionInfo,
} from "../index.js";
import { errorFacts, isMisuse, logger, OUTPUT_FLAGS } from "./deliver.js";
import { Interruption, type Io, Misuse, NOT_ALL, OK } from "./io.js";
import { open, SETTING_FLAGS, settings } from "./settings.js";
import { explain, oneLine, seconds, withoutCredentials } from "./text.js";

export async function check(args: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { ...SETTING_FLAGS, ...OUTPUT_FLAGS },
  });
  const [named, ...rest] = positionals;
  if (rest.length > 0) throw new Misuse("check takes one target");
  const given = settings(values, io);
  const target = named ?? (await configuredTarget(values.config, given));
  const options: ConnectOptions = {
    ...given,
    // Whoever asks wants to be told now; whoever wants patience says so.
    retry: { attempts: 1, ...given.retry },
    logger: logger(io, values),
  };
  using interruption = new Interruption(io, "the check is given up");
  const { signal } = interruption;
  const unmade = { createIfMissing: false };
  const began = performance.now();
  let version: VersionInfo | undefined;
  let missing = false;
  let failure: unknown;
  try {
    try {
      version = await look(open(values.config, named, { ...options, ...unmade, signal }), signal);
    } catch (error) {
      // A table that is to be made is no mistake, and good to know of: a name may be misspelt.
      if (!isNotFound(error) || given.createIfMissing === false) throw error;
      missing = true;
      version = await look(open(values.config, named, { ...options, signal }), signal);
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

/** The target of the environment or of the file, without credentials. */
async function configuredTarget(file: string | undefined, options: ConnectOptions): Promise<string> {
  const { url } = await inspectConfig(file === undefined ? { options } : { file, options });
  if (url === null && file === undefined)
    throw new Misuse(
      "check needs a target: on the command line, as ARROW_INGEST_URL, or in the file of --config",
    );
  // What is wrong with the file is told by whoever connects.
  return String(url?.value ?? "");
}

async function look(connecting: Promise<IngestClient>, signal: AbortSignal): Promise<VersionInfo> {
  await using client = await connecting;
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
