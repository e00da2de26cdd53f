// What VitePress is told: the titles and the order of docs/README.md, a search without a server, two themes.
import * as fs from "node:fs";
import * as path from "node:path";

const site = path.resolve(import.meta.dirname, "..");
const pages = path.join(site, "pages");
const read = (file) => fs.readFileSync(path.join(pages, file), "utf8");

const guide = [...read("docs/index.md").matchAll(/^\| \[([^\]]+)\]\(([^)]+)\)/gm)].map(([, text, file]) => ({
  text,
  link: `/docs/${file}`,
}));

/** Pages of a folder, each by its title. */
function listed(folder) {
  const names = fs.readdirSync(path.join(pages, folder)).filter((name) => name.endsWith(".md"));
  return names.sort().map((name) => {
    const file = `${folder}/${name}`;
    const [, title] = /^# (?:[A-Z]\w+(?: Alias)?: )?(.+)$/m.exec(read(file));
    // Without `<T>`: VitePress writes this text as HTML.
    return { text: title.replaceAll(/\\?<.*>|[`\\]/g, ""), link: `/${file}` };
  });
}

const kinds = fs.readdirSync(path.join(pages, "api"), { withFileTypes: true });
const reference = kinds
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => ({
    text: name[0].toUpperCase() + name.slice(1).replace("-", " "),
    collapsed: name !== "functions",
    items: listed(`api/${name}`),
  }));

export default {
  lang: "en",
  title: "arrow-ingest",
  // Without an icon of its own a browser asks for one that is not there.
  head: [["link", { rel: "icon", href: "data:," }]],
  description: JSON.parse(fs.readFileSync(path.join(site, "../package.json"), "utf8")).description,
  srcDir: "pages",
  outDir: "dist",
  cacheDir: ".vitepress/cache",
  // A tag in a comment of the sources, such as `Promise<T>`, is text.
  markdown: { html: false },
  // The index of the search is one file, which is read when somebody searches.
  vite: { build: { chunkSizeWarningLimit: 4096 } },
  // A page asks for nothing but what it shows.
  router: { prefetchLinks: false },
  themeConfig: {
    search: { provider: "local" },
    outline: [2, 3],
    nav: [
      { text: "Guide", link: "/docs/" },
      { text: "API", link: "/api/" },
      { text: "Specifications", link: "/specs/delivery" },
      { text: "Changes", link: "/CHANGELOG" },
    ],
    sidebar: {
      "/api/": reference,
      "/specs/": [{ text: "What is promised", items: listed("specs") }],
      "/": [{ text: "Guide", items: [{ text: "Start", link: "/" }, ...guide] }],
    },
  },
};
