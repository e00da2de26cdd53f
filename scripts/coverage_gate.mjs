// Fails, naming them, if files lie below the floor or were not measured at all:
//
//   node scripts/coverage_gate.mjs [--root FOLDER] [--floor 90] lcov.info …
//
// and writes coverage/badge.json for shields. A total over all files is no floor: a large well-tested file
// would hide a small untested one.
import * as fs from "node:fs";
import { SourceMap } from "node:module";
import * as path from "node:path";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { root: { type: "string", default: "." }, floor: { type: "string", default: "90" } },
});
const comments = /\/\*[\s\S]*?\*\/|(?<![:"'`\w])\/\/.*/g;
const root = path.resolve(values.root);
const floor = Number(values.floor);

/** Measured lines by file, then by line: several reports may speak of the same file. */
const measured = new Map();
for (const report of positionals) {
  let lines;
  for (const line of fs.readFileSync(report, "utf8").split(/\r?\n/)) {
    const [, key, value] = /^(SF|DA):(.*)$/.exec(line) ?? [];
    if (key === "SF") {
      const file = path.relative(root, path.resolve(root, value)).replaceAll("\\", "/");
      lines = measured.get(file) ?? new Map();
      measured.set(file, lines);
    } else if (key === "DA") {
      const [number, hits] = value.split(",").map(Number);
      lines.set(number, (lines.get(number) ?? 0) + hits);
    }
  }
}

const rows = [];
for (const file of [...sources("src-ts", ".ts"), ...sources("src-rs", ".rs")].sort()) {
  const code = linesOfCode(file);
  const lines = [...(measured.get(file) ?? [])]
    .filter(([line]) => code?.has(line) ?? true)
    .map(([, hits]) => hits);
  const hit = lines.filter((hits) => hits > 0).length;
  if (lines.length > 0) rows.push({ file, hit, found: lines.length, percent: (100 * hit) / lines.length });
  // A file that no test loads is in no report. Declarations alone have nothing to run.
  else if (hasCode(file)) rows.push({ file, hit: 0, found: 0, percent: 0 });
}
if (rows.length === 0) fail("no source file was found: the floor would hold for nothing");

const sum = (key) => rows.reduce((total, row) => total + row[key], 0);
const total = sum("found") === 0 ? 0 : (100 * sum("hit")) / sum("found");
const width = Math.max(...rows.map((row) => row.file.length));
for (const { file, hit, found, percent } of rows) {
  const mark = percent < floor ? `  \u2717 below ${floor} %` : "";
  const what = found === 0 ? "not measured" : `${percent.toFixed(1).padStart(5)} %  ${hit}/${found}`;
  console.log(`${file.padEnd(width)}  ${what}${mark}`);
}
console.log(`${"all files".padEnd(width)}  ${total.toFixed(1).padStart(5)} %  ${sum("hit")}/${sum("found")}`);

const color = total >= 95 ? "brightgreen" : total >= floor ? "green" : "red";
fs.mkdirSync(path.join(root, "coverage"), { recursive: true });
fs.writeFileSync(
  path.join(root, "coverage/badge.json"),
  // Rounded down: a badge that says 100 must not hide a line.
  `${JSON.stringify({ schemaVersion: 1, label: "coverage", message: `${Math.floor(total)} %`, color })}\n`,
);

const low = rows.filter((row) => row.percent < floor).map((row) => row.file);
if (low.length > 0) fail(`below ${floor} % of lines: ${low.join(", ")}`);

function sources(folder, extension) {
  const at = path.join(root, folder);
  if (!fs.existsSync(at)) return [];
  return fs
    .readdirSync(at, { recursive: true })
    .map((name) => `${folder}/${name.replaceAll("\\", "/")}`)
    .filter((file) => file.endsWith(extension) && !file.endsWith(".d.ts") && !file.includes("/generated/"));
}

/**
 * c8 counts every line between the first and the last of a file: comments, blank lines and types would all
 * be "covered", and a well-commented file could hide half its code. Lines that tsc made code of are what counts.
 */
function linesOfCode(file) {
  const js = path.join(root, file.replace(/^src-ts/, "dist").replace(/ts$/, "js"));
  if (!file.endsWith(".ts") || !fs.existsSync(`${js}.map`)) return undefined;
  const map = new SourceMap(JSON.parse(fs.readFileSync(`${js}.map`, "utf8")));
  const code = new Set();
  // Comments keep their lines and lose their text.
  const bare = fs.readFileSync(js, "utf8").replace(comments, (text) => text.replace(/[^\n]/g, ""));
  for (const [number, line] of bare.split("\n").entries()) {
    const column = line.search(/\S/);
    const origin = column < 0 ? undefined : map.findEntry(number, column);
    if (origin?.originalLine !== undefined) code.add(origin.originalLine + 1);
  }
  return code;
}

function hasCode(file) {
  const text = fs.readFileSync(path.join(root, file), "utf8").replace(comments, "");
  if (file.endsWith(".rs")) return /\bfn\s+\w+[^;{]*\{/.test(text);
  // What tsc leaves of a file of types is `export {}`; a file that only re-exports is run by whoever imports it.
  return /\b(function|class|const|let|var|enum)\b/.test(text);
}

function fail(message) {
  console.error(`\n\u2717 coverage: ${message}`);
  process.exit(1);
}
