// traces and metrics through the user's own OpenTelemetry; nothing without one.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import * as v8 from "node:v8";
import * as vm from "node:vm";
import * as otel from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import { tableFromArrays } from "apache-arrow";
import { afterEach, describe, expect, test } from "vitest";
import { connect, TransmissionResult } from "../../dist/index.js";
import { COUNTED_OTHERWISE, FROM_STATS, HISTOGRAMS, SHARE, TALLIED } from "../../dist/telemetry/names.js";
import { forgetApi, loadApi, Telemetry, targetFacts } from "../../dist/telemetry.js";

const NAMES = [
  ...FROM_STATS.map(({ name }) => name),
  ...Object.values(TALLIED).map(([name]) => name),
  ...Object.values(HISTOGRAMS).map(([name]) => name),
  SHARE[0],
]
  .map((name) => `arrow_ingest.${name}`)
  .sort();

const batch = (rows = 10) => tableFromArrays({ n: new Int32Array(rows) }).batches[0]!;
const quick = { batching: { linger: "1ms" } } as const;

afterEach(() => {
  otel.trace.disable();
  otel.metrics.disable();
  otel.context.disable();
});

function tracing() {
  const exporter = new InMemorySpanExporter();
  const provider = new TracerProvider({
    spanProcessors: [new SimpleSpanProcessor({ exporter } as never)],
  } as never);
  otel.trace.setGlobalTracerProvider(provider as never);
  otel.context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  return { exporter, provider };
}

function metering(temporality = AggregationTemporality.DELTA) {
  const exporter = new InMemoryMetricExporter(temporality);
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
  const provider = new MeterProvider({ readers: [reader] });
  otel.metrics.setGlobalMeterProvider(provider);
  return async () => {
    await reader.forceFlush();
    const metrics =
      exporter
        .getMetrics()
        .at(-1)
        ?.scopeMetrics.flatMap((scope) => scope.metrics) ?? [];
    exporter.reset();
    return new Map(metrics.map((metric) => [metric.descriptor.name, metric]));
  };
}

v8.setFlagsFromString("--expose-gc");
const gc = vm.runInNewContext("gc") as () => void;

/** A meter that shows what it was told, and what it reads. */
function recorder() {
  type Read = (observer: { observe(instrument: object, value: number, attributes?: object): void }) => void;
  const callbacks: Read[] = [];
  const histogram = { record: () => {} };
  const meter = {
    createHistogram: () => histogram,
    createObservableCounter: (name: string) => ({ name }),
    createObservableGauge: (name: string) => ({ name }),
    addBatchObservableCallback: (callback: Read) => void callbacks.push(callback),
  };
  const read = () => {
    const seen: Record<string, [number, Record<string, string>][]> = {};
    const observe = (instrument: object, value: number, attributes?: object) => {
      const { name } = instrument as { name: string };
      seen[name] ??= [];
      seen[name].push([value, attributes as Record<string, string>]);
    };
    for (const callback of callbacks) callback({ observe });
    return seen;
  };
  return { meter, read };
}

function made(parts: object): Telemetry {
  const none = { api: undefined, tracer: undefined, meter: undefined, follow: () => {}, carry: () => {} };
  return new Telemetry({
    ...none,
    version: "1",
    url: "delta:x",
    client: 1,
    stats: () => ({}),
    ...parts,
  } as never);
}

function partial() {
  return new TransmissionResult({
    status: "partial",
    sequence: 1n,
    rows: 10,
    acceptedRows: 8,
    rejectedRows: 2,
    rejections: [],
    attempts: 3,
    batchBytes: 5,
    handoff: "ipc",
    handoffReason: null,
    timings: { handoffMs: 0, queueMs: 0, encodeMs: 0, transmitMs: 0, acknowledgeMs: 0 },
    latencyMs: 1,
    position: { kind: "version", value: 4n },
    error: null,
  });
}

test("R-40 of a target there are scheme, host and port in telemetry", () => {
  expect(targetFacts("delta:s3://bucket/secret")).toEqual({ scheme: "delta", attributes: {}, calls: {} });
  expect(targetFacts("grpc+tls://user:hush@Example.org:81/secret?key=hush")).toMatchObject({
    scheme: "grpc+tls",
    attributes: { "server.address": "Example.org", "server.port": 81 },
  });
  expect(targetFacts("grpc+unix:///run/hush.sock").attributes).toEqual({});
  expect(targetFacts("grpc:").attributes).toEqual({});
  expect(targetFacts("zerobus://[bad").attributes).toEqual({});
  expect(targetFacts("").scheme).toBe("unknown");
});

describe("R-40 traces", () => {
  test("a span for each delivery, under the caller's context, with what became of it", async () => {
    const { exporter, provider } = tracing();
    await using client = await connect("discard:", quick);
    const parent = provider.getTracer("test").startSpan("parent");
    await otel.context.with(otel.trace.setSpan(otel.context.active(), parent as never), async () => {
      await client.send(batch(10));
      await (await client.enqueue(batch(20), { handoff: "copy" })).result;
    });
    const deliveries = exporter.getFinishedSpans().filter(({ kind }) => kind === otel.SpanKind.PRODUCER);
    const [sent, enqueued] = deliveries;
    expect(sent).toMatchObject({
      name: "arrow_ingest.send",
      kind: otel.SpanKind.PRODUCER,
      status: { code: otel.SpanStatusCode.UNSET },
      attributes: {
        "arrow_ingest.destination": "discard",
        "arrow_ingest.sequence": 1,
        "arrow_ingest.status": "acknowledged",
        "arrow_ingest.handoff": "pinned",
        "arrow_ingest.rows": 10,
        "arrow_ingest.rows.rejected": 0,
        "arrow_ingest.bytes": 40,
        "arrow_ingest.attempts": 1,
      },
    });
    expect(sent!.spanContext().traceId).toBe(parent.spanContext().traceId);
    expect(enqueued).toMatchObject({
      name: "arrow_ingest.enqueue",
      attributes: { "arrow_ingest.handoff": "copied" },
    });
  });

  test("a call that is refused ends its span with the error", async () => {
    const { exporter } = tracing();
    // The first one lingers, or it may be over, and its budget free, before the second one asks.
    const client = await connect("discard:", { batching: { linger: "1m" }, inflight: { maxBytes: 100 } });
    const shared = tableFromArrays({ n: new Int32Array(new SharedArrayBuffer(400)) });
    await expect(client.send(shared, { handoff: "pin" })).rejects.toMatchObject({ code: "HANDOFF_UNSAFE" });
    const controller = new AbortController();
    const first = client.send(batch(100));
    const second = client.send(batch(100), { signal: controller.signal });
    controller.abort();
    await expect(second).rejects.toMatchObject({ name: "AbortError" });
    await client.flush();
    await first;
    await client.close();
    const errors = exporter
      .getFinishedSpans()
      .filter(({ status }) => status.code === otel.SpanStatusCode.ERROR);
    expect(errors.map(({ attributes }) => attributes["error.type"])).toEqual(["HANDOFF_UNSAFE", "ABORTED"]);
  });
});

describe("R-40 what was prepared and not handed over", () => {
  test("has spans that end, too, when sendAll is left early", async () => {
    const { exporter } = tracing();
    const started: string[] = [];
    const start = Telemetry.prototype.start;
    Telemetry.prototype.start = function (operation, context) {
      started.push(operation);
      return start.call(this, operation, context);
    };
    try {
      // With room for one, and with room for all.
      for (const maxBytes of [1, "64MiB"] as const) {
        const client = await connect("discard:", { ...quick, inflight: { maxBytes } });
        for (let loop = 0; loop < 20; loop++) {
          const source = (async function* () {
            for (let i = 0; ; i++) {
              if (i % 3 === loop % 3) await new Promise((resolve) => setImmediate(resolve));
              yield batch();
            }
          })();
          for await (const result of client.sendAll(source)) if (result.sequence % 5n === 0n) break;
        }
        await client.flush();
        await client.close();
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(started.length).toBeGreaterThan(100);
      const producers = exporter.getFinishedSpans().filter(({ kind }) => kind === otel.SpanKind.PRODUCER);
      expect(producers.length).toBe(started.length);
    } finally {
      Telemetry.prototype.start = start;
    }
  });
});

describe("R-40 R-41 metrics", () => {
  test("counters, histograms and gauges, from outcomes and stats", async () => {
    const read = metering();
    const client = await connect("discard:", quick);
    for (let i = 0; i < 3; i++) await client.send(batch(10));
    const metrics = await read();
    // All of them: what has not happened is 0, but for the kinds of failures.
    const silent = new Set(["arrow_ingest.failures"]);
    expect([...metrics.keys()].sort()).toEqual(NAMES.filter((name) => !silent.has(name)));
    expect(metrics.get("arrow_ingest.rows.accepted")!.dataPoints[0]!.value).toBe(30);
    expect(metrics.get("arrow_ingest.bytes")!.dataPoints[0]!.value).toBe(120);
    expect(metrics.get("arrow_ingest.deliveries")!.dataPoints[0]).toMatchObject({
      value: 3,
      attributes: { "arrow_ingest.status": "acknowledged", "arrow_ingest.handoff": "pinned" },
    });
    expect(metrics.get("arrow_ingest.write.rows")!.dataPoints[0]!.value).toMatchObject({ sum: 30 });
    expect(metrics.get("arrow_ingest.bytes.budget")!.dataPoints[0]!.value).toBe(2 ** 28);
    expect(metrics.get("arrow_ingest.handoff.share")!.dataPoints[0]!.value).toBeLessThanOrEqual(1);
    expect(metrics.get("arrow_ingest.delivery.duration")!.dataPoints[0]!.value).toMatchObject({ count: 3 });
    await client.close();
    // What a client that is gone had does not stay.
    const points = (await read()).get("arrow_ingest.memory.pool")!.dataPoints;
    expect(points).toMatchObject([{ value: 0 }]);
  });

  test("gauges are sums over the open clients of a destination, and nothing is left of those that are closed", async () => {
    const read = metering(AggregationTemporality.CUMULATIVE);
    const points = async () =>
      (await read())
        .get("arrow_ingest.deliveries.unsettled")!
        .dataPoints.map(({ value, attributes }) => [attributes, value]);
    const attributes = { "arrow_ingest.destination": "discard" };
    const held = { batching: { linger: "1h", maxRows: 1_000 } } as const;
    const clients = [await connect("discard:", held), await connect("discard:", held)];
    for (const client of clients) await client.enqueue(batch(10));
    expect(await points()).toEqual([[attributes, 2]]);
    for (const client of clients) await client.close().catch(() => {});
    expect(await points()).toEqual([[attributes, 0]]);
    // However many clients there were: the SDK keeps what it has once seen.
    for (let i = 0; i < 20; i++) await (await connect("discard:", quick)).close();
    expect(await points()).toEqual([[attributes, 0]]);
  });

  test("an SDK that is registered after connect counts from then on", async () => {
    await using client = await connect("discard:", quick);
    await client.send(batch(10));
    const read = metering();
    await client.send(batch(20));
    expect((await read()).get("arrow_ingest.rows.accepted")!.dataPoints[0]!.value).toBe(20);
  });

  test("what a client counted stays when it is closed, and what it holds does not", async () => {
    const read = metering(AggregationTemporality.CUMULATIVE);
    const value = async (name: string) => (await read()).get(`arrow_ingest.${name}`)!.dataPoints[0]!.value;
    for (let i = 1; i <= 2; i++) {
      const client = await connect("discard:", quick);
      await client.send(batch(10));
      expect(await value("rows.admitted")).toBe(10 * i);
      await client.close();
      expect(await value("rows.admitted")).toBe(10 * i);
      expect(await value("bytes.budget")).toBe(0);
    }
  });

  test("every number of stats() has a metric, and no metric reads what is not there", async () => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-telemetry-"));
    const client = await connect("discard:", { ...quick, spool: { directory } });
    const of = (group: object, above: string): string[] =>
      Object.entries(group).flatMap(([name, value]) =>
        typeof value === "object" && value !== null ? of(value, `${above}${name}.`) : [`${above}${name}`],
      );
    const leaves = of(client.stats(), "");
    await client.close();
    fs.rmSync(directory, { recursive: true });
    const read = FROM_STATS.map(({ at }) => at.join("."));
    expect([...read, ...Object.keys(COUNTED_OTHERWISE)].sort()).toEqual(leaves.sort());
    for (const name of Object.values(COUNTED_OTHERWISE)) expect(NAMES).toContain(`arrow_ingest.${name}`);
  });

  test("refused rows and retries are counted, and a failure names its error", () => {
    const { meter, read } = recorder();
    const ended: Record<string, unknown> = {};
    const span = {
      setAttributes: (all: object) => Object.assign(ended, all),
      setAttribute: (name: string, value: unknown) => Object.assign(ended, { [name]: value }),
      setStatus: (status: unknown) => Object.assign(ended, { status }),
      addEvent: () => {},
      end: () => {},
    };
    const telemetry = made({ meter });
    const result = partial();
    telemetry.settled(span, result, 2, 1);
    // An earlier client's, found in a spool.
    telemetry.recovered(result);
    telemetry.connectingAgain(span, "UNAVAILABLE", 5);
    telemetry.told({ fact: "refused-for-good", atMs: 1, error: result.error } as never, () => null);
    const counted = read();
    expect(counted["arrow_ingest.rows.rejected"]).toEqual([[4, { "arrow_ingest.destination": "delta" }]]);
    expect(counted["arrow_ingest.retries"]![0]![0]).toBe(2);
    expect(counted["arrow_ingest.failures"]!.map(([, attributes]) => attributes["error.type"])).toEqual([
      "UNAVAILABLE",
      "ROWS_REJECTED",
    ]);
    expect(counted["arrow_ingest.deliveries"]![0]![1]).toMatchObject({
      "arrow_ingest.status": "partial",
      "error.type": "ROWS_REJECTED",
    });
    expect(ended).toMatchObject({
      "error.type": "ROWS_REJECTED",
      "arrow_ingest.position.version": 4,
      status: { code: 2, message: "delivery 1 is partial: 2 of 10 rows were refused" },
    });
    // What an SDK throws fails nothing.
    const broken = (): never => {
      throw new Error("SDK");
    };
    telemetry.settled({ setAttributes: broken }, result, 0, 0);
    telemetry.refused({ setAttribute: broken }, null);
    telemetry.connected({ end: broken }, 1);
    telemetry.recovered({} as never);
    telemetry.carry({ spanContext: broken });
    telemetry.close();
    telemetry.close();
    made({ meter: { createHistogram: broken } }).settled(null, result, 0, 0);
    made({ tracer: { startSpan: broken } }).start("send");
  });

  test("a client that was dropped without close keeps what it counted, and is kept by nobody", async () => {
    const { meter, read } = recorder();
    let stats = { rows: { admitted: 0 } };
    let dropped: Telemetry | undefined = made({ meter, stats: () => stats });
    stats = { rows: { admitted: 7 } };
    expect(read()["arrow_ingest.rows.admitted"]![0]![0]).toBe(7);
    const gone = new WeakRef(dropped);
    dropped = undefined;
    for (let i = 0; i < 50 && gone.deref() !== undefined; i++) {
      await new Promise((resolve) => setImmediate(resolve));
      gc();
    }
    expect(gone.deref()).toBe(undefined);
    expect(read()["arrow_ingest.rows.admitted"]![0]![0]).toBe(7);
  });
});

describe("R-40 a tracer and a meter that were given", () => {
  test("are all that is used: nothing global, and no package", async () => {
    const { exporter, provider } = tracing();
    const others = metering();
    const { meter, read } = recorder();
    const spans: string[] = [];
    const tracer = {
      startSpan(name: string, options?: object) {
        const span = provider.getTracer("mine").startSpan(name, options as never);
        spans.push(name);
        return span;
      },
    };
    forgetApi();
    await using client = await connect("discard:", { ...quick, telemetry: { tracer, meter } });
    await client.send(batch(10));
    expect(read()["arrow_ingest.rows.accepted"]![0]![0]).toBe(10);
    // The span of the write ends with a fact, which comes before the outcome.
    expect(spans).toEqual(["arrow_ingest.connect", "arrow_ingest.send", "arrow_ingest.write"]);
    const write = exporter.getFinishedSpans().find(({ name }) => name === "arrow_ingest.write")!;
    expect(write.parentSpanContext).toBe(undefined);
    expect(write.links.length).toBe(1);
    expect((await others()).size).toBe(0);
    // The API was not even looked for.
    let asked = 0;
    await loadApi(async () => {
      asked++;
      return otel;
    });
    expect(asked).toBe(1);
    forgetApi();
  });

  test("need their methods, and all mistakes are told at once", async () => {
    const telemetry = { tracer: {}, meter: 5, enabled: "yes", tracers: 1 };
    await expect(connect("discard:", { telemetry } as never)).rejects.toMatchObject({
      issues: [
        { path: "telemetry.tracer", message: "must be a tracer with startSpan, not an object" },
        { path: "telemetry.meter", message: "must be a meter with createHistogram, not 5" },
        { path: "telemetry.enabled" },
        { path: "telemetry.tracers", suggestion: "tracer" },
      ],
    });
    await using client = await connect("discard:", quick);
    await expect(client.send(batch(), { context: {} } as never)).rejects.toMatchObject({
      issues: [{ path: "context" }],
    });
  });
});

describe("R-40 without OpenTelemetry", () => {
  test("no span is made while no SDK is registered, or telemetry is switched off", async () => {
    const api = (await loadApi())!;
    expect(made({ api }).start("send")).toBe(null);
    const { exporter } = tracing();
    await using client = await connect("discard:", { ...quick, telemetry: { enabled: false } });
    await client.send(batch());
    expect(exporter.getFinishedSpans()).toEqual([]);
  });

  test("an SDK that throws fails nothing", async () => {
    const api = (await loadApi())!;
    const telemetry = made({ api });
    otel.trace.setGlobalTracerProvider({
      getTracer() {
        throw new Error("SDK");
      },
    });
    expect(telemetry.start("send")).toBe(null);
    telemetry.refused(null, new Error("x"));
  });

  test("a missing @opentelemetry/api is looked for once, and is no error", async () => {
    forgetApi();
    let asked = 0;
    const missing = async (): Promise<never> => {
      asked++;
      throw new Error("ERR_MODULE_NOT_FOUND");
    };
    expect(await loadApi(missing)).toBe(undefined);
    expect(await loadApi(missing)).toBe(undefined);
    expect(asked).toBe(1);
    await using client = await connect("discard:", quick);
    expect((await client.send(batch())).status).toBe("acknowledged");
    forgetApi();
  });
});
