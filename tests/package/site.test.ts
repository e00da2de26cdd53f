// the site of the documentation, as `npm run site` builds it, opened page by page in a real browser.
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as http from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { browser as findBrowser } from "../../scripts/ensure.mjs";

const root = path.resolve(import.meta.dirname, "../..");
const dist = path.join(root, "site/dist");
const executable = findBrowser();
const installed = fs.existsSync(path.join(root, "site/node_modules/vitepress"));
const missing = installed
  ? executable === undefined && "there is no Chromium"
  : "site/node_modules is not installed";
if (missing) console.warn(`SKIPPED: the site of the documentation in a browser: ${missing}`);

describe.skipIf(missing)("the site of the documentation in a browser", () => {
  const server = http.createServer(answer);
  /** What the browser said that it should not have said, and whom it asked beside us. */
  const faults: string[] = [];
  let chromium: Browser | undefined;
  let origin: string;

  beforeAll(async () => {
    fs.rmSync(dist, { recursive: true, force: true });
    const done = spawnSync("node", ["site/build.mjs"], { cwd: root, encoding: "utf8" });
    expect(done.status, done.stdout + done.stderr).toBe(0);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const playwright = createRequire(path.join(root, "site/package.json"))("playwright-core") as Playwright;
    // Its profile is a new one, which it removes.
    chromium = await playwright.chromium.launch({
      executablePath: executable,
      args: [
        ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
        ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
      ],
    });
  }, 300_000);

  afterAll(async () => {
    await chromium?.close();
    server.close();
  });

  test("every link leads to a page and to a place in it", async () => {
    const page = await open();
    await page.goto(`${origin}/`);
    const places = new Map<string, Set<string>>();
    const links = new Map([[`${origin}/`, "nowhere"]]);
    // A map gives what is added to it while it is read, too.
    for (const [link, from] of links) {
      const { pathname } = new URL(link);
      if (places.has(pathname)) continue;
      const { ids, targets } = await page.evaluate<{ ids: string[]; targets: string[] }>(parts(pathname));
      expect(ids, `${from} links to ${pathname}`).toContain("app");
      places.set(pathname, new Set(ids));
      for (const target of targets) {
        const to = new URL(target, link).href;
        if (to.startsWith(`${origin}/`) && !links.has(to)) links.set(to, pathname);
      }
    }
    const lost = [...links]
      .map(([link, from]) => ({ from, to: new URL(link) }))
      .filter(({ to }) => to.hash && !places.get(to.pathname)?.has(decodeURIComponent(to.hash.slice(1))))
      .map(({ from, to }) => `${from} links to ${to.pathname}${to.hash}`);
    expect(lost).toEqual([]);
    // There is no page that nobody finds.
    const found = [...places.keys()].map(
      (name) => `${name.slice(1)}${name.endsWith("/") ? "index.html" : ""}`,
    );
    expect(found.sort()).toEqual(built().sort());
    expect(found).toContain("api/interfaces/IngestClient.html");
    await page.close();
    expect(faults).toEqual([]);
  }, 240_000);

  test("no page of docs/, and no first page of a folder, has an error or asks another server", async () => {
    const folders = new Map(built().map((name) => [path.dirname(name), name]));
    const pages = built().filter(
      (name) => name.startsWith("docs/") || folders.get(path.dirname(name)) === name,
    );
    expect(pages.length).toBeGreaterThan(25);
    const page = await open();
    for (const name of pages) {
      expect((await page.goto(`${origin}/${name}`)).status()).toBe(200);
      await page.waitForFunction(MOUNTED);
    }
    await page.close();
    expect(faults).toEqual([]);
  }, 240_000);

  test("the search finds a page by a word, and opens it", async () => {
    const page = await open();
    await page.goto(`${origin}/`);
    await page.getByRole("button", { name: "Search" }).first().click();
    const field = page.getByRole("searchbox");
    await field.fill("pyarrow.flight");
    // The page that has this word, by its place in the address.
    await page.locator(".results a[href^='/docs/migrating.html']").first().click();
    await page.waitForURL(`${origin}/docs/migrating.html**`);
    expect(await page.evaluate("document.querySelector('main').innerText")).toContain("pyarrow.flight");
    await page.close();
    expect(faults).toEqual([]);
  });

  test("dark and light are the system's, until somebody chooses", async () => {
    const page = await open();
    const background = async (colorScheme: "light" | "dark"): Promise<string> => {
      await page.emulateMedia({ colorScheme });
      await page.goto(`${origin}/`);
      await page.waitForFunction(MOUNTED);
      return page.evaluate(BACKGROUND);
    };
    const light = await background("light");
    const dark = await background("dark");
    expect(dark).not.toBe(light);
    await page.getByRole("switch").first().click();
    await page.waitForFunction(`${BACKGROUND} === "${light}"`);
    // What was chosen is remembered.
    expect(await background("dark")).toBe(light);
    await page.close();
    expect(faults).toEqual([]);
  });

  /** A tab whose faults are noted. */
  async function open(): Promise<Page> {
    const page = await chromium!.newPage();
    const note = (text: string) => faults.push(`${page.url()}: ${text}`);
    page.on("console", (message) => {
      if (message.type() === "error") note(message.text());
    });
    page.on("pageerror", (error) => note(String(error)));
    page.on("requestfailed", (request) => note(`failed: ${request.url()}`));
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(`${origin}/`) && !url.startsWith("data:")) note(`asked ${url}`);
    });
    return page;
  }
});

/** What is used here of playwright-core, whose own types are installed in site/ alone. Scripts are for the page. */
interface Playwright {
  chromium: { launch(options: { executablePath?: string | undefined; args: string[] }): Promise<Browser> };
}
interface Browser {
  newPage(): Promise<Page>;
  close(): Promise<void>;
}
interface Page {
  goto(url: string): Promise<{ status(): number }>;
  url(): string;
  close(): Promise<void>;
  evaluate<T>(script: string): Promise<T>;
  waitForFunction(script: string): Promise<unknown>;
  waitForURL(pattern: string): Promise<void>;
  emulateMedia(media: { colorScheme: "light" | "dark" }): Promise<void>;
  locator(selector: string): Locator;
  getByRole(role: string, options?: { name: string }): Locator;
  on(event: "console", listen: (message: { type(): string; text(): string }) => void): void;
  on(event: "pageerror", listen: (error: Error) => void): void;
  on(event: "request" | "requestfailed", listen: (request: { url(): string }) => void): void;
}
interface Locator {
  first(): Locator;
  click(): Promise<void>;
  fill(text: string): Promise<void>;
}

/** What is on a page, as the browser reads it; what its script would add is not there. */
const parts = (pathname: string) => `fetch("${pathname}")
  .then((response) => response.text())
  .then((text) => new DOMParser().parseFromString(text, "text/html"))
  .then((page) => ({
    ids: [...page.querySelectorAll("[id]")].map(({ id }) => id),
    targets: [...page.querySelectorAll("a[href]")].map((a) => a.getAttribute("href")),
  }))`;

function built(): string[] {
  const files = fs.readdirSync(dist, { recursive: true, encoding: "utf8" });
  return files.filter((name) => name.endsWith(".html") && name !== "404.html");
}

const MOUNTED = "document.querySelector('#app').__vue_app__";
const BACKGROUND = "getComputedStyle(document.body).backgroundColor";

const TYPES: Record<string, string> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};

/** Files below site/dist, as any server would give them. */
function answer(request: http.IncomingMessage, response: http.ServerResponse) {
  const name = decodeURIComponent(new URL(request.url!, "http://site").pathname);
  const file = path.join(dist, name.endsWith("/") ? `${name}index.html` : name);
  if (!fs.existsSync(file)) return void response.writeHead(404).end();
  response.writeHead(200, { "content-type": TYPES[path.extname(file)] ?? "application/octet-stream" });
  response.end(fs.readFileSync(file));
}
