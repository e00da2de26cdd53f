// our tables are Delta tables for others: deltalake, pyarrow and polars read them, Python writes between
// our commits, and nobody loses a row.
import * as fs from "node:fs";
import * as path from "node:path";
import {
  Data,
  type DataType,
  DateDay,
  Decimal,
  Dictionary,
  Field,
  Float64,
  Int32,
  List,
  type RecordBatch,
  Struct,
  type Table,
  TimestampMillisecond,
  TimestampNanosecond,
  tableToIPC,
  Utf8,
  Vector,
  vectorFromArray,
} from "apache-arrow";
import { expect, test } from "vitest";
import { rebuildSchema, writeIpc } from "../../dist/handoff/rebuild.js";
import { connect, type IngestClient } from "../../dist/index.js";
import { batchOf, everyType, ofKnownYears } from "../ts/support/batches.js";
import { tableOf } from "../ts/support/table.js";
import { base64, describeWith, folderOfFile, PYTHON, peerOfFile } from "./support/peer.js";

const folder = folderOfFile("interop");
const peer = peerOfFile();

const quick = { batching: { linger: 0 }, delta: { commitInterval: "10ms" } } as const;
const agree = { deltalake: null, files: null, polars: null };

interface Rows {
  values: number[];
  polars: number[];
  version: number;
  files: number;
  columns: string[];
  partitions: string[];
}
const rowsOf = (table: string): Promise<Rows> => peer.ask<Rows>("delta_rows", { path: table, column: "id" });
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

/** Rows that say who wrote them, in the form that the Python writer uses, too. */
function rows(from: number, to: number, who = "us"): Table {
  const ids = BigInt64Array.from(range(from, to), BigInt);
  return tableOf({ id: ids, who: vectorFromArray(new Array(to - from).fill(who), new Utf8()) });
}

async function send(client: IngestClient, table: Table | RecordBatch): Promise<bigint> {
  const result = await client.send(table);
  expect(result.error).toBeNull();
  return result.position!.value;
}

describeWith(PYTHON, "R-20 other readers see what we wrote", () => {
  test("every type that Delta holds, with nulls, whole and sliced", async () => {
    const all = ofKnownYears(everyType());
    const lost =
      /^null$|^uint|float16|^time(32|64|Ns)|duration|yearMonth|dayTime|monthDayNano|Union|dictionaryOfStruct|timestampNs|date64|decimal/;
    const batch = batchOf(Object.fromEntries(Object.entries(all).filter(([name]) => !lost.test(name))));
    expect(batch.schema.fields.length).toBeGreaterThan(18);
    for (const [index, slice] of [batch, batch.slice(3, 20)].entries()) {
      const table = path.join(folder, `types${index}`);
      await using client = await connect(`delta:${table}`, quick);
      await send(client, slice);
      // The library's own writer gets slices of views wrong; ours puts them right before it writes.
      const expected = [base64(writeIpc(slice as never, rebuildSchema(slice.schema as never)))];
      expect(await peer.ask("delta_equal", { path: table, expected })).toEqual(agree);
    }
  });

  test("partitions: each in its folder, found by value, null among them", async () => {
    const table = path.join(folder, "partitioned");
    const days = ["2026-01-01", "2026-01-02", null, "a b/c=d&é", "100%"];
    const ids = range(0, 1_000);
    const day = ids.map((id) => days[id % days.length]);
    const data = tableOf({
      id: BigInt64Array.from(ids, BigInt),
      day: vectorFromArray(day, new Utf8()),
      part: vectorFromArray(
        ids.map((id) => (id % 3) - 1),
        new Int32(),
      ),
    });
    await using client = await connect(`delta:${table}`, {
      ...quick,
      delta: { ...quick.delta, partitionBy: ["day", "part"] },
    });
    await send(client, data);
    const expected = [base64(tableToIPC(data, "stream"))];
    expect(await peer.ask("delta_equal", { path: table, expected, order_by: "id" })).toEqual(agree);
    expect(await rowsOf(table)).toMatchObject({ partitions: ["day", "part"], files: 15 });
    for (const value of days.filter((value) => value !== null)) {
      const found = await peer.ask("delta_search", { path: table, column: "day", value });
      expect(found, value).toEqual({ rows: 200, all: 200, polars: 200, files: 3, of: 15 });
    }
  });

  test("dates and times to the ends of the years that every reader knows: bounds hide no row; others are refused", async () => {
    const table = path.join(folder, "years");
    const DAY = 86_400_000;
    const [first, last] = [-719_162 * DAY, 2_932_896 * DAY];
    const of = (ids: number[], times: number[]): Table =>
      tableOf({
        id: BigInt64Array.from(ids, BigInt),
        day: vectorFromArray(
          times.map((time) => new Date(time)),
          new DateDay(),
        ),
        at: vectorFromArray(times, new TimestampMillisecond("UTC")),
      });
    await using client = await connect(`delta:${table}`, quick);
    // The same file holds both ends, so each bound is one of them.
    await send(client, of([0, 1, 2], [first, 18_262 * DAY, last]));
    await send(client, of([3, 4], [18_628 * DAY, 18_629 * DAY]));
    for (const time of [first - DAY, last + DAY]) {
      const result = await client.send(of([5, 6], [0, time]));
      expect(result).toMatchObject({
        status: "failed",
        error: { code: "BATCH_INVALID", field: "day", row: 1 },
      });
    }
    for (const [low, high, rows] of [
      ["0001-01-01", "9999-12-31", 5],
      ["0001-01-01", "0001-01-01", 1],
      ["2020-01-01", "2020-12-31", 1],
      ["2020-01-01", "9999-12-31", 4],
      ["9999-12-31", "9999-12-31", 1],
      ["3000-01-01", "9000-01-01", 0],
    ] as const) {
      const agreed = { all: rows, dataset: rows, query: rows, polars: rows };
      const times = { low: `${low}T00:00:00`, high: `${high}T00:00:00` };
      expect(await peer.ask("delta_between", { path: table, column: "day", low, high }), low).toEqual(agreed);
      expect(await peer.ask("delta_between", { path: table, column: "at", ...times }), low).toEqual(agreed);
    }
  });

  test("what others could not open is not written, and says which column", async () => {
    const ids = BigInt64Array.of(1n);
    for (const name of ["a\0b", "a b", "a=b", ""]) {
      const table = path.join(folder, "names");
      await using client = await connect(`delta:${table}`, quick);
      const result = await client.send(tableOf({ id: ids, [name]: ids }));
      expect(result, name).toMatchObject({ status: "failed", error: { code: "SCHEMA_MISMATCH" } });
      if (name !== "") expect(result.error!.field).toBe(name);
      expect(fs.existsSync(table), name).toBe(false);
    }
    const twice = connect(`delta:${path.join(folder, "twice")}`, { delta: { partitionBy: ["a", "A"] } });
    await expect(twice).rejects.toMatchObject({ code: "CONFIG_INVALID" });
    const elsewhere = connect(`delta:file://${path.join(folder, "table")}#2026`);
    await expect(elsewhere).rejects.toMatchObject({
      code: "CONFIG_INVALID",
      message: expect.stringContaining("%23"),
    });
    const bare = connect("s3://bucket/table");
    await expect(bare).rejects.toMatchObject({
      message: expect.stringContaining('"delta:s3://bucket/table"'),
    });
  });

  test("statistics let readers skip files, and hide no row", async () => {
    const table = path.join(folder, "pruned");
    await using client = await connect(`delta:${table}`, quick);
    for (let file = 0; file < 6; file++) {
      const ids = range(file * 100, file * 100 + 100);
      const data = tableOf({
        id: BigInt64Array.from(ids, BigInt),
        half: Float64Array.from(ids, (id) => id / 2),
        // Long enough that bounds have to be cut, and cut upwards.
        text: vectorFromArray(
          ids.map((id) => `${"\u{10ffff}".repeat(20)}${String(id).padStart(4, "0")}`),
          new Utf8(),
        ),
        some: vectorFromArray(
          ids.map((id) => (id % 2 ? null : id)),
          new Float64(),
        ),
        odd: vectorFromArray(
          ids.map((id) => (id % 7 === 0 ? Number.NaN : -id)),
          new Float64(),
        ),
      });
      await send(client, data);
    }
    const search = (column: string, value: unknown) =>
      peer.ask<Record<string, number>>("delta_search", { path: table, column, value });
    expect(await search("id", 250)).toEqual({ rows: 1, all: 1, polars: 1, files: 1, of: 6 });
    expect(await search("half", 299.5)).toEqual({ rows: 1, all: 1, polars: 1, files: 1, of: 6 });
    expect(await search("some", 42)).toEqual({ rows: 1, all: 1, polars: 1, files: 1, of: 6 });
    for (const [column, value] of [
      ["odd", -251],
      ["text", `${"\u{10ffff}".repeat(20)}0123`],
    ] as const) {
      const found = await search(column, value);
      expect(found, column).toMatchObject({ rows: 1, all: 1, polars: 1 });
    }
    const stats = await peer.ask<Record<string, unknown>[]>("delta_stats", { path: table });
    expect(stats.map((file) => file.num_records)).toEqual(new Array(6).fill("100"));
    expect(stats.map((file) => file["null_count.some"])).toEqual(new Array(6).fill("50"));
    expect(stats.map((file) => Number(file["min.id"])).sort((a, b) => a - b)).toEqual(
      range(0, 6).map((file) => file * 100),
    );
  });

  test("a schema that grew: old rows have nulls, new ones their values", async () => {
    const table = path.join(folder, "grown");
    {
      await using client = await connect(`delta:${table}`, quick);
      await send(client, rows(0, 10));
    }
    const wider = (from: number): Table =>
      rows(from, from + 10).assign(
        tableOf({
          extra: vectorFromArray(
            range(0, 10).map((i) => (i % 2 ? i : null)),
            new Int32(),
          ),
        }),
      ) as Table;
    {
      await using client = await connect(`delta:${table}`, quick);
      const refused = await client.send(wider(10));
      expect(refused).toMatchObject({ status: "failed", error: { code: "SCHEMA_MISMATCH" } });
      expect(refused.error!.message).toContain("extra");
    }
    {
      await using client = await connect(`delta:${table}`, {
        ...quick,
        delta: { ...quick.delta, schemaEvolution: "merge" },
      });
      await send(client, wider(10));
      await send(client, rows(20, 30));
    }
    const read = await rowsOf(table);
    expect(read).toMatchObject({
      values: range(0, 30),
      polars: range(0, 30),
      columns: ["id", "who", "extra"],
    });
    expect(await peer.ask("delta_search", { path: table, column: "extra", value: 7 })).toMatchObject({
      rows: 1,
    });
  });
});

describeWith(PYTHON, "R-14 R-20 what a table cannot hold exactly", () => {
  const item = (type: DataType) => new Field("item", type, true);
  const decimals = (...values: bigint[]) =>
    new Data(new Decimal(2, 5, 128), 0, values.length, 0, [
      undefined,
      new Uint32Array(BigInt64Array.from(values.flatMap((value) => [value, value < 0n ? -1n : 0n])).buffer),
    ] as never);
  const whole = [12_345n, -99_999n, 0n, 99_999n, 7n];

  test("decimals within their digits arrive; one digit more is refused by column and row", async () => {
    const table = path.join(folder, "decimals");
    await using client = await connect(`delta:${table}`, quick);
    const good = batchOf({ d: decimals(...whole) });
    await send(client, good);
    const bad = decimals(1n, 2n, 123_456n, 4n, -1_000_000n);
    const nested: [Data, number, string][] = [
      [bad, 2, "d"],
      [
        new Data(new List(item(bad.type)), 0, 3, 0, [Int32Array.of(0, 1, 3, 5)] as never, [bad]),
        1,
        "d.element",
      ],
      [new Data(new Struct([new Field("in", bad.type, true)]), 0, 5, 0, [] as never, [bad]), 2, "d.in"],
      [
        new Data(
          new Dictionary(bad.type, new Int32(), 9),
          0,
          4,
          0,
          [undefined, Int32Array.of(0, 1, 1, 2)] as never,
          [],
          new Vector([bad]),
        ),
        3,
        "d",
      ],
    ];
    for (const [index, [data, row, field]] of nested.entries()) {
      await using other = await connect(`delta:${table}-${index}`, quick);
      const refused = await other.send(batchOf({ d: data }));
      expect(refused).toMatchObject({ status: "failed", error: { code: "BATCH_INVALID", field, row } });
    }
    // Under a null there may be anything.
    const hidden = new Data(
      new Struct([new Field("in", bad.type, true)]),
      0,
      5,
      2,
      [undefined, undefined, Uint8Array.of(0b01011)] as never,
      [bad],
    );
    await using other = await connect(`delta:${table}-hidden`, quick);
    await send(other, batchOf({ d: hidden }));

    const expected = [base64(writeIpc(good as never, rebuildSchema(good.schema as never)))];
    expect(await peer.ask("delta_equal", { path: table, expected })).toEqual(agree);
  });

  test("a bad value in one of several small batches fails that batch, whose own row it names", async () => {
    const table = path.join(folder, "together");
    await using client = await connect(`delta:${table}`, { batching: { linger: "200ms" } });
    const nanoseconds = (...values: bigint[]) =>
      batchOf({
        t: new Data(new TimestampNanosecond(), 0, values.length, 0, [
          undefined,
          BigInt64Array.from(values),
        ] as never),
      });
    const results = await Promise.all([
      client.send(nanoseconds(1_000n, 2_000n, 3_000n)),
      client.send(nanoseconds(4_000n, 5_001n)),
      client.send(nanoseconds(6_000n)),
    ]);
    expect(results.map(({ status }) => status)).toEqual(["acknowledged", "failed", "acknowledged"]);
    expect(results[1]!.error).toMatchObject({ code: "BATCH_INVALID", field: "t", row: 1 });
  });
});

describeWith(PYTHON, "R-17 R-20 other writers at our table", () => {
  test("Python appends between our commits: all rows once, versions without a gap", async () => {
    const table = path.join(folder, "between");
    await using client = await connect(`delta:${table}`, quick);
    let version = await send(client, rows(0, 10));
    for (let turn = 1; turn <= 5; turn++) {
      const theirs = await peer.ask<number>("delta_append", { path: table, start: 1_000 * turn, count: 5 });
      expect(theirs).toBe(Number(version) + 1);
      version = await send(client, rows(turn * 10, turn * 10 + 10));
      expect(Number(version)).toBe(theirs + 1);
    }
    const expected = [
      ...range(0, 60),
      ...range(1, 6).flatMap((turn) => range(turn * 1_000, turn * 1_000 + 5)),
    ];
    const sorted = expected.sort((a, b) => a - b);
    expect(await rowsOf(table)).toMatchObject({ values: sorted, polars: sorted });
  });

  test("Python and two of our clients append at the same time: all rows once", async () => {
    const table = path.join(folder, "crowd");
    await peer.ask("delta_append", { path: table, start: 900_000, count: 1 });
    await using one = await connect(`delta:${table}`, quick);
    await using two = await connect(`delta:${table}`, quick);
    const theirs = peer.ask("delta_append", { path: table, start: 100_000, count: 3, times: 15 });
    const ours = [one, two].map(async (client, which) => {
      for (let turn = 0; turn < 20; turn++) {
        const start = which * 10_000 + turn * 10;
        await send(client, rows(start, start + 10));
      }
    });
    await Promise.all([theirs, ...ours]);
    const sorted = [...range(0, 200), ...range(10_000, 10_200), ...range(100_000, 100_045), 900_000];
    const read = await rowsOf(table);
    expect(read.values).toEqual(sorted);
    expect(read.polars).toEqual(sorted);
    // One version each of Python's; ours may share one.
    expect(read.version).toBeGreaterThan(15);
  });

  test("Python deletes, compacts, checkpoints and vacuums under an open client, which goes on", async () => {
    const table = path.join(folder, "maintained");
    await using client = await connect(`delta:${table}`, quick);
    await send(client, rows(0, 10));
    await peer.ask("delta_append", { path: table, start: 500, count: 20 });
    await send(client, rows(10, 20));
    expect(await peer.ask("delta_maintain", { path: table, action: "delete" })).toBe(20);
    await send(client, rows(20, 30));
    expect(await peer.ask("delta_maintain", { path: table, action: "compact" })).toBeGreaterThan(1);
    await peer.ask("delta_maintain", { path: table, action: "checkpoint" });
    await send(client, rows(30, 40));
    expect(await peer.ask("delta_maintain", { path: table, action: "vacuum" })).toBeGreaterThan(0);
    await send(client, rows(40, 50));
    expect(await rowsOf(table)).toMatchObject({ values: range(0, 50), polars: range(0, 50) });
  });

  test("our checkpoints are read by others", async () => {
    const table = path.join(folder, "checkpoints");
    {
      await using client = await connect(`delta:${table}`, quick);
      for (let turn = 0; turn < 23; turn++) await send(client, rows(turn, turn + 1));
    }
    const log = fs.readdirSync(path.join(table, "_delta_log"));
    expect(log.filter((name) => name.includes("checkpoint")).length).toBeGreaterThanOrEqual(2);
    // Only what the checkpoint holds tells of the first versions now.
    for (const name of log.filter((name) => /^0+\d\.json$/.test(name)))
      fs.rmSync(path.join(table, "_delta_log", name));
    expect(await rowsOf(table)).toMatchObject({ values: range(0, 23), polars: range(0, 23), version: 23 });
    await using client = await connect(`delta:${table}`, quick);
    await send(client, rows(23, 24));
    expect((await rowsOf(table)).values).toEqual(range(0, 24));
  });

  test("a table that Python made with other types is no place for our rows, and says which", async () => {
    const table = path.join(folder, "theirs");
    await peer.ask("delta_append", { path: table, start: 0, count: 3 });
    await using client = await connect(`delta:${table}`, quick);
    const narrow = tableOf({ id: Int32Array.of(1), who: vectorFromArray(["x"], new Utf8()) });
    const refused = await client.send(narrow);
    expect(refused).toMatchObject({ status: "failed", error: { code: "SCHEMA_MISMATCH" } });
    expect(refused.error!.message).toMatch(/id.*(Int32|integer).*long/i);
    await send(client, rows(3, 6));
    expect((await rowsOf(table)).values).toEqual(range(0, 6));
  });
});
