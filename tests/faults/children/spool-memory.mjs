// What a client with a spool takes of memory: while its destination is away and when it comes back (`outage`), for each
// caller that waits meanwhile (`callers`), and for a delivery of a size (`large`). Prints a line of JSON.
import * as fs from "node:fs";
import { makeVector, Table } from "apache-arrow";
import { connect } from "../../../dist/index.js";
import { startKeeper } from "./flight-keeper.mjs";

const [what, directory, given] = process.argv.slice(2);
const MIB = 1 << 20;
const AT_ONCE = 20;
const quiet = { telemetry: { enabled: false }, retry: { baseDelay: "5ms", maxDelay: "50ms" } };
const until = async (condition) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
};
const collected = () => {
  globalThis.gc();
  return process.memoryUsage();
};

const measured = await { outage, callers, large }[what](Number(given));
console.log(JSON.stringify(measured));

/** So many batches of 32 KiB while the destination is away, and a tenth as many once it is back. */
async function outage(batches) {
  const rows = 8_192;
  const budget = 48 * MIB;
  const found = { there: 0, outOfOrder: 0 };
  const keeper = await startKeeper((values) => {
    for (const value of values) if (value !== found.there++) found.outOfOrder++;
  });
  const client = await connect(keeper.url, {
    ...quiet,
    spool: { directory, segmentBytes: "8MiB" },
    inflight: { maxBytes: budget },
    flight: { commitInterval: "5ms" },
  });
  let sent = 0;
  const results = { acknowledged: 0, other: 0 };
  const table = () => {
    const first = sent++ * rows;
    return new Table({ n: makeVector(Int32Array.from({ length: rows }, (_, row) => first + row)) });
  };
  const enqueue = async () => {
    const delivery = await client.enqueue(table());
    void delivery.result.then(({ success }) => results[success ? "acknowledged" : "other"]++);
  };
  // Some share a sync.
  const enqueueAll = async (count) => {
    for (let i = 0; i < count; i += AT_ONCE) {
      await Promise.all(Array.from({ length: Math.min(AT_ONCE, count - i) }, enqueue));
      peak = Math.max(peak, process.memoryUsage().rss);
    }
  };
  let peak = 0;
  // So much a client takes at work.
  await enqueueAll(Math.ceil(batches / 20));
  await client.flush();
  const before = collected().rss;
  keeper.isAway = true;
  peak = before;
  await enqueueAll(batches);
  await until(() => keeper.refused > 0);
  const spooled = client.stats().spool;
  const away = peak - before;
  keeper.isAway = false;
  await enqueueAll(batches / 10);
  await client.flush();
  await until(() => results.acknowledged + results.other === sent);
  const left = client.stats().spool.rows;
  await client.close();
  keeper.close();
  return {
    sent: sent * rows,
    ...found,
    ...results,
    left,
    spooledBytes: spooled.bytes,
    spooledRows: spooled.rows,
    budgetMiB: budget / MIB,
    grownAwayMiB: away / MIB,
    grownMiB: (peak - before) / MIB,
  };
}

/** What each of so many callers takes that wait for their outcome in an outage. */
async function callers(count) {
  const client = await connect("grpc://127.0.0.1:1/a", {
    ...quiet,
    spool: { directory },
    inflight: { maxBytes: 192 * MIB },
  });
  // What is read ahead has half of the budget. One delivery takes all of it, or the callers would be read ahead as
  // well, as many of them as the machine had the time for.
  const ahead = 96 * MIB;
  await client.enqueue(new Table({ n: makeVector(new Int32Array(ahead / 4)) }));
  await until(() => {
    const { bytes, spool } = client.stats();
    // Once it was to be sent it is read ahead, and counted twice until it counts as on the disk.
    return spool.paused && bytes.inFlight >= ahead && bytes.inFlight < 2 * ahead;
  });
  const others = client.stats().spool.rows;
  const rows = 1_024;
  // It takes more than what is stated of a caller, so that some of it has to be let go of once it is on the disk.
  const batch = new Table({ n: makeVector(new Int32Array(rows)) }).batches[0];
  const waiting = [];
  const wait = async (more) => {
    const before = waiting.length;
    for (let i = 0; i < more; i++) {
      waiting.push(client.send(batch));
      // All have been handed over, and left memory again.
      if (i % 500 === 499) await until(() => client.stats().spool.rows === others + waiting.length * rows);
    }
    await until(() => client.stats().spool.rows === others + (before + more) * rows);
  };
  await wait(count);
  const before = collected();
  const budgetBefore = client.stats().bytes.inFlight;
  await wait(count);
  const budgeted = client.stats().bytes.inFlight - budgetBefore;
  const after = collected();
  await client.close({ deadline: 0 });
  const statuses = new Set((await Promise.all(waiting)).map(({ status }) => status));
  const each = (name) => (after[name] - before[name]) / count;
  return {
    count,
    heap: each("heapUsed"),
    rss: each("rss"),
    budgeted: budgeted / count,
    statuses: [...statuses],
  };
}

/** Of this program. What `getrusage` says begins with what the process that started it had. */
function mostRss() {
  const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(fs.readFileSync("/proc/self/status", "utf8"))[1];
  return Number(kibibytes) * 1024;
}

/** One delivery of so many bytes. */
async function large(bytes) {
  const client = await connect("discard:", { ...quiet, spool: { directory } });
  await client.send(new Table({ n: makeVector(new Float64Array(1_024)) }));
  const before = collected().rss;
  const values = new Float64Array(bytes / 8);
  values.fill(1.5);
  const result = await client.send(new Table({ n: makeVector(values) }));
  const peak = mostRss();
  await client.flush();
  const { rows } = client.stats().spool;
  await client.close();
  return {
    bytes,
    status: result.status,
    rows: result.acceptedRows,
    left: rows,
    times: (peak - before) / bytes,
  };
}
