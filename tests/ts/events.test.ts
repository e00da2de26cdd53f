// R-42 R-44: what happens to a client is told to who reads its events, to channels, and to a profile.
import * as diagnostics from "node:diagnostics_channel";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { tableFromArrays } from "apache-arrow";
import { expect, test } from "vitest";
import { EventHub } from "../../dist/client/events.js";
import { type ClientEvent, connect } from "../../dist/index.js";
import { FlightServer, INVALID_ARGUMENT, UNAVAILABLE, type Verdict } from "./support/flight-server.js";

const batch = (rows = 10) => tableFromArrays({ n: new Int32Array(rows) }).batches[0]!;
const quick = { batching: { linger: 1 }, retry: { baseDelay: 1 }, flight: { commitInterval: 5 } } as const;

async function read(events: AsyncIterable<ClientEvent>): Promise<ClientEvent[]> {
  const all: ClientEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

test("R-44 events tell of tries, other sessions and refusals until the client is closed", async () => {
  const verdicts: Verdict[] = [[UNAVAILABLE, "away"], undefined, [INVALID_ARGUMENT, "no"]];
  await using flight = await FlightServer.start(({ method }) =>
    method === "DoPut" ? verdicts.shift() : undefined,
  );
  const published: unknown[] = [];
  const note = (message: unknown): void => void published.push(message);
  diagnostics.subscribe("arrow-ingest:retry", note);
  diagnostics.subscribe("arrow-ingest:settled", note);
  const client = await connect(flight.url, quick);
  const all = read(client.events());
  const first = await client.send(batch());
  expect(first.success).toBe(true);
  expect((await client.send(batch())).success).toBe(false);
  await client.close();
  const events = await all;
  const types = events.map(({ type }) => type);
  for (const type of ["connected", "retry", "reconnect", "refused"]) expect(types).toContain(type);
  const retry = events.find((event) => event.type === "retry")!;
  expect(retry).toMatchObject({ operation: "write", error: { code: "UNAVAILABLE" } });
  expect(retry.atMs).toBeLessThanOrEqual(Date.now());
  // The same object, by the channel of its type; and each outcome by a channel of its own.
  expect(published).toContain(retry);
  expect(published).toContainEqual({ client: retry.client, result: first });
  diagnostics.unsubscribe("arrow-ingest:retry", note);
  diagnostics.unsubscribe("arrow-ingest:settled", note);
  // Of a client that is closed there is nothing more.
  expect(await read(client.events())).toEqual([]);
});

test("R-44 a delivery that is in the spool is told", async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-events-"));
  const client = await connect("discard:", { ...quick, spool: { directory } });
  const all = read(client.events());
  const { sequence } = await client.enqueue(batch());
  await client.close();
  fs.rmSync(directory, { recursive: true });
  expect((await all).filter(({ type }) => type === "spooled")).toMatchObject([{ sequence }]);
});

test("R-44 tries at connecting are told, too", async () => {
  const told: unknown[] = [];
  const note = (message: unknown): void => void told.push(message);
  diagnostics.subscribe("arrow-ingest:retry", note);
  await expect(
    connect("grpc://127.0.0.1:1/x", { retry: { attempts: 2, baseDelay: 1 } }),
  ).rejects.toMatchObject({ code: "UNAVAILABLE" });
  diagnostics.unsubscribe("arrow-ingest:retry", note);
  expect(told).toMatchObject([{ type: "retry", operation: "connect", error: { attempts: 1 }, writes: 0 }]);
});

test("R-44 a loop over events ends with its signal, and with the loop", async () => {
  await using client = await connect("discard:", quick);
  const controller = new AbortController();
  const all = read(client.events({ signal: controller.signal }));
  controller.abort();
  expect(await all).toEqual([]);
  expect(await read(client.events({ signal: controller.signal }))).toEqual([]);
  const events = client.events();
  const waiting = events.next();
  await events.return!();
  expect(await waiting).toEqual({ done: true, value: undefined });
  for (const wrong of [{ signal: 5 }, { signals: 1 }, 5])
    expect(() => client.events(wrong as never)).toThrow(/signal|options/);
});

test("R-44 a reader that does not read holds the newest 1,024 events, and is told what it missed", async () => {
  const hub = new EventHub(3);
  hub.emit({ type: "closed", atMs: 0 });
  const reader = hub.read(undefined);
  for (let atMs = 1; atMs <= 5_000; atMs++) hub.emit({ type: "closed", atMs });
  hub.end();
  const events = await read(reader);
  expect(events[0]).toMatchObject({ type: "missed", count: 5_000 - 1_024, client: 3 });
  expect(events.slice(1).map(({ atMs }) => atMs)).toEqual(Array.from({ length: 1_024 }, (_, i) => 3_977 + i));
  // One that reads misses nothing.
  const other = new EventHub(4);
  const reading = read(other.read(undefined));
  for (let atMs = 1; atMs <= 3_000; atMs++) {
    other.emit({ type: "closed", atMs });
    if (atMs % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  other.end();
  expect((await reading).length).toBe(3_000);
});

test("R-42 a profile has the operation's result and the times of its deliveries, and of no others", async () => {
  await using client = await connect("discard:", quick);
  const other = client.send(batch(1));
  const profile = await client.profile(async () => {
    const result = await client.send(batch(10));
    // Nobody waits for this one.
    await client.enqueue(batch(20));
    return result.status;
  });
  await other;
  expect(profile).toMatchObject({ result: "acknowledged", deliveries: 2, rows: 30, bytes: 120 });
  expect(profile.elapsedMs).toBeGreaterThanOrEqual(profile.operationMs);
  expect(profile.eventLoopShare).toBeLessThanOrEqual(1);
  for (const { meanMs, maxMs, totalMs } of Object.values(profile.stages)) {
    expect(totalMs).toBeCloseTo(meanMs * 2, 9);
    expect(maxMs).toBeGreaterThanOrEqual(meanMs);
  }
  expect(profile.stages.handoff.totalMs).toBeGreaterThan(0);
});

test("R-42 a profile of nothing, of what fails, of what is taken back, and of what is no function", async () => {
  await using client = await connect("discard:", { ...quick, inflight: { maxBytes: 10 } });
  expect(await client.profile(() => 5)).toMatchObject({
    result: 5,
    deliveries: 0,
    stages: { queue: { meanMs: 0, maxMs: 0, totalMs: 0 } },
  });
  const thrown = new Error("mine");
  await expect(
    client.profile(() => {
      throw thrown;
    }),
  ).rejects.toBe(thrown);
  await expect(client.profile(5 as never)).rejects.toMatchObject({ issues: [{ path: "operation" }] });
  const shared = tableFromArrays({ n: new Int32Array(new SharedArrayBuffer(400)) });
  const { result, deliveries } = await client.profile(async () => {
    const refused = await client.send(shared, { handoff: "pin" }).catch((error) => error.code);
    for await (const { success } of client.sendAll([batch(), batch()])) expect(success).toBe(true);
    return refused;
  });
  expect([result, deliveries]).toEqual(["HANDOFF_UNSAFE", 2]);
});
