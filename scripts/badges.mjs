// The badges of README, made from what holds: the licence and the oldest Node of package.json, and the coverage that
// every file must have, which scripts/coverage_gate.mjs enforces.
//
//   node scripts/badges.mjs            writes docs/badges
//
// None of them asks a server. A badge of CI's last run, or of the registry's version, needs an address that there is
// not yet.
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const read = (file) => fs.readFileSync(path.join(root, file), "utf8");

/** The picture of each badge by its file, from the root. */
export function badges() {
  const { license, engines } = JSON.parse(read("package.json"));
  const floor = /floor: \{ type: "string", default: "(\d+)" \}/.exec(read("scripts/coverage_gate.mjs"))[1];
  return {
    "docs/badges/licence.svg": badge("licence", license),
    "docs/badges/node.svg": badge("Node", engines.node.replace(">=", "\u2265 ")),
    "docs/badges/coverage.svg": badge("coverage", `\u2265 ${floor} % of each file`),
  };
}

function badge(name, value) {
  // Fonts differ: the text is made to fit.
  const [left, right] = [name, value].map((text) => text.length * 6);
  const [middle, end] = [left + 12, left + right + 24];
  const text = (words, from, width) => `<text x="${from}" y="14" textLength="${width}">${words}</text>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${end}" height="20"><title>${name}: ${value}</title>
<rect width="${end}" height="20" rx="3" fill="#555"/>
<path d="M${middle} 0H${end - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3H${middle}z" fill="#0a7"/>
<g fill="#fff" font-family="Verdana, sans-serif" font-size="11">${text(name, 6, left)}${text(value, middle + 6, right)}</g>
</svg>
`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [file, picture] of Object.entries(badges())) {
    fs.mkdirSync(path.join(root, path.dirname(file)), { recursive: true });
    fs.writeFileSync(path.join(root, file), picture);
  }
}
