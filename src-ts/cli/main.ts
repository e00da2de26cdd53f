// The command line: which command, and what its end means.
//
// Invariants:
// - A command line that is wrong does nothing, says why on standard error, and gives 2.
// - Standard output carries what was asked for, and nothing else.
//
// Only the public API of this package is used here and beside it, so whatever the program does, a user's
// own program can do. `specs/cli.md` has what is promised.

import { IngestError } from "../index.js";
import { didYouMean, nearest } from "../nearest.js";
import { check } from "./check.js";
import { config } from "./config.js";
import { deadLetter } from "./dead-letter.js";
import { emulator } from "./emulator.js";
import { HELP } from "./help.js";
import { type Io, MISUSE, Misuse, NOT_ALL, OK } from "./io.js";
import { send } from "./send.js";
import { spool } from "./spool.js";
import { explain, messageOf, oneLine } from "./text.js";
import { version } from "./version.js";

type Command = (args: readonly string[], io: Io) => Promise<number>;

const COMMANDS: Readonly<Record<string, Command>> = {
  send,
  check,
  config,
  emulator,
  deadletter: deadLetter,
  spool,
};

/**
 * Runs one command line.
 *
 * @param argv What follows the program's name.
 * @returns The exit code. It never rejects.
 */
export async function main(argv: readonly string[], io: Io): Promise<number> {
  const [name, ...args] = argv;
  try {
    if (name === undefined) throw new Misuse("a command is needed");
    if (name === "--version" || name === "-V" || name === "-v") return await version(io);
    if (name === "--help" || name === "-h" || name === "help") return help(args, io);
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name]! : undefined;
    if (command === undefined) throw noCommand(name);
    if (asksForHelp(args)) return help([name], io);
    return await command(args, io);
  } catch (error) {
    const misuse = error instanceof Misuse || isOfParseArgs(error);
    const wrong = misuse || (error instanceof IngestError && error.code === "CONFIG_INVALID");
    io.stderr.write(misuse ? `arrow-ingest: ${oneLine(messageOf(error))}\n` : explain(error));
    if (misuse) io.stderr.write(`Try: arrow-ingest help${known(name) ? ` ${name}` : ""}\n`);
    return wrong ? MISUSE : NOT_ALL;
  }
}

const known = (name: string | undefined): boolean => name !== undefined && Object.hasOwn(COMMANDS, name);

const noCommand = (name: string): Misuse =>
  new Misuse(
    `there is no command ${JSON.stringify(name)}${didYouMean(nearest(name, [...Object.keys(COMMANDS), "help", "--version"]))}`,
  );

/** What follows `--` is no option. */
function asksForHelp(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  return args.slice(0, end < 0 ? args.length : end).some((arg) => arg === "--help" || arg === "-h");
}

function help([topic]: readonly string[], io: Io): number {
  const text = HELP.get(topic ?? "");
  if (text === undefined) throw noCommand(topic ?? "");
  io.stdout.write(text);
  return OK;
}

const isOfParseArgs = (error: unknown): boolean =>
  error instanceof TypeError && String((error as NodeJS.ErrnoException).code).startsWith("ERR_PARSE_ARGS_");
