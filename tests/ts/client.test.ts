// Promises of the client, through the door that users use.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import {
  Field,
  Float64,
  Int32,
  List,
  Null,
  type RecordBatch,
  Schema,
  Table,
  tableFromArrays,
  tableToIPC,
  Utf8,
  vectorFromArray,
} from "apache-arrow";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type ConnectOptions,
  connect,
  type IngestClient,
  type IngestError,
  type TransmissionResult,
} from "../../dist/index.js";
import { tableOf } from "./support/table.js";

let home = "";
let made = 0;
const lake = (): string => `delta:${path.join(home, `table-${++made}`)}`;

beforeEach(() => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-"));
});
afterEach(() => {
  fs.rmSync(home, { recursive: true, force: true });
});

const numbers = (rows: number, from = 0): Table =>
  tableFromArrays({ n: Int32Array.from({ length: rows }, (_, i) => from + i), x: new Float64Array(rows) });
const batch = (rows: number, from = 0): RecordBatch => numbers(rows, from).batches[0]!;
const other = (): Table => tableFromArrays({ n: ["not", "a", "number"] });
const quick: ConnectOptions = { batching: { linger: "1ms" }, delta: { commitInterval: "20ms" } };

async function failure(promise: Promise<unknown>): Promise<IngestError> {
  return promise.then(
    () => {
      throw new Error("it did not reject");
    },
    (error) => error,
  );
}

async function all(results: AsyncIterable<TransmissionResult>): Promise<TransmissionResult[]> {
  const list = [];
  for await (const result of results) list.push(result);
  return list;
}

for (const target of ["discard:", "delta:"])
  describe(`R-24 R-30 R-31 ${target}`, () => {
    const open = (options: ConnectOptions = {}): Promise<IngestClient> =>
      connect(target === "discard:" ? target : lake(), { ...quick, ...options });

    test("send: one batch, one result", async () => {
      await using client = await open();
      const result = await client.send(batch(100));
      expect(result).toMatchObject({
        status: "acknowledged",
        success: true,
        sequence: 1n,
        rows: 100,
        acceptedRows: 100,
        rejectedRows: 0,
        handoff: "pinned",
        handoffReason: null,
        error: null,
      });
      expect(result.batchBytes).toBe(1200);
      expect(result.latencyMs).toBeGreaterThan(0);
      expect(result.timings.handoffMs).toBeGreaterThan(0);
      if (target === "delta:") expect(result.position).toEqual({ kind: "version", value: 1n });
    });

    test("a table of several batches is one delivery; rows of none are nothing sent", async () => {
      await using client = await open();
      const table = new Table([batch(10), batch(20, 10), batch(30, 30)]);
      expect(await client.send(table)).toMatchObject({ rows: 60, status: "acknowledged", sequence: 1n });
      expect(await client.send(new Table(table.schema))).toMatchObject({ rows: 0, status: "acknowledged" });
      expect(await client.send(batch(5).slice(2, 2))).toMatchObject({ rows: 0, status: "acknowledged" });
      expect(client.stats().rows.accepted).toBe(60);
    });

    test("R-02 every handoff mode per call and per client, and the result says which", async () => {
      await using client = await open({ handoff: "copy" });
      expect(await client.send(batch(10))).toMatchObject({
        handoff: "copied",
        handoffReason: "copied: copy was asked for",
      });
      expect(await client.send(batch(10), { handoff: "pin" })).toMatchObject({
        handoff: "pinned",
        handoffReason: null,
      });
      expect(await client.send(batch(10), { handoff: "ipc" })).toMatchObject({
        handoff: "ipc",
        handoffReason: "ipc: ipc was asked for",
      });
      for (const format of ["stream", "file"] as const) {
        const bytes = tableToIPC(numbers(10), format);
        for (const given of [bytes, new DataView(bytes.buffer), Buffer.from(bytes), bytes.slice().buffer])
          expect(await client.send(given)).toMatchObject({
            status: "acknowledged",
            rows: 10,
            handoff: "ipc",
          });
      }
      const shared = new SharedArrayBuffer(bytesOf().byteLength);
      new Uint8Array(shared).set(bytesOf());
      expect(await client.send(shared, { handoff: "auto" })).toMatchObject({ rows: 10, handoff: "ipc" });
    });

    test("R-05 R-10 a loop that is always let in at once does not outrun the outcomes", async () => {
      const budget = 64 * 1024;
      await using client = await open({ inflight: { maxBytes: budget }, batching: { linger: 0 } });
      let [handedOver, heardOf, most] = [0, 0, 0];
      for (let i = 0; i < 200; i++) {
        const one = batch(1_000, i);
        const delivery = await client.enqueue(one);
        handedOver++;
        void delivery.result.then(() => heardOf++);
        most = Math.max(most, handedOver - heardOf);
      }
      const { admitted } = client.stats().bytes;
      // Some budgets and not all 200: what Rust holds, what was settled since the last turn, and one batch.
      expect(most * (admitted / handedOver)).toBeLessThan(3 * budget);
      expect(admitted).toBeGreaterThan(20 * budget);
    });

    test("enqueue settles at admission, and its delivery gives the outcome", async () => {
      await using client = await open();
      const deliveries = await Promise.all(
        Array.from({ length: 20 }, (_, i) => client.enqueue(batch(10, i * 10))),
      );
      expect(deliveries.map(({ sequence }) => sequence)).toEqual(
        Array.from({ length: 20 }, (_, i) => BigInt(i + 1)),
      );
      const results = await Promise.all(deliveries.map(({ result }) => result));
      expect(results.every(({ status }) => status === "acknowledged")).toBe(true);
    });

    test("R-06 sendAll: outcomes of all sources, in order", async () => {
      await using client = await open();
      const three = () => [batch(1), batch(2), batch(3)];
      const sources = [
        three(),
        new Table(three()),
        new Set(three()),
        three().values(),
        (async function* () {
          yield* three();
        })(),
        (async function* () {
          for (const one of three()) {
            await new Promise((resolve) => setTimeout(resolve, 5));
            yield one;
          }
        })(),
        ReadableStream.from(three()),
      ];
      for (const source of sources) {
        const results = await all(client.sendAll(source as never));
        expect(results.map(({ rows }) => rows)).toEqual([1, 2, 3]);
      }
      expect(await all(client.sendAll([]))).toEqual([]);
    });

    test("R-11 back-pressure: a budget smaller than the work never overflows, and everything arrives in order", async () => {
      await using client = await open({ inflight: { maxBytes: 5000 } });
      let peak = 0;
      let read = 0;
      const source = (function* () {
        for (let i = 0; i < 60; i++) {
          read++;
          peak = Math.max(peak, client.stats().bytes.inFlight);
          yield batch(100, i * 100);
        }
      })();
      const results = await all(client.sendAll(source));
      expect(results.map(({ sequence }) => Number(sequence))).toEqual(
        Array.from({ length: 60 }, (_, i) => i + 1),
      );
      expect(read).toBe(60);
      expect(peak).toBeLessThanOrEqual(5000 + 1200 * 5);
    });

    test("R-19 hundreds of concurrent senders on one small budget all get their own outcome", async () => {
      await using client = await open({ inflight: { maxBytes: 20_000 } });
      const results = await Promise.all(
        Array.from({ length: 300 }, (_, i) => client.send(batch(1 + (i % 50)))),
      );
      expect(results.map(({ rows }) => rows)).toEqual(Array.from({ length: 300 }, (_, i) => 1 + (i % 50)));
      expect(new Set(results.map(({ sequence }) => sequence)).size).toBe(300);
      expect(client.stats().deliveries).toMatchObject({
        admitted: 300,
        acknowledged: 300,
        unsettled: 0,
        waiting: 0,
      });
    });

    test("writable: a stream to pipe into", async () => {
      await using client = await open();
      await ReadableStream.from([batch(1), batch(2), numbers(3)]).pipeTo(client.writable());
      expect(client.stats().rows.accepted).toBe(6);
    });

    test("flush and check", async () => {
      await using client = await open({ batching: { linger: "1h" }, delta: { commitInterval: "1h" } });
      const delivery = await client.enqueue(batch(10));
      await client.flush();
      expect(client.stats().deliveries.unsettled).toBe(0);
      expect((await delivery.result).status).toBe("acknowledged");
      await client.check();
    });

    test("R-18 close delivers what was admitted, is idempotent, and refuses what comes after", async () => {
      const client = await open({ batching: { linger: "1h" }, delta: { commitInterval: "1h" } });
      const sent = client.send(batch(10));
      await client.close();
      await client.close();
      expect((await sent).status).toBe("acknowledged");
      for (const call of [
        () => client.send(batch(1)),
        () => client.enqueue(batch(1)),
        () => client.flush(),
        () => client.check(),
      ])
        expect(await failure(call())).toMatchObject({ code: "CLOSED", name: "ClosedError" });
      expect(await failure(all(client.sendAll([batch(1)])))).toMatchObject({ code: "CLOSED" });
      expect(client.stats().deliveries.acknowledged).toBe(1);
    });

    test("R-18 abort before admission rejects with the reason, and what is behind goes on", async () => {
      const client = await open({
        inflight: { maxBytes: 1300 },
        batching: { linger: "1h" },
        delta: { commitInterval: "1h" },
      });
      const first = client.send(batch(100));
      const controller = new AbortController();
      const second = client.send(batch(100), { signal: controller.signal });
      const third = client.send(batch(100));
      expect(client.stats().deliveries).toMatchObject({ admitted: 1, waiting: 2 });
      controller.abort();
      expect(await failure(second)).toMatchObject({ name: "AbortError" });
      expect(client.stats().deliveries.waiting).toBe(1);
      const reason = new Error("changed my mind");
      expect(await failure(client.send(batch(1), { signal: AbortSignal.abort(reason) }))).toBe(reason);
      await client.flush();
      expect((await first).status).toBe("acknowledged");
      const closing = client.close();
      // Admitted by the flush, or refused by the close: one of them, and never silence.
      const end = await third.then(
        ({ status }) => status,
        ({ code }) => code,
      );
      expect(["acknowledged", "CLOSED"]).toContain(end);
      await closing;
    });

    test("a batch that is gone when there is room for it is refused, and what is behind goes on", async () => {
      const client = await open({ inflight: { maxBytes: 1300 } });
      const first = client.send(batch(100));
      const second = client.send(batch(100));
      const buffer = new ArrayBuffer(400);
      const third = failure(client.send(tableFromArrays({ n: new Int32Array(buffer) })));
      const fourth = client.send(batch(50));
      buffer.transfer();
      expect(await third).toMatchObject({
        code: "BATCH_INVALID",
        message: expect.stringContaining("detached"),
      });
      expect((await first).status).toBe("acknowledged");
      expect((await second).status).toBe("acknowledged");
      expect((await fourth).rows).toBe(50);
      await client.close();
    });

    test("R-18 abort after admission settles: failed if nothing was written, else unknown", async () => {
      const client = await open({ batching: { linger: "1h" }, delta: { commitInterval: "1h" } });
      const controller = new AbortController();
      const sent = client.send(batch(100), { signal: controller.signal });
      controller.abort();
      const result = await sent;
      expect(["failed", "unknown"]).toContain(result.status);
      expect(result.error?.code).toBe("ABORTED");
      controller.abort();
      await client.close();
    });
  });

const bytesOf = (): Uint8Array => tableToIPC(numbers(10));

describe("R-05 R-11 the budget counts what a delivery costs", () => {
  const held: ConnectOptions = { inflight: { maxBytes: "1MiB" }, batching: { linger: "1h" } };

  test.each([
    ["one byte", () => tableOf({ b: Uint8Array.of(1) })],
    ["a null", () => tableOf({ n: vectorFromArray([null], new Null()) })],
  ])("deliveries of %s wait for room, too", async (_, make) => {
    const client = await connect("discard:", held);
    const calls = Array.from({ length: 3_000 }, () => client.enqueue(make()).catch(() => {}));
    const { deliveries, bytes } = client.stats();
    expect(bytes.inFlight).toBeLessThanOrEqual(2 ** 20);
    expect(deliveries.admitted).toBeLessThan(900);
    expect(deliveries.admitted + deliveries.waiting).toBe(3_000);
    await client.close({ deadline: "10s" }).catch(() => {});
    await Promise.all(calls);
  });

  test("a budget below one floor lets in one after the other", async () => {
    await using client = await connect("discard:", { inflight: { maxBytes: 1 }, batching: { linger: 0 } });
    const results = await all(client.sendAll(Array.from({ length: 20 }, () => batch(1))));
    expect(results.map(({ status }) => status)).toEqual(Array(20).fill("acknowledged"));
  });

  test("a slice takes what it uses, and pins what it holds", async () => {
    const rows = 200_000;
    const texts = Array.from({ length: rows }, (_, i) => `text number ${i}, and some more of it`);
    const lists = vectorFromArray(
      texts.slice(0, 20_000).map((text) => [text, text]),
      new List(new Field("item", new Utf8(), true)),
    );
    const t = vectorFromArray(texts, new Utf8());
    const big = tableOf({ n: new Float64Array(rows), t }).batches[0]!;
    await using client = await connect(lake(), quick);
    const slice = big.slice(rows - 10, rows);
    const delivery = await client.enqueue(slice);
    const { bytes, pinned } = client.stats();
    expect(bytes.admitted).toBeLessThan(1_000);
    expect(pinned.peakBytes).toBeGreaterThan(rows * 8);
    const result = await delivery.result;
    expect(result).toMatchObject({ status: "acknowledged", rows: 10 });
    expect(result.batchBytes).toBeLessThan(1_000);
    await using other = await connect(lake(), quick);
    for (const first of [0, 10, 19_990]) {
      const ofLists = await other.send(tableOf({ n: lists }).slice(first, first + 10));
      expect(ofLists).toMatchObject({ status: "acknowledged", rows: 10 });
      expect(ofLists.batchBytes, `from row ${first} on`).toBeLessThan(2_000);
    }
  });
});

describe("R-11 no road starves the event loop", () => {
  /** How often a timer comes while `work` is done. */
  async function ticks(work: () => Promise<unknown>): Promise<number> {
    let count = 0;
    const timer = setInterval(() => count++, 1);
    try {
      await work();
    } finally {
      clearInterval(timer);
    }
    return count;
  }
  const one = batch(1);
  const many = 30_000;

  test("enqueue, awaited in a loop that always has room", async () => {
    await using client = await connect("discard:");
    const count = await ticks(async () => {
      for (let i = 0; i < many; i++) await client.enqueue(one);
    });
    expect(count).toBeGreaterThan(3);
  });

  test("sendAll of what is at hand", async () => {
    await using client = await connect("discard:");
    const source = Array(many).fill(one);
    let seen = 0;
    const count = await ticks(async () => {
      for await (const result of client.sendAll(source)) seen += result.rows;
    });
    expect([seen, count > 3]).toEqual([many, true]);
  });

  test("a source that takes its time for each batch, and a writable", async () => {
    await using client = await connect("discard:");
    const slow = function* () {
      for (let i = 0; i < 100; i++) {
        const end = performance.now() + 1;
        while (performance.now() < end);
        yield one;
      }
    };
    expect(await ticks(() => all(client.sendAll(slow())))).toBeGreaterThan(5);
    const writer = client.writable().getWriter();
    const count = await ticks(async () => {
      for (let i = 0; i < many; i++) await writer.write(one);
      await writer.close();
    });
    expect(count).toBeGreaterThan(3);
  });

  test("R-18 the end of many who wait, and of many who are admitted", async () => {
    const client = await connect("discard:", { inflight: { maxBytes: "8MiB" }, batching: { linger: "1h" } });
    let turns = 0;
    const codes = new Map<string, number>();
    const count = (code: string) => codes.set(code, (codes.get(code) ?? 0) + 1);
    const calls = Array.from({ length: many }, () =>
      client.enqueue(one).then(
        () => count("admitted"),
        ({ code }) => count(code),
      ),
    );
    expect(client.stats().deliveries.waiting).toBeGreaterThan(many / 2);
    let goesOn = true;
    const watch = (): void => {
      turns++;
      if (goesOn) setImmediate(watch);
    };
    setImmediate(watch);
    await client.close({ deadline: "10s" });
    await Promise.all(calls);
    goesOn = false;
    expect(codes.get("CLOSED")).toBeGreaterThan(many / 2);
    expect((codes.get("CLOSED") ?? 0) + (codes.get("admitted") ?? 0)).toBe(many);
    // Others have turns meanwhile; `growth` counts them.
    expect(turns).toBeGreaterThan(3);
  });
});

describe("R-10 send is urgent", () => {
  const patient: ConnectOptions = { batching: { linger: "1h" }, delta: { commitInterval: "1h" } };

  test.each([1, 10, 100])("%d that are sent together are one commit, at once", async (count) => {
    await using client = await connect(lake(), patient);
    const enqueued = await client.enqueue(batch(1));
    const results = await Promise.all(Array.from({ length: count }, (_, i) => client.send(batch(1, i))));
    const versions = new Set([await enqueued.result, ...results].map(({ position }) => position?.value));
    expect(versions).toEqual(new Set([1n]));
  });

  test("enqueue and sendAll are not: they wait for the interval, or for whoever asks", async () => {
    await using client = await connect(lake(), patient);
    const delivery = await client.enqueue(batch(1));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(client.stats().deliveries.unsettled).toBe(1);
    await client.flush();
    expect((await delivery.result).status).toBe("acknowledged");
  });

  test("one that waited for room is, once it is let in", async () => {
    const options: ConnectOptions = {
      ...patient,
      delta: { commitInterval: "50ms" },
      inflight: { maxBytes: 1 },
    };
    await using client = await connect(lake(), options);
    const results = await Promise.all([client.send(batch(1)), client.send(batch(2)), client.send(batch(3))]);
    expect(results.map(({ status }) => status)).toEqual(Array(3).fill("acknowledged"));
  });
});

describe("R-18 R-30 the end of a client", () => {
  test("a failure that nobody looked at makes close reject, once", async () => {
    const client = await connect(lake(), quick);
    await client.send(batch(1));
    const unseen = await client.enqueue(other());
    const seen = await client.enqueue(other());
    expect((await seen.result).status).toBe("failed");
    await client.flush();
    const error = await failure(client.close());
    expect(error).toMatchObject({ code: "UNDELIVERED", name: "DeliveryError" });
    expect(error.message).toContain("1 delivery was not acknowledged");
    expect(error.message).toContain("#2 failed (SCHEMA_MISMATCH");
    expect(error.cause).toMatchObject({ code: "SCHEMA_MISMATCH" });
    await client.close();
    expect((await unseen.result).status).toBe("failed");
  });

  test("deliveries that failed of one cause are told with that cause, once", async () => {
    const client = await connect(lake(), quick);
    await client.send(batch(1));
    for (let i = 0; i < 12; i++) await client.enqueue(other());
    const { message } = await failure(client.close());
    expect(message).toContain("12 deliveries were not acknowledged");
    expect(message).toContain("#2, #3, #4, #5, #6, #7, #8, #9, #10, #11 failed (SCHEMA_MISMATCH");
    expect(message.split("SCHEMA_MISMATCH").length).toBe(2);
    expect(message).toMatch(/; and 2 more$/);
  });

  test("a failure that is looked at late counts as seen", async () => {
    const client = await connect(lake(), quick);
    await client.send(batch(1));
    const late = await client.enqueue(other());
    await client.flush();
    expect((await late.result).error).toMatchObject({ code: "SCHEMA_MISMATCH", retry: "never" });
    await client.close();
  });

  test("many of them are counted, and ten are named", async () => {
    const client = await connect(lake(), quick);
    await client.send(batch(1));
    for (let i = 0; i < 12; i++) await client.enqueue(other());
    const { message } = await failure(client.close());
    expect(message).toContain("12 deliveries were not acknowledged");
    expect(message).toContain("and 2 more");
  });

  test("await using: what was admitted is flushed, and both errors are seen", async () => {
    const url = lake();
    const run = async (): Promise<void> => {
      await using client = await connect(url, {
        delta: { commitInterval: "1h" },
        batching: { linger: "1h" },
      });
      await client.enqueue(batch(10));
      await client.enqueue(other());
      throw new Error("the block");
    };
    const error = await failure(run());
    expect(error.name).toBe("SuppressedError");
    const { error: outer, suppressed } = error as unknown as { error: unknown; suppressed: unknown };
    expect(outer).toMatchObject({ code: "UNDELIVERED" });
    expect(suppressed).toMatchObject({ message: "the block" });
    await using again = await connect(url, quick);
    expect((await again.send(batch(1))).position!.value).toBeGreaterThan(1n);
  });

  test("an error of the block alone stays itself", async () => {
    const run = async (): Promise<void> => {
      await using client = await connect(lake(), quick);
      await client.send(batch(1));
      throw new Error("the block");
    };
    expect((await failure(run())).message).toBe("the block");
  });

  test("closing refuses what still waits for room", async () => {
    const client = await connect(lake(), {
      inflight: { maxBytes: 1300 },
      batching: { linger: "1h" },
      delta: { commitInterval: "1h" },
    });
    const first = client.send(batch(100));
    const second = failure(client.send(batch(100)));
    const closing = client.close({ deadline: "20s" });
    expect(await second).toMatchObject({ code: "CLOSED" });
    await closing;
    expect((await first).status).toBe("acknowledged");
  });

  test("closing under a sendAll ends it with CLOSED, after the outcomes of what was admitted", async () => {
    const client = await connect("discard:", { inflight: { maxBytes: 1300 } });
    let rows = 0;
    const endless = (function* () {
      for (;;) yield batch(100);
    })();
    const run = async (): Promise<void> => {
      for await (const result of client.sendAll(endless)) {
        expect(result.status).toBe("acknowledged");
        rows += result.rows;
      }
    };
    const ended = failure(run());
    await new Promise((resolve) => setTimeout(resolve, 30));
    await client.close();
    expect(await ended).toMatchObject({ code: "CLOSED" });
    expect(rows).toBe(client.stats().rows.accepted);
  });
});

describe("sendAll", () => {
  test("R-10 the end of a source is the end of waiting, for company and for a commit", async () => {
    const patient: ConnectOptions = { batching: { linger: "1h" }, delta: { commitInterval: "1h" } };
    await using client = await connect(lake(), patient);
    const rows: number[] = [];
    for await (const result of client.sendAll([batch(1), batch(2)])) rows.push(result.orThrow().rows);
    expect(rows).toEqual([1, 2]);
  });

  test("a bad batch in the middle: outcomes of those before it, then the error, and the source is let go", async () => {
    await using client = await connect("discard:", quick);
    let returned = false;
    const source = {
      *[Symbol.iterator]() {
        try {
          yield batch(1);
          yield batch(2);
          yield 1;
          yield batch(3);
        } finally {
          returned = true;
        }
      },
    };
    const rows: number[] = [];
    const run = async (): Promise<void> => {
      for await (const result of client.sendAll(source as never)) rows.push(result.rows);
    };
    expect(await failure(run())).toMatchObject({ code: "BATCH_INVALID" });
    expect(rows).toEqual([1, 2]);
    expect(returned).toBe(true);
  });

  test("what a source throws comes out", async () => {
    await using client = await connect("discard:", quick);
    const source = (async function* () {
      yield batch(1);
      throw new Error("the source");
    })();
    expect((await failure(all(client.sendAll(source)))).message).toBe("the source");
  });

  test("leaving early reads no further; what was admitted is delivered", async () => {
    const client = await connect("discard:", { ...quick, inflight: { maxBytes: 2500 } });
    let read = 0;
    const source = (function* () {
      for (;;) {
        read++;
        yield batch(100);
      }
    })();
    for await (const result of client.sendAll(source)) {
      expect(result.status).toBe("acknowledged");
      break;
    }
    const { deliveries } = client.stats();
    const before = read;
    await client.flush();
    await client.close();
    expect(read).toBe(before);
    expect(client.stats().deliveries.acknowledged).toBeGreaterThanOrEqual(deliveries.admitted);
  });

  test("an abort while the source is silent ends it with the reason", async () => {
    await using client = await connect("discard:", quick);
    const controller = new AbortController();
    const source = (async function* () {
      yield batch(1);
      await new Promise(() => {});
    })();
    const rows: number[] = [];
    const run = async (): Promise<void> => {
      for await (const result of client.sendAll(source, { signal: controller.signal })) {
        rows.push(result.rows);
        controller.abort(new Error("enough"));
      }
    };
    expect((await failure(run())).message).toBe("enough");
    expect(rows).toEqual([1]);
  });

  test("many outcomes that nobody has asked for yet do not pile up without end", async () => {
    await using client = await connect("discard:", {
      batching: { linger: 0 },
      inflight: { maxBytes: "8MiB" },
    });
    let read = 0;
    const source = (async function* () {
      for (;;) {
        read++;
        if (read % 64 === 0) await new Promise((resolve) => setImmediate(resolve));
        yield batch(1);
      }
    })();
    const results = client.sendAll(source);
    await results.next();
    // However long the machine takes for them: at some time it reads no further.
    for (let before = -1; before !== read || read <= 1_000; ) {
      before = read;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    // What is not settled yet does not count, and has a budget.
    expect(read).toBeLessThan(50_000);
    await results.next();
    await results.return(undefined);
  });

  test("R-05 outcomes that nobody has asked for are weighed, too", async () => {
    const maxBytes = 1 << 20;
    await using client = await connect("discard:", { batching: { linger: 0 }, inflight: { maxBytes } });
    let read = 0;
    const source = (async function* () {
      for (;;) {
        read++;
        yield batch(20_000);
      }
    })();
    const results = client.sendAll(source);
    await results.next();
    for (let before = -1; before !== read; ) {
      before = read;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    // Of 240 kB each: a budget in flight, one that is settled, and what is at hand.
    expect(read * 240_000).toBeLessThan(4 * maxBytes);
    await results.return(undefined);
  });

  test("what is no source is refused, with a word on what to call", async () => {
    await using client = await connect("discard:");
    for (const [source, word] of [
      [batch(1), /use send\(\)/],
      [bytesOf(), /use send\(\)/],
      [5, /not 5/],
      ["text", /"text"/],
      [{}, /plain object/],
    ] as const)
      expect((await failure(all(client.sendAll(source as never)))).message).toMatch(word);
  });
});

describe("writable", () => {
  test("fails with the error of a delivery that failed, at the latest when it is closed", async () => {
    const client = await connect(lake(), quick);
    await client.send(batch(1));
    const writer = client.writable({ handoff: "copy" }).getWriter();
    await writer.write(batch(1));
    await writer.write(other());
    expect(await failure(writer.close())).toMatchObject({ code: "SCHEMA_MISMATCH" });
    await writer.closed.catch(() => {});
    await client.close();
  });

  test("refuses what is no batch", async () => {
    await using client = await connect("discard:");
    const writer = client.writable().getWriter();
    expect(await failure(writer.write(5 as never))).toMatchObject({ code: "BATCH_INVALID" });
    await writer.closed.catch(() => {});
  });
});

describe("connect", () => {
  const schema = new Schema([new Field("n", new Int32(), true), new Field("x", new Float64(), true)]);

  test("with a schema: the table is there before the first batch, and a wrong one is known at once", async () => {
    const url = lake();
    await (await connect(url, { schema })).close();
    expect(fs.existsSync(path.join(url.slice(6), "_delta_log"))).toBe(true);
    const wrong = new Schema([new Field("n", new Utf8(), true)]);
    const error = await failure(connect(url, { schema: wrong }));
    expect(error).toMatchObject({ code: "SCHEMA_MISMATCH", retry: "never", attempts: 1 });
    expect(error.elapsedMs).toBeGreaterThan(0);
  });

  test("createIfMissing: false refuses a table that is not there", async () => {
    const error = await failure(
      connect(lake(), { createIfMissing: false }).then(async (client) => {
        await using open = client;
        (await open.send(batch(1))).orThrow();
      }),
    );
    expect(error).toMatchObject({ code: "NOT_FOUND" });
  });

  test("an aborted signal, before and during", async () => {
    const reason = new Error("not today");
    expect(await failure(connect("discard:", { signal: AbortSignal.abort(reason) }))).toBe(reason);
    const controller = new AbortController();
    const connecting = connect(lake(), { signal: controller.signal });
    controller.abort(reason);
    expect(await failure(connecting)).toBe(reason);
  });

  test("a signal that is aborted later has no effect on the client", async () => {
    const controller = new AbortController();
    await using client = await connect("discard:", { ...quick, signal: controller.signal });
    controller.abort();
    expect((await client.send(batch(1))).status).toBe("acknowledged");
  });

  test("R-44 a logger that fails fails nothing", async () => {
    const failing = {
      debug() {
        throw new Error("no");
      },
      info: () => Promise.reject(new Error("no")),
      warn() {
        throw new Error("no");
      },
      error: () => Promise.reject(new Error("no")),
    };
    await using client = await connect(lake(), { ...quick, logger: failing });
    expect((await client.send(batch(1))).status).toBe("acknowledged");
  });

  test("R-05 past inflight.maxPinnedBytes batches are copied, and the result says so", async () => {
    await using client = await connect("discard:", { ...quick, inflight: { maxPinnedBytes: 0 } });
    expect(await client.send(batch(100))).toMatchObject({
      handoff: "copied",
      handoffReason: "copied: inflight.maxPinnedBytes is reached",
    });
    expect(client.stats().pinned.bytes).toBe(0);
  });

  test("R-05 nothing is pinned once all is settled", async () => {
    await using client = await connect("discard:", quick);
    await all(client.sendAll(Array.from({ length: 50 }, () => batch(1000))));
    await expect.poll(() => client.stats().pinned.pins, { timeout: 30_000 }).toBe(0);
    expect(client.stats().pinned.bytes).toBe(0);
    expect(client.stats().pinned.peakBytes).toBeGreaterThan(0);
  });
});
