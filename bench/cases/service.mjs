// Example 06 under a steady load: how long it takes until an event is answered, which is when it is on the disk, beside a
// server that parses the same request and answers at once. Requests are due at a fixed rate, whatever becomes of those
// before, and a time begins when its request is due: a service that holds up its callers does not hide it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import * as http from "node:http";
import * as os from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { median } from "../data.mjs";
import { TURNS } from "../turns.mjs";

const RATE = 1_000;
const SECONDS = Number(process.env.BENCH_SECONDS ?? 10);
const WARM_SECONDS = 3;
const CONNECTIONS = 64;
/** Of the example's answers, in milliseconds. */
const MOST_P50_MS = 10;

const here = path.dirname(fileURLToPath(import.meta.url));
const home = fs.mkdtempSync(path.join(os.tmpdir(), "bench-service-"));
const services = {};
try {
  services.ours = await start([
    path.resolve(here, "../../examples/06-service.ts"),
    `delta:${path.join(home, "events")}`,
    path.join(home, "spool"),
    "0",
  ]);
  services.plain = await start([path.join(here, "service_plain.mjs")]);
  for (const { port } of Object.values(services)) await drive(port, WARM_SECONDS);
  const times = { ours: [], plain: [] };
  const names = Object.keys(times);
  for (let turn = 0; turn < TURNS; turn++)
    for (const name of turn % 2 === 0 ? names : names.toReversed())
      times[name].push(await drive(services[name].port, SECONDS));
  for (const { child, ended } of Object.values(services)) {
    child.kill("SIGTERM");
    const [code] = await ended;
    if (code !== 0) throw new Error(`a service ended with ${code}`);
  }
  const of = (name) => ({
    p50Ms: median(times[name].map(({ p50Ms }) => p50Ms)),
    p99Ms: median(times[name].map(({ p99Ms }) => p99Ms)),
    maxMs: Math.max(...times[name].map(({ maxMs }) => maxMs)),
    cpuShare: median(times[name].map(({ cpuShare }) => cpuShare)),
  });
  const [ours, plain] = names.map(of);
  const failed = [];
  if (ours.p50Ms >= MOST_P50_MS) failed.push(`p50 of an answer is ${ours.p50Ms.toFixed(1)} ms`);
  const over = { p50: ours.p50Ms / plain.p50Ms, p99: ours.p99Ms / plain.p99Ms };
  const facts = {
    rate: RATE,
    seconds: SECONDS,
    turns: TURNS,
    connections: CONNECTIONS,
    load: os.loadavg()[0],
  };
  console.log(JSON.stringify({ ...facts, ours, plain, over, failed }));
} finally {
  for (const { child } of Object.values(services)) child.kill("SIGKILL");
  fs.rmSync(home, { recursive: true, force: true });
}

/** A process that prints the port on which it listens. */
async function start(args) {
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "exit");
  let said = "";
  const port = await new Promise((resolve, reject) => {
    child.stdout.setEncoding("utf8").on("data", (chunk) => {
      said += chunk;
      const found = /listening on port (\d+)/.exec(said);
      if (found) resolve(Number(found[1]));
    });
    child.once("exit", () => reject(new Error(`the service ended: ${said}`)));
  });
  return { child, ended, port };
}

/** Times of all requests of some seconds, once they are answered. */
async function drive(port, seconds) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const count = Math.round(seconds * RATE);
  const times = [];
  const cpu = process.cpuUsage();
  const began = performance.now();
  const due = (request) => began + (request * 1_000) / RATE;
  await new Promise((resolve, reject) => {
    let next = 0;
    const post = (request) => {
      const body = JSON.stringify({
        id: `event-${request}`,
        at: new Date().toISOString(),
        kind: request % 3 === 0 ? "click" : "view",
        value: request / 2,
      });
      const headers = { "content-type": "application/json", "content-length": body.length };
      const asked = http.request({
        port,
        host: "127.0.0.1",
        method: "POST",
        path: "/events",
        agent,
        headers,
      });
      asked.on("error", reject).on("response", (response) => {
        if (response.statusCode !== 200) reject(new Error(`answered ${response.statusCode}`));
        response.resume().on("end", () => {
          times.push(performance.now() - due(request));
          if (times.length === count) resolve();
        });
      });
      asked.end(body);
    };
    const turn = () => {
      for (const now = performance.now(); next < count && due(next) <= now; next++) post(next);
      if (next < count) setTimeout(turn, 1);
    };
    turn();
  });
  const { user, system } = process.cpuUsage(cpu);
  // What the driver itself takes of its core: near 1, it would measure itself.
  const cpuShare = (user + system) / 1e3 / (performance.now() - began);
  agent.destroy();
  times.sort((one, other) => one - other);
  const at = (share) => times[Math.min(count - 1, Math.floor(count * share))];
  return { p50Ms: at(0.5), p99Ms: at(0.99), maxMs: times[count - 1], cpuShare };
}
