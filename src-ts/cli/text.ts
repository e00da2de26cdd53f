// How numbers, errors and tables are written for people.
//
// Invariant:
// - What others say (a server, a file, a row) stays on its line, and moves no cursor of a terminal.

import { IngestError } from "../index.js";
import { didYouMean } from "../nearest.js";

export const count = (value: number): string => value.toLocaleString("en-US");

export const plural = (value: number, one: string, many = `${one}s`): string =>
  `${count(value)} ${value === 1 ? one : many}`;

export function bytes(value: number): string {
  if (value < 1e3) return plural(value, "byte");
  for (const [size, unit] of SIZES) if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  return `${(value / 1e3).toFixed(1)} kB`;
}

const SIZES = [
  [1e12, "TB"],
  [1e9, "GB"],
  [1e6, "MB"],
] as const;

export function seconds(ms: number): string {
  if (ms < 1e3) return `${Math.round(ms)} ms`;
  if (ms < 120e3) return `${(ms / 1e3).toFixed(1)} s`;
  return ms < 7200e3 ? `${Math.round(ms / 60e3)} min` : `${Math.round(ms / 3600e3)} h`;
}

/** User name and password of a URL do not belong there; where somebody put them, they are not shown. */
export const withoutCredentials = (target: string): string => target.replace(/\/\/[^/@\s]*@/u, "//…@");

/** What went wrong, why, and what may help: the lines for standard error. */
export function explain(error: unknown): string {
  if (!(error instanceof IngestError)) return `arrow-ingest: ${oneLine(messageOf(error))}\n`;
  if (error.issues.length > 0) {
    const lines = error.issues.map(({ path, message, suggestion, source }) => {
      const where = source === undefined ? "" : ` (${source})`;
      return `  ${oneLine(`${path} ${message}${didYouMean(suggestion)}${where}`)}\n`;
    });
    return `arrow-ingest: ${error.code}: the options are wrong\n${lines.join("")}`;
  }
  const tries = error.attempts > 1 ? ` (${error.attempts} attempts, ${seconds(error.elapsedMs)})` : "";
  const causes = error.toJSON().causes.map((cause) => `  because ${oneLine(cause)}\n`);
  return `arrow-ingest: ${error.code}: ${oneLine(error.message)}${tries}\n${causes.join("")}${advice(error)}`;
}

function advice(error: IngestError): string {
  switch (error.retry) {
    case "transient":
      return "  trying again may help\n";
    case "throttled":
      return "  trying again at a slower pace may help\n";
    case "reauthenticate":
      return "  fresh credentials may help\n";
    default:
      return "";
  }
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Without what moves the cursor of a terminal, ends a line, or turns the text around. */
export const oneLine = (text: string): string =>
  text.replace(/[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]+/gu, " ");

/** Columns side by side, no line wider than `width`: the widest columns give way. */
export function table(rows: readonly (readonly string[])[], width: number): string {
  const widest = Math.max(width, NARROWEST);
  const lines = rows.map((row) => row.map((cell) => lettersOf(cell, widest)));
  const widths = (lines[0] ?? []).map((_, at) =>
    lines.reduce((longest, row) => Math.max(longest, row[at]?.length ?? 0), 1),
  );
  const gaps = 2 * (widths.length - 1);
  const over = (most: number): number => widths.reduce((sum, one) => sum + Math.min(one, most), gaps) - width;
  let most = widest;
  while (most > NARROWEST && over(most) > 0) most--;
  // Not all of the widest have to give way for the last letters.
  let spare = -over(most);
  const given = widths.map((one) => (one > most && spare-- > 0 ? most + 1 : Math.min(one, most)));
  return lines
    .map(
      (row) =>
        `${row
          .map((letters, at) => fitted(letters, given[at]!))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}

const NARROWEST = 4;

/** Of a cell, as many as can be shown, and one more that says that there are more. */
function lettersOf(cell: string, width: number): string[] {
  // A letter takes two places in a string at most.
  return [...oneLine(cell).slice(0, 2 * (width + 1))].slice(0, width + 1);
}

function fitted(letters: readonly string[], width: number): string {
  if (letters.length > width) return `${letters.slice(0, width - 1).join("")}…`;
  return letters.join("") + " ".repeat(width - letters.length);
}
