// Where the code names an Arrow type, against the tables of specs/arrow-types.md.
//
// Rust: the variants of arrow's `DataType` that a file names, aliases of the type and imported variants included.
// TypeScript: the numbers of `typeId` that a file compares or switches on, and `DataType.is…`.
// Test modules inside a file do not count. A file that names types and is in no table is a place that the page lacks.
//
// `node scripts/arrow-types.mjs` writes the two tables of types anew.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { Type } from "apache-arrow";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
export const PAGE = "specs/arrow-types.md";

/** The variants of arrow's `DataType`, in its order. */
export function rustTypes() {
  const lock = fs.readFileSync(path.join(root, "Cargo.lock"), "utf8");
  const version = /name = "arrow-schema"\nversion = "([^"]+)"/.exec(lock)[1];
  const registry = path.join(process.env.CARGO_HOME ?? path.join(os.homedir(), ".cargo"), "registry/src");
  const file = fs
    .readdirSync(registry)
    .map((name) => path.join(registry, name, `arrow-schema-${version}/src/datatype.rs`))
    .find((name) => fs.existsSync(name));
  if (file === undefined) throw new Error(`arrow-schema ${version} is not in ${registry}: cargo fetch`);
  const body = /^pub enum DataType \{$(.*?)^\}$/ms.exec(fs.readFileSync(file, "utf8"))[1];
  return [...body.matchAll(/^ {4}([A-Z]\w*)/gm)].map(([, name]) => name);
}

/** The types of `apache-arrow` that a schema can have, by number. */
export function javascriptTypes() {
  const entries = Object.entries(Type).filter(([, id]) => typeof id === "number" && (id > 0 || id === -1));
  return new Map(entries.map(([name, id]) => [id, name]));
}

function filesBelow(folder, ending) {
  const names = fs.readdirSync(path.join(root, folder), { recursive: true }).map(String);
  return names
    .filter((name) => name.endsWith(ending) && !name.includes("generated"))
    .map((name) => `${folder}/${name.split(path.sep).join("/")}`)
    .sort();
}

const withoutComments = (text) => text.replaceAll(/\/\*.*?\*\/|\/\/[^\n]*/gs, "");

/** The types that a Rust text names. */
export function namedInRust(text, types) {
  const code = withoutComments(text).split("#[cfg(test)]", 1)[0];
  const imported = [...code.matchAll(/use (?:arrow|arrow_schema)[\w:]*::(\{[^;]*\}|\w+)(?: as \w+)?;/gs)].map(
    ([all]) => all,
  );
  if (!imported.some((use) => /\bDataType\b/.test(use))) return new Set();
  // `DataType as Delta` of another library is not among these: it is imported from elsewhere.
  const aliases = [
    "DataType",
    ...[...imported.join("\n").matchAll(/\bDataType as (\w+)/g)].map(([, name]) => name),
  ];
  for (const [, name] of code.matchAll(/use (?:[\w:]+::)?DataType as (\w+);/g)) aliases.push(name);
  const named = new Set();
  for (const [, name] of code.matchAll(new RegExp(`\\b(?:${aliases.join("|")})::([A-Z]\\w*)`, "g")))
    named.add(name);
  for (const [, list] of code.matchAll(/use (?:[\w:]+::)?DataType::\{([^}]*)\};/g))
    for (const name of list.split(",")) named.add(name.trim());
  return new Set(types.filter((type) => named.has(type)));
}

/** The numbers of types that a TypeScript text compares `typeId` with. */
export function namedInTypescript(text, types) {
  const code = withoutComments(text);
  const ids = new Set();
  for (const { index } of code.matchAll(/switch \((?:\w+\.)*typeId\) \{/g)) {
    let depth = 0;
    let end = code.indexOf("{", index);
    do {
      if (code[end] === "{") depth++;
      if (code[end] === "}") depth--;
      end++;
    } while (depth > 0);
    for (const [, id] of code.slice(index, end).matchAll(/case (-?\d+):/g)) ids.add(Number(id));
  }
  for (const [, id] of code.matchAll(/typeId (?:=|!)== (-?\d+)/g)) ids.add(Number(id));
  const byName = new Map([...types].map(([id, name]) => [name.toLowerCase(), id]));
  for (const [, name] of code.matchAll(/\bDataType\.is(\w+)/g)) {
    const id = byName.get(name.replace(/^(Dense|Sparse)/, "").toLowerCase());
    if (id !== undefined) ids.add(id);
  }
  return new Set([...types].filter(([id]) => ids.has(id)).map(([, name]) => name));
}

/** Each file that names types, with the types. */
export function places() {
  const rust = rustTypes();
  const javascript = javascriptTypes();
  const named = (files, of) =>
    new Map(
      files
        .map((file) => [file, of(fs.readFileSync(path.join(root, file), "utf8"))])
        .filter(([, set]) => set.size > 0),
    );
  return {
    rust: named(filesBelow("src-rs", ".rs"), (text) => namedInRust(text, rust)),
    typescript: named(filesBelow("src-ts", ".ts"), (text) => namedInTypescript(text, javascript)),
  };
}

/** The table of types × places. Places are numbered as in the table before it. */
export function matrix(types, found) {
  const files = [...found.keys()];
  const lines = [
    `| type | ${files.map((_, index) => index + 1).join(" | ")} |`,
    `|---|${files.map(() => "---|").join("")}`,
  ];
  for (const type of types)
    lines.push(`| ${type} | ${files.map((file) => (found.get(file).has(type) ? "●" : " ")).join(" | ")} |`);
  return lines.join("\n");
}

/** The files of a table of places, in its order, with what each says of the types that it does not name. */
export function placesOnPage(page, heading) {
  const section = page.slice(page.indexOf(`## ${heading}`)).split("\n## ", 1)[0];
  return [...section.matchAll(/^\| \d+ \| `([^`]+)` \| (.*?) \| (.*?) \|$/gm)].map(
    ([, file, decides, others]) => ({ file, decides, others }),
  );
}

export function withMatrices(page) {
  const { rust, typescript } = places();
  const put = (text, heading, types, found) => {
    const order = placesOnPage(text, heading).map(({ file }) => file);
    const sorted = new Map(
      [
        ...order.filter((file) => found.has(file)),
        ...[...found.keys()].filter((file) => !order.includes(file)),
      ].map((file) => [file, found.get(file)]),
    );
    const start = text.indexOf("| type |", text.indexOf(`## ${heading}`));
    const end = text.indexOf("\n\n", start);
    return text.slice(0, start) + matrix(types, sorted) + (end < 0 ? "\n" : text.slice(end));
  };
  return put(put(page, "Rust", rustTypes(), rust), "TypeScript", [...javascriptTypes().values()], typescript);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const file = path.join(root, PAGE);
  fs.writeFileSync(file, withMatrices(fs.readFileSync(file, "utf8")));
}
