// R-07 R-65: what arrives of a table of another library is what pyarrow reads of the same data, in every value.
import * as fs from "node:fs";
import * as path from "node:path";
import * as flechette from "@uwdata/flechette";
import { tableFromIPC } from "apache-arrow";
import { expect, test } from "vitest";
import { t } from "../../dist/index.js";
import { Echo, type Mode } from "../ts/support/echo.js";
import { arquero, duckdb, parquetWasm, polars } from "../ts/support/libraries.js";
import { base64, describeWith, folderOfFile, PYTHON, peerOfFile } from "./support/peer.js";

const home = folderOfFile("inputs");
const peer = peerOfFile();

/** The data as pyarrow made it, as a stream and as a Parquet file. */
async function make(
  without: readonly string[] = [],
): Promise<{ wanted: string; bytes: Buffer; parquet: string }> {
  const parquet = path.join(home, `data-${without.length}.parquet`);
  const wanted = await peer.ask<string>("inputs_make", { parquet, without });
  return { wanted, bytes: Buffer.from(wanted, "base64"), parquet };
}

async function echoed(input: unknown, mode: Mode = "auto", schema?: unknown): Promise<string[]> {
  using echo = new Echo();
  const { streams } = await echo.echoOf(input, mode, false, schema);
  return streams.map(base64);
}

const compare = (got: string[], right: { wanted?: string; parquet?: string }): Promise<string | null> =>
  peer.ask("inputs_compare", { got, ...right });

describeWith(PYTHON, "values are those that pyarrow reads", () => {
  test.each<Mode>(["auto", "copy", "ipc"])("flechette, %s", async (mode) => {
    const { wanted, bytes } = await make();
    expect(await compare(await echoed(flechette.tableFromIPC(bytes), mode), { wanted })).toBeNull();
  });

  test("Arquero, over columns of flechette and of apache-arrow", async () => {
    const aq = await arquero();
    const { wanted, bytes } = await make(["kind"]);
    expect(await compare(await echoed(aq.fromArrow(Uint8Array.from(bytes))), { wanted })).toBeNull();
    expect(await compare(await echoed(aq.fromArrow(tableFromIPC(bytes))), { wanted })).toBeNull();
  });

  test("objects of columns, lent and encoded", async () => {
    const { wanted, bytes } = await make(["kind", "list", "place", "money", "at", "wall", "day", "bytes"]);
    const table = flechette.tableFromIPC(bytes, { useBigInt: true });
    const { i8, u16, i32, i64, u64, f32, f64, flag, text, large } = table.toColumns();
    const schema = t.schema({
      i8: t.int8().nullable(),
      u16: t.uint16().nullable(),
      i32: t.int32().nullable(),
      i64: t.int64().nullable(),
      u64: t.uint64().nullable(),
      f32: t.float32().nullable(),
      f64: t.float64().nullable(),
      flag: t.bool().nullable(),
      text: t.utf8().nullable(),
      large: t.largeUtf8().nullable(),
    });
    const columns = { i8, u16, i32, i64, u64, f32, f64, flag, text, large };
    expect(await compare(await echoed(columns, "auto", schema), { wanted })).toBeNull();
  });

  test("polars", async () => {
    const pl = await polars();
    const { wanted, bytes } = await make();
    const frame = pl.readIPCStream(bytes);
    expect(frame.height).toBe(1_000);
    expect(await compare(await echoed(frame), { wanted })).toBeNull();
  });

  test("parquet-wasm", async () => {
    const parquet = await parquetWasm();
    const { parquet: file } = await make();
    const table = parquet.readParquet(fs.readFileSync(file), { batchSize: 128 });
    expect(table.numBatches).toBeGreaterThan(3);
    expect(await compare(await echoed(table), { parquet: file })).toBeNull();
  });

  test("DuckDB, by the Parquet file that it writes of the same query", async () => {
    const { DuckDBInstance } = await duckdb();
    const connection = await (await DuckDBInstance.create(":memory:")).connect();
    await connection.run("set timezone = 'UTC'");
    await connection.run("create type mood as enum ('happy', 'sad')");
    const nulls = (sql: string) => `case when i % 7 = 3 then null else ${sql} end`;
    const query = `select
      ${nulls("(i % 2 = 0)")} as flag,
      ${nulls("(i % 256 - 128)::tinyint")} as i8,
      ${nulls("(65535 - i)::usmallint")} as u16,
      (2147483647 - i)::integer as i32,
      ${nulls("4611686018427387904 + i")} as i64,
      ${nulls("18446744073709551615::ubigint - i::ubigint")} as u64,
      (i / 8)::float as f32,
      ${nulls("i / 3")} as f64,
      ${nulls("repeat('é', (i % 40)::integer)")} as text,
      ${nulls("'\\x00\\xFFab'::blob")} as bytes,
      ${nulls("date '1000-01-01' + i::integer")} as day,
      ${nulls("timestamp '2020-02-03 04:05:06.123456' + to_seconds(i)")} as wall,
      ${nulls("timestamptz '2020-02-03 04:05:06.123456+00' + to_seconds(i)")} as at,
      ${nulls("time '04:05:06.123456'")} as clock,
      ${nulls("(12345678901234567890.1234 + i)::decimal(30, 4)")} as money,
      ${nulls("(i + 0.5)::decimal(4, 1)")} as small,
      ${nulls("case when i % 2 = 0 then 'happy' else 'sad' end::mood")} as mood,
      ${nulls("[i, null, i + 1]")} as list,
      ${nulls("{'x': i / 2, 'name': 'n' || i, 'deep': [{'y': i}]}")} as place
      from (select range::bigint as i from range(0, 999)) order by i`;
    const file = path.join(home, "duckdb.parquet");
    await connection.run(`copy (${query}) to '${file}' (format parquet)`);
    for (const result of [await connection.run(query), await connection.stream(query)])
      expect(await compare(await echoed(result), { parquet: file })).toBeNull();
  });
});
