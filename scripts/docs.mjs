// The Markdown that users read: its code blocks, its links, and the regions of examples that it shows.
//
//   node scripts/docs.mjs          writes every block that is marked as a region of an example anew
//
// A block after `<!-- example: 01-first-table.ts#send -->` is that region: the lines between `// #region send` and
// `// #endregion` of the file in examples/, so that what is shown is what runs.
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");

/** README, the pages of docs/, and what assistants read, as paths from the root. */
export function pages() {
  const docs = fs.readdirSync(path.join(root, "docs")).filter((name) => name.endsWith(".md"));
  const others = ["AGENTS.md", "SECURITY.md", "skills/arrow-ingest/SKILL.md"];
  return ["README.md", ...docs.sort().map((name) => `docs/${name}`), ...others];
}

/** The code blocks of a page: `{ language, text, example, line, start }`; `start` is where the text begins. */
export function blocks(markdown) {
  const found = [];
  const pattern = /(?:<!-- example: (\S+) -->\n\n?)?^```(\w+)\n(.*?)^```$/gms;
  for (const match of markdown.matchAll(pattern)) {
    const line = markdown.slice(0, match.index).split("\n").length;
    const start = match.index + match[0].length - "```".length - match[3].length;
    found.push({ language: match[2], text: match[3], example: match[1], line, start });
  }
  return found;
}

/** The lines of a region of an example, without the indentation that they share. */
export function region(example) {
  const [file, name] = example.split("#");
  const lines = fs.readFileSync(path.join(root, "examples", file), "utf8").split("\n");
  const first = lines.findIndex((line) => line.trim() === `// #region ${name}`);
  const length = lines.slice(first + 1).findIndex((line) => line.trim() === "// #endregion");
  if (first < 0 || length < 0) throw new Error(`examples/${file} has no region ${name}`);
  const inner = lines.slice(first + 1, first + 1 + length);
  const indent = Math.min(...inner.filter((line) => line.trim()).map((line) => /^ */.exec(line)[0].length));
  return `${inner.map((line) => line.slice(indent)).join("\n")}\n`;
}

/** Targets of links that are files of this repository. */
export function links(markdown) {
  const prose = markdown.replaceAll(/^```.*?^```$/gms, "");
  return [...prose.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)]
    .map(([, target]) => target)
    .filter((target) => !/^[a-z]+:/.test(target));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const page of pages()) {
    const file = path.join(root, page);
    const text = fs.readFileSync(file, "utf8");
    let written = text;
    // From the last to the first, so that the starts of those that are still to come stay true.
    for (const { text: shown, example, start } of blocks(text).reverse()) {
      if (example) written = written.slice(0, start) + region(example) + written.slice(start + shown.length);
    }
    if (written !== text) fs.writeFileSync(file, written);
  }
}
