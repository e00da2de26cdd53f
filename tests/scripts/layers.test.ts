// Imports go down: the table "Layers" of ARCHITECTURE.md holds for every file.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { expect, test } from "vitest";
import { allowed, arrows, bare, circles, forbidden } from "../../scripts/layers.mjs";

const root = path.resolve(import.meta.dirname, "../..");
const architecture = fs.readFileSync(path.join(root, "ARCHITECTURE.md"), "utf8");

test("every arrow between layers stands in the table of ARCHITECTURE.md", () => {
  const table = allowed(architecture);
  expect(table.size).toBeGreaterThan(20);
  expect(forbidden(arrows(root), table)).toEqual([]);
});

test("no files import each other in a circle", () => {
  expect(circles(arrows(root))).toEqual([]);
});

test("the parts of the transmitter do not import each other, nor the engine over them", () => {
  const below = "src-rs/transmitter/";
  const partOf = (file: string) =>
    /^(deliveries|writes|sessions|engine)\b/.exec(file.slice(below.length))?.[1];
  const within = arrows(root).filter(({ from, to }) => from.startsWith(below) && to.startsWith(below));
  const parts = within.filter(({ from, to }) => partOf(from) && partOf(to) && partOf(from) !== partOf(to));
  const unexpected = parts.filter(({ from }) => partOf(from) !== "engine");
  expect(unexpected).toEqual([]);
  expect(new Set(parts.map(({ to }) => partOf(to)))).toEqual(new Set(["deliveries", "writes", "sessions"]));
});

test("each row of the table names a layer that exists", () => {
  for (const layer of allowed(architecture).keys()) {
    const found = ["", ".rs", ".ts"].some((ending) => fs.existsSync(path.join(root, layer + ending)));
    expect(found, layer).toBe(true);
  }
});

/** A small repository with these files. */
function repository(files: Record<string, string>): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "layers-"));
  for (const [name, text] of Object.entries({ "src-rs/lib.rs": "", "src-ts/index.ts": "", ...files })) {
    fs.mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    fs.writeFileSync(path.join(folder, name), text);
  }
  return folder;
}

const table = allowed(
  "## Layers\n| layer | what | may import |\n|---|---|---|\n| `src-rs/a` | x | `b` |\n| `src-rs/b` | x | – |\n## Next\n",
);

test.each([
  ["a use", "use crate::a::Thing;"],
  ["a tree", "use crate::{b::Own, a::{Thing, Other}};"],
  ["an inline path", "fn f() -> u8 { crate::a::thing() }"],
  ["super", "use super::a::Thing;"],
  ["a re-export of the crate's root", "use crate::Again;"],
  ["a name that is given another one", "use crate::a as harmless;"],
])("an arrow upwards is found: %s", (_, text) => {
  const folder = repository({
    "src-rs/lib.rs": "pub mod a; pub mod b; pub use a::Thing as Again;",
    "src-rs/a.rs": "use crate::b::Own;",
    "src-rs/b.rs": text,
  });
  const found = arrows(folder);
  expect(forbidden(found, table)).toEqual(["src-rs/b.rs imports src-rs/a.rs"]);
  expect(circles(found)).toEqual([["src-rs/a.rs", "src-rs/b.rs"]]);
});

test("comments, strings and test modules import nothing", () => {
  const text = `// use crate::a::X;
    /* crate::a::x() */ const S: &str = "crate::a::x"; const C: char = '"'; const R: &str = r#"crate::a::"x"#;
    #[cfg(test)] mod tests { use crate::a::Thing; fn f() { { } } }
    fn g() {}`;
  expect(bare(text)).not.toContain("crate");
  const folder = repository({ "src-rs/a.rs": "use crate::b::Own;", "src-rs/b.rs": text });
  expect(circles(arrows(folder))).toEqual([]);
});

test("siblings in a circle are found, a module and its child are not", () => {
  const folder = repository({
    "src-rs/a.rs": "mod one; mod two; pub use one::One;",
    "src-rs/a/one.rs": "use super::two::Two; use super::Parent;",
    "src-rs/a/two.rs": "use super::One;",
    "src-ts/x.ts": 'import type { Y } from "./y.js";',
    "src-ts/y.ts": 'export { x } from "./x.js";',
  });
  expect(circles(arrows(folder))).toEqual([
    ["src-rs/a/one.rs", "src-rs/a/two.rs"],
    ["src-ts/x.ts", "src-ts/y.ts"],
  ]);
});

test("a layer without a row is named", () => {
  const folder = repository({ "src-rs/c.rs": "use crate::a::Thing;", "src-rs/a.rs": "" });
  expect(forbidden(arrows(folder), table)).toEqual(["src-rs/c has no row in the table"]);
});
