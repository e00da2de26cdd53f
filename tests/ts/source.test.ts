// R-02 R-32: what cannot be sent is named, and so is the call that makes something of it that can.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { gzipSync } from "node:zlib";
import { RecordBatchReader, tableFromArrays, tableFromJSON, tableToIPC } from "apache-arrow";
import { afterAll, describe, expect, test } from "vitest";
import { connect, type IngestClient, ipcBatches, t } from "../../dist/index.js";
import { isRow } from "../../dist/source.js";

const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-source-"));
afterAll(() => fs.rmSync(home, { recursive: true, force: true }));

const quick = { batching: { linger: 0 }, telemetry: { enabled: false } } as const;
const rows = [{ a: 1 }, { a: 2 }];
const columns = { a: Int32Array.of(1, 2) };

async function refusal(given: Promise<unknown>): Promise<string> {
  const error = await given.catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code: expect.stringMatching(/^(BATCH_INVALID|SCHEMA_REQUIRED)$/) });
  return (error as Error).message;
}

async function all(client: IngestClient, source: unknown): Promise<number> {
  let rows = 0;
  for await (const result of client.sendAll(source as never)) rows += result.orThrow().rows;
  return rows;
}

describe("R-02 what is not taken", () => {
  test("rows", async () => {
    await using client = await connect("discard:", quick);
    for (const given of [client.send(rows), all(client, rows)])
      expect(await refusal(given)).toContain("no schema says what the columns of these rows are");
    expect(await client.send(rows, { schema: t.schema({ a: t.int32() }) })).toMatchObject({ rows: 2 });
    expect(await refusal(client.send({ a: 1, b: "x" } as never))).toContain("give rows in an array");
    expect(await client.send(tableFromJSON(rows))).toMatchObject({ status: "acknowledged", rows: 2 });
    // Classes of one's own may be anything.
    class Row {
      a = 1;
    }
    expect(await refusal(client.send(new Row() as never))).toContain("not a Row");
    expect(await refusal(client.send(Object.create(null) as never))).toContain("a plain object");
  });

  test("an array of batches goes to sendAll, and a path is read first", async () => {
    await using client = await connect("discard:", quick);
    const table = tableFromArrays(columns);
    for (const given of [[table], table.batches])
      expect(await refusal(client.send(given as never))).toContain(
        "an array of batches: give it to sendAll()",
      );
    expect(await all(client, [table])).toBe(2);
    for (const given of [client.send("rows.arrow" as never), all(client, "rows.arrow")])
      expect(await refusal(given)).toContain("send await readFile(path)");
  });

  test("a stream of bytes, whose pieces end anywhere: ipcBatches makes batches of it", async () => {
    await using client = await connect("discard:", quick);
    const file = path.join(home, "rows.arrows");
    const table = tableFromArrays({ n: Float64Array.from({ length: 100_000 }, (_, i) => i) });
    fs.writeFileSync(file, tableToIPC(table, "stream"));
    expect(await refusal(all(client, fs.createReadStream(file)))).toContain("ipcBatches(stream)");
    expect(await all(client, ipcBatches(fs.createReadStream(file)))).toBe(100_000);
    expect(await all(client, await RecordBatchReader.from(fs.createReadStream(file)))).toBe(100_000);
    // A stream of the web does not say what it holds: its first piece does.
    const first = fs.readFileSync(file).subarray(0, 65_536);
    const { error } = await client.send(Uint8Array.from(first));
    expect(error!.message).toContain("RecordBatchReader.from(stream)");
  });

  test("bytes of other formats are named, each with what makes rows of them", async () => {
    await using client = await connect("discard:", quick);
    const formats: [Uint8Array, string][] = [
      [Buffer.from("id,name\n1,one\n"), "text, such as CSV or JSON: sendBytes(bytes) decodes it"],
      [
        fs.readFileSync("node_modules/vega-datasets/data/flights-3m.parquet"),
        "give the bytes, or its path, to sendBytes()",
      ],
      [gzipSync(tableToIPC(tableFromArrays(columns))), "gunzipSync(bytes)"],
    ];
    for (const [bytes, says] of formats) {
      const result = await client.send(Uint8Array.from(bytes));
      expect(result).toMatchObject({ status: "failed", errorCode: "BATCH_INVALID" });
      expect(result.error!.message).toContain(says);
    }
  });
});

describe("R-60 what is one row of a source", () => {
  const wanted = { operation: "sendAll" } as never;
  class Event {
    readonly id = 1;
  }

  test("an object, also of a class, and one that throws while it is looked at", () => {
    expect(isRow({ id: 1 }, wanted)).toBe(true);
    // The second of a class is known by it.
    expect([isRow(new Event(), wanted), isRow(new Event(), wanted)]).toEqual([true, true]);
    const hostile = new Proxy(
      {},
      {
        get: () => {
          throw new Error("no");
        },
        getPrototypeOf: () => {
          throw new Error("no");
        },
      },
    );
    expect(isRow(hostile, wanted)).toBe(true);
  });

  test("and nothing that is sent in another way, or says which call would do", () => {
    for (const other of [null, 1, "text", [], new Uint8Array(1), Promise.resolve({})])
      expect(isRow(other, wanted)).toBe(false);
  });
});
