// with a spool, spans say when a delivery was on the disk, and which writes carried it, of this client and of an
// earlier one.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import * as otel from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import { tableFromArrays } from "apache-arrow";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type ConnectOptions, connect } from "../../dist/index.js";
import { FlightServer, UNAVAILABLE } from "./support/flight-server.js";

const batch = (rows = 10) => tableFromArrays({ n: new Int32Array(rows) }).batches[0]!;

let home = "";
let exporter: InMemorySpanExporter;
beforeEach(() => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-spans-"));
  exporter = new InMemorySpanExporter();
  const provider = new TracerProvider({
    spanProcessors: [new SimpleSpanProcessor({ exporter } as never)],
  } as never);
  otel.trace.setGlobalTracerProvider(provider as never);
  otel.context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
});
afterEach(() => {
  otel.trace.disable();
  otel.context.disable();
  fs.rmSync(home, { recursive: true, force: true });
});

const named = (name: string) =>
  exporter.getFinishedSpans().filter((span) => span.name === `arrow_ingest.${name}`);
const options = (): ConnectOptions => ({
  spool: { directory: home },
  batching: { linger: 1 },
  retry: { baseDelay: 1, maxDelay: 5 },
  flight: { commitInterval: 5 },
});

test("R-40 a spooled delivery says when it is on the disk, and the write that carries it is its child", async () => {
  await using flight = await FlightServer.start();
  const client = await connect(flight.url, options());
  // None begins at position 0 alone: numbers of deliveries and positions of rows differ.
  const results = [await client.send(batch(7)), await (await client.enqueue(batch(3))).result];
  await client.close();
  expect(results.map(({ status }) => status)).toEqual(["acknowledged", "acknowledged"]);
  const deliveries = [...named("send"), ...named("enqueue")];
  for (const { events } of deliveries)
    expect(events.map(({ name }) => name)).toEqual(["arrow_ingest.spooled"]);
  const writes = named("write");
  expect(writes.map(({ attributes }) => attributes["arrow_ingest.deliveries"])).toEqual([1, 1]);
  expect(writes.map(({ attributes }) => attributes["arrow_ingest.write.id"])).toEqual([7, 10]);
  const parents = writes.map(({ parentSpanContext }) => parentSpanContext!.spanId);
  expect(parents).toEqual(deliveries.map((span) => span.spanContext().spanId));
  expect(named("replay")).toEqual([]);
});

test("R-40 what an earlier client left is one span, and the writes that carry it are its children", async () => {
  let isAway = true;
  await using flight = await FlightServer.start(() => (isAway ? [UNAVAILABLE, "away"] : undefined));
  const leaving = await connect(flight.url, options());
  for (const rows of [1, 1, 4]) await leaving.enqueue(batch(rows));
  await leaving.close({ deadline: 0 });
  exporter.reset();
  isAway = false;
  const client = await connect(flight.url, { ...options(), batching: { linger: 1, maxRows: 3 } });
  await client.flush();
  const own = await client.send(batch(2));
  await client.close();
  expect(own.success).toBe(true);
  const [replay, ...others] = named("replay");
  expect(others).toEqual([]);
  expect(replay).toMatchObject({
    kind: otel.SpanKind.PRODUCER,
    status: { code: otel.SpanStatusCode.UNSET },
    attributes: { "arrow_ingest.deliveries": 3, "arrow_ingest.rows": 6 },
  });
  expect(replay!.parentSpanContext).toBe(undefined);
  const children = (id: string) => named("write").filter((span) => span.parentSpanContext!.spanId === id);
  const rows = (id: string) =>
    children(id).reduce((sum, { attributes }) => sum + Number(attributes["arrow_ingest.rows"]), 0);
  expect(rows(replay!.spanContext().spanId)).toBe(6);
  expect(rows(named("send")[0]!.spanContext().spanId)).toBe(2);
});

test("R-40 the span of a replay ends with the client, and says that some of it stays", async () => {
  let isAway = true;
  await using flight = await FlightServer.start(({ method }) =>
    isAway ? [UNAVAILABLE, "away"] : method === "DoPut" ? "silence" : undefined,
  );
  const leaving = await connect(flight.url, options());
  await leaving.enqueue(batch(5));
  await leaving.close({ deadline: 0 });
  isAway = false;
  exporter.reset();
  const before = flight.calls.length;
  const client = await connect(flight.url, options());
  while (!flight.calls.slice(before).some(({ method }) => method === "DoPut"))
    await new Promise((resolve) => setTimeout(resolve, 2));
  // The write is told before the session has it.
  await client.close({ deadline: 200 });
  expect(named("replay")[0]).toMatchObject({ attributes: { "arrow_ingest.status": "spooled" } });
});
