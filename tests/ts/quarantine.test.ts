// R-15 through the public door, as far as it needs no server: options, and dead letters read back. What a server
// refuses is in tests/interop/quarantine.test.ts.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import {
  Field,
  Int32,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  Schema,
  Struct,
  Table,
  TimestampMillisecond,
  Uint64,
  Utf8,
  vectorFromArray,
} from "apache-arrow";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connect, IngestError, listDeadLetters, readDeadLetter, removeDeadLetter } from "../../dist/index.js";

describe("R-15 dead letters", () => {
  let folder: string;
  beforeAll(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-letters-"));
  });
  afterAll(() => fs.rmSync(folder, { recursive: true }));

  /** Two columns of one name and one that looks like ours, as the native side writes them. */
  function write(name: string, ids: readonly number[]): string {
    const prefix = "__rejection_";
    const columns = [
      new Field("id", new Int32()),
      new Field("id", new Int32()),
      new Field("_rejection_row", new Int32()),
      new Field(`${prefix}reason`, new Utf8()),
      new Field(`${prefix}code`, new Utf8()),
      new Field(`${prefix}sequence`, new Uint64()),
      new Field(`${prefix}row`, new Uint64()),
      new Field(`${prefix}time`, new TimestampMillisecond("UTC")),
    ];
    // One for each column: the writer would mistake the second use of the same data.
    const numbers = () => vectorFromArray(ids, new Int32()).data[0]!;
    const words = (word: string) =>
      vectorFromArray(
        ids.map((id) => `${word} ${id}`),
        new Utf8(),
      ).data[0]!;
    const bigs = (value: (id: number) => bigint) => vectorFromArray(ids.map(value), new Uint64()).data[0]!;
    const times = vectorFromArray(
      ids.map((id) => 1_700_000_000_000 + id),
      new TimestampMillisecond("UTC"),
    ).data[0]!;
    const children = [
      numbers(),
      numbers(),
      numbers(),
      words("too"),
      words("CODE"),
      bigs(() => 9n),
      bigs((id) => BigInt(id)),
      times,
    ];
    const schema = new Schema(
      columns,
      new Map([
        ["arrow-ingest.dead-letter.prefix", prefix],
        ["mine", "kept"],
      ]),
    );
    const data = makeData({ type: new Struct(columns), length: ids.length, nullCount: 0, children });
    const file = path.join(folder, name);
    fs.writeFileSync(
      file,
      RecordBatchFileWriter.writeAll(new Table([new RecordBatch(schema, data as never)])).toUint8Array(true),
    );
    return file;
  }

  test("are listed when they are whole, the oldest first, and nobody else's with them", async () => {
    const second = write("rejected-1700000000000002-0a.arrow", [3]);
    const first = write("rejected-1700000000000001-0b.arrow", [1, 2]);
    fs.writeFileSync(path.join(folder, "rejected-1700000000000003-0c.arrow.part"), "half");
    fs.writeFileSync(path.join(folder, "notes.arrow"), "of somebody else");
    const files = await listDeadLetters(folder);
    expect(files.map((file) => file.path)).toEqual([first, second]);
    expect(files[0]).toMatchObject({ bytes: fs.statSync(first).size, finished: expect.any(Date) });
  });

  test("what the disk says is an error like any other", async () => {
    const nowhere = path.join(folder, "nowhere");
    const missing = await listDeadLetters(nowhere).catch((error) => error);
    expect(missing).toBeInstanceOf(IngestError);
    expect(missing).toMatchObject({
      code: "NOT_FOUND",
      retry: "never",
      operation: "read",
      cause: { code: "ENOENT" },
    });
    expect(missing.message).toContain(nowhere);
    await expect(readDeadLetter(nowhere)).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(readDeadLetter(folder)).rejects.toMatchObject({
      code: "UNAVAILABLE",
      cause: { code: "EISDIR" },
    });
    await expect(removeDeadLetter(folder)).rejects.toBeInstanceOf(IngestError);
  });

  test("come back in the schema in which they were sent, with why", async () => {
    const { rows, rejections, table } = await readDeadLetter(write("rejected-1-0d.arrow", [5, 6]));
    expect(rows.schema.fields.map((field) => field.name)).toEqual(["id", "id", "_rejection_row"]);
    expect([...rows.schema.metadata]).toEqual([["mine", "kept"]]);
    expect([...rows.getChildAt(1)!]).toEqual([5, 6]);
    expect(rejections).toEqual([
      { reason: "too 5", code: "CODE 5", sequence: 9n, row: 5, time: new Date(1_700_000_000_005) },
      { reason: "too 6", code: "CODE 6", sequence: 9n, row: 6, time: new Date(1_700_000_000_006) },
    ]);
    expect(table.numCols).toBe(8);
    await using client = await connect("discard:");
    expect(await client.send(rows)).toMatchObject({ status: "acknowledged", rows: 2 });
  });

  test("are removed, once or twice", async () => {
    const file = write("rejected-2-0e.arrow", [7]);
    await removeDeadLetter(file);
    expect(fs.existsSync(file)).toBe(false);
    await removeDeadLetter({ path: file, bytes: 0, finished: new Date() });
  });

  test("what is none is said so", async () => {
    const file = path.join(folder, "plain.arrow");
    fs.writeFileSync(
      file,
      RecordBatchFileWriter.writeAll(new Table({ a: vectorFromArray([1], new Int32()) })).toUint8Array(true),
    );
    await expect(readDeadLetter(file)).rejects.toMatchObject({ code: "BATCH_INVALID" });
    fs.writeFileSync(file, "ARROW1\0\0 and no more");
    await expect(readDeadLetter(file)).rejects.toMatchObject({ code: "BATCH_INVALID" });
  });

  test("R-33 mistakes in the options are reported together, by name", async () => {
    const options = { deadLetter: { maxFiles: 0 }, quarantine: { maxAttempt: 1 } } as never;
    const error = await connect("discard:", options).catch((reason) => reason);
    expect(error.issues.map(({ path }: { path: string }) => path).sort()).toEqual([
      "deadLetter.directory",
      "deadLetter.maxFiles",
      "quarantine.maxAttempt",
    ]);
    await using client = await connect("discard:", {
      quarantine: false,
      deadLetter: { directory: path.join(folder, "unused") },
    });
    expect(client.stats().deadLetters).toEqual({ kept: 0, failed: 0, filesRemoved: 0, filesDamaged: 0 });
  });
});
