// Who imports whom, against the table "Layers" of ARCHITECTURE.md.
//
// Rust: every path that begins at `crate`, `super`, `self` or a child of its own module is resolved to a file,
// through re-exports, in `use` trees and in expressions alike. TypeScript: every relative import.
// Two laws: an arrow between two layers stands in the table; no files import each other in a circle, a module
// and its children counted as one where the one is an ancestor of the other.
// Test modules inside a file (`#[cfg(test)]`) do not count. Macros are read as the text that they are.
import * as fs from "node:fs";
import * as path from "node:path";

/** Every file below `folder` whose name ends with `ending`, with `/` between the parts. */
function filesBelow(root, folder, ending) {
  return fs
    .readdirSync(path.join(root, folder), { recursive: true })
    .map((name) => `${folder}/${String(name).split(path.sep).join("/")}`)
    .filter((name) => name.endsWith(ending) && !name.includes("/generated/"))
    .sort();
}

/** The arrows of the repository at `root`: `{ from, to }`, paths of files. */
export function arrows(root) {
  return [...rustArrows(root), ...typescriptArrows(root)];
}

// ---- Rust ---------------------------------------------------------------------------------------

/** Rust text without comments, strings and test modules. */
export function bare(text) {
  let out = "";
  for (let i = 0; i < text.length; ) {
    const rest = text.slice(i, i + 2);
    if (rest === "//") {
      const end = text.indexOf("\n", i);
      i = end < 0 ? text.length : end;
    } else if (rest === "/*") {
      const end = text.indexOf("*/", i + 2);
      i = end < 0 ? text.length : end + 2;
    } else if (text[i] === '"') {
      const raw = /r(#*)$/.exec(out);
      const close = raw ? `"${raw[1]}` : undefined;
      let end = i + 1;
      if (close) end = text.indexOf(close, i + 1) + close.length;
      else {
        while (end < text.length && text[end] !== '"') end += text[end] === "\\" ? 2 : 1;
        end += 1;
      }
      out += '""';
      i = end;
    } else if (/^'(\\.[^']*|[^'\\])'/.test(text.slice(i, i + 12))) {
      i = text.indexOf("'", i + (text[i + 1] === "\\" ? 3 : 2)) + 1;
      out += "' '";
    } else {
      out += text[i];
      i += 1;
    }
  }
  return withoutTests(out);
}

function withoutTests(text) {
  let out = text;
  for (;;) {
    const start =
      /#\[cfg\((?:all\()?test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))?\s+)?mod\s+\w+\s*/.exec(out);
    if (!start) return out;
    const at = start.index + start[0].length;
    if (out[at] !== "{") {
      out = out.slice(0, start.index) + out.slice(at + 1);
      continue;
    }
    let depth = 0;
    let end = at;
    do {
      if (out[end] === "{") depth += 1;
      if (out[end] === "}") depth -= 1;
      end += 1;
    } while (depth > 0 && end < out.length);
    out = out.slice(0, start.index) + out.slice(end);
  }
}

function moduleOf(file) {
  const parts = file
    .replace(/^src-rs\//, "")
    .replace(/\.rs$/, "")
    .split("/");
  if (parts.at(-1) === "mod" || parts.at(-1) === "lib") parts.pop();
  return parts.join("::");
}

/** `a::{b, c::{d}}` → `a::b`, `a::c::d`; `x as y` is `x` under the name `y`. */
function leaves(tree) {
  const text = tree.trim();
  const brace = text.indexOf("{");
  if (brace < 0) {
    const [, target, name] = /^(.*?)(?:\s+as\s+(\w+))?$/s.exec(text);
    return [{ target: target.replaceAll(/\s/g, ""), name }];
  }
  const prefix = text.slice(0, brace).replaceAll(/\s/g, "");
  const inner = text.slice(brace + 1, text.lastIndexOf("}"));
  const found = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i <= inner.length; i += 1) {
    if (inner[i] === "{") depth += 1;
    if (inner[i] === "}") depth -= 1;
    if (i === inner.length || (inner[i] === "," && depth === 0)) {
      const part = inner.slice(start, i).trim();
      if (part) for (const leaf of leaves(part)) found.push({ ...leaf, target: prefix + leaf.target });
      start = i + 1;
    }
  }
  return found;
}

function rustArrows(root) {
  const files = filesBelow(root, "src-rs", ".rs");
  const texts = new Map(files.map((file) => [file, bare(fs.readFileSync(path.join(root, file), "utf8"))]));
  const modules = new Map(files.map((file) => [moduleOf(file), file]));

  /** A path as written in `module` → one from the crate's root, or undefined for another crate's. */
  const absolute = (module, written) => {
    const parts = written.split("::");
    const here = module ? module.split("::") : [];
    if (parts[0] === "crate") return parts.slice(1);
    if (parts[0] === "self") return [...here, ...parts.slice(1)];
    if (parts[0] === "super") {
      while (parts[0] === "super") {
        parts.shift();
        here.pop();
      }
      return [...here, ...parts];
    }
    return modules.has([...here, parts[0]].join("::")) ? [...here, ...parts] : undefined;
  };

  const exported = new Map(); // module → name → path it stands for
  const uses = new Map(); // module → leaves of its `use`s
  for (const [module, file] of modules) {
    const names = new Map();
    const all = [];
    for (const [, visibility, tree] of texts.get(file).matchAll(/(pub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);/g)) {
      for (const { target, name } of leaves(tree)) {
        const to = absolute(module, target);
        if (!to) continue;
        all.push(to);
        if (visibility) names.set(name ?? to.at(-1), to);
      }
    }
    exported.set(module, names);
    uses.set(module, all);
  }

  /** The file that a path from the crate's root leads to, through re-exports. */
  const resolve = (parts, seen = new Set()) => {
    for (let length = parts.length; length >= 0; length -= 1) {
      const module = parts.slice(0, length).join("::");
      if (!modules.has(module)) continue;
      const name = parts[length];
      const onward = name && exported.get(module).get(name);
      const key = `${module}::${name}`;
      if (onward && !seen.has(key)) {
        return resolve([...onward, ...parts.slice(length + 1)], seen.add(key));
      }
      return modules.get(module);
    }
    return undefined;
  };

  const found = [];
  for (const [module, file] of modules) {
    const paths = [...uses.get(module)];
    const rest = texts.get(file).replaceAll(/\buse\s+[^;]+;/g, "");
    for (const [written] of rest.matchAll(/\b(?:crate|super|self|[a-z_]\w*)(?:\s*::\s*\w+)+/g)) {
      const to = absolute(module, written.replaceAll(/\s/g, ""));
      if (to) paths.push(to);
    }
    const targets = new Set(paths.map((to) => resolve(to)).filter((to) => to && to !== file));
    for (const to of targets) found.push({ from: file, to });
  }
  return found;
}

// ---- TypeScript ---------------------------------------------------------------------------------

function typescriptArrows(root) {
  const found = [];
  for (const file of filesBelow(root, "src-ts", ".ts")) {
    const text = fs.readFileSync(path.join(root, file), "utf8");
    const targets = new Set();
    for (const [, to] of text.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)\.js"/g)) {
      targets.add(path.posix.join(path.posix.dirname(file), `${to}.ts`));
    }
    for (const to of targets) if (to !== file) found.push({ from: file, to });
  }
  return found;
}

// ---- the laws -----------------------------------------------------------------------------------

/** `src-rs/config/flight.rs` → `src-rs/config`: the layer that a file belongs to. */
export function layerOf(file) {
  const [house, first] = file.split("/");
  return `${house}/${first.replace(/\.(rs|ts)$/, "")}`;
}

/** The rows of the table below "## Layers": layer → the layers that it may import. */
export function allowed(markdown) {
  const section = markdown.split(/^## Layers$/m)[1]?.split(/^## /m)[0] ?? "";
  const table = new Map();
  for (const [, layer, imports] of section.matchAll(/^\| `([^`]+)` \|[^|]*\| (.*?) \|$/gm)) {
    table.set(layer, new Set([...imports.matchAll(/`([^`]+)`/g)].map(([, name]) => name)));
  }
  return table;
}

/** Arrows that the table does not allow, and layers that it does not know, as sentences. */
export function forbidden(found, table) {
  const said = new Set();
  for (const { from, to } of found) {
    const [upper, lower] = [layerOf(from), layerOf(to)];
    // The crate's root names every layer and is none.
    if (upper === lower || from === "src-rs/lib.rs") continue;
    const house = upper.split("/")[0];
    const name = lower.slice(house.length + 1);
    if (!table.has(upper)) said.add(`${upper} has no row in the table`);
    else if (!table.get(upper).has(name)) said.add(`${from} imports ${to}`);
  }
  return [...said].sort();
}

const isAncestor = (above, below) => below.startsWith(`${above.replace(/\.(rs|ts)$/, "")}/`);

/** Circles of files: each a sorted list. A file and its ancestors do not count against each other. */
export function circles(found) {
  const next = new Map();
  for (const { from, to } of found) {
    if (isAncestor(from, to) || isAncestor(to, from) || to.endsWith("/lib.rs")) continue;
    next.set(from, [...(next.get(from) ?? []), to]);
  }
  // Tarjan's strongly connected components.
  const index = new Map();
  const low = new Map();
  const stack = [];
  const groups = [];
  const visit = (file) => {
    index.set(file, index.size);
    low.set(file, index.get(file));
    stack.push(file);
    for (const to of next.get(file) ?? []) {
      if (!index.has(to)) {
        visit(to);
        low.set(file, Math.min(low.get(file), low.get(to)));
      } else if (stack.includes(to)) low.set(file, Math.min(low.get(file), index.get(to)));
    }
    if (low.get(file) !== index.get(file)) return;
    const group = stack.splice(stack.indexOf(file));
    if (group.length > 1) groups.push(group.sort());
  };
  for (const file of next.keys()) if (!index.has(file)) visit(file);
  return groups;
}
