// R-38 R-02: what `send` reads is cut into pieces that are whole streams, byte for byte what was given.
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import {
  Dictionary,
  Int32,
  makeData,
  makeVector,
  type RecordBatch,
  RecordBatchStreamWriter,
  Schema,
  Table,
  tableFromArrays,
  tableFromIPC,
  tableToIPC,
  Utf8,
  vectorFromArray,
} from "apache-arrow";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { inspect } from "../../dist/cli/input.js";
import type { Io } from "../../dist/cli/io.js";
import { type ByteReader, Malformed, type Piece, pieces } from "../../dist/inputs/messages.js";

/** All of it at hand, or never more than was asked for. */
class Bytes implements ByteReader {
  position = 0;
  constructor(
    readonly bytes: Uint8Array,
    readonly waits = false,
  ) {}
  ready(): boolean {
    return !this.waits;
  }
  async read(length: number): Promise<Uint8Array> {
    const some = this.bytes.subarray(this.position, this.position + length);
    this.position += some.length;
    return some;
  }
}

async function cut(bytes: Uint8Array, waits = false, follows = true): Promise<Piece[]> {
  const found: Piece[] = [];
  for await (const piece of pieces(new Bytes(bytes, waits), follows)) found.push(piece);
  return found;
}

const rows = (bytes: Uint8Array): unknown[] =>
  tableFromIPC(bytes)
    .toArray()
    .map((row) => row?.toJSON());
const all = (found: readonly Pick<Piece, "bytes">[]): unknown[] => found.flatMap(({ bytes }) => rows(bytes));

const batches = (count: number, each: number): RecordBatch[] =>
  Array.from({ length: count }, (_, at) => {
    const n = Int32Array.from({ length: each }, (_, i) => at * each + i);
    return tableFromArrays({ n }).batches[0]!;
  });
const stream = (list: RecordBatch[]): Uint8Array => RecordBatchStreamWriter.writeAll(list).toUint8Array(true);

describe("R-38 pieces", () => {
  test("small batches share a piece where they are at hand, and wait for nobody where they are not", async () => {
    const bytes = stream(batches(10, 5));
    const together = await cut(bytes);
    expect(together.map(({ batches, firstRow, rows }) => ({ batches, firstRow, rows }))).toEqual([
      { batches: 10, firstRow: 0, rows: 50 },
    ]);
    const alone = await cut(bytes, true);
    expect(alone.map(({ firstRow }) => firstRow)).toEqual([0, 5, 10, 15, 20, 25, 30, 35, 40, 45]);
    expect(all(alone)).toEqual(all(together));
    expect(all(together).length).toBe(50);
  });

  test("large batches go alone", async () => {
    const found = await cut(stream(batches(3, 2 << 20)));
    expect(found.map(({ batches }) => batches)).toEqual([1, 1, 1]);
    expect(found.map(({ rows }) => rows)).toEqual([2 << 20, 2 << 20, 2 << 20]);
  });

  test("R-03 dictionaries that are replaced go with every piece that needs them", async () => {
    const type = new Dictionary(new Utf8(), new Int32(), 7);
    const words = [
      ["red", "green"],
      ["blue", "grey", "black"],
    ];
    const list = words.flatMap((dictionary) => {
      const values = vectorFromArray(dictionary, new Utf8());
      const data = Int32Array.from(dictionary.keys());
      const vector = makeVector(makeData({ type, length: data.length, data, dictionary: values }));
      return new Table({ word: vector }).batches;
    });
    const bytes = stream(list);
    const given = words.flat().map((word) => ({ word }));
    expect(rows(bytes)).toEqual(given);
    for (const waits of [false, true]) expect(all(await cut(bytes, waits))).toEqual(given);
  });

  test("streams that follow one another, with other schemas, and without rows", async () => {
    const other = tableToIPC(tableFromArrays({ s: Float64Array.of(1.5) }), "stream");
    const empty = stream([tableFromArrays({ n: Int32Array.of(1) }).batches[0]!.slice(0, 0)]);
    const schemaAlone = tableToIPC(new Table(new Schema([])), "stream");
    const found = await cut(Buffer.concat([stream(batches(1, 2)), other, schemaAlone, empty]));
    expect(all(found)).toEqual([{ n: 0 }, { n: 1 }, { s: 1.5 }]);
    expect(await cut(new Uint8Array(0))).toEqual([]);
  });

  test("messages from before Arrow 0.15 have no continuation mark", async () => {
    const bytes = stream(batches(2, 3));
    const old: Buffer[] = [];
    let at = 0;
    const modern = Buffer.from(bytes);
    const [first] = await cut(bytes);
    expect(first).toBeDefined();
    while (at < modern.length) {
      const length = modern.readInt32LE(at + 4);
      const prefix = Buffer.alloc(4);
      if (length === 0) {
        old.push(prefix);
        break;
      }
      // Padded by what the mark took, so that bodies stay aligned.
      prefix.writeInt32LE(length + 4);
      const metadata = modern.subarray(at + 8, at + 8 + length);
      const next = modern.indexOf(Buffer.from([0xff, 0xff, 0xff, 0xff]), at + 8 + length);
      old.push(prefix, metadata, Buffer.alloc(4), modern.subarray(at + 8 + length, next));
      at = next;
    }
    expect(all(await cut(Buffer.concat(old)))).toEqual(all([first!]));
  });

  const message = (kind: number, bodyLength = 0n): Buffer => {
    // A FlatBuffers table with header_type and bodyLength, at 24; its vtable of four fields is at 8.
    const metadata = Buffer.alloc(48);
    metadata.writeInt32LE(24, 0);
    metadata.writeUInt16LE(12, 8);
    metadata.writeUInt16LE(24, 10);
    metadata.writeUInt16LE(4, 14);
    metadata.writeUInt16LE(8, 18);
    metadata.writeInt32LE(16, 24);
    metadata.writeUInt8(kind, 28);
    metadata.writeBigInt64LE(bodyLength, 32);
    const prefix = Buffer.from([0xff, 0xff, 0xff, 0xff, 48, 0, 0, 0]);
    return Buffer.concat([prefix, metadata]);
  };

  test.each([
    ["a batch before its schema", message(3), "comes before a schema"],
    ["a tensor", Buffer.concat([message(1), message(4)]), "of a kind (4)"],
    ["a body of negative length", message(1, -1n), "is no Arrow message"],
    ["a body that is not there, however long", message(1, 1n << 52n), "ends in the midst"],
    [
      "metadata that point out of themselves",
      Buffer.from([8, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0]),
      "no Arrow",
    ],
    ["half a length", Buffer.from([8, 0]), "ends in the midst of the message that begins at byte 0"],
    ["half a message", stream(batches(1, 2)).subarray(0, 40), "ends in the midst"],
  ])("%s is named, with its place", async (_, bytes, says) => {
    const error = await cut(bytes).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(Malformed);
    expect((error as Malformed).message).toContain(says);
  });
});

describe("R-38 inputs", () => {
  let home = "";
  beforeEach(() => {
    home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-input-"));
  });
  afterEach(() => {
    fs.rmSync(home, { recursive: true, force: true });
  });
  const nobody = {} as Io;

  async function read(name: string): Promise<{ rows: unknown[]; read: number; size: number | null }> {
    const input = await inspect(name, nobody);
    const found: Pick<Piece, "bytes">[] = [];
    let bytes = 0;
    for await (const piece of input.pieces(new AbortController().signal, (more) => {
      bytes += more;
    }))
      found.push(piece);
    return { rows: all(found), read: bytes, size: input.size };
  }

  test("a file of each format, its footer left aside", async () => {
    for (const format of ["file", "stream"] as const) {
      const name = path.join(home, format);
      fs.writeFileSync(name, tableToIPC(new Table(batches(3, 4)), format));
      const found = await read(name);
      expect(found.rows.length).toBe(12);
      expect(found.read).toBe(found.size);
    }
  });

  test("an empty file, and an empty pipe, are mistakes and not inputs without rows", async () => {
    const name = path.join(home, "empty");
    fs.writeFileSync(name, "");
    await expect(inspect(name, nobody)).rejects.toThrow("is empty");
    await expect(read("/dev/null")).rejects.toThrow("it is empty");
  });

  test("a stream that is cut off is found before any of it is read, wherever it is cut", async () => {
    const name = path.join(home, "cut");
    // Bodies of more than the window that is read at once, and less.
    const bytes = Buffer.from(stream([...batches(2, 40_000), ...batches(3, 3)]));
    const other = stream(batches(1, 1));
    fs.writeFileSync(name, Buffer.concat([bytes, other]));
    expect((await read(name)).rows.length).toBe(80_010);
    const ends = [3, 7, 100, 70_000, 200_000, bytes.length - 9, bytes.length + 6, bytes.length + 40];
    for (const end of ends) {
      fs.writeFileSync(name, Buffer.concat([bytes, other]).subarray(0, end));
      await expect(inspect(name, nobody), String(end)).rejects.toThrow(
        /cut off: the input ends in the midst|neither an Arrow/,
      );
    }
    fs.writeFileSync(name, Buffer.concat([bytes, Buffer.from("and something else")]));
    await expect(inspect(name, nobody)).rejects.toThrow("is no Arrow IPC stream, or was cut off");
    // Between two messages nothing is lost.
    fs.writeFileSync(name, bytes.subarray(0, bytes.length - 8));
    expect((await read(name)).rows.length).toBe(80_009);
  });

  test("a pipe by name is read once, from its beginning", async () => {
    const name = path.join(home, "pipe");
    execFileSync("mkfifo", [name]);
    const mark = Buffer.from("ARROW1\0\0");
    const writing = fs.promises.writeFile(name, Buffer.concat([mark, stream(batches(2, 2)), mark]));
    const found = await read(name);
    await writing;
    expect(found).toMatchObject({ size: null });
    expect(found.rows.length).toBe(4);
    // apache-arrow writes the schema of a file behind everything else.
    const late = fs.promises.writeFile(name, tableToIPC(new Table(batches(2, 2)), "file")).catch(() => {});
    await expect(read(name)).rejects.toThrow("can be sent by name, and not through a pipe");
    await late;
  });

  test("who has asked to stop by then reads nothing", async () => {
    const name = path.join(home, "stream");
    fs.writeFileSync(name, stream(batches(1, 1)));
    const input = await inspect(name, nobody);
    const pieces = input.pieces(AbortSignal.abort(), () => {});
    expect(await pieces.next()).toEqual({ done: true, value: undefined });
  });

  test("real flights, from a file", async () => {
    const name = "node_modules/vega-datasets/data/flights-200k.arrow";
    const found = await read(name);
    expect(found.rows.length).toBe(200_000);
  });
});
