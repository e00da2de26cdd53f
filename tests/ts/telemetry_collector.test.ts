// R-40 R-41: what a collector receives from the SDK of OpenTelemetry is what `specs/telemetry.md` says, both ways:
// over OTLP as JSON and as protobuf, and as Prometheus scrapes it.
import * as fs from "node:fs";
import * as http from "node:http";
import type { AddressInfo } from "node:net";
import * as os from "node:os";
import * as path from "node:path";
import * as otel from "@opentelemetry/api";
import * as json from "@opentelemetry/exporter-metrics-otlp-http";
import * as proto from "@opentelemetry/exporter-metrics-otlp-proto";
import { PrometheusExporter } from "@opentelemetry/exporter-prometheus";
import { OTLPTraceExporter as JsonTraces } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as ProtoTraces } from "@opentelemetry/exporter-trace-otlp-proto";
import { PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { NodeSDK } from "@opentelemetry/sdk-node";
import { tableFromArrays } from "apache-arrow";
import { afterEach, expect, test } from "vitest";
import { connect, startEmulator } from "../../dist/index.js";
import { FlightServer, INVALID_ARGUMENT, UNAVAILABLE } from "./support/flight-server.js";
import { Collector } from "./support/otlp.js";

const batch = (rows = 10) => tableFromArrays({ n: new Int32Array(rows) }).batches[0]!;
const quick = { batching: { linger: 1 }, retry: { baseDelay: 1 } } as const;

afterEach(() => {
  otel.trace.disable();
  otel.metrics.disable();
  otel.context.disable();
  otel.propagation.disable();
});

/** Everything that there is to be told happens here once, while all clients are open at the end. */
async function live(): Promise<() => Promise<void>> {
  const lake = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-telemetry-"));
  const delta = await connect(`delta:${path.join(lake, "t")}`, { ...quick, delta: { commitInterval: 0 } });
  await delta.send(batch());
  const flight = await FlightServer.start(({ method }) =>
    method === "DoPut" ? [INVALID_ARGUMENT, "no"] : undefined,
  );
  const refused = await connect(flight.url, { ...quick, flight: { commitInterval: 5 } });
  await refused.send(batch());
  await (await refused.enqueue(batch())).result;
  await connect("grpc://127.0.0.1:1/x", { retry: { attempts: 2, baseDelay: 1 } }).catch(() => {});
  const emulator = await startEmulator({
    tables: { "c.s.t": [{ name: "n", type: "INT" }], "c.s.r": [{ name: "n", type: "INT" }] },
    faults: [
      "close:status=UNAVAILABLE,after=1rows,stream=1,table=c.s.t",
      "pause:after=1rows,for=5ms,stream=2,table=c.s.t",
      // No acknowledgement comes until the grace is over, so the rotation finds writes under way.
      "stall:for=60s,after=10rows,stream=1,table=c.s.r",
      "rotate:after=100rows,grace=20ms,stream=1,table=c.s.r",
    ],
  });
  // Many writes, so that some are under way whenever something happens.
  const options = { ...emulator.options, ...quick, batching: { linger: 1, maxRows: 10 } };
  const zerobus = [
    await connect(emulator.url("c.s.t"), options),
    await connect(emulator.url("c.s.r"), options),
  ];
  const many = Array.from({ length: 200 }, () => batch());
  for (const client of zerobus) {
    for await (const result of client.sendAll(many)) expect(result.status).toBe("acknowledged");
    await client.send(batch());
  }
  // What a client leaves in a spool, the next one delivers.
  const spool = { directory: path.join(lake, "spool") };
  let isAway = true;
  const later = await FlightServer.start(() => (isAway ? [UNAVAILABLE, "away"] : undefined));
  const leaving = await connect(later.url, { ...quick, spool });
  await leaving.enqueue(batch());
  await leaving.close({ deadline: 0 });
  isAway = false;
  const replaying = await connect(later.url, { ...quick, flight: { commitInterval: 5 }, spool });
  await replaying.flush();
  return async () => {
    await Promise.all([
      delta.close(),
      replaying.close(),
      refused.close().catch(() => {}),
      ...zerobus.map((client) => client.close()),
    ]);
    await emulator.close();
    await flight[Symbol.asyncDispose]();
    await later[Symbol.asyncDispose]();
    fs.rmSync(lake, { recursive: true, force: true });
  };
}

async function through(
  traceExporter: JsonTraces,
  exporter: json.OTLPMetricExporter | proto.OTLPMetricExporter,
): Promise<void> {
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
  const sdk = new NodeSDK({ traceExporter, metricReaders: [reader], instrumentations: [] });
  sdk.start();
  try {
    const end = await live();
    await reader.forceFlush();
    await end();
  } finally {
    await sdk.shutdown();
  }
}

const spec = fs.readFileSync("specs/telemetry.md", "utf8");

/** The first cells of the rows of the tables of a chapter, with the other cells. */
function rows(chapter: string): Map<string, string[]> {
  const text = spec.split(/^## /m).find((part) => part.startsWith(chapter))!;
  const found = new Map<string, string[]>();
  for (const line of text.split("\n")) {
    if (!line.startsWith("| `")) continue;
    const [names, ...cells] = line.split("|").slice(1, -1);
    for (const [, name] of names!.matchAll(/`([^`]+)`/g))
      found.set(
        name!,
        cells.map((cell) => cell.trim()),
      );
  }
  return found;
}

/** The collector has what the page says, and nothing else. */
function compare({ spans, metrics }: Collector): void {
  const listed = rows("Spans");
  const ours = spans.filter(({ name }) => name.startsWith("arrow_ingest."));
  const seen = new Map<string, Set<string>>();
  const see = (name: string, of: string) => seen.set(name, (seen.get(name) ?? new Set()).add(of));
  for (const { name, attributes, events } of ours) {
    const short = name.slice("arrow_ingest.".length);
    see(name, "");
    for (const attribute of Object.keys(attributes)) see(attribute, short);
    for (const event of events) {
      see(event.name, short);
      for (const attribute of Object.keys(event.attributes)) see(`event ${attribute}`, event.name);
    }
  }
  const kinds = new Map(ours.map(({ name, kind }) => [name, kind]));
  for (const [name, cells] of listed) {
    const at = seen.get(name);
    expect(at, name).toBeDefined();
    if (kinds.has(name)) expect([3, 4].indexOf(kinds.get(name)!), name).toBe(cells[0] === "`CLIENT`" ? 0 : 1);
    else if (
      cells.length === 3 &&
      name.startsWith("arrow_ingest.") &&
      !cells[0]!.includes("string") &&
      !cells[0]!.includes("int")
    )
      // An event: of which spans, and with which attributes.
      expect(
        [...at!].filter((of) => !cells[0]!.includes(of)),
        name,
      ).toEqual([]);
    else if (cells[1] !== "all")
      for (const of of at!) expect(cells[1]!.split(", "), `${name} of ${of}`).toContain(of);
  }
  const attributesOfEvents = new Set(
    [...listed.values()].flatMap((cells) =>
      [...cells[1]!.matchAll(/`([^`]+)`/g)].map(([, name]) => `event ${name}`),
    ),
  );
  for (const name of seen.keys())
    if (name.startsWith("event ")) expect(attributesOfEvents).toContain(name);
    else expect([...listed.keys()]).toContain(name);

  const table = rows("Metrics");
  expect([...metrics.keys()].sort()).toEqual([...table.keys()].sort());
  for (const [name, [instrument, unit, attributes]] of table) {
    const metric = metrics.get(name)!;
    expect([metric.instrument, `\`${metric.unit}\``], name).toEqual([instrument, unit]);
    const found = new Set(metric.attributes.flatMap((all) => Object.keys(all)));
    const isOfStats = attributes!.startsWith("`") && !attributes!.includes("error.type");
    const named = isOfStats ? ["destination"] : attributes!.replaceAll("`", "").split(", ");
    const full = named.map((name) => (name === "error.type" ? name : `arrow_ingest.${name}`));
    expect([...found].sort(), name).toEqual(full.sort());
  }
}

test("R-40 R-41 OTLP as JSON", async () => {
  await using collector = await Collector.start();
  const { url } = collector;
  await through(
    new JsonTraces({ url: `${url}/traces` }),
    new json.OTLPMetricExporter({ url: `${url}/metrics` }),
  );
  expect([...collector.types]).toEqual(["application/json"]);
  compare(collector);
  const [write] = collector.named("write");
  expect(write!.links.length).toBeGreaterThan(0);
});

test("R-40 R-41 OTLP as protobuf", async () => {
  await using collector = await Collector.start();
  const { url } = collector;
  await through(
    new ProtoTraces({ url: `${url}/traces` }),
    new proto.OTLPMetricExporter({ url: `${url}/metrics` }),
  );
  expect([...collector.types]).toEqual(["application/x-protobuf"]);
  compare(collector);
  const ids = new Set(collector.spans.map(({ id }) => id));
  for (const { links, parent } of collector.named("write"))
    for (const id of [...links, parent]) expect(ids).toContain(id);
});

test("R-41 Prometheus scrapes every metric of the page", async () => {
  const exporter = new PrometheusExporter({ preventServerStart: true });
  const server = http.createServer((request, response) =>
    exporter.getMetricsRequestHandler(request, response),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const sdk = new NodeSDK({ metricReaders: [exporter], spanProcessors: [], instrumentations: [] });
  sdk.start();
  try {
    const end = await live();
    const scraped = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`);
    const text = await scraped.text();
    await end();
    const types = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]));
    for (const [name, [instrument]] of rows("Metrics")) {
      const scrapedName = [...types.keys()].find((other) => isScraped(other!, name.replaceAll(".", "_")));
      expect(types.get(scrapedName), name).toBe(instrument);
    }
    expect(text).toMatch(
      /^arrow_ingest_rows_accepted_total\{[^}]*arrow_ingest_destination="delta"[^}]*\} 10$/m,
    );
    expect(text).toMatch(/^arrow_ingest_delivery_duration_bucket\{.*le="0.001"\} \d+$/m);
  } finally {
    await sdk.shutdown();
    server.close();
  }
});

/** As the dashboard allows for it: other exporters put units behind names, too. */
function isScraped(scraped: string, name: string): boolean {
  return scraped.startsWith(name) && /^(_seconds|_bytes|_ratio)?(_total)?$/.test(scraped.slice(name.length));
}
