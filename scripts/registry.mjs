// A registry of npm on this machine that has the packed tarballs, and hands every other question on to the registry
// that npm asks: what is installed from it is installed as a user would.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { createServer } from "node:http";
import * as path from "node:path";

const PATIENCE_MS = 30_000;

/**
 * @param {string} folder Tarballs of packages.
 * @param {(name: string) => boolean} published Which of them are to be had; the others were never published.
 */
export async function startRegistry(folder, published = () => true) {
  const packages = new Map();
  for (const file of fs.readdirSync(folder).filter((name) => name.endsWith(".tgz"))) {
    const bytes = fs.readFileSync(path.join(folder, file));
    const text = execFileSync("tar", ["-xzOf", path.join(folder, file), "package/package.json"]);
    const manifest = JSON.parse(text);
    const dist = {
      shasum: createHash("sha1").update(bytes).digest("hex"),
      integrity: `sha512-${createHash("sha512").update(bytes).digest("base64")}`,
    };
    packages.set(manifest.name, { manifest, file, dist });
  }
  const upstream = execFileSync("npm", ["config", "get", "registry"], { encoding: "utf8" }).trim();

  const server = createServer((request, response) => {
    answer(request, response).catch((error) => {
      response.writeHead(502).end(String(error));
    });
  });
  async function answer(request, response) {
    const asked = decodeURIComponent(request.url.split("?")[0].slice(1));
    const tarball = [...packages.values()].find(({ file }) => asked === `-/packed/${file}`);
    if (tarball) return response.end(fs.readFileSync(path.join(folder, tarball.file)));
    const name = asked.split("/")[0];
    if (/^arrow-ingest(-|$)/.test(name)) {
      const found = published(name) ? packages.get(name) : undefined;
      if (!found) return response.writeHead(404).end("{}");
      const { manifest, file, dist } = found;
      const url = `http://127.0.0.1:${server.address().port}/-/packed/${file}`;
      const version = { ...manifest, _id: `${name}@${manifest.version}`, dist: { ...dist, tarball: url } };
      const document = {
        name,
        "dist-tags": { latest: manifest.version },
        versions: { [manifest.version]: version },
        time: { [manifest.version]: new Date(0).toISOString() },
      };
      return response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(document));
    }
    if (request.method !== "GET") return response.writeHead(404).end("{}");
    const accept = request.headers.accept ?? "application/json";
    const { status, type, bytes } = await answerOf(new URL(request.url.slice(1), upstream), accept);
    response.writeHead(status, { "content-type": type });
    response.end(bytes);
  }

  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

/** One connection that hangs must not take a test's whole time: `fetch` waits for five minutes. */
async function answerOf(url, accept, tries = 4) {
  try {
    const found = await fetch(url, { headers: { accept }, signal: AbortSignal.timeout(PATIENCE_MS) });
    const type = found.headers.get("content-type") ?? "application/json";
    return { status: found.status, type, bytes: Buffer.from(await found.arrayBuffer()) };
  } catch (error) {
    if (tries === 1) throw error;
    return answerOf(url, accept, tries - 1);
  }
}
