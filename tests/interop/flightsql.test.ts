// Flight SQL bulk ingestion into SQLite, through the ingest hook of arrow-go's flightsql package. Rows are
// read back from the file by Python, and ADBC's driver says what such a server should be asked.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { RecordBatchStreamWriter, type Table, tableFromArrays } from "apache-arrow";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { type ConnectOptions, connect, type TransmissionResult } from "../../dist/index.js";
import { base64, describeWith, Peer } from "./support/peer.js";
import { FlightServer, SERVERS } from "./support/servers.js";

interface Event {
  readonly action: "begin" | "commit" | "rollback" | "ingest";
  readonly transaction?: string | undefined;
  readonly rows: number;
  readonly error?: string;
}

const people = tableFromArrays({
  id: Int32Array.of(1, 2, 3),
  name: ["Ada", "Grace", "Ünïcode"],
  height: Float64Array.of(1.5, -0.25, 1e300),
});
const others = tableFromArrays({ id: Int32Array.of(4), name: ["Emmy"], height: Float64Array.of(1.625) });
const rowsOf = (table: Table): unknown[] => table.toArray().map((row) => [row.id, row.name, row.height]);

describeWith(SERVERS["arrow-go, flightsql"].there, "R-21 Flight SQL ingestion into SQLite", () => {
  let peer: Peer;
  let folder: string;
  let server: FlightServer;
  const file = (): string => path.join(folder, "data.sqlite");

  beforeAll(async () => {
    peer = await Peer.start();
  });
  afterAll(() => peer?.[Symbol.asyncDispose]());
  beforeEach(() => restart());
  afterEach(() => stop());

  async function stop(): Promise<void> {
    await server[Symbol.asyncDispose]();
    fs.rmSync(folder, { recursive: true });
  }

  async function restart(...args: string[]): Promise<void> {
    if (server !== undefined && folder !== undefined && fs.existsSync(folder)) await stop();
    folder = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-flightsql-"));
    const places = ["-database", file(), "-log", path.join(folder, "log")];
    server = await FlightServer.start("arrow-go, flightsql", [...places, ...args]);
  }

  const sql = (text: string) => peer.ask<unknown[][]>("sqlite", { file: file(), sql: text });
  const events = (): Event[] =>
    fs
      .readFileSync(path.join(folder, "log"), "utf8")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Event);

  async function ours(
    table: string,
    sent: readonly Table[],
    options: ConnectOptions = {},
  ): Promise<TransmissionResult[]> {
    const target = `flightsql://127.0.0.1:${server.port}/${table}`;
    await using client = await connect(target, {
      batching: { linger: 0 },
      retry: { attempts: 2 },
      ...options,
    });
    const results = [];
    for (const one of sent) {
      const delivery = await client.enqueue(one);
      await client.flush();
      results.push(await delivery.result);
    }
    return results;
  }

  test("R-14 what is acknowledged is in the file, in order, each commit of its own", async () => {
    const results = await ours("people", [people, others]);
    expect(results).toMatchObject([
      { status: "acknowledged", rows: 3 },
      { status: "acknowledged", rows: 1 },
    ]);
    expect(await sql("SELECT * FROM people")).toEqual([...rowsOf(people), ...rowsOf(others)]);
    expect(events().map(({ action }) => action)).toEqual([
      ...["begin", "ingest", "commit"],
      ...["begin", "ingest", "commit"],
    ]);
  });

  test("R-66 the list of tables says the schema, of this table and no other", async () => {
    await sql("CREATE TABLE a_b (id INTEGER NOT NULL, name TEXT, height REAL, raw BLOB)");
    await sql("CREATE TABLE axb (other INTEGER)");
    const said = async (query: string) => {
      await using client = await connect(`flightsql://127.0.0.1:${server.port}/${query}`);
      const schema = await client.schema();
      return schema?.fields.map(({ name, type, nullable }) => `${name} ${type} ${nullable}`);
    };
    const columns = ["id Int64 false", "name Utf8 true", "height Float64 true", "raw Binary true"];
    expect(await said("a_b")).toEqual(columns);
    expect(await said("a_b?schema=main")).toEqual(columns);
    expect(await said("a_b?schema=other")).toBeUndefined();
    expect(await said("a_b?mode=replace")).toBeUndefined();
    expect(await said("none")).toBeUndefined();
  });

  test.each([
    { mode: "append", before: true, keeps: [...rowsOf(others), ...rowsOf(people), ...rowsOf(others)] },
    { mode: "append", before: false, code: "NOT_FOUND" },
    { mode: "create", before: false, keeps: [...rowsOf(people), ...rowsOf(others)] },
    { mode: "create", before: true, code: "ROWS_REJECTED" },
    { mode: "replace", before: true, keeps: [...rowsOf(people), ...rowsOf(others)] },
    { mode: "replace", before: false, keeps: [...rowsOf(people), ...rowsOf(others)] },
  ])("?mode=$mode, table there before: $before", async ({ mode, before, keeps, code }) => {
    await sql(before ? "CREATE TABLE t (id INTEGER, name TEXT, height REAL)" : "SELECT 1");
    if (before) await ours("t?mode=append", [others]);
    // Two commits: what is made or replaced by the first is appended to by the second.
    const results = await ours(`t?mode=${mode}`, [people, others]);
    for (const result of results)
      if (code === undefined) expect(result.status, result.error?.message).toBe("acknowledged");
      else expect(result, String(result.error)).toMatchObject({ success: false, error: { code } });
    if (keeps !== undefined) expect(await sql("SELECT * FROM t")).toEqual(keeps);
    else if (before) expect(await sql("SELECT * FROM t")).toEqual(rowsOf(others));
  });

  test("a server without transactions keeps the rows when the stream ends", async () => {
    await restart("-transactions=false");
    const results = await ours("people", [people, others]);
    expect(results.map(({ status }) => status)).toEqual(["acknowledged", "acknowledged"]);
    expect(events()).toMatchObject([
      { action: "ingest", rows: 3 },
      { action: "ingest", rows: 1 },
    ]);
    expect(events().every(({ transaction }) => transaction === undefined)).toBe(true);
    expect(await sql("SELECT * FROM people")).toEqual([...rowsOf(people), ...rowsOf(others)]);
  });

  test("R-14 of what a constraint refuses no row is there, and the reason is told", async () => {
    await sql("CREATE TABLE t (id INTEGER CHECK (id <> 2), name TEXT, height REAL)");
    const [refused] = await ours("t?mode=append", [people]);
    expect(refused).toMatchObject({ status: "failed", error: { code: "ROWS_REJECTED" } });
    expect(refused!.error!.message).toContain("CHECK constraint failed");
    expect(await sql("SELECT * FROM t")).toEqual([]);
  });

  test("a refused stream leaves no transaction that blocks the next", async () => {
    await sql("CREATE TABLE t (id INTEGER CHECK (id <> 2), name TEXT, height REAL)");
    const [refused, next] = await ours("t?mode=append", [people, others], { retry: { attempts: 1 } });
    expect(refused!.success).toBe(false);
    expect(next).toMatchObject({ status: "acknowledged" });
  });

  test.each(["append", "create", "replace", "create_append"])(
    "ADBC's %s asks the server for the same, and the same rows are there",
    async (mode) => {
      const table = 'odd "name"';
      const quoted = `"${table.replaceAll('"', '""')}"`;
      const query = mode === "create_append" ? "?schema=main" : `?mode=${mode}&schema=main`;
      const stream = base64(RecordBatchStreamWriter.writeAll(people).toUint8Array(true));
      const seen = async (transactions: boolean, ingest: () => Promise<unknown>) => {
        await restart(`-transactions=${transactions}`);
        if (mode !== "create") await sql(`CREATE TABLE ${quoted} (id INTEGER, name TEXT, height REAL)`);
        if (mode !== "create") await sql(`INSERT INTO ${quoted} VALUES (0, 'before', 0)`);
        await ingest();
        const ingests = events().filter(({ action }) => action === "ingest");
        return { ingests, rows: await sql(`SELECT * FROM ${quoted}`) };
      };
      for (const transactions of [false, true]) {
        const byUs = await seen(transactions, async () => {
          const [result] = await ours(`${encodeURIComponent(table)}${query}`, [people]);
          expect(result!.status, result!.error?.message).toBe("acknowledged");
        });
        const byAdbc = await seen(transactions, async () => {
          const where = { location: server.location, table, db_schema_name: "main" };
          const said = await peer.ask("adbc_ingest", { ...where, stream, mode, autocommit: !transactions });
          expect(said).toEqual({ rows: 3 });
        });
        expect(byUs.ingests).toHaveLength(1);
        // The driver (1.13) begins and commits a transaction and does not name it in its command; FlightSql.proto
        // says that it is named, or the ingestion is no part of it.
        expect(byUs.ingests[0]!.transaction).toBe(transactions ? "1" : undefined);
        expect(byAdbc.ingests[0]!.transaction).toBeUndefined();
        byUs.ingests[0] = { ...byUs.ingests[0]!, transaction: undefined };
        byAdbc.ingests[0] = { ...byAdbc.ingests[0]!, transaction: undefined };
        expect(byUs).toEqual(byAdbc);
      }
    },
  );

  test("a catalog is named as ADBC names it", async () => {
    const stream = base64(RecordBatchStreamWriter.writeAll(people).toUint8Array(true));
    await ours("mine?catalog=c1&schema=main", [people]);
    const where = { catalog_name: "c1", db_schema_name: "main", autocommit: true };
    const request = { location: server.location, table: "mine", stream, mode: "create_append", ...where };
    expect(await peer.ask("adbc_ingest", request)).toEqual({ rows: 3 });
    const [first, second] = events().filter(({ action }) => action === "ingest");
    expect(first).toMatchObject({ catalog: "c1", schema: "main", temporary: false });
    expect({ ...first, transaction: undefined }).toEqual({ ...second, transaction: undefined });
  });
});
