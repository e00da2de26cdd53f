// `docs/operating.md` names six problems from telemetry alone. This test reads the page and the metrics, and
// nothing else of the client.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { tableFromArrays } from "apache-arrow";
import { expect, test } from "vitest";
import { connect, startEmulator, type TelemetryMeter } from "../../dist/index.js";
import { fingerprint, panels } from "../../site/panels.mjs";
import { FlightServer, UNAUTHENTICATED } from "./support/flight-server.js";

const page = fs.readFileSync("docs/operating.md", "utf8");
const batch = (rows = 10) => tableFromArrays({ n: new Int32Array(rows) }).batches[0]!;
const quick = {
  batching: { linger: 1 },
  retry: { baseDelay: 1, attempts: 3 },
  flight: { commitInterval: 5 },
} as const;

type Read = Parameters<TelemetryMeter["addBatchObservableCallback"]>[0];

/** A meter that adds up what it is told, as a collector would. */
class Reading implements TelemetryMeter {
  readonly #callbacks: Read[] = [];
  readonly #histograms = new Map<string, { sum: number; count: number }>();
  #before = new Map<string, number>();
  #now = new Map<string, number>();

  createHistogram(name: string) {
    const histogram = { sum: 0, count: 0 };
    this.#histograms.set(name, histogram);
    return {
      record(value: number) {
        histogram.sum += value;
        histogram.count++;
      },
    };
  }
  createObservableCounter = (name: string) => ({ name });
  createObservableGauge = (name: string) => ({ name });
  addBatchObservableCallback(read: Read) {
    this.#callbacks.push(read);
  }

  /** Collects, as an SDK does now and then. */
  collect(): void {
    this.#before = this.#now;
    this.#now = new Map();
    const add = (key: string, value: number) => this.#now.set(key, (this.#now.get(key) ?? 0) + value);
    for (const callback of this.#callbacks)
      callback({
        observe(instrument, value, attributes) {
          const { name } = instrument as { name: string };
          add(name, value);
          add(`${name} ${attributes?.["error.type"]}`, value);
        },
      });
  }

  value(key: string): number {
    return this.#now.get(key) ?? 0;
  }
  growth(key: string): number {
    return this.value(key) - (this.#before.get(key) ?? 0);
  }
  meanMs(name: string): number {
    const { sum, count } = this.#histograms.get(name)!;
    return count === 0 ? 0 : (sum / count) * 1e3;
  }
}

/** The clauses that the page is written in. */
const CLAUSES: readonly (readonly [RegExp, (reading: Reading, ...names: string[]) => boolean])[] = [
  [
    /^`(\S+)` grows with `error.type` `(\S+)`$/,
    (reading, name, code) => reading.growth(`${name} ${code}`) > 0,
  ],
  [/^`(\S+)` grows$/, (reading, name) => reading.growth(name!) > 0],
  [/^`(\S+)` does not grow$/, (reading, name) => reading.growth(name!) === 0],
  [/^`(\S+)` is above (\d+)$/, (reading, name, limit) => reading.value(name!) > Number(limit)],
  [
    /^the mean of `(\S+)` is above ([\d,]+) ms$/,
    (reading, name, limit) => reading.meanMs(name!) > Number(limit!.replaceAll(",", "")),
  ],
  [
    /^the mean of `(\S+)` is above that of `(\S+)`$/,
    (reading, name, other) => reading.meanMs(name!) > reading.meanMs(other!),
  ],
];

const PROBLEMS = page
  .slice(page.indexOf("| problem |"), page.indexOf("A `;` stands"))
  .split("\n")
  .slice(2)
  .filter((line) => line.startsWith("|"))
  .map((line) => {
    const [problem, shows] = line
      .split("|")
      .slice(1)
      .map((cell) => cell.trim());
    return { problem: problem!, clauses: shows!.split("; ") };
  });

/** What somebody with the page and the numbers calls it. */
function diagnose(reading: Reading): string | undefined {
  const holds = (clause: string): boolean => {
    const found = CLAUSES.find(([form]) => form.test(clause));
    if (found === undefined) throw new Error(`the page has a clause of another form: ${clause}`);
    return found[1](reading, ...found[0].exec(clause)!.slice(1));
  };
  return PROBLEMS.find(({ clauses }) => clauses.every(holds))?.problem;
}

/** The problem of a run. A machine that stalls is a problem of its own: what is to be shown is shown without one. */
async function shown(
  wanted: string | undefined,
  run: (meter: Reading) => Promise<void>,
): Promise<string | undefined> {
  for (let turn = 1; ; turn++) {
    const meter = new Reading();
    await run(meter);
    const problem = diagnose(meter);
    if (problem === wanted || turn === 10) return problem;
  }
}

test("R-41 the page names six problems, and none where there is none", async () => {
  expect(PROBLEMS.map(({ problem }) => problem)).toEqual([
    'full spool, by `whenFull: "reject"`',
    "expired token",
    "lost network",
    "refused rows",
    "full spool, or a full budget",
    "blocked event loop",
    "slow server",
  ]);
  const problem = await shown(undefined, async (meter) => {
    await using client = await connect("discard:", { ...quick, telemetry: { meter } });
    meter.collect();
    await client.send(batch());
    meter.collect();
  });
  expect(problem).toBe(undefined);
});

test("R-41 expired token", async () => {
  const meter = new Reading();
  let good = true;
  await using flight = await FlightServer.start(({ method }) =>
    method !== "DoPut" || good ? undefined : [UNAUTHENTICATED, "expired"],
  );
  await using client = await connect(flight.url, { ...quick, telemetry: { meter } });
  await client.send(batch());
  meter.collect();
  good = false;
  await client.send(batch());
  meter.collect();
  expect(diagnose(meter)).toBe("expired token");
});

test("R-41 lost network", async () => {
  const meter = new Reading();
  const flight = await FlightServer.start();
  await using client = await connect(flight.url, { ...quick, telemetry: { meter } });
  await client.send(batch());
  meter.collect();
  await flight[Symbol.asyncDispose]();
  await client.send(batch());
  meter.collect();
  expect(diagnose(meter)).toBe("lost network");
});

test("R-41 refused rows", async () => {
  const meter = new Reading();
  await using emulator = await startEmulator({
    tables: { "c.s.t": [{ name: "n", type: "INT" }] },
    faults: ["reject:column=n,below=0"],
  });
  await using client = await connect(emulator.url("c.s.t"), {
    ...emulator.options,
    ...quick,
    telemetry: { meter },
  });
  await client.send(batch());
  meter.collect();
  await client.send(tableFromArrays({ n: Int32Array.of(1, -1, 2) }));
  meter.collect();
  expect(diagnose(meter)).toBe("refused rows");
});

test("R-41 full spool, or a full budget", async () => {
  const meter = new Reading();
  await using flight = await FlightServer.start(({ method }) => (method === "DoPut" ? "silence" : undefined));
  const client = await connect(flight.url, {
    ...quick,
    telemetry: { meter },
    inflight: { maxBytes: 1 },
    // The server owes an answer for longer than the test lasts.
    retry: { deadline: "1h" },
  });
  await client.enqueue(batch());
  const controller = new AbortController();
  const waiting = client.enqueue(batch(), { signal: controller.signal });
  meter.collect();
  expect(diagnose(meter)).toBe("full spool, or a full budget");
  controller.abort();
  await expect(waiting).rejects.toThrow("aborted");
  await client.close({ deadline: 1 }).catch(() => {});
});

test("R-41 full spool, which rejects", async () => {
  const meter = new Reading();
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-operating-"));
  await using flight = await FlightServer.start(({ method }) => (method === "DoPut" ? "silence" : undefined));
  const client = await connect(flight.url, {
    ...quick,
    telemetry: { meter },
    spool: { directory, maxBytes: "64KiB", segmentBytes: "16KiB", whenFull: "reject" },
  });
  meter.collect();
  const refused = await Promise.all(
    Array.from({ length: 40 }, () => client.enqueue(batch(1_000)).catch((error) => error.code)),
  );
  expect(refused).toContain("SPOOL_FULL");
  meter.collect();
  expect(diagnose(meter)).toBe('full spool, by `whenFull: "reject"`');
  await client.close({ deadline: 1 }).catch(() => {});
  fs.rmSync(directory, { recursive: true });
});

test("R-41 blocked event loop", async () => {
  const meter = new Reading();
  await using client = await connect("discard:", { ...quick, telemetry: { meter } });
  meter.collect();
  const delivery = await client.enqueue(batch());
  // Nothing else has a turn meanwhile: not even the news of the acknowledgement.
  while (client.stats().deliveries.acknowledged === 0);
  for (const until = performance.now() + 150; performance.now() < until; );
  await delivery.result;
  meter.collect();
  expect(diagnose(meter)).toBe("blocked event loop");
});

test("R-41 slow server", async () => {
  const slow = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1_100));
  await using flight = await FlightServer.start(({ method }) => (method === "DoPut" ? slow() : undefined));
  const problem = await shown("slow server", async (meter) => {
    await using client = await connect(flight.url, { ...quick, telemetry: { meter } });
    meter.collect();
    await client.send(batch());
    meter.collect();
  });
  expect(problem).toBe("slow server");
});

test("R-41 every metric is explained, and no other", () => {
  const spec = fs.readFileSync("specs/telemetry.md", "utf8");
  const listed = (text: string) =>
    [...text.matchAll(/^\| `(arrow_ingest\.[a-z._]+)` \|/gm)].map(([, name]) => name);
  const metrics = spec.slice(spec.indexOf("## Metrics"), spec.indexOf("## Events"));
  expect(listed(page).sort()).toEqual(listed(metrics).sort());
});

test("R-41 the dashboard shows metrics of the page, by the names that Prometheus gives them", () => {
  const dashboard = fs.readFileSync("examples/grafana-dashboard.json", "utf8");
  const { panels } = JSON.parse(dashboard) as {
    panels: { title: string; targets?: { expr: string }[]; fieldConfig?: object }[];
  };
  const known = new Set<string>();
  for (const [, name, kind, unit] of fs
    .readFileSync("specs/telemetry.md", "utf8")
    .matchAll(/^\| `(arrow_ingest\.[a-z._]+)` \| (counter|gauge|histogram) \| `([^`]+)` \|/gm)) {
    const plain = name!.replaceAll(".", "_");
    // Some exporters put the unit behind the name: the dashboard allows for it.
    const unitText = { s: "(_seconds)?", By: "(_bytes)?", "1": "(_ratio)?" }[unit!] ?? "";
    if (kind === "histogram")
      for (const part of ["bucket", "sum", "count"]) known.add(`${plain}${unitText}_${part}`);
    else known.add(`${plain}${unitText}${kind === "counter" ? "_total" : ""}`);
  }
  const used = panels
    .flatMap(({ targets }) => targets ?? [])
    .flatMap(({ expr }) => expr.match(/arrow_ingest_(?:\w|\(_\w+\)\?)+/g) ?? []);
  expect(used.length).toBeGreaterThan(20);
  // As a label it is an attribute.
  for (const name of used)
    if (!["arrow_ingest_destination", "arrow_ingest_status", "arrow_ingest_handoff"].includes(name))
      expect([...known]).toContain(name);
});

test("R-41 the picture of the dashboard was made from the panels that it has now, and is in the page", () => {
  const [, picture] = /!\[[^\]]+\]\((\S+\.svg)\)/.exec(page)!;
  const svg = fs.readFileSync(path.join("docs", picture!), "utf8");
  const made = /^<svg data-panels="(\w+)"/.exec(svg)?.[1];
  expect(made, "npm run dashboard makes it anew").toBe(fingerprint());
  for (const { title } of panels()) expect(svg).toContain(`>${title}</text>`);
});
