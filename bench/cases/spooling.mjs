// The spool through the client: throughput beside a loop of plain writes and syncs, the event loop meanwhile, memory
// while the destination is away, and how soon the first delivery of a full spool is acknowledged.
import * as fs from "node:fs";
import * as http2 from "node:http2";
import * as os from "node:os";
import * as path from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { connect } from "../../dist/index.js";
import { another, median, mixedBatch } from "../data.mjs";
import { TURNS } from "../turns.mjs";

const MIB = 1 << 20;
/** Of a turn. */
const WRITTEN = 256 * MIB;
const AWAY_BATCHES = 10_000;
const AWAY_BYTES = 64 << 10;
const FULL_BYTES = 1024 * MIB;

const home = fs.mkdtempSync(path.join(os.tmpdir(), "bench-spooling-"));
const quiet = { telemetry: { enabled: false } };
try {
  const results = { throughput: {} };
  for (const size of [MIB, 10 * MIB]) results.throughput[`${size / MIB}MiB`] = await throughput(size);
  results.away = await away();
  results.full = await full();
  console.log(JSON.stringify({ turns: TURNS, load: os.loadavg()[0], ...results }));
} finally {
  fs.rmSync(home, { recursive: true, force: true });
}

/** Batches of a size into `discard:` through a synced spool ÷ a loop of `write` and `fdatasync` of as many bytes. */
async function throughput(size) {
  const batch = mixedBatch(size);
  const count = WRITTEN / size;
  const ratios = [];
  const rates = [];
  const delays = [];
  for (let turn = 0; turn <= TURNS; turn++) {
    const directory = path.join(home, `t${turn}`);
    const client = await connect("discard:", { ...quiet, spool: { directory } });
    const batches = Array.from({ length: count }, () => another(batch));
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    const began = performance.now();
    const enqueued = batches.map((one) => client.enqueue(one));
    await Promise.all(enqueued);
    await client.flush();
    const ours = performance.now() - began;
    delay.disable();
    await client.close();
    fs.rmSync(directory, { recursive: true });
    const plain = plainly(size, count);
    // The first turn warms up.
    if (turn === 0) continue;
    ratios.push(plain / ours);
    rates.push(WRITTEN / 1e6 / (ours / 1e3));
    delays.push(delay.percentile(99) / 1e6);
  }
  return { overPlain: median(ratios), megabytesPerSecond: median(rates), loopDelayP99Ms: median(delays) };
}

function plainly(size, count) {
  const bytes = Buffer.alloc(size, 7);
  const file = path.join(home, "plain");
  const fd = fs.openSync(file, "w", 0o600);
  const began = performance.now();
  for (let i = 0; i < count; i++) {
    fs.writeSync(fd, bytes);
    fs.fdatasyncSync(fd);
  }
  const took = performance.now() - began;
  fs.closeSync(fd);
  fs.rmSync(file);
  return took;
}

/** What the process grows by while 10,000 batches wait on the disk. */
async function away() {
  const batch = mixedBatch(AWAY_BYTES);
  const client = await connect("grpc://127.0.0.1:1/a", {
    ...quiet,
    spool: { directory: path.join(home, "away") },
    inflight: { maxBytes: 64 * MIB },
  });
  const before = process.memoryUsage().rss;
  let peak = before;
  const firstMs = [];
  const lastMs = [];
  for (let i = 0; i < AWAY_BATCHES; i++) {
    const began = performance.now();
    await client.enqueue(another(batch));
    const took = performance.now() - began;
    if (i < 500) firstMs.push(took);
    if (i >= AWAY_BATCHES - 500) lastMs.push(took);
    if (i % 100 === 0) peak = Math.max(peak, process.memoryUsage().rss);
  }
  const spooledBytes = client.stats().spool.bytes;
  await client.close({ deadline: 0 });
  return {
    batches: AWAY_BATCHES,
    spooledBytes,
    grownMiB: (peak - before) / MIB,
    budgetMiB: 64,
    lastOverFirst: median(lastMs) / median(firstMs),
  };
}

/** Milliseconds from `connect` to the first acknowledgement, with 1 GB in the spool. */
async function full() {
  let isAway = true;
  const server = http2.createServer();
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    const head = { ":status": 200, "content-type": "application/grpc" };
    if (isAway) return stream.respond({ ...head, "grpc-status": 14 }, { endStream: true });
    stream.resume();
    stream.on("end", () => {
      // A client that closes at once takes its calls back.
      if (stream.destroyed) return;
      stream.respond(head, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end();
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `grpc://127.0.0.1:${server.address().port}/a`;
  const options = { ...quiet, spool: { directory: path.join(home, "full") } };
  const batch = mixedBatch(4 * MIB);
  const filling = await connect(url, options);
  for (let bytes = 0; bytes < FULL_BYTES; bytes += 4 * MIB) await filling.enqueue(another(batch));
  await filling.close({ deadline: 0 });
  isAway = false;
  const { promise, resolve } = Promise.withResolvers();
  const began = performance.now();
  const client = await connect(url, { ...options, listeners: { onAcknowledged: resolve } });
  const connectMs = performance.now() - began;
  await promise;
  const firstMs = performance.now() - began;
  const { rows } = client.recovered;
  await client.close({ deadline: 0 });
  server.close();
  return { rows, connectMs, firstMs };
}
