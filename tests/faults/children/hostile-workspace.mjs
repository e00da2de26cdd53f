// A workspace whose token endpoint does everything but answer: what `connect` says must come in time, small, and
// without the secret.
import * as http from "node:http";
import { inspect } from "node:util";
import { connect } from "../../../dist/index.js";
import { check, survived } from "./support.mjs";

const SECRET = "hunter22-hunter22-hunter22";
const megabyte = Buffer.alloc(1 << 20, "a");
let visited = 0;
let poured = 0;

/** Writes for as long as somebody reads. */
function pour(response) {
  poured++;
  while (!response.destroyed && response.write(megabyte)) poured++;
  response.once("drain", () => pour(response));
}

const ways = {
  silence: () => {},
  "no end": (_, response) => {
    response.writeHead(200, { "content-type": "application/json" });
    const dripping = setInterval(() => response.write(" "), 20);
    response.on("close", () => clearInterval(dripping));
  },
  "a flood that is good": (_, response) => {
    response.writeHead(200);
    pour(response);
  },
  "a flood that is bad": (_, response) => {
    response.writeHead(400);
    pour(response);
  },
  "endless headers": (_, response) => {
    response.socket.write("HTTP/1.1 200 OK\r\n");
    const dripping = setInterval(() => response.socket?.write(`x-${"y".repeat(60_000)}: z\r\n`), 5);
    response.socket.on("close", () => clearInterval(dripping));
  },
  "a redirect": (request, response) => {
    response.writeHead(307, { location: `http://127.0.0.1:${server.address().port}/elsewhere` });
    response.end();
    if (request.url === "/elsewhere") visited++;
  },
  "its own secret": (request, response) => {
    const { authorization } = request.headers;
    const bare = Buffer.from(authorization.split(" ")[1], "base64").toString();
    response.writeHead(401);
    response.end(`${"x".repeat(490)}${SECRET} ${bare} ${authorization}`);
  },
  nesting: (_, response) => response.end("[".repeat(1 << 20)),
  nonsense: (_, response) => response.end('{"access_token":{"a":1},"expires_in":1e999}'),
  "a token of two lines": (_, response) => response.end('{"access_token":"a\\r\\nb","expires_in":3600}'),
  "a long wait": (_, response) => {
    response.writeHead(429, { "retry-after": "18446744073709551615" });
    response.end();
  },
  "a cut": (_, response) => response.socket.destroy(),
};
let way;
const server = http.createServer((request, response) => {
  request.resume();
  request.on("error", () => {});
  response.on("error", () => {});
  request.on("end", () => ways[way](request, response));
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const base = `127.0.0.1:${server.address().port}`;
const before = process.memoryUsage.rss();
for (way of Object.keys(ways)) {
  const options = {
    zerobus: {
      unityCatalogUrl: `http://${base}`,
      clientId: "me",
      clientSecret: SECRET,
      connectTimeout: 700,
    },
    retry: { attempts: 2, baseDelay: 1, maxDelay: 5 },
    logger: { info: told, warn: told, error: told },
  };
  const limit = AbortSignal.timeout(30_000);
  const error = await connect(`zerobus+http://${base}/a.b.c`, { ...options, signal: limit }).catch((e) => e);
  const text = told(error);
  check(error?.code && error.code !== "INTERNAL", `${way}: ${text}`);
  check(error.message.length < 2_000, `${way}: ${error.message.length} letters`);
  console.log(way, "→", error.code, error.message.slice(0, 90));
}
check(visited === 0, "a redirect was followed");
const grown = process.memoryUsage.rss() - before;
check(grown < 400 << 20, `${grown >> 20} MiB more after ${poured} MiB`);
server.closeAllConnections();
server.close();
survived();

function told(...what) {
  const text = inspect(what, { depth: 10 }) + JSON.stringify(what) + (what[0]?.stack ?? "");
  for (const part of [
    SECRET,
    SECRET.slice(0, 9),
    Buffer.from(`me:${SECRET}`).toString("base64").slice(0, 24),
  ])
    check(!text.includes(part), `the secret is told: ${text}`);
  return text;
}
