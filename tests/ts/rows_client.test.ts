// R-07 R-31 R-36 R-60 R-61: rows through the client: what goes, what is refused, in which order, and who is told.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { Schema, tableFromArrays } from "apache-arrow";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  connect,
  type IngestClient,
  IngestError,
  listDeadLetters,
  readDeadLetter,
  type TransmissionResult,
  t,
} from "../../dist/index.js";

const order = t.schema({ id: t.int32(), name: t.utf8().nullable() });
const good = (id: number) => ({ id, name: `n${id}` });
const bad = (id: number) => ({ id: `${id}`, name: null });
const quick = { batching: { linger: "1ms" }, delta: { commitInterval: 0 } } as const;

let home: string;
beforeAll(() => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-rows-"));
});
afterAll(() => fs.rmSync(home, { recursive: true }));

let tables = 0;
const target = () => `delta:${path.join(home, `table-${++tables}`)}`;
const deadLetters = () => ({ directory: path.join(home, `letters-${++tables}`) });

const refusal = async (call: Promise<unknown>): Promise<IngestError> => {
  const error: unknown = await call.then(
    () => undefined,
    (error) => error,
  );
  expect(error).toBeInstanceOf(IngestError);
  return error as IngestError;
};
const all = async (results: AsyncIterable<TransmissionResult>): Promise<TransmissionResult[]> => {
  const found: TransmissionResult[] = [];
  for await (const result of results) found.push(result);
  return found;
};
/** The ids of all rows, as a listener sees them, in the order of the deliveries. */
function watched(into: TransmissionResult[]) {
  const keep = (result: TransmissionResult): void => void into.push(result);
  return { listeners: { onAcknowledged: keep, onFailed: keep } };
}
const idsOf = (results: readonly TransmissionResult[]): number[] =>
  [...results]
    .sort((one, other) => Number(one.sequence - other.sequence))
    .flatMap((result) => [...(result.acceptedBatch()?.getChild("id") ?? [])] as number[]);

describe("R-60 rows in send and enqueue", () => {
  test("rows by the client's schema are one delivery; one that does not fit is refused alone", async () => {
    await using client = await connect(target(), { ...quick, schema: order });
    expect(await client.send([good(1), good(2)])).toMatchObject({ status: "acknowledged", rows: 2 });
    const result = await client.send([good(3), bad(4), good(5), 7 as never, good(6)]);
    expect(result).toMatchObject({
      status: "partial",
      success: false,
      rows: 5,
      acceptedRows: 3,
      rejectedRows: 2,
      firstRow: null,
      errorCode: "ROWS_REJECTED",
    });
    expect(result.rejections).toMatchObject([
      { row: 1, path: "id", code: "VALUE_TYPE" },
      { row: 3, path: "", code: "ROW_TYPE" },
    ]);
    expect(result.rejections.map(({ value }) => value)).toEqual(["4", 7]);
    expect([...result.acceptedBatch()!.getChild("id")!]).toEqual([3, 5, 6]);
    expect(result.rejectedBatch()).toBe(null);
    expect(client.stats().rows.rejected).toBe(2);
    expect(client.stats().deliveries).toMatchObject({ acknowledged: 1, partial: 1, failed: 0 });
    const delivery = await client.enqueue([good(7)]);
    expect(await delivery.result).toMatchObject({ status: "acknowledged", rows: 1, sequence: 3n });
  });

  test("a result with what a row held can be cloned, and written as JSON", async () => {
    await using client = await connect("discard:", { schema: order });
    const result = await client.send([{ id: () => 1, name: null }] as never);
    expect(structuredClone({ ...result, error: null }).rejections).toEqual([
      { row: 0, path: "id", code: "VALUE_TYPE", message: expect.any(String) },
    ]);
    expect(JSON.parse(JSON.stringify(result)).rejections[0]).toMatchObject({ row: 0, path: "id" });
    expect(typeof result.rejections[0]!.value).toBe("function");
  });

  test("all wrong: failed, with every reason; none at all: acknowledged", async () => {
    await using client = await connect(target(), { ...quick, schema: order });
    const result = await client.send([bad(1), bad(2)]);
    expect(result).toMatchObject({ status: "failed", rows: 2, acceptedRows: 0, rejectedRows: 2 });
    expect(result.errorCode).toBe("ROWS_REJECTED");
    expect(result.acceptedBatch()).toBe(null);
    expect(client.stats().deliveries).toMatchObject({ acknowledged: 0, failed: 1 });
    expect(await client.send([])).toMatchObject({ status: "acknowledged", rows: 0 });
  });

  test("onInvalid: reject-delivery sends nothing of a delivery with a row that does not fit", async () => {
    const deadLetter = deadLetters();
    const results: TransmissionResult[] = [];
    await using client = await connect(target(), { ...quick, deadLetter, ...watched(results) });
    const options = { schema: order, onInvalid: "reject-delivery" } as const;
    expect(await client.send([good(1), bad(2) as never, good(3)], options)).toMatchObject({
      status: "failed",
      rows: 3,
      acceptedRows: 0,
      rejectedRows: 1,
    });
    expect(await client.send([good(1)], options)).toMatchObject({ status: "acknowledged" });
    expect(idsOf(results)).toEqual([1]);
    expect(client.stats().deadLetters.kept).toBe(0);
  });

  test("unknown keys are refused, or dropped", async () => {
    await using client = await connect("discard:");
    const rows = [{ id: 1, name: null, no: 1 }];
    const refused = await client.send(rows, { schema: order });
    expect(refused.rejections).toMatchObject([{ path: "no", code: "KEY_UNKNOWN" }]);
    expect(await client.send(rows, { schema: order, unknownKeys: "drop" })).toMatchObject({ success: true });
  });

  test("R-61 the call's schema, else the client's; without any, SCHEMA_REQUIRED with one to paste", async () => {
    await using client = await connect("discard:", { schema: order });
    const own = new Schema(t.schema({ x: t.bool() }).toArrow().fields);
    expect(await client.send([{ x: true }], { schema: own })).toMatchObject({ success: true });
    expect(await client.send([{ x: true }])).toMatchObject({ status: "failed" });
    await using none = await connect("discard:");
    const error = await refusal(none.send([{ x: true, y: ["a"] }]));
    expect(error.code).toBe("SCHEMA_REQUIRED");
    expect(error.message).toContain("t.schema({\n  x: t.bool(),\n  y: t.list(t.utf8()),\n})");
    const mixed = await refusal(none.send([{ x: true }, { x: 1 }]));
    expect(mixed).toMatchObject({ code: "SCHEMA_REQUIRED", cause: { code: "BATCH_INVALID" } });
    expect((await refusal(all(none.sendAll([{ x: 1 }])))).code).toBe("SCHEMA_REQUIRED");
    expect((await refusal(none.enqueue([]))).code).toBe("SCHEMA_REQUIRED");
    expect(none.stats().deliveries.admitted).toBe(0);
  });

  test("R-61 without a schema the table's own serves; calls wait for it in their order", async () => {
    const url = target();
    {
      await using client = await connect(url, { ...quick, schema: order });
      await client.send([good(0)]);
    }
    const results: TransmissionResult[] = [];
    await using client = await connect(url, { ...quick, ...watched(results) });
    const writer = client.rows();
    const calls = [
      client.send([good(1)]),
      client.send(tableFromArrays({ id: Int32Array.of(2), name: ["n2"] })),
      writer.write(good(3)),
      writer.send(bad(4) as never),
      writer.enqueue(good(5)),
    ];
    await Promise.all(calls);
    await writer.flush();
    const stream = client.writable().getWriter();
    await stream.write(good(6));
    await stream.close();
    const sent = await all(client.sendAll([good(7), bad(8) as never]));
    expect(sent).toMatchObject([{ status: "partial", rows: 2, rejectedRows: 1 }]);
    expect(idsOf(results)).toEqual([1, 2, 3, 5, 6, 7]);
    const last = client.rows();
    const written = last.write(good(9));
    await last.close();
    await written;
    expect((await refusal(last.write(good(10))!)).code).toBe("CLOSED");
    await client.flush();
    expect(idsOf(results)).toEqual([1, 2, 3, 5, 6, 7, 9]);
  });

  test("options for rows are checked", async () => {
    await using client = await connect("discard:");
    const wrong = { schema: 5, unknownKeys: "keep", onInvalid: "no" };
    for (const call of [client.send([good(1)], wrong as never), client.enqueue([good(1)], wrong as never)])
      expect((await refusal(call)).issues.map(({ path }) => path)).toEqual(["unknownKeys", "onInvalid"]);
    expect((await refusal(client.send([good(1)], { schema: 5 as never }))).issues).toMatchObject([
      { path: "schema" },
    ]);
    expect(() => client.rows(5 as never)).toThrow(/schema must be t\.schema/);
    expect(() => client.writable({ onInvalid: "no" } as never)).toThrow(/onInvalid must be one of/);
    expect(() => client.rows(order, { unknownKeys: "keep" } as never)).toThrow(/unknownKeys must be one of/);
    expect(() => client.rows(order, { schema: order } as never)).toThrow(/schema is not an option/);
    const union = { fields: [{ name: "u", type: { typeId: 14 }, nullable: true }], metadata: new Map() };
    expect(await client.send([{}], { schema: union as never }).catch((error) => error.code)).toBeTruthy();
    const length = new Proxy([good(1)], { get: (_, key) => (key === "length" ? -1 : undefined) });
    expect((await refusal(client.send(length, { schema: order }))).code).toBe("BATCH_INVALID");
  });

  test("many rows take turns: what is sent behind them comes behind them, and an abort takes one out", async () => {
    const results: TransmissionResult[] = [];
    await using client = await connect("discard:", { schema: order, ...watched(results) });
    let turned = false;
    let hadTurn = false;
    const late = new AbortController();
    // One row takes longer than a stretch, whatever the machine; the last one sees whether others had their turn.
    const many = (atLast: () => void) => {
      const rows: object[] = Array.from({ length: 5_000 }, (_, id) => good(id));
      const row = (read: () => void) => ({
        id: 0,
        get name() {
          read();
          return null;
        },
      });
      rows[100] = row(() => {
        setImmediate(() => {
          turned = true;
        });
        for (const began = performance.now(); performance.now() - began < 4; );
      });
      rows[4_999] = row(atLast);
      return rows;
    };
    const aborted = new AbortController();
    const sent = [
      client.send(
        many(() => {
          hadTurn = turned;
        }),
      ),
      client.send([good(-1)]),
      client.send(tableFromArrays({ id: Int32Array.of(-2) })),
      client.send([good(-3)], { signal: aborted.signal }),
      client.enqueue([good(-4)]).then(({ result }) => result),
      client.send(
        many(() => late.abort(new Error("late"))),
        { signal: late.signal },
      ),
    ];
    const flushed = client.flush();
    aborted.abort(new Error("mine"));
    await expect(sent[3]).rejects.toThrow("mine");
    await expect(sent[5]).rejects.toThrow("late");
    await flushed;
    expect(hadTurn).toBe(true);
    const early = new AbortController();
    const few = [
      {
        id: 1,
        get name() {
          early.abort(new Error("early"));
          return null;
        },
      },
    ];
    await expect(client.send(few, { signal: early.signal })).rejects.toThrow("early");
    expect(
      (await Promise.all([sent[0], sent[1], sent[2], sent[4]])).map((result) => result!.sequence),
    ).toEqual([1n, 2n, 3n, 4n]);
    expect(idsOf(results).slice(-3)).toEqual([-1, -2, -4]);
    expect(client.stats().rows.admitted).toBe(5_003);
  });
});

describe("R-60 rows in sendAll and writable", () => {
  test("rows of an iterable are gathered by batching; each delivery says its first row", async () => {
    await using client = await connect("discard:", { batching: { maxRows: 100, linger: "1h" } });
    const rows = Array.from({ length: 250 }, (_, id) => (id % 50 === 7 ? (bad(id) as never) : good(id)));
    const results = await all(client.sendAll(rows, { schema: order }));
    expect(results.map(({ firstRow, rows }) => [firstRow, rows])).toEqual([
      [0, 100],
      [100, 100],
      [200, 50],
    ]);
    const refused = results.flatMap(({ firstRow, rejections }) =>
      rejections.map(({ row }) => firstRow! + row),
    );
    expect(refused).toEqual([7, 57, 107, 157, 207]);
    expect(idsOf(results)).toEqual(rows.filter((row) => typeof row.id === "number").map(({ id }) => id));
  });

  test("of an async iterable, with arrays and batches between them; what throws comes behind what was given", async () => {
    await using client = await connect("discard:", { schema: order, batching: { linger: "1h" } });
    async function* source() {
      yield good(1);
      yield good(2);
      yield [good(3), bad(4) as never];
      yield good(5);
      yield tableFromArrays({ id: Int32Array.of(6) }) as never;
      yield null as never;
      yield good(7);
      throw new Error("dry");
    }
    const results: TransmissionResult[] = [];
    await expect(async () => {
      for await (const result of client.sendAll(source())) results.push(result);
    }).rejects.toThrow("dry");
    expect(results.map(({ firstRow, rows, rejectedRows }) => [firstRow, rows, rejectedRows])).toEqual([
      [0, 2, 0],
      [2, 2, 1],
      [4, 1, 0],
      [null, 1, 0],
      [5, 2, 1],
    ]);
    expect(idsOf(results)).toEqual([1, 2, 3, 5, 6, 7]);
    expect((await refusal(all(client.sendAll([5 as never])))).code).toBe("BATCH_INVALID");
  });

  test("a slow source's rows leave when they have lingered, and an abort leaves them out", async () => {
    await using client = await connect("discard:", { schema: order, batching: { linger: "1ms" } });
    const { promise, resolve } = Promise.withResolvers<void>();
    async function* slow() {
      yield good(1);
      await promise;
      yield good(2);
    }
    const outcomes = client.sendAll(slow());
    // It could not come before the source goes on, if rows were gathered until then.
    expect((await outcomes.next()).value).toMatchObject({ firstRow: 0, rows: 1 });
    resolve();
    expect((await outcomes.next()).value).toMatchObject({ firstRow: 1, rows: 1 });
    expect((await outcomes.next()).done).toBe(true);

    const signal = AbortSignal.abort(new Error("enough"));
    const controller = new AbortController();
    async function* endless() {
      yield good(3);
      controller.abort(signal.reason);
      await new Promise(() => {});
    }
    // One whose row has not lingered when it is aborted, however slow the machine.
    await using patient = await connect("discard:", { schema: order, batching: { linger: "1h" } });
    await expect(all(patient.sendAll(endless(), { signal: controller.signal }))).rejects.toThrow("enough");
    expect(patient.stats().rows.admitted).toBe(0);
    expect(client.stats().rows.admitted).toBe(2);
  });

  test("a loop that is left drops the rows that are not handed over", async () => {
    await using client = await connect("discard:", {
      schema: order,
      batching: { maxRows: 10, linger: "1h" },
    });
    function* endless() {
      for (let id = 0; ; id++) yield good(id);
    }
    for await (const result of client.sendAll(endless())) if (result.firstRow! >= 20) break;
    await client.flush();
    expect(client.stats().rows.admitted % 10).toBe(0);
  });

  test("a stream of rows is piped into writable", async () => {
    const results: TransmissionResult[] = [];
    await using client = await connect("discard:", { schema: order, ...watched(results) });
    await ReadableStream.from([good(1), good(2), [good(3)], good(4)] as object[]).pipeTo(client.writable());
    expect(idsOf(results)).toEqual([1, 2, 3, 4]);
    const failing = ReadableStream.from([good(5), bad(6)] as object[]).pipeTo(client.writable());
    expect((await refusal(failing)).code).toBe("ROWS_REJECTED");
    const none = await connect("discard:");
    const required = ReadableStream.from([good(7)] as object[]).pipeTo(none.writable());
    expect((await refusal(required)).code).toBe("SCHEMA_REQUIRED");
    await none.close();
    const stream = client.writable();
    const writer = stream.getWriter();
    await writer.write(good(8));
    await writer.abort(new Error("mine"));
    await client.flush();
    expect(idsOf(results)).not.toContain(8);
  });
});

describe("R-60 a writer of single rows", () => {
  const withWriter = async (
    options: Parameters<typeof connect>[1],
    work: (client: IngestClient, results: TransmissionResult[]) => Promise<void>,
  ) => {
    const results: TransmissionResult[] = [];
    await using client = await connect("discard:", { ...options, ...watched(results) });
    await work(client, results);
  };

  test("rows are gathered, and what the client does next hands them over first", async () => {
    await withWriter({ batching: { linger: "1h" } }, async (client, results) => {
      const writer = client.rows(order);
      for (let id = 0; id < 1_000; id++) await writer.write(good(id));
      const other = client.rows(order);
      const behind = client.send([good(1_000)], { schema: order });
      await other.write(good(1_001));
      expect(await behind).toMatchObject({ sequence: 2n });
      expect(client.stats().rows.admitted).toBe(1_001);
      await client.flush();
      await writer.write(good(1_002));
      const delivery = await client.enqueue(tableFromArrays({ id: Int32Array.of(1_003) }));
      expect(delivery.sequence).toBe(5n);
      await writer.write(good(1_004));
      await writer.flush();
      expect(idsOf(results)).toEqual(Array.from({ length: 1_005 }, (_, id) => id));
      expect(results[0]).toMatchObject({ firstRow: 0, rows: 1_000 });
    });
  });

  test("close hands over, and so does the end of a block", async () => {
    const results: TransmissionResult[] = [];
    {
      await using client = await connect("discard:", { batching: { linger: "1h" }, ...watched(results) });
      await using writer = client.rows(order);
      await writer.write(good(1));
      await client.rows(order).write(good(2));
    }
    expect(idsOf(results)).toEqual([1, 2]);
  });

  test("linger bounds gathering", async () => {
    const { promise, resolve } = Promise.withResolvers<TransmissionResult>();
    const listeners = { onAcknowledged: resolve };
    await using client = await connect("discard:", { batching: { linger: "1ms" }, listeners });
    await client.rows(order).write(good(1));
    // Nothing else would hand it over.
    expect(await promise).toMatchObject({ rows: 1, firstRow: 0 });
    await using none = await connect("discard:", { batching: { linger: 0 }, listeners });
    expect(await none.rows(order).send(good(2))).toMatchObject({ status: "acknowledged" });
  });

  test("a delivery ends at as many rows, or bytes, as batching says", async () => {
    await withWriter({ batching: { maxRows: 3, linger: "1h" } }, async (client, results) => {
      const writer = client.rows(order);
      for (let id = 0; id < 8; id++) writer.write(good(id));
      await writer.flush();
      expect(results.map(({ firstRow, rows }) => [firstRow, rows])).toEqual([
        [0, 3],
        [3, 3],
        [6, 2],
      ]);
    });
    await withWriter({ batching: { maxBytes: 2_000, linger: "1h" } }, async (client, results) => {
      const writer = client.rows(order);
      for (let id = 0; id < 10; id++) await writer.write({ id, name: "x".repeat(900) });
      await writer.flush();
      expect(results.length).toBeGreaterThan(3);
    });
  });

  test("send tells the outcome of a row, enqueue whether it fits and then its outcome", async () => {
    await withWriter({ batching: { linger: "1h" } }, async (client, results) => {
      const writer = client.rows(order);
      await writer.write(good(0));
      const outcomes = await Promise.all([
        writer.send(good(1)),
        writer.send(bad(2) as never),
        writer.send(good(3)),
      ]);
      expect(outcomes).toMatchObject([
        { status: "acknowledged", row: 1, sequence: 1n, error: null },
        { status: "rejected", row: 2, sequence: 1n, error: { code: "ROWS_REJECTED", row: 2, field: "id" } },
        { status: "acknowledged", row: 3, sequence: 1n, error: null },
      ]);
      const [fits, wrong] = await Promise.all([writer.enqueue(good(4)), writer.enqueue(bad(5) as never)]);
      expect(fits).toMatchObject({ row: 4, sequence: 2n, rejection: null });
      expect(wrong).toMatchObject({
        row: 5,
        sequence: 2n,
        rejection: { row: 1, path: "id", code: "VALUE_TYPE" },
      });
      await writer.flush();
      expect(await fits.outcome).toMatchObject({ status: "acknowledged", row: 4 });
      expect(await wrong.outcome).toMatchObject({ status: "rejected", row: 5 });
      expect(results.length).toBe(2);
    });
  });

  test("an abort before the row is handed over takes it out, and no other", async () => {
    await withWriter({ batching: { linger: "1h" } }, async (client, results) => {
      const writer = client.rows(order);
      const signals = Array.from({ length: 3 }, () => new AbortController());
      writer.write(good(0));
      const sent = [
        writer.send(good(1), { signal: signals[0]!.signal }),
        writer.send(bad(2) as never, { signal: signals[1]!.signal }),
        writer.send(bad(3) as never),
        writer.send(good(4), { signal: signals[2]!.signal }),
      ];
      signals[0]!.abort(new Error("one"));
      signals[1]!.abort(new Error("two"));
      await expect(sent[0]).rejects.toThrow("one");
      await expect(sent[1]).rejects.toThrow("two");
      expect(await sent[2]).toMatchObject({ status: "rejected", row: 3 });
      expect(await sent[3]).toMatchObject({ status: "acknowledged", row: 4 });
      signals[2]!.abort();
      expect(results).toMatchObject([
        { rows: 3, acceptedRows: 2, rejectedRows: 1, rejections: [{ row: 3 }] },
      ]);
      expect(idsOf(results)).toEqual([0, 4]);
      const alone = new AbortController();
      const last = writer.send(good(5), { signal: alone.signal });
      alone.abort(new Error("three"));
      await expect(last).rejects.toThrow("three");
      await expect(writer.send(good(6), { signal: alone.signal })).rejects.toThrow("three");
      await writer.flush();
      expect(results.length).toBe(1);
      expect((await refusal(writer.send(good(7), { signal: 5 } as never))).code).toBe("CONFIG_INVALID");
    });
  });

  test("what a row holds after its write has been awaited is of no account, and a getter cannot write", async () => {
    await withWriter({}, async (client, results) => {
      const writer = client.rows(order);
      const row = good(1);
      await writer.write(row);
      row.id = 2;
      await writer.write(row);
      let thrown: unknown;
      const own = {
        id: 3,
        get name() {
          writer.write(good(9))?.catch((error: unknown) => {
            thrown = error;
          });
          void client.flush();
          return null;
        },
      };
      await writer.write(own);
      await writer.flush();
      expect(idsOf(results)).toEqual([1, 2, 3]);
      expect(thrown).toMatchObject({ code: "BATCH_INVALID" });
    });
  });

  test("misuse: closed, without a schema, of another kind", async () => {
    const client = await connect("discard:");
    const writer = client.rows();
    expect((await refusal(writer.write(good(1))!)).code).toBe("SCHEMA_REQUIRED");
    expect((await refusal(writer.send(good(1)))).code).toBe("SCHEMA_REQUIRED");
    expect((await refusal(writer.enqueue(good(1)))).code).toBe("SCHEMA_REQUIRED");
    await writer.close();
    expect((await refusal(writer.write(good(1))!)).message).toContain("the writer is closed");
    const other = client.rows(order);
    await client.close();
    for (const call of [other.write(good(1))!, other.send(good(1)), other.enqueue(good(1)), other.flush()])
      expect((await refusal(call)).code).toBe("CLOSED");
    expect(() => client.rows(order)).toThrow(/closed/);
  });

  test("a row of which nobody reads the outcome, and which does not fit, is told by close", async () => {
    const client = await connect("discard:");
    const writer = client.rows(order);
    await writer.write(bad(1) as never);
    expect((await refusal(client.close())).code).toBe("UNDELIVERED");
    const seen = await connect("discard:");
    const { outcome } = await seen.rows(order).enqueue(bad(1) as never);
    expect(await outcome).toMatchObject({ status: "rejected" });
    await seen.close();
  });

  test("back-pressure: a writer waits when the budget is full, and its rows arrive", async () => {
    const results: TransmissionResult[] = [];
    await using client = await connect(target(), {
      inflight: { maxBytes: 64 << 10 },
      schema: order,
      ...quick,
      ...watched(results),
    });
    const writer = client.rows();
    let waits = 0;
    for (let id = 0; id < 2_000; id++) {
      const waiting = writer.write({ id, name: "x".repeat(100) });
      if (waiting === undefined) continue;
      waits++;
      await waiting;
      expect(client.stats().bytes.inFlight).toBeLessThanOrEqual(64 << 10);
    }
    await writer.flush();
    expect(waits).toBeGreaterThan(0);
    expect(idsOf(results)).toEqual(Array.from({ length: 2_000 }, (_, id) => id));
  });
});

describe("R-15 dead letters of rows that are no Arrow values", () => {
  test("they are kept as JSON, with their schema and why, before the outcome is told", async () => {
    const deadLetter = deadLetters();
    const rows = [
      good(1),
      {
        id: 2n ** 70n,
        name: null,
        at: new Date(5),
        bytes: Uint8Array.of(1, 2),
        deep: new Map([[1n, [undefined, Number.NaN, -0]]]),
        $date: { $x: 1 },
      },
      bad(3),
    ] as never[];
    const client = await connect(target(), { ...quick, schema: order, deadLetter });
    const result = await client.send(rows, { unknownKeys: "drop" });
    expect(result).toMatchObject({ status: "partial", rows: 3, acceptedRows: 1, rejectedRows: 2 });
    expect(client.stats().deadLetters).toMatchObject({ kept: 2, failed: 0 });
    await client.close();
    const files = await listDeadLetters(deadLetter.directory);
    expect(files.length).toBe(1);
    const { rows: table, unfit, rejections } = await readDeadLetter(files[0]!);
    expect(table.numRows).toBe(0);
    expect(unfit!.rows).toEqual(rows.slice(1));
    expect(unfit!.reading.unknownKeys).toBe("drop");
    expect(String(unfit!.reading.schema)).toBe(String(order));
    expect(rejections).toMatchObject([
      { row: 1, code: "VALUE_RANGE", sequence: 1n },
      {
        row: 2,
        code: "VALUE_TYPE",
        sequence: 1n,
        reason: expect.stringContaining("id: text of 1 characters"),
      },
    ]);
    await using again = await connect(target(), quick);
    const fixed = unfit!.rows.map((row, id) => ({ ...row, id }));
    expect(await again.send(fixed, unfit!.reading)).toMatchObject({ status: "acknowledged", rows: 2 });
  });

  test("rows of writers and sources are kept, too, and many of them", async () => {
    const deadLetter = deadLetters();
    const client = await connect("discard:", {
      deadLetter,
      schema: order,
      batching: { linger: "1h" },
      listeners: { onFailed() {} },
    });
    const writer = client.rows();
    for (let id = 0; id < 100; id++) await writer.write(bad(id) as never);
    await writer.flush();
    expect(client.stats().deadLetters.kept).toBe(100);
    await all(client.sendAll(Array.from({ length: 5_000 }, (_, id) => ({ id, name: id })) as never[]));
    expect(client.stats().deadLetters.kept).toBe(5_100);
    await client.close();
    // A file that gets nothing for a second is finished.
    const files = await listDeadLetters(deadLetter.directory);
    const kept = await Promise.all(files.map((file) => readDeadLetter(file)));
    const rejections = kept.flatMap((content) => content.rejections);
    expect(kept.flatMap(({ unfit }) => unfit!.rows).slice(0, 100)).toEqual(
      Array.from({ length: 100 }, (_, id) => bad(id)),
    );
    expect(rejections.slice(0, 100).map(({ row }) => row)).toEqual(
      Array.from({ length: 100 }, (_, row) => row),
    );
    expect(rejections.length).toBe(5_100);
  });

  test("with a spool, enqueue settles when the row is on the disk, and so is one that does not fit", async () => {
    const spool = { directory: path.join(home, `spool-${++tables}`) };
    const url = target();
    const client = await connect(url, { schema: order, spool });
    const writer = client.rows(order);
    const [fits, wrong] = await Promise.all([writer.enqueue(good(1)), writer.enqueue(bad(2) as never)]);
    expect(fits.rejection).toBe(null);
    expect(wrong.rejection).toMatchObject({ code: "VALUE_TYPE" });
    expect(client.stats().deadLetters).toMatchObject({ kept: 1, failed: 0 });
    const { result } = await client.enqueue([good(3), bad(4) as never]);
    expect(client.stats().deadLetters.kept).toBe(2);
    // One whose rows all do not fit has nothing for the disk of the spool.
    const alone = await writer.enqueue(bad(7) as never);
    expect(alone.rejection).toMatchObject({ code: "VALUE_TYPE" });
    expect(client.stats().deadLetters.kept).toBe(3);
    await client.flush();
    expect(await alone.outcome).toMatchObject({ status: "rejected", row: 2 });
    expect(await fits.outcome).toMatchObject({ status: "acknowledged" });
    expect(await wrong.outcome).toMatchObject({ status: "rejected" });
    expect(await result).toMatchObject({ status: "partial", rows: 2, rejections: [{ row: 1 }] });
    await ReadableStream.from([good(5), good(6)]).pipeTo(client.writable());
    await client.close();
    // A file that gets nothing for a second is finished. Their names begin with the time.
    const files = fs
      .readdirSync(spool.directory, { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".arrow"))
      .sort();
    const kept = await Promise.all(files.map((name) => readDeadLetter(path.join(spool.directory, name))));
    expect(kept.flatMap(({ unfit }) => unfit!.rows)).toEqual([bad(2), bad(4), bad(7)]);
  });

  test("a directory that cannot be written to loses no outcome", async () => {
    const file = path.join(home, "a-file");
    fs.writeFileSync(file, "");
    await using client = await connect("discard:", { deadLetter: { directory: file }, schema: order });
    expect(await client.send([bad(1) as never])).toMatchObject({ status: "failed" });
    expect(client.stats().deadLetters).toMatchObject({ kept: 0, failed: 1 });
  });
});
