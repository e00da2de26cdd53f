// The spool, through the door that users use.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { type RecordBatch, type Table, tableFromArrays } from "apache-arrow";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type ConnectOptions, connect } from "../../dist/index.js";

let home = "";
beforeEach(() => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-spool-"));
});
afterEach(() => {
  fs.rmSync(home, { recursive: true, force: true });
});

const numbers = (rows: number, from = 0): Table =>
  tableFromArrays({ n: Int32Array.from({ length: rows }, (_, i) => from + i) });
const batch = (rows: number, from = 0): RecordBatch => numbers(rows, from).batches[0]!;
const spool = (more: object = {}): ConnectOptions => ({
  spool: { directory: path.join(home, "spool"), ...more },
  batching: { linger: "1ms" },
  delta: { commitInterval: "20ms" },
  retry: { baseDelay: "5ms", maxDelay: "20ms" },
  telemetry: { enabled: false },
});

describe("a destination that is there", () => {
  test("what is sent is acknowledged, and leaves the spool", async () => {
    await using client = await connect(`delta:${path.join(home, "table")}`, spool());
    const result = await client.send(batch(3));
    expect(result).toMatchObject({
      status: "acknowledged",
      success: true,
      rows: 3,
      acceptedRows: 3,
      sequence: 1n,
    });
    expect(result.position?.kind).toBe("version");
    const delivery = await client.enqueue(batch(2));
    expect(await delivery.result).toMatchObject({ status: "acknowledged", sequence: 2n, recovered: false });
    await client.flush();
    expect(client.stats().spool).toMatchObject({ rows: 0, paused: false, damagedBytes: 0 });
    expect(client.recovered).toEqual({ deliveries: 0, rows: 0, bytes: 0, oldestMs: null });
    expect(client.ready).toBe(true);
  });

  test("many that are sent at once keep their order and their results", async () => {
    await using client = await connect("discard:", spool());
    const results = await Promise.all(Array.from({ length: 200 }, (_, i) => client.send(batch(1 + (i % 5)))));
    expect(results.map((result) => result.rows)).toEqual(Array.from({ length: 200 }, (_, i) => 1 + (i % 5)));
    expect(results.every((result) => result.success)).toBe(true);
  });

  test("a delivery without rows is acknowledged", async () => {
    await using client = await connect("discard:", spool());
    expect(await client.send(batch(0))).toMatchObject({ status: "acknowledged", rows: 0 });
    const delivery = await client.enqueue(batch(0));
    expect((await delivery.result).status).toBe("acknowledged");
  });
});
