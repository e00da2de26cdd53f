// The site of the documentation: README, docs/, the pages that they link to, the changelog, and a reference of the API
// made from the comments in src-ts.
//
//   npm run site                       writes site/dist: files for any server, no request leaves it
//   npm run site -- --base /docs/      the same, for a server that has it below this path
//   npm run site -- --serve            and shows it on this machine
//
// A link between pages that leads nowhere ends the build. Nothing here knows what a page says: their order and titles
// are those of the table in docs/README.md.
import * as fs from "node:fs";
import * as path from "node:path";
import { parseArgs } from "node:util";
import { Application, LogLevel } from "typedoc";
import { build, serve } from "vitepress";
import { links } from "../scripts/docs.mjs";

const site = import.meta.dirname;
const root = path.resolve(site, "..");
const pages = path.join(site, "pages");
/** `docs/errors.md`, in the text of a page or of a comment. */
const NAMED = /(?<!\[)`((?:docs|specs)\/[\w/-]+\.md)`/g;
const { values } = parseArgs({ options: { base: { type: "string" }, serve: { type: "boolean" } } });

fs.rmSync(pages, { recursive: true, force: true });
const documents = findDocuments();
for (const file of documents) put(file);
await writeReference();
await build(site, { base: values.base });
console.log(`${path.relative(process.cwd(), path.join(site, "dist"))} is the site`);
if (values.serve) await serve({ root: site, base: values.base });

/** README, docs/, the changelog, and everything that they link to or name, and so on; pages and pictures. */
function findDocuments() {
  const docs = fs.readdirSync(path.join(root, "docs")).filter((name) => name.endsWith(".md"));
  const found = new Set(["README.md", "CHANGELOG.md", ...docs.map((name) => `docs/${name}`)]);
  // A set gives what is added to it while it is read, too.
  for (const file of found) {
    if (!file.endsWith(".md")) continue;
    const text = fs.readFileSync(path.join(root, file), "utf8");
    for (const link of links(text)) found.add(path.posix.join(path.posix.dirname(file), link));
    for (const [, name] of text.matchAll(NAMED)) if (fs.existsSync(path.join(root, name))) found.add(name);
  }
  return found;
}

function put(file) {
  const target = path.join(pages, file.replace(/README\.md$/, "index.md"));
  fs.mkdirSync(path.dirname(target), { recursive: true });
  if (!file.endsWith(".md")) return fs.copyFileSync(path.join(root, file), target);
  const text = fs.readFileSync(path.join(root, file), "utf8").replaceAll(/^<!-- .*? -->\n/gm, "");
  fs.writeFileSync(target, linked(text).replaceAll(/(\]\([^)]*)README\.md/g, "$1index.md"));
}

/** What a page or a comment names by its path becomes a link, where it is a page of the site. */
function linked(text) {
  return text.replaceAll(NAMED, (code, name) => (documents.has(name) ? `[${code}](/${name})` : code));
}

/** One page for each export of src-ts/index.ts, from its comment; a link in a comment that leads nowhere ends it. */
async function writeReference() {
  const api = path.join(pages, "api");
  const app = await Application.bootstrapWithPlugins({
    plugin: ["typedoc-plugin-markdown"],
    outputs: [{ name: "markdown", path: api }],
    entryPoints: [path.join(root, "src-ts/index.ts")],
    tsconfig: path.join(root, "tsconfig.build.json"),
    // The sources are checked by the TypeScript that they are written for.
    skipErrorChecking: true,
    logLevel: LogLevel.Warn,
    treatWarningsAsErrors: true,
    excludeInternal: true,
    excludePrivate: true,
    disableSources: true,
    readme: "none",
    entryFileName: "index",
    hideBreadcrumbs: true,
    hidePageHeader: true,
    parametersFormat: "table",
    sanitizeComments: true,
  });
  const project = await app.convert();
  if (project) await app.generateOutputs(project);
  for (const name of fs.readdirSync(api, { recursive: true })) {
    const file = path.join(api, name);
    if (name.endsWith(".md")) fs.writeFileSync(file, linked(fs.readFileSync(file, "utf8")));
  }
  if (!project || app.logger.hasErrors() || app.logger.hasWarnings())
    throw new Error("the comments of src-ts have faults that are named above");
}
