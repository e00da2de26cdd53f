// one word, one thing. The glossary of ARCHITECTURE.md names types that exist, and users read the same words.

import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";

const root = path.resolve(import.meta.dirname, "../..");
const MAX_WORDS = 16;

/** The cells of the first table with this head. */
function table(file: string, head: string): string[][] {
  const text = readFileSync(path.join(root, file), "utf8");
  const rows = text.slice(text.indexOf(head)).split("\n\n", 1)[0]!.split("\n").slice(2);
  return rows.map((row) =>
    row
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

function sources(folder: string, extension: string): string {
  const names = readdirSync(path.join(root, folder), { recursive: true, encoding: "utf8" });
  const files = names.filter((name) => name.endsWith(extension) && !name.includes("generated"));
  return files.map((name) => readFileSync(path.join(root, folder, name), "utf8")).join("\n");
}

const glossary = table("ARCHITECTURE.md", "| word | meaning | TypeScript | Rust |");
const words = glossary.map(([word]) => word!);
const typesIn = (cell: string) => [...cell.matchAll(/`([A-Z]\w+)`/g)].map(([, name]) => name!);

describe("R-35 the glossary", () => {
  test("has few words, each once, each with a sentence", () => {
    expect(words.length).toBeGreaterThan(10);
    expect(words.length).toBeLessThanOrEqual(MAX_WORDS);
    expect(new Set(words).size).toBe(words.length);
    for (const [word, meaning] of glossary) expect(meaning, word).toMatch(/\.$/);
  });

  test("names types that the code defines", () => {
    const typescript = sources("src-ts", ".ts");
    const rust = sources("src-rs", ".rs");
    // Of libraries, so defined elsewhere.
    const foreign = new Set(["RecordBatch"]);
    for (const [word, , ours, theirs] of glossary) {
      for (const name of typesIn(ours!))
        expect(typescript, `${word}: ${name}`).toMatch(new RegExp(`\\b(class|interface|type) ${name}\\b`));
      for (const name of typesIn(theirs!).filter((name) => !foreign.has(name)))
        expect(rust, `${word}: ${name}`).toMatch(new RegExp(`\\b(struct|enum|trait|type) ${name}\\b`));
    }
  });

  test("has the words of docs/concepts.md, in their order", () => {
    expect(table("docs/concepts.md", "| word | meaning |").map(([word]) => word)).toEqual(words);
  });

  test("one name, one thing: no two types of Rust that other files see have one name", () => {
    const folder = path.join(root, "src-rs");
    const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) =>
      name.endsWith(".rs"),
    );
    const places = new Map<string, string[]>();
    for (const name of names) {
      const text = readFileSync(path.join(folder, name), "utf8");
      for (const [, type] of text.matchAll(
        /^ *pub(?:\([a-z: ]+\))? (?:struct|enum|trait|type|union) (\w+)/gm,
      ))
        places.set(type!, [...(places.get(type!) ?? []), name]);
    }
    expect(places.size).toBeGreaterThan(100);
    expect([...places].filter(([, files]) => files.length > 1)).toEqual([]);
  });
});
