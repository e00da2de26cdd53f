// a span for each write, linked to the deliveries that it carries, with what happened on the way; and the
// caller's trace on its way to the server.
import * as otel from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import { tableFromArrays } from "apache-arrow";
import { afterEach, expect, test } from "vitest";
import { connect } from "../../dist/index.js";
import { WriteSpans } from "../../dist/telemetry/writes.js";
import { FlightServer, INVALID_ARGUMENT, UNAVAILABLE, type Verdict } from "./support/flight-server.js";

const batch = (rows = 10) => tableFromArrays({ n: new Int32Array(rows) }).batches[0]!;
const quick = { batching: { linger: 1 }, retry: { baseDelay: 1 }, flight: { commitInterval: 5 } } as const;

afterEach(() => {
  otel.trace.disable();
  otel.context.disable();
});

function tracing() {
  const exporter = new InMemorySpanExporter();
  const provider = new TracerProvider({
    spanProcessors: [new SimpleSpanProcessor({ exporter } as never)],
  } as never);
  otel.trace.setGlobalTracerProvider(provider as never);
  otel.context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  const named = (name: string) =>
    exporter.getFinishedSpans().filter((span) => span.name === `arrow_ingest.${name}`);
  return { provider, named };
}

/** Judges the calls of `DoPut` one after the other; the rest are good. */
async function server(...verdicts: Verdict[]) {
  return FlightServer.start(({ method }) => (method === "DoPut" ? verdicts.shift() : undefined));
}

test("R-40 a write is a child of its first delivery, linked to all, and ends with the acknowledgement", async () => {
  const { named } = tracing();
  const client = await connect("discard:", { batching: { linger: "1h", maxRows: 30 } });
  const sent = await Promise.all([client.enqueue(batch()), client.enqueue(batch()), client.enqueue(batch())]);
  await Promise.all(sent.map(({ result }) => result));
  await client.close();
  const deliveries = named("enqueue");
  const [write, ...others] = named("write");
  expect(others).toEqual([]);
  expect(write).toMatchObject({
    kind: otel.SpanKind.CLIENT,
    status: { code: otel.SpanStatusCode.UNSET },
    attributes: {
      "arrow_ingest.destination": "discard",
      "arrow_ingest.write.id": 1,
      "arrow_ingest.rows": 30,
      "arrow_ingest.bytes": 120,
      "arrow_ingest.deliveries": 3,
      "arrow_ingest.attempts": 1,
    },
  });
  const ids = deliveries.map((span) => span.spanContext().spanId);
  expect(write!.links.map(({ context }) => context.spanId).sort()).toEqual(ids.sort());
  const first = deliveries.find(({ attributes }) => attributes["arrow_ingest.sequence"] === 1)!;
  expect(write!.parentSpanContext!.spanId).toBe(first.spanContext().spanId);
  expect(write!.events.map(({ name }) => name)).toEqual(["arrow_ingest.taken"]);
  expect(named("connect").length).toBe(1);
});

test("R-40 a failure, the next session and the next try are events of the write, with delay and code", async () => {
  const { named } = tracing();
  await using flight = await server([UNAVAILABLE, "away"]);
  await using client = await connect(flight.url, quick);
  expect((await client.send(batch())).attempts).toBe(2);
  const [write] = named("write");
  const events = write!.events.map(({ name }) => name);
  for (const name of ["retry", "reconnect", "try"]) expect(events).toContain(`arrow_ingest.${name}`);
  const retry = write!.events.find(({ name }) => name === "arrow_ingest.retry")!;
  expect(retry.attributes!["error.type"]).toBe("UNAVAILABLE");
  expect(retry.attributes!["arrow_ingest.delay_ms"]).toBeGreaterThanOrEqual(0);
  expect(write!.attributes).toMatchObject({
    "arrow_ingest.attempts": 2,
    "server.address": "127.0.0.1",
    "rpc.system.name": "grpc",
  });
});

test("R-40 a write that is refused for good ends with the error", async () => {
  const { named } = tracing();
  await using flight = await server([INVALID_ARGUMENT, "no"]);
  await using client = await connect(flight.url, quick);
  const result = await client.send(batch());
  expect(result.success).toBe(false);
  await client.flush();
  const [write] = named("write");
  expect(write!.status.code).toBe(otel.SpanStatusCode.ERROR);
  expect(write!.attributes["error.type"]).toBe(result.error!.code);
  expect(write!.events.map(({ name }) => name)).toContain("arrow_ingest.refusal");
});

test("R-40 the server gets the trace of the delivery, of the caller's context or of the one that was given", async () => {
  const { provider, named } = tracing();
  await using flight = await server();
  await using client = await connect(flight.url, quick);
  const parent = provider.getTracer("test").startSpan("parent") as unknown as otel.Span;
  const context = otel.trace.setSpan(otel.ROOT_CONTEXT, parent);
  await (await client.enqueue(batch(), { context })).result;
  const put = () => flight.calls.filter(({ method }) => method === "DoPut").at(-1)!.headers.traceparent;
  const [enqueued] = named("enqueue");
  expect(enqueued!.parentSpanContext!.spanId).toBe(parent.spanContext().spanId);
  const { traceId, spanId } = enqueued!.spanContext();
  expect(put()).toBe(`00-${traceId}-${spanId}-01`);
  await client.send(batch());
  const sent = named("send")[0]!.spanContext();
  expect(put()).toBe(`00-${sent.traceId}-${sent.spanId}-01`);
  // Without an SDK the calls carry none.
  otel.trace.disable();
  await client.send(batch());
  expect(put()).toBe(undefined);
});

test("R-40 a traceparent of the user's own is theirs", async () => {
  tracing();
  await using flight = await server();
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
  await using client = await connect(flight.url, { ...quick, headers: { traceparent } });
  await client.send(batch());
  const puts = flight.calls.filter(({ method }) => method === "DoPut");
  expect(puts.map(({ headers }) => headers.traceparent)).toEqual([traceparent]);
});

test("R-40 connecting in vain is a span with its tries, and its error", async () => {
  const { named } = tracing();
  const refused = connect("grpc://127.0.0.1:1/x", { retry: { attempts: 2, baseDelay: 1 } });
  await expect(refused).rejects.toMatchObject({ code: "UNAVAILABLE" });
  const [span] = named("connect");
  expect(span).toMatchObject({
    status: { code: otel.SpanStatusCode.ERROR },
    attributes: { "error.type": "UNAVAILABLE", "server.port": 1 },
  });
  expect(span!.events.map(({ name }) => name)).toEqual(["arrow_ingest.retry"]);
});

test("R-40 spans of writes end, however the write does, and few are linked", () => {
  const told: unknown[][] = [];
  const span = (id: number) => ({
    spanContext: () => ({ traceId: "t", spanId: `s${id}`, traceFlags: 1 }),
    setAttribute: (...args: unknown[]) => void told.push(["attribute", id, ...args]),
    addEvent: (name: string) => void told.push(["event", id, name]),
    setStatus: () => void told.push(["failed", id]),
    end: () => void told.push(["end", id]),
  });
  let links = 0;
  const spans = new WriteSpans((start) => {
    links = start.links.length;
    return span(Number(start.attributes["arrow_ingest.write.id"])) as never;
  });
  const sent = (id: number, first: number, last: number) =>
    ({
      fact: "sent",
      atMs: 0,
      id,
      attempt: 1,
      rows: 1,
      bytes: 1,
      sequences: [[first, last]],
      recovered: 0,
    }) as const;
  const every = () => span(0);
  spans.told(sent(1, 1, 1_000), every);
  expect(links).toBe(128);
  spans.told(sent(2, 1, 1), () => null);
  spans.told(sent(3, 1, 2), (sequence) => (sequence === 2 ? every() : null));
  expect(links).toBe(1);
  spans.told({ fact: "opening", atMs: 0, again: true }, every);
  spans.told({ fact: "opened", atMs: 0, again: false, tookMs: 1 }, every);
  const error = { code: "RESOURCE_EXHAUSTED" } as never;
  spans.told({ fact: "broke", atMs: 0, error, delayMs: 1, writes: 2, throttled: true }, every);
  spans.told({ fact: "rotated", atMs: 0, error, writes: 2 }, every);
  spans.told({ fact: "acknowledged", atMs: 0, through: 1, position: "version", value: 7 }, every);
  spans.told({ fact: "gone", atMs: 0, before: 2 }, every);
  spans.end();
  expect(told).toEqual([
    ["event", 1, "arrow_ingest.pause"],
    ["event", 3, "arrow_ingest.pause"],
    ["event", 1, "arrow_ingest.rotation"],
    ["event", 3, "arrow_ingest.rotation"],
    ["attribute", 1, "arrow_ingest.position.version", 7],
    ["end", 1],
    ["attribute", 3, "error.type", "RESOURCE_EXHAUSTED"],
    ["failed", 3],
    ["end", 3],
  ]);
});
