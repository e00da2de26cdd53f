// traces and metrics through the user's own OpenTelemetry; nothing without one.
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
import { forgetApi, loadApi, Telemetry } from "../../dist/telemetry.js";

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

describe("R-40 traces", () => {
  test("a span for each delivery, under the caller's context, with what became of it", async () => {
    const { exporter, provider } = tracing();
    await using client = await connect("discard:", quick);
    const parent = provider.getTracer("test").startSpan("parent");
    await otel.context.with(otel.trace.setSpan(otel.context.active(), parent as never), async () => {
      await client.send(batch(10));
      await (await client.enqueue(batch(20), { handoff: "copy" })).result;
    });
    const [sent, enqueued] = exporter.getFinishedSpans();
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
    Telemetry.prototype.start = function (operation) {
      started.push(operation);
      return start.call(this, operation);
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
      expect(exporter.getFinishedSpans().length).toBe(started.length);
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
    expect([...metrics.keys()].sort()).toEqual([
      "arrow_ingest.bytes",
      "arrow_ingest.bytes.in_flight",
      "arrow_ingest.deliveries",
      "arrow_ingest.deliveries.unsettled",
      "arrow_ingest.deliveries.waiting",
      "arrow_ingest.delivery.duration",
      "arrow_ingest.handoff.duration",
      "arrow_ingest.memory.pinned",
      "arrow_ingest.memory.pool",
      "arrow_ingest.retry.strikes",
      "arrow_ingest.rows.accepted",
    ]);
    expect(metrics.get("arrow_ingest.rows.accepted")!.dataPoints[0]!.value).toBe(30);
    expect(metrics.get("arrow_ingest.bytes")!.dataPoints[0]!.value).toBe(120);
    expect(metrics.get("arrow_ingest.deliveries")!.dataPoints[0]).toMatchObject({
      value: 3,
      attributes: { "arrow_ingest.status": "acknowledged", "arrow_ingest.handoff": "pinned" },
    });
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

  test("retries and refused rows are counted, and a failure names its error", () => {
    const counted: [string, number, unknown][] = [];
    const ended: Record<string, unknown> = {};
    const instrument = (name: string) => ({
      add: (value: number) => counted.push([name, value, null]),
      record: () => {},
    });
    const meter = {
      createCounter: instrument,
      createHistogram: instrument,
      createObservableGauge: instrument,
      addBatchObservableCallback() {},
      removeBatchObservableCallback() {
        throw new Error("gone");
      },
    };
    const api = {
      ProxyTracerProvider: class {
        getDelegate() {}
      },
      SpanStatusCode: { ERROR: 2 },
      metrics: { getMeterProvider: () => ({ getMeter: () => meter }) },
    };
    const telemetry = new Telemetry(api as never, "1", "delta", () => ({}) as never);
    const span = {
      setAttributes: () => {},
      setAttribute: (name: string, value: unknown) => {
        ended[name] = value;
      },
      setStatus: (status: unknown) => {
        ended.status = status;
      },
      end: () => {},
    };
    const result = new TransmissionResult({
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
    telemetry.settled(span as never, result, 2);
    expect(counted).toContainEqual(["arrow_ingest.rows.rejected", 2, null]);
    expect(counted).toContainEqual(["arrow_ingest.retries", 2, null]);
    expect(ended).toMatchObject({
      "error.type": "ROWS_REJECTED",
      "arrow_ingest.position.version": 4,
      status: { code: 2, message: "delivery 1 is partial: 2 of 10 rows were refused" },
    });
    // What an SDK throws fails nothing.
    const broken = () => {
      throw new Error("SDK");
    };
    telemetry.settled({ setAttributes: broken } as never, result, 0);
    telemetry.refused({ setAttribute: broken } as never, null);
    telemetry.close();
  });
});

describe("R-40 without OpenTelemetry", () => {
  test("no span is made while no SDK is registered, or telemetry is switched off", async () => {
    const api = (await loadApi())!;
    expect(new Telemetry(api, "1", "discard", () => ({}) as never).start("send")).toBe(null);
    const { exporter } = tracing();
    await using client = await connect("discard:", { ...quick, telemetry: { enabled: false } });
    await client.send(batch());
    expect(exporter.getFinishedSpans()).toEqual([]);
  });

  test("an SDK that throws fails nothing", async () => {
    const api = (await loadApi())!;
    const telemetry = new Telemetry(api, "1", "discard", () => ({}) as never);
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
