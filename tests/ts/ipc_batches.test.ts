// Arrow IPC from a socket, a pipe or a file as it comes, in chunks of any size.
import * as fs from "node:fs";
import * as net from "node:net";
import * as os from "node:os";
import * as path from "node:path";
import { Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import {
  Dictionary,
  Int32,
  type RecordBatch,
  Table,
  tableFromIPC,
  tableToIPC,
  Utf8,
  vectorFromArray,
} from "apache-arrow";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connect, type IngestClient, type IngestError, ipcBatches } from "../../dist/index.js";

const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-ipc-"));
let client: IngestClient;
beforeAll(async () => {
  client = await connect("discard:", { batching: { linger: 0 }, telemetry: { enabled: false } });
});
afterAll(async () => {
  await client.close();
  fs.rmSync(home, { recursive: true, force: true });
});

/** Some batches with a dictionary that is replaced, text and numbers. */
function tableOf(batches: number, rows: number): Table {
  const all: RecordBatch[] = [];
  let schema: Table["schema"] | undefined;
  for (let batch = 0; batch < batches; batch++) {
    const table = new Table({
      n: vectorFromArray(
        Array.from({ length: rows }, (_, i) => batch * rows + i),
        new Int32(),
      ),
      text: vectorFromArray(
        Array.from({ length: rows }, (_, i) => `text ${batch} ${i}`),
        new Utf8(),
      ),
      kind: vectorFromArray(
        Array.from({ length: rows }, (_, i) => `kind ${i % 3}`),
        new Dictionary(new Utf8(), new Int32(), 1),
      ),
    });
    schema ??= table.schema;
    all.push(...new Table(schema, table.batches).batches);
  }
  return new Table(all);
}

function* cut(bytes: Uint8Array, size: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function piecesOf(
  source: Parameters<typeof ipcBatches>[0],
  options?: Parameters<typeof ipcBatches>[1],
) {
  const pieces: Uint8Array[] = [];
  let error: IngestError | undefined;
  try {
    for await (const piece of ipcBatches(source, options)) pieces.push(piece);
  } catch (thrown) {
    error = thrown as IngestError;
  }
  const values = pieces.flatMap((piece) => [...tableFromIPC(piece)].map((row) => row.toJSON()));
  return { pieces, values, error };
}

const bytes = tableToIPC(tableOf(4, 5), "stream");
const wanted = [...tableFromIPC(bytes)].map((row) => row.toJSON());

describe("chunks of any size", () => {
  test.each([1, 2, 3, 7, 8, 64, 1_000, 4_096, bytes.length])("%d bytes", async (size) => {
    const { values, error } = await piecesOf(cut(bytes, size));
    expect(error).toBeUndefined();
    expect(values).toEqual(wanted);
  });

  test("chunks of all kinds, and empty ones, from all kinds of sources", async () => {
    const parts = [
      bytes.slice(0, 100).buffer,
      new DataView(bytes.slice(100, 101).buffer),
      new Uint8Array(0),
      Buffer.from(bytes.subarray(101)),
    ];
    expect((await piecesOf(parts)).values).toEqual(wanted);
    expect((await piecesOf(Readable.from([...cut(bytes, 50)]))).values).toEqual(wanted);
    expect((await piecesOf(new Blob([Uint8Array.from(bytes)]).stream())).values).toEqual(wanted);
    async function* later() {
      yield* cut(bytes, 13);
    }
    expect((await piecesOf(later())).values).toEqual(wanted);
  });
});

test("a socket and a file go to sendAll as they come", async () => {
  const server = net.createServer((socket) => {
    socket.write(bytes.subarray(0, 777));
    socket.end(bytes.subarray(777));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const socket = net.connect((server.address() as net.AddressInfo).port, "127.0.0.1");
  let rows = 0;
  for await (const result of client.sendAll(ipcBatches(socket))) {
    expect(result.handoff).toBe("ipc");
    rows += result.orThrow().rows;
  }
  expect(rows).toBe(20);
  server.close();
  const file = path.join(home, "rows.arrow");
  fs.writeFileSync(file, tableToIPC(tableOf(1, 5), "file"));
  // A file of apache-arrow has its schema in the footer alone, behind its rows.
  const { error } = await piecesOf(fs.createReadStream(file));
  expect(error?.message).toContain("comes before a schema");
});

test("a file whose schema stands first is read through to its end", async () => {
  const mark = Buffer.from("ARROW1\0\0");
  const footer = Buffer.alloc(200_000, 1);
  let isDrained = false;
  function* source() {
    yield Buffer.concat([mark, bytes, footer]);
    isDrained = true;
  }
  const { values, error } = await piecesOf(source());
  expect(error).toBeUndefined();
  expect(values).toEqual(wanted);
  expect(isDrained).toBe(true);
});

test("several streams in a row, with other schemas, are all sent", async () => {
  const other = tableToIPC(new Table({ a: vectorFromArray([1.5], undefined as never) }), "stream");
  const { pieces, values } = await piecesOf(cut(Buffer.concat([bytes, other, bytes]), 333));
  expect(values).toEqual([...wanted, { a: 1.5 }, ...wanted]);
  let rows = 0;
  for await (const result of client.sendAll(pieces)) rows += result.orThrow().rows;
  expect(rows).toBe(41);
});

test("what breaks off is an error that names the byte, after the batches that came whole", async () => {
  for (let end = 1; end < bytes.length - 8; end += 37) {
    const { values, error } = await piecesOf(cut(bytes.subarray(0, end), 100));
    const isBetween = error === undefined;
    // Between two messages nobody can tell: streams without an end are legal.
    if (!isBetween) expect(error).toMatchObject({ code: "BATCH_INVALID", operation: "ipcBatches" });
    expect(values).toEqual(wanted.slice(0, values.length));
  }
  const { error } = await piecesOf(cut(bytes.subarray(0, bytes.length - 100), 100));
  expect(error?.message).toMatch(/ends in the midst of the message that begins at byte \d+/);
});

test("a source that breaks says how it broke, and one that is left is ended", async () => {
  const broken = new Readable({ read() {} });
  broken.push(bytes.subarray(0, 900));
  setImmediate(() => broken.destroy(new Error("reset by peer")));
  const { error } = await piecesOf(broken);
  expect(error).toMatchObject({ message: "reset by peer" });
  const left = Readable.from(cut(bytes, 100));
  for await (const _ of ipcBatches(left)) break;
  expect(left.destroyed).toBe(true);
});

test.each<[string, Uint8Array, string]>([
  ["nothing", new Uint8Array(0), "is empty"],
  ["Parquet", Buffer.from("PAR1 and more"), "a Parquet file"],
  ["gzip", gzipSync(bytes), "zlib.createGunzip()"],
  ["text", Buffer.from("id,name\n1,one\n"), "neither a message nor the mark of a file"],
  ["three bytes", Buffer.from("abc"), "ends in the midst"],
])("%s is named", async (_, given, says) => {
  const { error } = await piecesOf([given]);
  expect(error).toMatchObject({ code: "BATCH_INVALID" });
  expect(error?.message).toContain(says);
});

test("big-endian data is refused before a row is sent", async () => {
  const big = Uint8Array.from(bytes);
  const view = new DataView(big.buffer);
  // The schema message: its root, the header, and the header's first field.
  const root = 8 + view.getInt32(8, true);
  const field = (table: number, index: number): number => {
    const vtable = table - view.getInt32(table, true);
    return table + view.getUint16(vtable + 4 + 2 * index, true);
  };
  const headerAt = field(root, 2);
  const header = headerAt + view.getInt32(headerAt, true);
  const vtable = header - view.getInt32(header, true);
  if (view.getUint16(vtable + 4, true) === 0) {
    // Little-endian is the default and was left out: any two bytes that are no zero do.
    view.setUint16(vtable + 4, 4, true);
  } else view.setInt16(field(header, 0), 1, true);
  const { error, pieces } = await piecesOf(cut(big, 64));
  expect(error).toMatchObject({ code: "BATCH_INVALID" });
  expect(error?.message).toContain("big-endian");
  expect(pieces).toEqual([]);
});

test("a length that lies is refused before memory is taken for it", async () => {
  const lie = Uint8Array.from(bytes.subarray(0, 64));
  new DataView(lie.buffer).setUint32(4, 0xffff_fff0, true);
  const endless = (function* () {
    yield lie;
    for (;;) yield new Uint8Array(1 << 16);
  })();
  const { error } = await piecesOf(endless);
  expect(error?.message).toContain("claims 4294967280 bytes, over maxMessageBytes (1073741824)");
  const small = await piecesOf(cut(bytes, 64), { maxMessageBytes: 100 });
  expect(small.error?.message).toContain("over maxMessageBytes (100)");
  const dictionaries = await piecesOf(cut(bytes, 64), { maxMessageBytes: 500 });
  expect(dictionaries.error?.message).toMatch(/maxMessageBytes|dictionaries take more/);
});

test("chunks that are no bytes, sources that are none, and wrong options are refused", async () => {
  const text = await piecesOf(["text"] as never);
  expect(text.error?.message).toContain("set no encoding");
  const gone = new Uint8Array(8);
  structuredClone(gone.buffer, { transfer: [gone.buffer] });
  expect((await piecesOf([gone])).error?.message).toContain("transferred away");
  for (const [source, says] of [
    [5, "not 5"],
    [bytes, "send() takes bytes"],
    [bytes.buffer, "send() takes bytes"],
    [undefined, "not undefined"],
  ] as const)
    expect(() => ipcBatches(source as never)).toThrow(says);
  for (const options of [{ maxMessageBytes: "1MiB" }, { maxMessageBytes: 0 }, { maxBytes: 5 }])
    expect(() => ipcBatches([bytes], options as never)).toThrow(
      expect.objectContaining({ code: "CONFIG_INVALID" }),
    );
});

test("many small chunks that are there without waiting leave the event loop its turns, and take little memory", async () => {
  const large = tableToIPC(tableOf(1, 20_000), "stream");
  let turns = 0;
  const timer = setInterval(() => turns++, 0);
  const one = new Uint8Array(1);
  function* single() {
    for (const byte of large) {
      one[0] = byte;
      yield one;
    }
  }
  // The very same chunk each time: what was read of it is kept, and it is not.
  const { values, error } = await piecesOf(single());
  clearInterval(timer);
  expect(error).toBeUndefined();
  expect(values.length).toBe(20_000);
  expect(turns).toBeGreaterThan(2);
});
