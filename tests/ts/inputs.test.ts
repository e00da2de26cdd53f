// R-07 R-65: columns and tables of other libraries are sent as they are, and the result says what was copied.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import * as flechette from "@uwdata/flechette";
import { RecordBatchReader, type Table, tableFromIPC, tableToIPC, vectorFromArray } from "apache-arrow";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { pinningIsSound } from "../../dist/handoff/memory.js";
import { connect, type IngestClient, type IngestError, type SendOptions, t } from "../../dist/index.js";
import { Echo } from "./support/echo.js";
import { arquero, duckdb, parquetWasm, polars } from "./support/libraries.js";

const quick = { batching: { linger: 0 }, telemetry: { enabled: false } } as const;
const LENT = pinningIsSound() ? "pinned" : "copied";

let client: IngestClient;
beforeAll(async () => {
  client = await connect("discard:", quick);
});
afterAll(() => client.close());

async function refusal(given: Promise<unknown>): Promise<IngestError> {
  const error = await given.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toHaveProperty("code");
  return error as IngestError;
}

/** What the native side got, as rows. */
async function rowsOf(input: unknown, options: Pick<SendOptions, "schema"> = {}): Promise<unknown[]> {
  using echo = new Echo();
  const { streams } = await echo.echoOf(input, "auto", false, options.schema);
  return streams.flatMap((stream) => [...tableFromIPC(stream)].map((row) => row.toJSON()));
}

describe("columns", () => {
  const columns = { id: Int32Array.of(1, 2, 3), price: Float64Array.of(0.5, 1.5, 2.5) };

  test("typed arrays name their types, and are lent as they are", async () => {
    const result = await client.send(columns);
    expect(result).toMatchObject({ status: "acknowledged", rows: 3, handoff: LENT });
    if (pinningIsSound()) expect(result.handoffReason).toBeNull();
    expect(result.batchBytes).toBe(3 * 4 + 3 * 8);
    expect(await rowsOf(columns)).toEqual([
      { id: 1, price: 0.5 },
      { id: 2, price: 1.5 },
      { id: 3, price: 2.5 },
    ]);
  });

  test("every class of typed arrays has its type", async () => {
    const all = {
      i8: Int8Array.of(-128),
      i16: Int16Array.of(-32768),
      i32: Int32Array.of(-(2 ** 31)),
      i64: BigInt64Array.of(-(2n ** 63n)),
      u8: Uint8Array.of(255),
      c8: Uint8ClampedArray.of(300),
      u16: Uint16Array.of(65535),
      u32: Uint32Array.of(2 ** 32 - 1),
      u64: BigUint64Array.of(2n ** 64n - 1n),
      f32: Float32Array.of(0.1),
      f64: Float64Array.of(0.1),
    };
    const [row] = (await rowsOf(all)) as [Record<string, unknown>];
    expect(row).toEqual({
      i8: -128,
      i16: -32768,
      i32: -(2 ** 31),
      i64: -(2n ** 63n),
      u8: 255,
      c8: 255,
      u16: 65535,
      u32: 2 ** 32 - 1,
      u64: 2n ** 64n - 1n,
      f32: Math.fround(0.1),
      f64: 0.1,
    });
  });

  test("what is left of a typed array is sent, whatever its properties say", async () => {
    const liar = Int32Array.of(1, 2, 3, 4).subarray(1, 3);
    Object.defineProperty(liar, "length", { value: 1_000_000 });
    Object.defineProperty(liar, "byteLength", { value: 1_000_000 });
    expect(await rowsOf({ a: liar })).toEqual([{ a: 2 }, { a: 3 }]);
  });

  const schema = t.schema({
    id: t.int64(),
    at: t.timestamp("us", "UTC"),
    name: t.utf8().nullable(),
    tags: t.list(t.utf8()),
    note: t.utf8().nullable(),
  });
  const mixed = {
    // In another order than the schema, and without the last column, which may be null.
    name: ["one", null],
    id: Int32Array.of(1, 2),
    at: BigInt64Array.of(0n, 1_000_000n),
    tags: [["a", "b"], []],
  };

  test("with a schema, the call's before the client's, other values go by the rules of rows", async () => {
    const result = await client.send(mixed, { schema });
    expect(result).toMatchObject({ status: "acknowledged", rows: 2, handoff: LENT });
    expect(result.handoffReason).toContain("copied: values of id, name, tags, note were encoded");
    const rows = (await rowsOf(mixed, { schema })) as Record<string, unknown>[];
    expect(rows.map((row) => [row.id, row.name, row.note, [...(row.tags as string[])]])).toEqual([
      [1n, "one", null, ["a", "b"]],
      [2n, null, null, []],
    ]);
    await using own = await connect("discard:", { ...quick, schema });
    expect(await own.send(mixed)).toMatchObject({ rows: 2 });
    const other = t.schema({
      id: t.uint8(),
      at: t.int64(),
      name: t.utf8().nullable(),
      tags: t.list(t.utf8()),
    });
    expect(await own.send(mixed, { schema: other })).toMatchObject({ rows: 2 });
    const plain = await client.send({ name: ["x"] }, { schema: t.schema({ name: t.utf8() }) });
    expect(plain).toMatchObject({ handoff: "copied", handoffReason: "copied: values of name were encoded" });
  });

  test("a count in a typed array of its type is lent; one that may not be a value is looked at", async () => {
    const lent = t.schema({
      day: t.date(),
      span: t.duration("ms"),
      months: t.interval("year-month"),
      f: t.float32(),
    });
    const result = await client.send(
      {
        day: Int32Array.of(1),
        span: BigInt64Array.of(5n),
        months: Int32Array.of(7),
        f: Float32Array.of(0.5),
      },
      { schema: lent },
    );
    expect(result.handoff).toBe(LENT);
    if (pinningIsSound()) expect(result.handoffReason).toBeNull();
    const day = await refusal(
      client.send({ day: BigInt64Array.of(86_400_000n, 5n) }, { schema: t.schema({ day: t.date("ms") }) }),
    );
    expect(day).toMatchObject({ code: "BATCH_INVALID", field: "day", row: 1, operation: "send" });
  });

  test("lengths that differ, columns that are missing or unknown, and values that do not fit name the column", async () => {
    const uneven = await refusal(client.send({ a: Int32Array.of(1), b: Int32Array.of(1, 2) }));
    expect(uneven).toMatchObject({ code: "BATCH_INVALID", field: "b" });
    expect(uneven.message).toContain("column b has 2 values where column a has 1");
    expect(await refusal(client.send({ name: ["x"] }, { schema }))).toMatchObject({ field: "id" });
    expect(await refusal(client.send({ ...mixed, more: [1, 2] }, { schema }))).toMatchObject({
      field: "more",
    });
    const wrong = await refusal(client.send({ ...mixed, tags: [["a"], ["b", 5]] }, { schema }));
    expect(wrong).toMatchObject({ code: "BATCH_INVALID", field: "tags[1]", row: 1 });
    expect(wrong.message).toBe(
      "column tags[1], row 1: the number 5 was given, t.utf8() is wanted (VALUE_TYPE)",
    );
    const union = await refusal(client.send({ a: [1] }, { schema: 5 as never }));
    expect(union).toMatchObject({ code: "CONFIG_INVALID" });
  });

  test("without a schema plain arrays are not guessed at: SCHEMA_REQUIRED holds one to paste", async () => {
    const error = await refusal(client.send({ id: Int32Array.of(1), name: ["x"] }));
    expect(error).toMatchObject({ code: "SCHEMA_REQUIRED", field: "name" });
    expect(error.message).toContain("t.schema({\n  id: t.int32(),\n  name: t.utf8(),\n})");
    const mixedUp = await refusal(client.send({ name: ["x", 5] }));
    expect(mixedUp).toMatchObject({ code: "SCHEMA_REQUIRED" });
    expect(mixedUp.message).toContain("name is text in row 0 and a number in row 1");
    expect((await refusal(client.send({ none: [] }))).message).toContain("none: t.null()");
    expect((await refusal(client.send({ a: [null], b: [1] }))).message).toContain("columns a, b are arrays");
  });

  test("plain arrays go by the table's own schema, where the destination can tell it", async () => {
    const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-inputs-"));
    await using table = await connect(`delta:${home}/table`, quick);
    const named = t.schema({ id: t.int64(), name: t.utf8().nullable() });
    expect(await refusal(table.send({ name: ["a"] }))).toMatchObject({ code: "SCHEMA_REQUIRED" });
    expect(await table.send({ id: [1n], name: ["a"] }, { schema: named })).toMatchObject({ success: true });
    expect(await table.send({ name: ["b"], id: Int32Array.of(2) })).toMatchObject({ success: true, rows: 1 });
    expect(await refusal(table.send({ id: ["x"] }))).toMatchObject({ code: "BATCH_INVALID", field: "id" });
    await table.close();
    fs.rmSync(home, { recursive: true, force: true });
  });

  test("many values take turns of the event loop, make batches, and are one delivery", async () => {
    const count = 150_000;
    const names = Array.from({ length: count }, (_, i) => `name ${i}`);
    const given = { id: Int32Array.from({ length: count }, (_, i) => i), name: names };
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    const many = t.schema({ id: t.int32(), name: t.utf8() });
    const result = await client.send(given, { schema: many });
    clearInterval(timer);
    expect(result).toMatchObject({ rows: count, handoff: LENT });
    expect(turns).toBeGreaterThan(1);
    const results = await Array.fromAsync(client.sendAll(given, { schema: many }));
    expect(results.map(({ rows }) => rows)).toEqual([65_536, 65_536, 18_928]);
    expect(results.every(({ handoffReason }) => handoffReason?.includes("values of name"))).toBe(true);
    const rows = (await rowsOf(given, { schema: many })) as { id: number; name: string }[];
    expect(rows.every(({ id, name }, i) => id === i && name === names[i])).toBe(true);
  });

  test("a chunk that holds much is read in smaller ones, and too much for one row is named", async () => {
    const wide = t.schema({ a: t.list(t.int8()) });
    const lists = Array.from({ length: 300 }, () => new Array(400).fill(1));
    expect(await client.send({ a: lists }, { schema: wide })).toMatchObject({ rows: 300 });
    const error = await refusal(
      client.send(
        { a: [[1], new Array(5_000_000)] },
        { schema: t.schema({ a: t.list(t.int8().nullable()) }) },
      ),
    );
    expect(error).toMatchObject({ code: "BATCH_INVALID", field: "a", row: 1 });
    expect(error.message).toContain("ROW_TOO_LARGE");
  });

  test("an abort and a close are heard between two steps", async () => {
    const given = { name: new Array(400_000).fill("some text") };
    const named = t.schema({ name: t.utf8() });
    const abort = new AbortController();
    const sent = client.send(given, { schema: named, signal: abort.signal });
    abort.abort(new Error("enough"));
    expect((await sent.catch((reason: unknown) => reason)) as Error).toMatchObject({ message: "enough" });
    const own = await connect("discard:", quick);
    const late = own.enqueue(given, { schema: named });
    const refused = refusal(late);
    await own.close();
    expect(await refused).toMatchObject({ code: "CLOSED" });
  });

  test("writable and sendAll take them as items", async () => {
    const stream = client.writable({ schema });
    const writer = stream.getWriter();
    await writer.write(mixed);
    await writer.close();
    const results = await Array.fromAsync(client.sendAll([mixed, mixed], { schema }));
    expect(results.map(({ rows }) => rows)).toEqual([2, 2]);
  });

  test("no rows have a schema all the same", async () => {
    expect(await client.send({ a: new Int32Array(0) })).toMatchObject({ status: "acknowledged", rows: 0 });
    expect(await client.send({ a: [] }, { schema: t.schema({ a: t.utf8() }) })).toMatchObject({ rows: 0 });
  });

  test("refused rows come back as they were sent", async () => {
    const { selectRows } = await import("../../dist/row-selection.js");
    const { toContent } = await import("../../dist/source.js");
    const content = await toContent(mixed, { operation: "send", schema, signal: undefined });
    const batch = selectRows(content, new Set([1]), "refused");
    expect(batch?.toArray().map((row) => row.toJSON().id)).toEqual([2n]);
  });
});

describe("tables of other libraries", () => {
  test("flechette: its buffers are lent, integers of 64 bits and decimals keep their digits", async () => {
    const table = flechette.tableFromArrays(
      {
        id: [1n, 2n ** 60n + 1n],
        price: [1.5, null],
        name: ["one", "two"],
        kind: ["x", "x"],
        tags: [[1], [2, 3]],
      },
      {
        types: {
          id: flechette.int64(),
          price: flechette.decimal(20, 4, 128),
          name: flechette.utf8(),
          kind: flechette.dictionary(flechette.utf8()),
          tags: flechette.list(flechette.int32()),
        },
      },
    );
    const result = await client.send(table);
    expect(result).toMatchObject({ status: "acknowledged", rows: 2, handoff: LENT });
    if (pinningIsSound()) expect(result.handoffReason ?? "").not.toContain("copied: ");
    const rows = (await rowsOf(table)) as Record<string, unknown>[];
    expect(rows.map((row) => [row.id, row.name, row.kind, [...(row.tags as Int32Array)]])).toEqual([
      [1n, "one", "x", [1]],
      [2n ** 60n + 1n, "two", "x", [2, 3]],
    ]);
    expect(rows[1]!.price).toBeNull();
    using echo = new Echo();
    const { packing } = await echo.echoOf(table, "auto", false);
    expect([packing.copied, packing.ipc]).toEqual(pinningIsSound() ? [0, 0] : [expect.any(Number), 0]);
    const results = await Array.fromAsync(client.sendAll(table));
    expect(results.map((one) => one.rows)).toEqual([2]);
    const none = flechette.tableFromIPC(
      tableToIPC(tableFromIPC(flechette.tableToIPC(table, {})!).slice(0, 0), "stream"),
    );
    expect(await client.send(none as never)).toMatchObject({ status: "acknowledged", rows: 0 });
  });

  test("flechette: a type that crosses as IPC only is refused by its column, with the way out", async () => {
    const runs = flechette.tableFromArrays(
      { ok: [1, 2], runs: [7, 7] },
      {
        types: {
          runs: flechette.runEndEncoded(
            { name: "run_ends", type: flechette.int32(), nullable: false, metadata: null } as never,
            flechette.int32(),
          ),
        },
      },
    );
    const error = await refusal(client.send(runs));
    expect(error).toMatchObject({ code: "SCHEMA_MISMATCH", field: "runs" });
    expect(error.message).toContain('send tableToIPC(table, { format: "stream" })');
    expect(await client.send(flechette.tableToIPC(runs, { format: "stream" })!)).toMatchObject({ rows: 2 });
  });

  test("Arquero: its columns are sent, filtered and ordered as the table says", async () => {
    const aq = await arquero();
    const table = aq.table({ id: Int32Array.of(3, 1, 2), x: Float64Array.of(0.3, 0.1, 0.2) });
    const result = await client.send(table);
    expect(result).toMatchObject({ rows: 3, handoff: LENT });
    if (pinningIsSound()) expect(result.handoffReason).toBeNull();
    const some = table.filter((d: { id: number }) => d.id < 3).orderby("id");
    expect(await rowsOf(some)).toEqual([
      { id: 1, x: 0.1 },
      { id: 2, x: 0.2 },
    ]);
    const copied = await client.send(some);
    expect(copied).toMatchObject({ rows: 2, handoff: "copied" });
    expect(copied.handoffReason).toContain("Arquero took the rows");
    const plain = aq.table({ name: ["a", "b"] });
    expect(await refusal(client.send(plain))).toMatchObject({ code: "SCHEMA_REQUIRED", field: "name" });
    expect(await client.send(plain, { schema: t.schema({ name: t.utf8() }) })).toMatchObject({ rows: 2 });
  });

  test("Arquero: columns of Arrow data keep their types", async () => {
    const aq = await arquero();
    const ipc = flechette.tableToIPC(
      flechette.tableFromArrays(
        { id: [1n, 2n ** 60n + 1n], kind: ["x", "y"] },
        { types: { id: flechette.int64(), kind: flechette.dictionary(flechette.utf8()) } },
      ),
      { format: "stream" },
    );
    const table = aq.fromArrow(ipc).assign(aq.table({ n: Uint8Array.of(7, 8) }));
    const kinds = t.schema({ id: t.int64(), kind: t.dictionary(t.utf8()), n: t.uint8() });
    expect(await rowsOf(table, { schema: kinds })).toEqual([
      { id: 1n, kind: "x", n: 7 },
      { id: 2n ** 60n + 1n, kind: "y", n: 8 },
    ]);
    expect(await refusal(client.send(table))).toMatchObject({ code: "SCHEMA_REQUIRED", field: "kind" });
    // What Arquero makes of a dictionary says no type; the rest does.
    expect(await rowsOf(table.select("id", "n"))).toEqual([
      { id: 1n, n: 7 },
      { id: 2n ** 60n + 1n, n: 8 },
    ]);
    const wrong = t.schema({ id: t.int32(), kind: t.utf8(), n: t.uint8() });
    const error = await refusal(client.send(table, { schema: wrong }));
    expect(error).toMatchObject({ code: "SCHEMA_MISMATCH", field: "id" });
    expect(error.message).toContain("holds Arrow data of type t.int64()");
  });

  test("Arquero: columns of apache-arrow, nulls and all", async () => {
    const aq = await arquero();
    const arrow = tableFromIPC(
      flechette.tableToIPC(
        flechette.tableFromArrays(
          { id: [1n, null, 3n], s: ["x", null, "z"], l: [[1], null, []] },
          { types: { id: flechette.int64(), s: flechette.utf8(), l: flechette.list(flechette.int8()) } },
        ),
        {},
      )!,
    );
    const rows = (await rowsOf(aq.fromArrow(arrow))) as { id: bigint; s: string; l: Int8Array | null }[];
    expect(rows.map(({ id, s, l }) => [id, s, l === null ? null : [...l]])).toEqual([
      [1n, "x", [1]],
      [null, null, null],
      [3n, "z", []],
    ]);
  });

  test("polars: written by polars as Arrow IPC, in slices", async () => {
    const pl = await polars();
    const count = 50_000;
    const frame = pl.DataFrame({
      id: pl.Series(
        "id",
        BigInt64Array.from({ length: count }, (_, i) => BigInt(i) + 2n ** 60n),
      ),
      name: Array.from({ length: count }, (_, i) => `name ${i}`),
    });
    const result = await client.send(frame);
    expect(result).toMatchObject({ status: "acknowledged", rows: count, handoff: "ipc" });
    // On a slow machine slices become so small that their bytes lie in Node's pool, which is said as well.
    expect(result.handoffReason).toMatch(
      /^ipc: nodejs-polars wrote it as Arrow IPC(; copied: .*Node's pool.*)?$/,
    );
    const results = await Array.fromAsync(client.sendAll(frame));
    expect(results.length).toBeGreaterThan(1);
    expect(results.reduce((sum, { rows }) => sum + rows, 0)).toBe(count);
    expect(await client.send(frame.head(0))).toMatchObject({ status: "acknowledged", rows: 0 });
    expect(frame.height).toBe(count);
  });

  test("parquet-wasm: copied out of WebAssembly, batch by batch; the table stays what it is", async () => {
    const parquet = await parquetWasm();
    const bytes = tableToIPC(
      tableFromIPC(flechette.tableToIPC(flechette.tableFromArrays({ a: [1, 2, 3] }), {})!),
      "stream",
    );
    const table = parquet.readParquet(parquet.writeParquet(parquet.Table.fromIPCStream(bytes)), {
      batchSize: 2,
    });
    const result = await client.send(table);
    expect(result).toMatchObject({ status: "acknowledged", rows: 3, handoff: "ipc" });
    expect(result.handoffReason).toBe("ipc: it was copied out of WebAssembly memory as Arrow IPC");
    expect((await Array.fromAsync(client.sendAll(table))).map(({ rows }) => rows)).toEqual([2, 1]);
    expect(await client.send(table.recordBatch(0) as never)).toMatchObject({ rows: 2 });
    expect(table.numBatches).toBe(2);
    expect(await rowsOf(table)).toEqual([{ a: 1 }, { a: 2 }, { a: 3 }]);
    const none = parquet.Table.fromIPCStream(tableToIPC(tableFromIPC(bytes).slice(0, 0), "stream"));
    expect(await client.send(none)).toMatchObject({ status: "acknowledged", rows: 0 });
    table.free();
    const freed = await refusal(client.send(table));
    expect(freed).toMatchObject({ code: "BATCH_INVALID" });
    expect(freed.cause).toBeInstanceOf(Error);
  });

  test("DuckDB: a materialised result stays, a streaming one is read; chunks are gathered", async () => {
    const { DuckDBInstance } = await duckdb();
    const connection = await (await DuckDBInstance.create(":memory:")).connect();
    const sql =
      "select i::integer as id, 'name ' || i as name, case when i % 2 = 0 then i end as odd from range(70000) t(i)";
    const result = await connection.run(sql);
    for (let turn = 0; turn < 2; turn++) {
      const sent = await client.send(result);
      expect(sent).toMatchObject({ status: "acknowledged", rows: 70_000, handoff: "copied" });
      expect(sent.handoffReason).toBe("copied: DuckDB's memory goes with its chunks");
    }
    const stream = await connection.stream(sql);
    const results = await Array.fromAsync(client.sendAll(stream));
    expect(results.reduce((sum, { rows }) => sum + rows, 0)).toBe(70_000);
    expect(results.length).toBe(2);
    expect(await client.send(await connection.run("select 1 as a where false"))).toMatchObject({ rows: 0 });
    expect(
      await rowsOf(
        await connection
          .run("select 1::hugeint as a, 'x'::enum_t as e", undefined)
          .catch(() => connection.run("select 1::hugeint as a")),
      ),
    ).toHaveLength(1);
  });

  test("DuckDB: what Arrow cannot hold is refused by its column, and infinity by its row", async () => {
    const { DuckDBInstance } = await duckdb();
    const connection = await (await DuckDBInstance.create(":memory:")).connect();
    const bits = await refusal(client.send(await connection.run("select 1 as ok, '101'::bit as bits")));
    expect(bits).toMatchObject({ code: "SCHEMA_MISMATCH", field: "bits" });
    expect(bits.message).toContain("CAST(bits AS VARCHAR)");
    const nested = await refusal(client.send(await connection.run("select {'a': ['101'::bit]} as s")));
    expect(nested).toMatchObject({ code: "SCHEMA_MISMATCH", field: "s.a[]" });
    const infinite = await refusal(
      client.send(await connection.run("select unnest(['2020-01-01'::date, 'infinity'::date]) as d")),
    );
    expect(infinite).toMatchObject({ code: "BATCH_INVALID", field: "d", row: 1 });
    const huge = await refusal(
      client.send(await connection.run("select 170141183460469231731687303715884105727::hugeint as h")),
    );
    expect(huge).toMatchObject({ code: "BATCH_INVALID", field: "h", row: 0 });
    expect(huge.message).toContain("VALUE_RANGE");
  });
});

describe("R-32 what is not taken says which call would do", () => {
  test.each<[string, () => unknown, string]>([
    ["a path", () => "rows.arrow", "send await readFile(path)"],
    ["a promise", () => Promise.resolve(1), "await it first"],
    // biome-ignore lint/suspicious/noThenProperty: a thenable is what it is
    ["a thenable", () => ({ then: () => {} }), "await it first"],
    ["a function", () => () => 1, "call it, and send what it returns"],
    ["a generator function", () => async function* () {}, "give what it returns, called, to sendAll()"],
    ["nothing", () => undefined, "an await that is missing"],
    ["a URL", () => new URL("file:///x"), "send(await readFile(url))"],
    ["a Blob", () => new Blob(["x"]), "send(await blob.arrayBuffer())"],
    ["a response", () => new Response("x"), "send(await response.bytes())"],
    ["a Map", () => new Map([["a", [1]]]), "send(Object.fromEntries(map))"],
    ["a vector", () => vectorFromArray([1, 2]), "send new Table({ name: vector })"],
    ["a schema", () => t.schema({ a: t.int8() }), "give it to connect()"],
    ["a column", () => flechette.columnFromArray([1, 2]), "send tableFromColumns({ name: column })"],
    ["a generator", () => (function* () {})(), "give it to sendAll()"],
    ["an async generator", () => (async function* () {})(), "give it to sendAll()"],
    ["a web stream", () => new ReadableStream(), "give it to sendAll()"],
    ["a reader", () => RecordBatchReader.from(new Uint8Array(0)), "sendAll()"],
    ["one row", () => ({ a: 1 }), "give rows in an array"],
    ["a Date", () => new Date(), "not a Date"],
    ["null", () => null, "not null"],
    ["a number", () => 5, "not 5"],
  ])("%s", async (_, make, says) => {
    const error = await refusal(client.send(make() as never));
    expect(error).toMatchObject({ code: "BATCH_INVALID" });
    expect(error.message).toContain(says);
  });

  test("a getter that throws says nothing, and the next row is asked", async () => {
    const shy = new (class Shy {
      get collectSync(): never {
        throw new Error("no");
      }
      [Symbol.iterator](): Iterator<never> {
        throw new Error("no");
      }
    })();
    expect((await refusal(client.send(shy as never))).message).toContain("give it to sendAll()");
  });

  test("lazy frames, series, readers and chunks", async () => {
    const pl = await polars();
    const frame = pl.DataFrame({ a: [1] });
    expect((await refusal(client.send(frame.lazy()))).message).toContain("send(await frame.collect())");
    expect((await refusal(client.send(frame.getColumn("a")))).message).toContain("send(series.toFrame())");
    const { DuckDBInstance } = await duckdb();
    const connection = await (await DuckDBInstance.create(":memory:")).connect();
    expect((await refusal(client.send(connection))).message).toContain("send(await connection.run(sql))");
    const reader = await connection.runAndReadAll("select 1");
    expect((await refusal(client.send(reader))).message).toContain("a reader of DuckDB");
    const chunk = await (await connection.run("select 1")).fetchChunk();
    expect((await refusal(client.send(chunk))).message).toContain("a chunk of DuckDB");
  });
});

test("the order of calls is kept among small inputs and batches", async () => {
  const results = await Promise.all([
    client.send({ a: ["x"] }, { schema: t.schema({ a: t.utf8() }) }),
    client.send(tableFromIPC(flechette.tableToIPC(flechette.tableFromArrays({ a: [1] }), {})!) as Table),
    client.send({ a: Int32Array.of(1) }),
  ]);
  const sequences = results.map(({ sequence }) => sequence);
  expect(sequences).toEqual([...sequences].sort((one, other) => Number(one - other)));
});

describe("in a source, an object that has nothing but arrays is a row if the schema says so", () => {
  const vectors = t.schema({ v: t.fixedSizeList(2, t.float32()), tags: t.list(t.utf8()).nullable() });
  const row = { v: Float32Array.of(1, 2), tags: ["a", "b", "c"] };
  const columns = { v: [[1, 2], Float32Array.of(3, 4)], tags: [["a"], null] };

  test("by how deep its arrays nest", async () => {
    const results = await Array.fromAsync(
      client.sendAll([row, columns, row, { tags: [], v: [5, 6] }], { schema: vectors }),
    );
    expect(results.map(({ rows, status }) => [rows, status])).toEqual([
      [1, "acknowledged"],
      [2, "acknowledged"],
      [2, "acknowledged"],
    ]);
    const writer = client.writable({ schema: vectors }).getWriter();
    await writer.write(row);
    await writer.write(columns);
    await writer.close();
  });

  test("bytes and maps are arrays, too; a column of anything else makes columns of all", async () => {
    const bytes = t.schema({ b: t.binary(), m: t.map(t.utf8(), t.int32()) });
    const given = [
      { b: new Uint8Array(3), m: [["a", 1]] },
      { b: [new Uint8Array(3)], m: [new Map([["a", 1]])] },
    ];
    const results = await Array.fromAsync(client.sendAll(given, { schema: bytes }));
    expect(results.map(({ rows, status }) => [rows, status])).toEqual([
      [1, "acknowledged"],
      [1, "acknowledged"],
    ]);
    const mixed = t.schema({ n: t.int32(), l: t.list(t.int32()) });
    const [one] = await Array.fromAsync(client.sendAll([{ n: [1, 2], l: [[1], []] }], { schema: mixed }));
    expect(one).toMatchObject({ rows: 2, status: "acknowledged" });
    const itself: unknown[] = [];
    itself.push(itself);
    const deep = client.sendAll([{ l: itself, n: [1] }], { schema: mixed });
    await expect(deep.next()).rejects.toMatchObject({ code: "BATCH_INVALID" });
  });
});
