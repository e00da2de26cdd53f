// `arrow-ingest config`: which options are in force, where each came from, and what is wrong with them.
//
// Invariants:
// - Nothing is connected to, and nothing is made.
// - No secret is shown: `inspectConfig` gives none.

import { parseArgs } from "node:util";
import { type ConfigIssue, type ConfigReport, type ConfigValue, inspectConfig } from "../index.js";
import { didYouMean, nearest } from "../nearest.js";
import { type Io, MISUSE, Misuse, OK } from "./io.js";
import { SETTING_FLAGS, settings } from "./settings.js";
import { count, oneLine, plural, table, withoutCredentials } from "./text.js";

const FLAGS = {
  ...SETTING_FLAGS,
  target: { type: "string" },
  json: { type: "boolean", default: false },
  changed: { type: "boolean", default: false },
} as const;

/** Where nobody said how wide it may be, a name that is cut off is of no use. */
const WIDTH = 10_000;

export async function config(args: readonly string[], io: Io): Promise<number> {
  const [action, ...rest] = args;
  if (action !== "check" && action !== "print") {
    const meant = action === undefined ? undefined : nearest(action, ["check", "print"]);
    throw new Misuse(`config needs check or print${didYouMean(meant)}`);
  }
  const { values, positionals } = parseArgs({ args: [...rest], allowPositionals: true, options: FLAGS });
  if (positionals.length > 1) throw new Misuse(`config ${action} takes one file at most`);
  if (positionals.length === 1 && values.config !== undefined)
    throw new Misuse("the file is given twice: as --config and by itself");
  const file = positionals[0] ?? values.config;
  const report = await inspectConfig({
    options: settings(values, io),
    ...(file !== undefined && { file }),
    ...(values.target !== undefined && { url: values.target }),
  });
  const { issues } = report;
  if (values.json) {
    const shown = action === "check" ? { success: issues.length === 0, ...report } : report;
    io.stdout.write(`${JSON.stringify(shown)}\n`);
  } else if (action === "print") print(report, values.changed, io);
  else if (issues.length === 0) io.stdout.write(summary(report));
  if (!values.json) for (const issue of issues) io.stderr.write(line(issue));
  if (!values.json && report.ignored.length > 0 && action === "check")
    io.stderr.write(oneLine(`not an option, and left alone: ${report.ignored.join(", ")}`).concat("\n"));
  return issues.length === 0 ? OK : MISUSE;
}

function line({ path, message, suggestion, source }: ConfigIssue): string {
  const where = source === undefined ? "" : `${source}: `;
  return `${oneLine(`${where}${path} ${message}${didYouMean(suggestion)}`)}\n`;
}

function summary({ url, options }: ConfigReport): string {
  const given = options.filter(({ from }) => from !== "default").length;
  const target = url === null ? "no target is given" : `target ${withoutCredentials(String(url.value))}`;
  return `${oneLine(`no mistake: ${plural(given, "option")} given, ${target}`)}\n`;
}

function print({ url, options }: ConfigReport, changed: boolean, io: Io): void {
  const all = url === null ? options : [url, ...options];
  const shown = changed ? all.filter(({ from }) => from !== "default") : all;
  const rows = shown.map((value) => [value.path, textOf(value), originOf(value)]);
  io.stdout.write(table([["option", "value", "from"], ...rows], io.stdout.columns ?? WIDTH));
}

const originOf = ({ from, where }: ConfigValue): string => (where === null ? from : `${from} ${where}`);

function textOf({ value, kind, hidden }: ConfigValue): string {
  if (hidden) return "(secret)";
  if (value === null) return "-";
  if (kind === "bytes") return sizeOf(value as number);
  if (kind === "duration") return spanOf(value as number);
  if (typeof value === "number") return count(value);
  if (typeof value === "object") return value.length === 0 ? "-" : value.join(", ");
  return String(value);
}

/** Exact: what is no whole number of a unit stays in bytes. */
function sizeOf(bytes: number): string {
  for (const [unit, size] of SIZES)
    if (bytes >= size && bytes % size === 0) return `${count(bytes / size)} ${unit}`;
  return plural(bytes, "byte");
}

const SIZES = [
  ["GiB", 2 ** 30],
  ["MiB", 2 ** 20],
  ["KiB", 2 ** 10],
] as const;

function spanOf(ms: number): string {
  let left = ms;
  const parts: string[] = [];
  for (const [unit, size] of SPANS) {
    const whole = Math.floor(left / size);
    if (whole === 0) continue;
    parts.push(`${whole} ${unit}`);
    left -= whole * size;
  }
  if (left > 0 || parts.length === 0) parts.push(`${left} ms`);
  return parts.join(" ");
}

const SPANS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
] as const;
