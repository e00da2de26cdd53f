// `arrow-ingest deadletter`: refused rows that a client kept are listed, shown, and sent again.
//
// Invariants:
// - A file is removed when each of its rows is acknowledged or kept anew with the new reason; not before.
// - Files that come while rows are sent again are left alone.

import * as path from "node:path";
import { parseArgs } from "node:util";
import {
  type ConnectOptions,
  type DeadLetterContent,
  type DeadLetterFile,
  listDeadLetters,
  readDeadLetter,
  removeDeadLetter,
} from "../index.js";
import { didYouMean, nearest } from "../nearest.js";
import { cellOf } from "./cells.js";
import { deliver, type Item, OUTPUT_FLAGS } from "./deliver.js";
import { type Io, Misuse, NOT_ALL, OK } from "./io.js";
import { SETTING_FLAGS, settings } from "./settings.js";
import { bytes, count, explain, messageOf, oneLine, plural, seconds, table } from "./text.js";

export async function deadLetter(args: readonly string[], io: Io): Promise<number> {
  const [what, ...rest] = args;
  switch (what) {
    case "ls":
      return list(rest, io);
    case "show":
      return show(rest, io);
    case "resend":
      return resend(rest, io);
    default:
      throw new Misuse(
        `deadletter does ls, show or resend${what === undefined ? "" : `, not ${what}${didYouMean(nearest(what, ["ls", "show", "resend"]))}`}`,
      );
  }
}

async function list(args: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { json: OUTPUT_FLAGS.json },
  });
  const files = await filesOf(positionals, "deadletter ls needs a directory");
  const lines = [["file", "rows", "size", "age", "reasons"]];
  let broken = 0;
  for (const file of files) {
    const name = path.basename(file.path);
    const ageMs = Math.max(0, Date.now() - file.finished.getTime());
    let rows: number | null = null;
    let codes: Record<string, number> = {};
    let error: string | null = null;
    try {
      const content = await readDeadLetter(file);
      rows = content.rejections.length;
      codes = byCode(content);
    } catch (cause) {
      broken++;
      error = messageOf(cause);
    }
    if (values.json)
      io.stdout.write(
        `${JSON.stringify({ file: file.path, rows, bytes: file.bytes, finished: file.finished, codes, error })}\n`,
      );
    const reasons = Object.entries(codes).map(([code, rows]) => `${code} × ${count(rows)}`);
    const size = bytes(file.bytes);
    lines.push([name, rows === null ? "?" : count(rows), size, seconds(ageMs), error ?? reasons.join(", ")]);
  }
  if (!values.json)
    io.stdout.write(files.length === 0 ? "no dead letters\n" : table(lines, io.stdout.columns ?? WIDTH));
  return broken > 0 ? NOT_ALL : OK;
}

/** Where nobody says how wide the terminal is. */
const WIDTH = 120;

function byCode({ rejections }: DeadLetterContent): Record<string, number> {
  const codes = new Map<string, number>();
  for (const { code } of rejections) codes.set(code, (codes.get(code) ?? 0) + 1);
  return Object.fromEntries(codes);
}

async function show(args: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      json: OUTPUT_FLAGS.json,
      limit: { type: "string", short: "n" },
      code: { type: "string" },
    },
  });
  // A screen of rows for people; programs want all of them.
  let left = values.limit === undefined ? (values.json ? Infinity : 20) : Number(values.limit);
  if (!(left >= 0)) throw new Misuse("--limit takes a number of rows");
  const files = await filesOf(positionals, "deadletter show needs a directory");
  let more = 0;
  let broken = 0;
  for (const file of files) {
    let content: DeadLetterContent;
    try {
      content = await readDeadLetter(file);
    } catch (error) {
      // The others can be shown all the same.
      broken++;
      io.stderr.write(explain(error));
      continue;
    }
    // Rows that are no Arrow values are shown as the JSON that they are kept as.
    const shown = content.unfit === null ? content.rows : content.table;
    const names = (content.unfit === null ? shown.schema.fields : shown.schema.fields.slice(0, 1)).map(
      ({ name }) => name,
    );
    const lines: string[][] = [["row", "code", "reason", ...names]];
    for (const [at, rejection] of content.rejections.entries()) {
      if (values.code !== undefined && rejection.code !== values.code) continue;
      if (left <= 0) {
        more++;
        continue;
      }
      left--;
      // By place and not by name: names need not differ.
      const cells = names.map((_, column) => cellOf(shown.getChildAt(column), at));
      if (values.json) {
        const row = { file: file.path, ...rejection, values: cells.map((cell, i) => [names[i], cell]) };
        io.stdout.write(`${JSON.stringify(row, plain)}\n`);
      } else {
        const { row, code, reason } = rejection;
        lines.push([String(row), code, reason, ...cells.map(textOf)]);
      }
    }
    if (lines.length > 1)
      io.stdout.write(`${oneLine(path.basename(file.path))}\n${table(lines, io.stdout.columns ?? WIDTH)}\n`);
  }
  if (more > 0 && !values.json) io.stdout.write(`and ${plural(more, "more row")}: --limit shows more\n`);
  return broken > 0 ? NOT_ALL : OK;
}

async function resend(args: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { ...SETTING_FLAGS, ...OUTPUT_FLAGS },
  });
  const [directory, target, ...names] = positionals;
  const files = await filesOf(
    target === undefined ? [] : [directory!, ...names],
    "deadletter resend needs a directory and a target",
  );
  const given = settings(values, io);
  const options: ConnectOptions = {
    ...given,
    // What is refused again is kept, beside what is not yet sent again: no bound may remove that.
    deadLetter: { directory: directory!, maxBytes: UNBOUNDED, maxFiles: UNBOUNDED, ...given.deadLetter },
  };
  async function* items(
    signal: AbortSignal,
    onRead: (bytes: number) => void,
  ): AsyncGenerator<Item, void, undefined> {
    for (const file of files) {
      if (signal.aborted) return;
      const { rows, unfit } = await readDeadLetter(file);
      onRead(file.bytes);
      const origin = { file: file.path, firstRow: 0 };
      if (unfit === null) yield { batch: rows, origin };
      else yield { batch: unfit.rows, reading: unfit.reading, origin };
    }
  }
  // It keeps nothing, so the file is the only place where the rows are.
  const dryRun = target!.startsWith("discard:");
  let removed = 0;
  return deliver(
    {
      target: target!,
      options,
      config: values.config,
      flags: values,
      total: files.reduce((sum, file) => sum + file.bytes, 0),
      items,
      async settled(result, { file }, client) {
        const { rows, acceptedRows, rejectedRows } = result;
        const keptAnew = rejectedRows === 0 || client.stats().deadLetters.failed === 0;
        if (dryRun || acceptedRows + rejectedRows < rows || !keptAnew) return;
        await removeDeadLetter(file);
        removed++;
      },
      addition: () => ({
        json: { files: { removed, kept: files.length - removed } },
        text: `  files         ${count(removed)} removed, ${count(files.length - removed)} kept\n`,
      }),
    },
    io,
  );
}

const UNBOUNDED = Number.MAX_SAFE_INTEGER;

/** The files of a directory, or those of them that are named. */
async function filesOf(positionals: readonly string[], usage: string): Promise<DeadLetterFile[]> {
  const [directory, ...names] = positionals;
  if (directory === undefined) throw new Misuse(usage);
  let files: DeadLetterFile[];
  try {
    files = await listDeadLetters(directory);
  } catch (error) {
    throw new Misuse(messageOf(error));
  }
  if (names.length === 0) return files;
  return names.map((name) => {
    const found = files.find((file) => path.basename(file.path) === path.basename(name));
    if (found === undefined) throw new Misuse(`${directory} holds no dead letters called ${name}`);
    return found;
  });
}

/** For JSON: what it does not know, as text. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  return value;
}

const textOf = (value: unknown): string =>
  typeof value === "object" && value !== null ? (JSON.stringify(value, plain) ?? "") : String(value);
