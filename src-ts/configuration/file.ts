// A file of options, JSON, YAML or TOML → a tree of options, each with the line where it stands.
//
// Invariants:
// - No complaint quotes the file: it may hold secrets.
// - A library is loaded for the file that needs it, and not before.

import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { type ConfigIssue, type IngestError, ingestError } from "../errors.js";
import { OURS } from "../options/checks.js";
import type { Environment, Layer } from "./environment.js";
import { BY_PATH, pathOf } from "./names.js";
import { mayRefer, type References, resolved, textOf, whyNot } from "./references.js";
import { expanded, isTree, type Place, pathsIn, type Tree } from "./trees.js";
import { readValue } from "./values.js";

export interface FileLayer extends Layer {
  readonly url: string | undefined;
}

/** What was read, and where the value at a path stands. */
interface Parsed {
  readonly value: unknown;
  lineOf(steps: readonly string[]): number | undefined;
}

/** What is wrong with the text, and in which line. */
class Malformed extends Error {
  readonly line: number | undefined;
  constructor(message: string, line?: number) {
    super(message);
    this.line = line;
  }
}

const FORMATS: Readonly<Record<string, (text: string) => Promise<Parsed>>> = {
  ".json": (text) => parseJson(text),
  ".yaml": (text) => parseYaml(text, "YAML"),
  ".yml": (text) => parseYaml(text, "YAML"),
  ".toml": (text) => parseToml(text),
};

/** @throws {IngestError} `CONFIG_INVALID` if it cannot be read, or is not of its format. */
export async function readFile(given: string | URL, environment: Environment): Promise<FileLayer> {
  const file = given instanceof URL ? fileURLToPath(given) : given;
  const parse = FORMATS[path.extname(file).toLowerCase()];
  if (parse === undefined) throw wrong(file, `must end in ${Object.keys(FORMATS).join(", ")}`);
  let text: string;
  try {
    text = await textOf(file);
  } catch (error) {
    throw wrong(file, whyNot(error));
  }
  let parsed: Parsed;
  try {
    parsed = await parse(text);
  } catch (error) {
    if (error instanceof Malformed) throw wrong(file, error.message, error.line);
    throw error;
  }
  if (parsed.value !== null && !isTree(parsed.value)) throw wrong(file, "must hold an object of options");
  const { $schema, url, ...options } = (parsed.value ?? {}) as Tree;
  const reader = new Reader(file, parsed, { environment, base: path.dirname(path.resolve(file)) });
  const tree = reader.textual((await reader.resolve(options, [])) as Tree);
  const target = url === undefined || url === null ? undefined : await reader.resolve(url, ["url"]);
  if (target !== undefined && typeof target !== "string") reader.complain(["url"], "must be a string");
  for (const at of pathsIn(tree)) reader.place(at);
  const { places, issues } = reader;
  if (typeof target !== "string") return { tree, places, issues, url: undefined };
  reader.place("url");
  return { tree, places, issues, url: target };
}

function wrong(file: string, message: string, line?: number): IngestError {
  const source = line === undefined ? file : `${file}:${line}`;
  const issue: ConfigIssue = { path: "config", message, source };
  const text = `the configuration file ${source} ${message}`;
  return ingestError({ code: "CONFIG_INVALID", message: text, operation: "configure", issues: [issue] });
}

const ONLY_IN_CALLS = OURS.filter((name) => !BY_PATH.has(name));

/** Follows references, and knows where everything stands. */
class Reader {
  readonly places = new Map<string, Place>();
  readonly issues: ConfigIssue[] = [];
  readonly #file: string;
  readonly #parsed: Parsed;
  readonly #references: References;
  readonly #referenced = new Set<string>();

  constructor(file: string, parsed: Parsed, references: References) {
    this.#file = file;
    this.#parsed = parsed;
    this.#references = references;
  }

  async resolve(value: unknown, steps: readonly string[]): Promise<unknown> {
    const at = steps.join(".");
    if (typeof value === "string") return mayRefer(value) ? this.#follow(value, steps) : value;
    if (Array.isArray(value)) {
      const items: unknown[] = [];
      for (const [index, item] of value.entries())
        items.push(await this.resolve(item, [...steps, String(index)]));
      return items;
    }
    if (!isTree(value)) return value;
    const entries: [string, unknown][] = [];
    for (const [name, inner] of Object.entries(value))
      entries.push([name, await this.resolve(inner, [...steps, name])]);
    return expanded(at, Object.fromEntries(entries));
  }

  /** Without what only a program can give. */
  textual(tree: Tree): Tree {
    for (const name of ONLY_IN_CALLS)
      if (tree[name] != null) this.complain([name], "can be given in a call alone");
    return Object.fromEntries(Object.entries(tree).filter(([name]) => !ONLY_IN_CALLS.includes(name)));
  }

  place(at: string): void {
    const referenced = [...this.#referenced].some((path) => path === at || path.startsWith(`${at}.`));
    this.places.set(at, { kind: "file", where: this.#where(at.split(".")), referenced });
  }

  complain(steps: readonly string[], message: string): void {
    this.issues.push({ path: steps.join("."), message, source: this.#where(steps) });
  }

  async #follow(text: string, steps: readonly string[]): Promise<unknown> {
    const found = await resolved(text, this.#references);
    if ("fault" in found) {
      this.complain(steps, found.fault);
      // Not given, so that nobody complains of it once more.
      return undefined;
    }
    const at = steps.join(".");
    if (found.referenced) this.#referenced.add(at);
    const read = found.referenced ? readValue(BY_PATH.get(at), found.text) : { value: found.text };
    if ("value" in read) return read.value;
    this.complain(steps, read.fault);
    return undefined;
  }

  #where(steps: readonly string[]): string {
    const line = this.#parsed.lineOf(steps);
    return line === undefined ? this.#file : `${this.#file}:${line}`;
  }
}

/** JSON is YAML, whose reader knows lines, and finds names that are there twice. */
async function parseJson(text: string): Promise<Parsed> {
  const bare = text.replace(/^\ufeff/, "");
  try {
    JSON.parse(bare);
  } catch (error) {
    const [, position] = /position (\d+)/.exec(String(error)) ?? [];
    const before = position === undefined ? undefined : bare.slice(0, Number(position));
    throw new Malformed("is not JSON", before?.split("\n").length);
  }
  // YAML takes no tab for indentation.
  return parseYaml(bare.replaceAll("\t", " "), "JSON");
}

async function parseYaml(text: string, format: string): Promise<Parsed> {
  const { LineCounter, isAlias, isMap, isScalar, isSeq, parseDocument } = await import("yaml");
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, logLevel: "silent" });
  const lineAt = (offset: number): number => lines.linePos(offset).line;
  const [error] = document.errors;
  if (error !== undefined) {
    const why = error.code === "DUPLICATE_KEY" ? "has a name twice" : `is not ${format}`;
    throw new Malformed(why, lineAt(error.pos[0]));
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch {
    // Aliases of aliases, which would fill the memory.
    throw new Malformed(`is not ${format} that can be followed`);
  }
  return {
    value,
    lineOf(steps) {
      let node: unknown = document.contents;
      let line: number | undefined;
      for (const step of steps) {
        if (isAlias(node)) node = node.resolve(document);
        if (isMap(node)) {
          const pair = node.items.find(({ key }) => String(isScalar(key) ? key.value : key) === step);
          if (pair === undefined) return line;
          line = isScalar(pair.key) && pair.key.range != null ? lineAt(pair.key.range[0]) : line;
          node = pair.value;
        } else if (isSeq(node)) {
          node = node.items[Number(step)];
          line = isScalar(node) && node.range != null ? lineAt(node.range[0]) : line;
        } else return line;
      }
      return line;
    },
  };
}

async function parseToml(text: string): Promise<Parsed> {
  const { parse, TomlError } = await import("smol-toml");
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    // Its message quotes the lines.
    throw new Malformed("is not TOML", error instanceof TomlError ? error.line : undefined);
  }
  let lines: Map<string, number> | undefined;
  return {
    value,
    lineOf(steps) {
      lines ??= tomlLines(text, parse);
      for (let length = steps.length; length > 0; length--) {
        const line = lines.get(steps.slice(0, length).join("."));
        if (line !== undefined) return line;
      }
      return undefined;
    },
  };
}

/** A longer file has no lines: each prefix of it is read. */
const MOST_LINES = 2_000;

/**
 * Where each value begins: the parser tells no places, but a file that ends after a line is a file, too, and what it
 * has more than the one before began after that one.
 */
function tomlLines(text: string, parse: (text: string) => unknown): Map<string, number> {
  const found = new Map<string, number>();
  const lines = text.split("\n");
  if (lines.length > MOST_LINES) return found;
  let begin = 0;
  for (let end = 1; end <= lines.length; end++) {
    let tree: unknown;
    try {
      tree = parse(lines.slice(0, end).join("\n"));
    } catch {
      // In the middle of a value.
      continue;
    }
    for (const path of steppedPaths(tree, "")) if (!found.has(path)) found.set(path, begin + 1);
    begin = end;
  }
  return found;
}

function* steppedPaths(tree: unknown, above: string): Generator<string, void, undefined> {
  if (!isTree(tree)) return;
  for (const [name, value] of Object.entries(tree)) {
    const path = pathOf(above, name);
    yield path;
    yield* steppedPaths(value, path);
  }
}
