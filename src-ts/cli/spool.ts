// `arrow-ingest spool`: what waits on the disk is listed, shown, verified, exported, sent elsewhere, and drained.
//
// Invariants:
// - `ls`, `show`, `verify` and `export` only read, whoever has the spool open.
// - What is damaged is shown and counted, and gives 1.

import { parseArgs } from "node:util";
import {
  type ConnectOptions,
  connect,
  exportSpool,
  IngestError,
  inspectSpool,
  listSpools,
  retargetSpool,
  type SpoolDamage,
  type SpoolLeft,
  type SpoolOwner,
  type SpoolState,
  type TransmissionResult,
  verifySpool,
} from "../index.js";
import { didYouMean, nearest } from "../nearest.js";
import { errorFacts, isMisuse, logger, OUTPUT_FLAGS } from "./deliver.js";
import { Interruption, type Io, Misuse, NOT_ALL, OK } from "./io.js";
import { Progress } from "./progress.js";
import { SETTING_FLAGS, settings } from "./settings.js";
import { describeSummary, Tally } from "./tally.js";
import { bytes, count, explain, oneLine, plural, seconds, table, withoutCredentials } from "./text.js";

const COMMANDS: Readonly<Record<string, (args: readonly string[], io: Io) => Promise<number>>> = {
  ls,
  show,
  verify,
  export: exported,
  retarget,
  drain,
};

export async function spool(args: readonly string[], io: Io): Promise<number> {
  const [what, ...rest] = args;
  const names = Object.keys(COMMANDS);
  if (what !== undefined && Object.hasOwn(COMMANDS, what)) return COMMANDS[what]!(rest, io);
  const meant = what === undefined ? "" : `, not ${what}${didYouMean(nearest(what, names))}`;
  throw new Misuse(`spool does ${names.slice(0, -1).join(", ")} or ${names.at(-1)}${meant}`);
}

const JSON_FLAG = { json: OUTPUT_FLAGS.json } as const;
const NAME_FLAG = { name: { type: "string", default: "default" } } as const;

/** Where nobody says how wide the terminal is. */
const WIDTH = 120;

async function ls(args: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({ args: [...args], allowPositionals: true, options: JSON_FLAG });
  const spools = await found(listSpools(only(positionals, "ls")));
  const lines = [
    ["spool", "target", "deliveries", "rows", "size", "oldest", "failed", "refused", "damaged", "opened by"],
  ];
  for (const { name, state, error } of spools) {
    if (values.json) print(io, { name, ...state, error: error === null ? null : errorFacts(error) });
    if (state === null) {
      if (!values.json) io.stderr.write(explain(error));
      lines.push([name, error?.code ?? "?", ...Array<string>(8).fill("?")]);
      continue;
    }
    const { left, setAside, failed, deadLetters } = state;
    lines.push([
      name,
      state.target ?? "?",
      count(left.deliveries),
      count(left.rows),
      bytes(state.bytes),
      age(left),
      files(failed),
      files(deadLetters),
      setAside.length + state.unknown.length === 0 ? "0" : sizes(setAside, state.unknown.length),
      ownerOf(state.owner),
    ]);
  }
  if (!values.json)
    io.stdout.write(spools.length === 0 ? "no spools\n" : table(lines, io.stdout.columns ?? WIDTH));
  return spools.some(({ error }) => error !== null) ? NOT_ALL : OK;
}

async function show(args: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { ...JSON_FLAG, ...NAME_FLAG, limit: { type: "string", short: "n" } },
  });
  const limit = values.limit === undefined ? 20 : Number(values.limit);
  if (!(limit >= 0)) throw new Misuse("--limit takes a number of deliveries");
  const directory = only(positionals, "show");
  const state = await found(inspectSpool(directory, { name: values.name, limit }));
  const { left, deliveries, damage } = state;
  if (values.json) print(io, state);
  else {
    io.stdout.write(describeState(state));
    io.stdout.write(describeDamage(damage));
    if (deliveries.length > 0) {
      const lines = [["position", "rows", "left", "size", "age"]];
      for (const { position, rows, rowsLeft, bytes: size, appended } of deliveries)
        lines.push([String(position), count(rows), count(rowsLeft), bytes(size), since(appended)]);
      io.stdout.write(`\n${table(lines, io.stdout.columns ?? WIDTH)}`);
      const more = left.deliveries - deliveries.length;
      if (more > 0)
        io.stdout.write(`and ${plural(more, "more delivery", "more deliveries")}: --limit shows more\n`);
    }
  }
  return isWhole(state, damage) ? OK : NOT_ALL;
}

async function verify(args: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { ...JSON_FLAG, ...NAME_FLAG },
  });
  const state = await found(verifySpool(only(positionals, "verify"), { name: values.name }));
  const { ok, records, deliveries, rows, damage, unreadable } = state;
  if (values.json) {
    const files = unreadable.map(({ path, error }) => ({ path, error: errorFacts(error) }));
    print(io, { ...state, unreadable: files });
  } else {
    io.stdout.write(describeState(state));
    io.stdout.write(line("read", `${plural(records, "record")}: ${rowsIn(deliveries, rows)}`));
    io.stdout.write(describeDamage(damage));
    for (const { path, error } of unreadable)
      io.stdout.write(line("unreadable", `${path}: ${error.message}`));
    io.stdout.write(ok ? "all of it can be read\n" : "some of it is DAMAGED, and stays where it is\n");
  }
  return ok ? OK : NOT_ALL;
}

async function exported(args: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { ...JSON_FLAG, ...NAME_FLAG, to: { type: "string" } },
  });
  const { name, to } = values;
  const directory = only(positionals, "export");
  if (to === undefined) throw new Misuse("spool export needs --to and an empty folder");
  const done = await found(exportSpool(directory, to, { name }));
  if (values.json) print(io, done);
  else {
    io.stdout.write(
      line("exported", `${rowsIn(done.deliveries, done.rows)} in ${plural(done.files.length, "file")}`),
    );
    io.stdout.write(line("list", done.list));
    io.stdout.write(line("failed", plural(done.failed.length, "file")));
    io.stdout.write(line("refused", plural(done.deadLetters.length, "file")));
    io.stdout.write(describeDamage(done.damage));
  }
  return done.damage.length === 0 ? OK : NOT_ALL;
}

async function retarget(args: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { ...JSON_FLAG, ...NAME_FLAG, to: { type: "string" } },
  });
  const { name, to } = values;
  const directory = only(positionals, "retarget");
  if (to === undefined) throw new Misuse("spool retarget needs --to and a target");
  const done = await found(retargetSpool(directory, to, { name }));
  if (values.json) print(io, done);
  else
    io.stdout.write(
      line("from", done.from ?? "?") + line("to", done.to) + line("left", describeLeft(done.left)),
    );
  return OK;
}

/** What `specs/cli.md` promises of the first signal. */
const PATIENCE_MS = 30_000;

async function drain(args: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { ...SETTING_FLAGS, ...OUTPUT_FLAGS, ...NAME_FLAG, to: { type: "string" } },
  });
  const { name } = values;
  const directory = only(positionals, "drain");
  const look = () => found(inspectSpool(directory, { name, limit: 0 }));
  const target = values.to ?? (await look()).target;
  if (target === null) throw new Misuse("the spool does not say what its target is: --to says it");
  const given = settings(values, io);
  using interruption = new Interruption(io, "what is under way is waited for, the rest stays in the spool");
  const { signal } = interruption;
  const tally = new Tally();
  const told = (result: TransmissionResult): void => tally.add(result, { file: directory, firstRow: 0 });
  const options: ConnectOptions = {
    ...given,
    spool: { ...given.spool, directory, name },
    listeners: { onAcknowledged: told, onFailed: told },
    logger: logger(io, values),
    signal,
  };
  let failure: unknown;
  try {
    const client = await connect(target, options);
    const close = () => client.close({ deadline: io.patienceMs ?? PATIENCE_MS });
    const stop = (): void => void close().catch(() => {});
    signal.addEventListener("abort", stop, { once: true });
    try {
      using _progress = new Progress(io.stderr, values.quiet, () => ({
        stats: client.stats(),
        read: 0,
        total: null,
      }));
      await client.flush();
    } finally {
      signal.removeEventListener("abort", stop);
      await close();
    }
  } catch (error) {
    if (isMisuse(error)) throw error;
    if (!signal.aborted) failure = error;
  }
  const { left } = await look();
  const { exitCode } = interruption;
  const summary = tally.summary(withoutCredentials(target), exitCode !== undefined, errorFacts(failure));
  const drained = left.rows === 0;
  if (failure !== undefined) io.stderr.write(explain(failure));
  if (values.json) print(io, { ...summary, success: summary.success && drained, left });
  else if (!values.quiet)
    io.stdout.write(`${describeSummary(summary)}  left          ${describeLeft(left)}\n`);
  return exitCode ?? (failure === undefined && tally.isGood && drained ? OK : NOT_ALL);
}

/** @throws {Misuse} unless exactly one directory is given. */
function only([directory, ...rest]: readonly string[], command: string): string {
  if (directory === undefined || rest.length > 0)
    throw new Misuse(`spool ${command} needs exactly one directory: that of the option spool.directory`);
  return directory;
}

/** @throws {Misuse} if what the command line names is not there. */
async function found<T>(looking: Promise<T>): Promise<T> {
  try {
    return await looking;
  } catch (error) {
    if (error instanceof IngestError && error.code === "NOT_FOUND") throw new Misuse(error.message);
    throw error;
  }
}

function print(io: Io, facts: object): void {
  const told = (_key: string, value: unknown) => (typeof value === "bigint" ? String(value) : value);
  io.stdout.write(`${JSON.stringify(facts, told)}\n`);
}

function isWhole(state: SpoolState, damage: readonly SpoolDamage[]): boolean {
  return damage.length + state.unknown.length === 0 && !state.cursorDamaged;
}

const line = (name: string, text: string): string => `${`${name}  `.padEnd(12)}${oneLine(text)}\n`;

function describeState(state: SpoolState): string {
  const { segments, setAside, foreign, unknown } = state;
  const lines = [
    line("spool", state.directory),
    line("target", state.target ?? "it cannot be read"),
    line("opened by", ownerOf(state.owner)),
    line("left", describeLeft(state.left)),
    line("positions", `settled through ${state.settledThrough}, the last row below ${state.end}`),
    line("log", `${bytes(state.bytes)} in ${plural(segments.length, "segment")}`),
    line("failed", describeFiles(state.failed)),
    line("refused", describeFiles(state.deadLetters)),
  ];
  if (state.cursorDamaged)
    lines.push(line("DAMAGED", "the cursor: what was delivered and is still here is delivered again"));
  for (const { path, bytes: size } of setAside) lines.push(line("set aside", `${path}: ${bytes(size)}`));
  for (const path of unknown) lines.push(line("DAMAGED", `${path}: no record of it can be read`));
  for (const path of foreign) lines.push(line("foreign", `${path}: of another spool, left alone`));
  return lines.join("");
}

function describeDamage(damage: readonly SpoolDamage[]): string {
  const lines = damage.map(({ segment, offset, bytes: size, setAside, reason }) =>
    line(
      "DAMAGED",
      `${segment} at ${offset}: ${bytes(size)}: ${reason}${setAside === null ? "" : `; a copy is ${setAside}`}`,
    ),
  );
  return lines.join("");
}

function describeLeft(left: SpoolLeft): string {
  if (left.deliveries === 0) return "nothing";
  const oldest = left.oldest === null ? "" : `, the oldest ${since(left.oldest)} old`;
  return `${rowsIn(left.deliveries, left.rows)}, ${bytes(left.bytes)}${oldest}`;
}

const rowsIn = (deliveries: number, rows: number): string =>
  `${plural(rows, "row")} in ${plural(deliveries, "delivery", "deliveries")}`;

const describeFiles = (all: readonly { readonly bytes: number }[]): string =>
  all.length === 0 ? "nothing" : `${plural(all.length, "file")}, ${sizes(all)}`;

const files = (all: readonly { readonly bytes: number }[]): string =>
  all.length === 0 ? "0" : `${count(all.length)} (${sizes(all)})`;

const sizes = (all: readonly { readonly bytes: number }[], unread = 0): string => {
  const size = bytes(all.reduce((sum, file) => sum + file.bytes, 0));
  return unread === 0 ? size : `${size} and ${plural(unread, "segment")}`;
};

const since = (time: Date): string => seconds(Math.max(0, Date.now() - time.getTime()));

const age = ({ oldest }: SpoolLeft): string => (oldest === null ? "" : since(oldest));

/** Whether it has the spool open is not for us to say: we do not touch its lock. */
function ownerOf(owner: SpoolOwner | null): string {
  if (owner === null) return "?";
  const state = { true: "runs", false: "has ended", null: "another machine" }[`${owner.running}`];
  const named = owner.owner === "" ? "" : `${owner.owner}, `;
  return `${named}process ${owner.pid} on ${owner.host} (${state}), ${since(owner.since)} ago`;
}
