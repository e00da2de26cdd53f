// an option is written once. The table, the JSON Schema and the docs follow from src-ts/options.ts, and Rust reads
// the same names, kinds, words and defaults.
import * as fs from "node:fs";
import * as path from "node:path";
import { describe, expect, test } from "vitest";
import { explainOptions } from "../../dist/binding.js";
import { OPTIONS } from "../../dist/options/table.js";
import { fallbackOf, optionsOf, variableOf, written } from "../../scripts/options.mjs";

const root = path.resolve(import.meta.dirname, "../..");
interface Option {
  readonly path: string;
  readonly kind: string;
  readonly words?: readonly string[];
  readonly secret: boolean;
  readonly fallback?: string;
  readonly short?: string;
  readonly exclusive?: boolean;
}
const read = (from: string) =>
  fs.readFileSync(path.join(root, "src-ts", from.replace(/\.js$/, ".ts")), "utf8");
const options: readonly Option[] = optionsOf(read("options.ts"), read);

describe("what is written from src-ts/options.ts", () => {
  test.each([...written().keys()])("%s is as it would be written now: node scripts/options.mjs", (name) => {
    expect(fs.readFileSync(path.join(root, name), "utf8")).toBe(written().get(name));
  });

  test("each option has a variable of its own", () => {
    const names = options.map(({ path }) => variableOf(path));
    expect(new Set(names).size).toBe(names.length);
    expect(names).toContain("ARROW_INGEST_FLIGHT_DESCRIPTOR_COMMAND_BASE64");
    expect(OPTIONS.length).toBe(options.length);
  });

  test("what is secret is known to be", () => {
    const secret = options.filter(({ secret }) => secret).map(({ path }) => path);
    expect(secret).toEqual(
      expect.arrayContaining([
        "delta.storage",
        "headers",
        "zerobus.clientSecret",
        "tls.key",
        "flight.auth.password",
      ]),
    );
  });

  test("a type that is not understood stops the script", () => {
    const of = (type: string) =>
      optionsOf(`export interface ConnectOptions {\n  readonly a?: ${type};\n}\n`, read);
    for (const type of ["Banana", "string | number", "{ readonly x: string } | boolean"])
      expect(() => of(type), type).toThrow(/a: the type .* is not understood/);
    expect(of("(() => Banana) | undefined")).toEqual([]);
    expect(of("AbortSignal")).toEqual([]);
  });
});

/** The kinds of Rust, in the words of the table. */
const KINDS: Readonly<Record<string, string>> = {
  count: "number",
  part: "number",
  flag: "boolean",
  text: "string",
  secret: "string",
  names: "strings",
};

/** Groups that are read only if they are given. */
const everyGroup = (): object => {
  const tree: Record<string, unknown> = {};
  for (const { path } of options.filter(({ kind }) => kind === "group")) {
    let group = tree;
    for (const step of path.split(".")) {
      group[step] ??= {};
      group = group[step] as Record<string, unknown>;
    }
  }
  const { telemetry: _, ...rest } = tree;
  return rest;
};

describe("what Rust reads is what is written", async () => {
  const { options: facts } = await explainOptions(null, JSON.stringify(everyGroup()));
  // TypeScript alone reads these, and Rust alone knows that a function was given.
  const ofTypeScript = (path: string) => path.startsWith("telemetry.");
  const ofFunctions = ["retry.when"];
  const values = options.filter(({ kind, path }) => kind !== "group" && !ofTypeScript(path));

  test("the same options, of the same kinds, words and secrecy", () => {
    const ours = values.map(({ path, kind, words, secret }) => ({ path, kind, words: words ?? [], secret }));
    const theirs = facts
      .filter(({ path }) => !ofFunctions.includes(path))
      .map(({ path, kind, words }) => ({
        path,
        kind: KINDS[kind] ?? kind,
        words: words ?? [],
        secret: kind === "secret" || kind === "record",
      }));
    const byPath = (a: { path: string }, b: { path: string }) => (a.path < b.path ? -1 : 1);
    expect(theirs.sort(byPath)).toEqual(ours.sort(byPath));
  });

  test("the same defaults", () => {
    const byPath = new Map(facts.map((fact) => [fact.path, fact.default]));
    let compared = 0;
    for (const { path, kind, fallback } of values) {
      const said = meant(kind, fallback);
      if (said === undefined) continue;
      compared++;
      expect([path, said]).toEqual([path, byPath.get(path)]);
    }
    expect(compared).toBeGreaterThan(35);
  });
});

/** What the words of a default mean; undefined of those that follow from something else. */
function meant(kind: string, text: string | undefined): unknown {
  if (text === undefined || text.includes("\u00d7") || /^[a-z]{4,}\b(?!$)/.test(text)) return undefined;
  if (text === "never") return null;
  if (text === "none") return [];
  if (text === "true" || text === "false") return text === "true";
  if (text.startsWith('"')) return JSON.parse(text);
  if (text.startsWith("`")) return undefined;
  const parts = [...text.matchAll(/([\d,]+)(?: ([a-zA-Z]+))?/g)];
  const sum = parts.reduce((total, [, digits, unit]) => {
    const factor = unit === undefined ? 1 : UNITS[unit];
    expect(factor, `${kind}: ${text}`).toBeDefined();
    return total + Number(digits!.replaceAll(",", "")) * factor!;
  }, 0);
  return parts.length === 0 ? undefined : sum;
}

const UNITS: Readonly<Record<string, number>> = {
  ...{ KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 },
  ...{ ms: 1, s: 1e3, min: 60e3, h: 3600e3, d: 86400e3 },
};

test("a default is found in a comment", () => {
  expect(fallbackOf("Silence. Default: 5 min 30 s. More.")).toBe("5 min 30 s");
  expect(fallbackOf("Nothing.")).toBe(undefined);
});
