// The options that text can hold, read from src-ts/options.ts and written where they are needed again:
//
//   src-ts/options/table.ts       what the environment and files are read by
//   options.schema.json           JSON Schema of a configuration file, for editors
//   docs/configuration.md         the table of names, between its marks
//
//   node scripts/options.mjs      writes them anew; tests/scripts/options.test.ts fails where one has drifted
//
// An option is written once, in `ConnectOptions` and the interfaces below it. A type that is not understood here stops
// the script. A member that only a program can give (a function, an object of a class) is left out, and so is one whose
// comment says "In a call alone". One whose comment says "Never logged" is a secret.
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const ROOT = "ConnectOptions";
const MARKS = ["<!-- options: begin -->", "<!-- options: end -->"];
/** Types of the language and of other packages that no text stands for. */
const OBJECTS = [
  "AbortSignal",
  "Schema",
  "ReadonlyMap",
  "PromiseLike",
  "unknown",
  "object",
  "symbol",
  "bigint",
];

/**
 * Every option of `source`, in its order: `{ path, kind, words, secret, comment, fallback }`; groups have the kind
 * `group` and may have `exclusive` (one member at most) or `short` (the member that a value alone stands for).
 */
export function optionsOf(source, read) {
  const types = declarations(source, read);
  const found = [];
  visit(ROOT, "", { secret: false });
  return found;

  function visit(name, above, { secret }) {
    for (const member of types.get(name).members) {
      const at = above === "" ? member.name : `${above}.${member.name}`;
      const comment = member.comment;
      if (/In a call alone\b/.test(comment)) continue;
      const hidden = secret || /Never logged\b/.test(comment);
      add(at, shapeOf(member.type, at), comment, hidden);
    }
  }

  function add(at, shape, comment, secret) {
    if (shape === undefined) return;
    const { kind, words, members, exclusive, short } = shape;
    const text = [shape.comment, comment].filter(Boolean).join(" ");
    const option = { path: at, kind, comment: text, fallback: fallbackOf(comment), secret };
    if (kind !== "group") return void found.push({ ...option, words });
    const inner = members.map(({ name, type, comment }) => {
      const there = `${at}.${name}`;
      return { there, comment, of: shapeOf(type, there), hidden: secret || /Never logged\b/.test(comment) };
    });
    found.push({ ...option, exclusive, short });
    for (const { there, of, comment, hidden } of inner)
      if (!/In a call alone\b/.test(comment)) add(there, of, comment, hidden);
  }

  /** What text can say of a type, or undefined. */
  function shapeOf(text, at) {
    const alternatives = split(text.trim().replace(/^\|/, ""), "|").map((one) => one.trim());
    // What follows the arrow of a function is what it gives.
    const arrow = alternatives.findIndex((one) => one.includes("=>"));
    const shapes = alternatives.slice(0, arrow < 0 ? undefined : arrow).map((one) => single(one, at));
    const textual = shapes.filter((shape) => shape !== undefined);
    if (textual.length === 0) return undefined;
    const [first] = textual;
    if (textual.every(({ kind }) => kind === "choice"))
      return { kind: "choice", words: textual.flatMap(({ words }) => words) };
    const groups = textual.filter(({ kind }) => kind === "group");
    const rest = textual.filter(({ kind }) => kind !== "group");
    if (groups.length === 0 && rest.length === 1) return first;
    if (groups.length > 1 && rest.length === 0)
      return { kind: "group", exclusive: true, members: groups.flatMap(({ members }) => members) };
    if (groups.length === 1 && rest.length <= 1) {
      const [group, alone] = [groups[0], rest[0]];
      if (alone === undefined) return group;
      const same = (member) => JSON.stringify(shapeOf(member.type, at)) === JSON.stringify(alone);
      const short = group.members.filter(same);
      if (short.length === 1) return { ...group, short: short[0].name };
    }
    throw new Error(`${at}: the type ${text} is not understood; scripts/options.mjs has to learn it`);
  }

  function single(text, at) {
    if (/^"[^"]*"$/.test(text)) return { kind: "choice", words: [text.slice(1, -1)] };
    if (["number", "string", "boolean"].includes(text)) return { kind: text };
    if (text === "Duration") return { kind: "duration" };
    if (text === "ByteSize") return { kind: "bytes" };
    if (text === "readonly string[]") return { kind: "strings" };
    if (text.startsWith("readonly ") && text.endsWith("[]")) return undefined;
    if (/^Readonly<Record<string, /.test(text)) return { kind: "record" };
    if (text.startsWith("{")) return { kind: "group", members: membersOf(text.slice(1, -1)) };
    if (text.includes("=>") || text.startsWith("(")) return undefined;
    const name = /^[A-Za-z_]\w*/.exec(text)?.[0];
    const declared = types.get(name);
    if (declared?.alias !== undefined) return shapeOf(declared.alias, at);
    if (declared !== undefined) {
      // One that has to have a member which no text stands for cannot be given as text at all.
      const isText = (member) => shapeOf(member.type, `${at}.${member.name}`) !== undefined;
      const needed = declared.members.filter((member) => !member.optional && !member.method);
      if (declared.members.some((member) => !member.method && isText(member)) && needed.every(isText))
        return {
          kind: "group",
          members: declared.members.filter((member) => !member.method),
          comment: declared.comment,
        };
      return undefined;
    }
    if (OBJECTS.includes(name) || types.imported.has(name)) return undefined;
    throw new Error(`${at}: the type ${text} is not understood; scripts/options.mjs has to learn it`);
  }
}

/** Interfaces and aliases by name, those of other files that are imported as aliases of words included. */
function declarations(source, read) {
  const types = new Map();
  types.imported = new Set();
  for (const [, names, from] of source.matchAll(/^import (?:type )?\{([^}]*)\} from "([^"]+)";/gm)) {
    for (const name of names
      .split(",")
      .map((one) => one.trim().replace(/^type /, ""))
      .filter(Boolean)) {
      const text = from.startsWith(".") ? read(from) : "";
      const words = new RegExp(`^export type ${name} =([^;]*);`, "m").exec(text)?.[1];
      if (words !== undefined && /^[\s|]*"/.test(words)) types.set(name, { alias: words });
      else types.imported.add(name);
    }
  }
  for (const [, name, text] of source.matchAll(/^export type (\w+) =([^;]*?);$/gm))
    if (!types.has(name)) types.set(name, { alias: text });
  for (const match of source.matchAll(
    /(?:\/\*\*((?:(?!\*\/).)*)\*\/\n)?^export interface (\w+)(?: extends [\w, ]+)? \{/gms,
  )) {
    const start = match.index + match[0].length;
    const length = endOf(source.slice(start));
    const comment = match[1] === undefined ? "" : prose(match[1]);
    types.set(match[2], { members: membersOf(source.slice(start, start + length)), comment });
  }
  return types;
}

/** How far it is to the brace that closes what is open. */
function endOf(text) {
  let depth = 1;
  const bare = blank(text);
  for (let at = 0; at < bare.length; at++) {
    if (bare[at] === "{") depth++;
    if (bare[at] === "}" && --depth === 0) return at;
  }
  return bare.length;
}

/** Comments and the inside of strings as blanks, so that no brace or mark of theirs counts. */
const blank = (text) =>
  text.replaceAll(/\/\*.*?\*\/|\/\/[^\n]*|"[^"\n]*"|`[^`]*`/gs, (found) => " ".repeat(found.length));

function membersOf(body) {
  const bare = blank(body);
  const members = [];
  let begin = 0;
  for (const end of marks(bare, ";").concat(bare.trim() === "" ? [] : [body.length])) {
    const text = body.slice(begin, end);
    begin = end + 1;
    const comments = [...text.matchAll(/\/\*\*(.*?)\*\//gs)];
    const comment = comments.length === 0 ? "" : prose(comments.at(-1)[1]);
    const code = text.replaceAll(/\/\*.*?\*\//gs, "").trim();
    if (code === "") continue;
    const [, name, optional, type] = /^(?:readonly )?(\w+)(\??):(.*)$/s.exec(code) ?? [];
    if (name === undefined) members.push({ name: code, method: true, optional: true, comment, type: "" });
    else members.push({ name, optional: optional === "?", comment, type: type.trim() });
  }
  return members;
}

/** Where a mark stands that no bracket encloses. */
function marks(bare, mark) {
  const found = [];
  let depth = 0;
  for (let at = 0; at < bare.length; at++) {
    if ("{([<".includes(bare[at])) depth++;
    // The arrow of a function closes nothing.
    if ("})]".includes(bare[at]) || (bare[at] === ">" && bare[at - 1] !== "=")) depth--;
    if (bare[at] === mark && depth === 0) found.push(at);
  }
  return found;
}

function split(text, mark) {
  const parts = [];
  let begin = 0;
  for (const end of [...marks(blank(text), mark), text.length]) {
    parts.push(text.slice(begin, end));
    begin = end + 1;
  }
  return parts;
}

const prose = (comment) =>
  comment
    .replaceAll(/^\s*\* ?/gm, "")
    .split("@example")[0]
    .replaceAll(/\{@link\s+([^}]+)\}/g, "`$1`")
    .replaceAll(/\s+/g, " ")
    .trim();

/** What a comment says of the default. */
export const fallbackOf = (comment) => /Default: (.+?)\.(?= |$)/.exec(comment)?.[1];

/** The variable of the environment that an option is read from. */
export const variableOf = (at) =>
  `ARROW_INGEST_${at
    .replaceAll(/([a-z0-9])([A-Z])/g, "$1_$2")
    .replaceAll(".", "_")
    .toUpperCase()}`;

// ---- what is written ----------------------------------------------------------------------------

export function tableText(options) {
  const rows = options.map(({ path: at, kind, words, secret, exclusive, short }) => {
    const facts = { path: at, kind, ...(words && { words }), ...(secret && { secret }) };
    const ofGroup = { ...(exclusive && { exclusive }), ...(short && { short }) };
    const pairs = Object.entries({ ...facts, ...ofGroup });
    return `  { ${pairs.map(([name, value]) => `${name}: ${JSON.stringify(value)}`).join(", ")} },\n`;
  });
  return `// Written by scripts/options.mjs from options.ts: the options that text can hold, in their order.

export type OptionKind =
  | "group"
  | "number"
  | "string"
  | "boolean"
  | "choice"
  | "duration"
  | "bytes"
  | "strings"
  | "record";

export interface OptionFacts {
  readonly path: string;
  readonly kind: OptionKind;
  /** Of a choice. */
  readonly words?: readonly string[];
  /** Its value is never shown. */
  readonly secret?: boolean;
  /** Of a group: its members exclude each other, so that a group is taken from one place as a whole. */
  readonly exclusive?: boolean;
  /** Of a group: the member that a value in its place stands for. */
  readonly short?: string;
}

export const OPTIONS: readonly OptionFacts[] = [
${rows.join("")}];
`;
}

const REFERENCE = { type: "string", pattern: "\\$\\{(env|file):[^}]+\\}" };
const SIZE = "^\\s*[0-9.]+\\s*([KMGT]i?)?B?\\s*$";
const SPAN = "^(\\s*[0-9][0-9 .]*[a-zA-Zµ]+)+\\s*$|^0$";

export function schemaText(options) {
  const schema = {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "Configuration of arrow-ingest",
    description:
      "A file for connectFrom(file), ARROW_INGEST_CONFIG and the flag --config. Written by scripts/options.mjs.",
    type: "object",
    properties: {
      $schema: { type: "string" },
      url: { description: "The destination, as connect() takes it. Never a secret in it.", type: "string" },
    },
    additionalProperties: false,
  };
  const groups = new Map([["", schema]]);
  for (const option of options) {
    const above = option.path.split(".").slice(0, -1).join(".");
    const made = { ...(option.comment && { description: option.comment }), ...schemaOf(option) };
    groups.get(above).properties[option.path.split(".").at(-1)] = made;
    if (option.kind !== "group") continue;
    const group = { type: "object", properties: {}, additionalProperties: false };
    if (option.exclusive) group.maxProperties = 1;
    groups.set(option.path, group);
    const short = options.find(({ path: at }) => at === `${option.path}.${option.short}`);
    if (short) made.anyOf = [schemaOf(short), group];
    else Object.assign(made, group);
    groups.set(option.path, group);
    // The properties of what was copied are those of the group that grows.
    if (!short) made.properties = group.properties;
  }
  return `${JSON.stringify(schema, null, 2)}\n`;
}

function schemaOf({ kind, words }) {
  switch (kind) {
    case "number":
      return { anyOf: [{ type: "number", minimum: 0 }, REFERENCE] };
    case "boolean":
      return { anyOf: [{ type: "boolean" }, REFERENCE] };
    case "choice":
      return { anyOf: [{ enum: words }, REFERENCE] };
    case "duration":
      return { anyOf: [{ type: "number", minimum: 0 }, { type: "string", pattern: SPAN }, REFERENCE] };
    case "bytes":
      return { anyOf: [{ type: "integer", minimum: 0 }, { type: "string", pattern: SIZE }, REFERENCE] };
    case "strings":
      return { anyOf: [{ type: "array", items: { type: "string" } }, REFERENCE] };
    case "record":
      return { type: "object", additionalProperties: { type: ["string", "number", "boolean"] } };
    case "string":
      return { type: "string" };
    default:
      return {};
  }
}

const KINDS = {
  number: "number",
  boolean: "`true`, `false`",
  duration: "duration, such as `50ms`",
  bytes: "size, such as `8MiB`",
  strings: "list: `a,b` or JSON",
  string: "text",
  record: "JSON object; or one variable for each name: `…_NAME`",
};

export function docsTable(options) {
  const rows = options
    .filter(({ kind, short }) => kind !== "group" || short !== undefined)
    .map(({ path: at, kind, words, secret, fallback, short }) => {
      const one =
        kind === "group" ? options.find(({ path: inner }) => inner === `${at}.${short}`) : { kind, words };
      const what =
        one.kind === "choice" ? one.words.map((word) => `\`${word}\``).join(", ") : KINDS[one.kind];
      const notes = [secret ? "secret" : "", kind === "group" ? `short for \`${at}.${short}\`` : ""];
      const value = [what, ...notes.filter(Boolean)].join("; ");
      return `| \`${variableOf(at)}\` | \`${at}\` | ${value} | ${(fallback ?? "").replaceAll("|", "\\|")} |`;
    });
  return `| variable | option | value | default |\n|---|---|---|---|\n${rows.join("\n")}\n`;
}

/** A page with the table between its marks written anew. */
export function withTable(page, table) {
  const [begin, end] = MARKS.map((mark) => page.indexOf(mark));
  if (begin < 0 || end < begin) throw new Error(`docs/configuration.md has no ${MARKS.join(" and ")}`);
  return `${page.slice(0, begin + MARKS[0].length)}\n\n${table}\n${page.slice(end)}`;
}

/** Every file that is written, with its text. */
export function written() {
  const at = (...parts) => path.join(root, ...parts);
  const read = (from) => fs.readFileSync(at("src-ts", from.replace(/\.js$/, ".ts")), "utf8");
  const options = optionsOf(fs.readFileSync(at("src-ts/options.ts"), "utf8"), read);
  const page = fs.readFileSync(at("docs/configuration.md"), "utf8");
  return new Map([
    ["src-ts/options/table.ts", tableText(options)],
    ["options.schema.json", schemaText(options)],
    ["docs/configuration.md", withTable(page, docsTable(options))],
  ]);
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const [name, text] of written()) fs.writeFileSync(path.join(root, name), text);
