// Nothing that waits costs others more than itself: of the client, by counting turns and sessions, not time.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import {
  Data,
  Field,
  Int32,
  makeData,
  RecordBatch,
  Schema,
  Struct,
  Utf8,
  vectorFromArray,
} from "apache-arrow";
import { afterAll, describe, expect, test, vi } from "vitest";
import { connect, type IngestError, type TransmissionResult } from "../../dist/index.js";
import { FlightServer, UNAUTHENTICATED, UNAVAILABLE } from "./support/flight-server.js";

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "growth-"));
afterAll(() => fs.rmSync(folder, { recursive: true }));

const one = (() => {
  const fields = [new Field("n", new Int32(), false)];
  const child = makeData({ type: new Int32(), data: Int32Array.of(7) });
  return new RecordBatch(new Schema(fields), new Data(new Struct(fields), 0, 1, 0, {}, [child]));
})();

const words = (schema: Schema, word: string): RecordBatch => {
  const child = vectorFromArray([word], new Utf8()).data[0]!;
  return new RecordBatch(schema, new Data(new Struct(schema.fields), 0, 1, 0, {}, [child]));
};

/** A server that is there to be connected to, and then away for ever. */
const away = () =>
  FlightServer.start(({ method }) => (method === "DoPut" ? [UNAVAILABLE, "away"] : undefined));

const patient = { attempts: 1_000_000, baseDelay: "10s", maxDelay: "10s", deadline: "1h" } as const;

/** Turns of the event loop until all are settled, from the first that is. */
async function turnsBetween(promises: readonly Promise<unknown>[]): Promise<number> {
  let turns = 0;
  let goesOn = true;
  await Promise.race(promises);
  const count = (): void => {
    turns++;
    if (goesOn) setImmediate(count);
  };
  setImmediate(count);
  await Promise.all(promises);
  goesOn = false;
  return turns;
}

describe("R-36 what many are told is told in slices", () => {
  test("of outcomes, where a close finds many that are pending", async () => {
    await using server = await away();
    const client = await connect(server.url, { retry: patient, inflight: { maxBytes: "1GiB" } });
    const pending: Promise<TransmissionResult>[] = [];
    for (let n = 0; n < 10_000; n++) pending.push((await client.enqueue(one)).result);
    const closed = client.close({ deadline: 100 });
    // 1,024 in a slice: ten slices, and no turn has two that are full.
    expect(await turnsBetween(pending)).toBeGreaterThan(3);
    await closed;
    const results = await Promise.all(pending);
    // A server that is away may have taken the rows before it was.
    expect(results.every(({ success, error }) => !success && error !== null)).toBe(true);
    expect(results.map(({ sequence }) => sequence)).toEqual(pending.map((_, n) => BigInt(n + 1)));
  }, 60_000);

  test("outcomes that come one by one do not keep the loop", async () => {
    await using client = await connect("discard:", { batching: { maxRows: 16 } });
    let told = 0;
    let most = 0;
    let goesOn = true;
    const turn = (): void => {
      most = Math.max(most, told);
      told = 0;
      if (goesOn) setImmediate(turn);
    };
    setImmediate(turn);
    const results: Promise<void>[] = [];
    for (let n = 0; n < 20_000; n++) {
      const { result } = await client.enqueue(one);
      results.push(
        result.then(() => {
          told++;
          // While one is looked at, others come.
          for (const until = performance.now() + 0.02; performance.now() < until; );
        }),
      );
    }
    await Promise.all(results);
    goesOn = false;
    turn();
    // Two slices that are not quite full.
    expect(most).toBeLessThan(2_048);
  }, 60_000);

  test("of callers who wait for the budget, in their order", async () => {
    await using server = await away();
    const client = await connect(server.url, { retry: patient, inflight: { maxBytes: 1 } });
    const first = (await client.enqueue(one)).result;
    const order: number[] = [];
    const waiting = Array.from({ length: 1_000 }, (_, n) =>
      client.enqueue(one).then(
        () => Promise.reject(new Error("it was let in")),
        (error: unknown) => {
          if ((error as IngestError).code === "CLOSED") order.push(n);
        },
      ),
    );
    // A millisecond passes with each look at the clock: a fast machine would tell all of them in one slice.
    let now = performance.now();
    const clock = vi.spyOn(performance, "now").mockImplementation(() => now++);
    const closed = client.close({ deadline: 100 });
    const turns = await turnsBetween(waiting);
    clock.mockRestore();
    expect(turns).toBeGreaterThan(10);
    await closed;
    expect(order).toEqual(waiting.map((_, n) => n));
    expect((await first).success).toBe(false);
    expect(client.stats().deliveries).toMatchObject({ waiting: 0, unsettled: 0 });
  }, 60_000);
});

describe("R-12 what others did costs nobody", () => {
  test("a session, however many deliveries of a write hold what Delta cannot", async () => {
    const options = { delta: { partitionBy: ["key"] }, batching: { linger: "1h" } } as const;
    const client = await connect(`delta:${path.join(folder, "bad")}`, options);
    const schema = new Schema([new Field("key", new Utf8(), true), new Field("n", new Int32(), false)]);
    const row = (key: string): RecordBatch => {
      const children = [words(schema, key).data.children[0]!, one.data.children[0]!];
      return new RecordBatch(schema, new Data(new Struct(schema.fields), 0, 1, 0, {}, children));
    };
    const results: Promise<TransmissionResult>[] = [];
    for (let n = 0; n < 400; n++) results.push((await client.enqueue(row(n % 4 === 0 ? "good" : ""))).result);
    await client.flush();
    for (const [n, result] of (await Promise.all(results)).entries()) {
      expect(result.status).toBe(n % 4 === 0 ? "acknowledged" : "failed");
      if (n % 4 === 0) expect(result.attempts).toBe(1);
      else expect(result.error).toMatchObject({ code: "BATCH_INVALID", row: 0, field: "key" });
    }
    expect(client.stats().sessions.opened).toBe(2);
    await client.close();
  });

  test("the tries of all that wait, where credentials that cannot change are refused", async () => {
    await using server = await FlightServer.start(({ method }) =>
      method === "DoPut" ? [UNAUTHENTICATED, "who are you"] : undefined,
    );
    const client = await connect(server.url, {
      headers: { authorization: "Bearer stale" },
      batching: { maxRows: 1, linger: 0 },
      inflight: { maxWrites: 2 },
      retry: { attempts: 3, baseDelay: 1, maxDelay: 1, deadline: "1h" },
    });
    const results: Promise<TransmissionResult>[] = [];
    for (let n = 0; n < 50; n++) results.push((await client.enqueue(one)).result);
    for (const result of await Promise.all(results))
      expect(result).toMatchObject({ error: { code: "UNAUTHENTICATED" } });
    // Three, and again three of those that came after the first ones had failed: each alone would be 150.
    const { broken } = client.stats().sessions;
    expect(broken % 3).toBe(0);
    expect(broken).toBeLessThan(50);
    await client.close();
  });
});
