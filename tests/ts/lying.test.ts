// and the bar "Bad input": hand-made batches whose lengths, offsets, keys, ids or texts lie. Each is
// BATCH_INVALID with the name of its column (and its row, where one row is to blame), and the client goes on.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import {
  Binary,
  BinaryView,
  Bool,
  Data,
  type DataType,
  Decimal,
  DenseUnion,
  Dictionary,
  Field,
  FixedSizeBinary,
  FixedSizeList,
  Float64,
  Int8,
  Int32,
  Int64,
  LargeUtf8,
  List,
  Map_,
  RecordBatch,
  Schema,
  SparseUnion,
  Struct,
  Utf8,
  Utf8View,
  Vector,
} from "apache-arrow";
import { afterAll, describe, expect, test } from "vitest";
import { connect, IngestError, type TransmissionResult } from "../../dist/index.js";

interface Buffers {
  offsets?: unknown;
  values?: unknown;
  valid?: unknown;
  ids?: unknown;
}

function data(
  type: DataType,
  length: number,
  { offsets, values, valid, ids }: Buffers,
  children: Data[] = [],
  { nulls = 0, offset = 0, words = undefined as Data | undefined, views = [] as Uint8Array[] } = {},
): Data {
  return new Data(
    type,
    offset,
    length,
    nulls,
    [offsets, values, valid, ids] as never,
    children,
    (words && new Vector([words])) as never,
    views as never,
  );
}

/** The library's constructor "repairs" children of another length; a liar writes into what it made. */
function batchOf(columns: Record<string, Data>, rows = Object.values(columns)[0]!.length): RecordBatch {
  const fields = Object.entries(columns).map(([name, { type }]) => new Field(name, type, true));
  const struct = new Data(new Struct(fields), 0, 0, 0, [] as never, []);
  const batch = new RecordBatch(new Schema(fields), struct as never);
  (batch as { schema: Schema }).schema = new Schema(fields);
  (batch as { data: unknown }).data = {
    type: struct.type,
    length: rows,
    offset: 0,
    _nullCount: 0,
    children: Object.values(columns),
  };
  return batch;
}

const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text));
const ints = (...values: number[]): Int32Array => Int32Array.from(values);
const int32 = (rows: number): Data => data(new Int32(), rows, { values: new Int32Array(rows) });
const utf8 = (offsets: Int32Array, values = bytes("abcdefghij")): Data =>
  data(new Utf8(), offsets.length - 1, { offsets, values });
const item = (type: DataType): Field => new Field("item", type, true);
const list = (offsets: Int32Array, items = 6): Data =>
  data(new List(item(new Int32())), offsets.length - 1, { offsets }, [int32(items)]);
const keyed = (keys: number[], words = 3): Data =>
  data(new Dictionary(new Utf8(), new Int8(), 1), keys.length, { values: Int8Array.from(keys) }, [], {
    words: utf8(Int32Array.from({ length: words + 1 }, (_, i) => i)),
  });
const view = (length: number, buffer: number, at: number, prefix = "abcd"): Uint8Array => {
  const raw = new Uint8Array(16);
  const numbers = new DataView(raw.buffer);
  numbers.setInt32(0, length, true);
  raw.set(bytes(prefix), 4);
  numbers.setInt32(8, buffer, true);
  numbers.setInt32(12, at, true);
  return raw;
};
const views = (type: DataType, value: Uint8Array, text = "abcdefghijklmnopqrst"): Data =>
  data(type, 1, { values: value }, [], { views: [bytes(text)] });
const unionFields = [new Field("i", new Int32(), true), new Field("f", new Float64(), true)];
const union = (ids: number[], offsets: number[] | undefined, rows = 3): Data => {
  const floats = data(new Float64(), rows, { values: new Float64Array(rows) });
  const type =
    offsets === undefined ? new SparseUnion([5, 7], unionFields) : new DenseUnion([5, 7], unionFields);
  const buffers = { ids: Int8Array.from(ids), offsets: offsets && Int32Array.from(offsets) };
  return data(type, ids.length, buffers, [int32(rows), floats]);
};
const entries = new Struct([new Field("key", new Utf8(), false), new Field("value", new Int32(), true)]);

/** The library's constructor makes lengths whole and positive; nothing keeps them so. */
const long = (length: number) => () =>
  batchOf({ x: Object.assign(int32(3), { length: length as never }) }, 3);

/** What lies, and the row that is to blame if it is one. */
const lies: Record<string, [Data | (() => RecordBatch), row?: number | undefined, field?: string]> = {
  "text that ends beyond its bytes": [utf8(ints(0, 3, 99))],
  "text that begins before its bytes": [utf8(ints(-4, 3, 5)), 0],
  "text offsets that go back": [utf8(ints(0, 5, 3, 6)), 1],
  "text offsets that go below zero in the middle": [utf8(ints(0, 5, -3, 6)), 1],
  "fewer offsets than rows": [data(new Utf8(), 5, { offsets: ints(0, 1, 2), values: bytes("ab") })],
  "no offsets at all": [data(new Utf8(), 5, { values: bytes("ab") })],
  "no values at all": [data(new Utf8(), 1, { offsets: ints(0, 5) })],
  "64-bit offsets beyond everything": [
    data(new LargeUtf8(), 1, { offsets: BigInt64Array.of(0n, 2n ** 60n), values: bytes("ab") }),
  ],
  "64-bit offsets that go back": [
    data(new LargeUtf8(), 3, { offsets: BigInt64Array.of(0n, 2n, 1n, 2n), values: bytes("ab") }),
    1,
  ],
  "bytes that end beyond": [data(new Binary(), 1, { offsets: ints(0, 9), values: new Uint8Array(3) })],
  "bytes that are no UTF-8": [utf8(ints(0, 2, 4), Uint8Array.of(97, 98, 0xff, 0xfe)), 1],
  "half a character at the end of a row": [utf8(ints(0, 1, 2), bytes("é")), 0],
  "a surrogate": [utf8(ints(0, 3), Uint8Array.of(0xed, 0xa0, 0x80)), 0],
  "no UTF-8 deep in a list": [
    data(new List(item(new Utf8())), 2, { offsets: ints(0, 1, 2) }, [
      utf8(ints(0, 1, 2), Uint8Array.of(97, 0xff)),
    ]),
    1,
    "x.item",
  ],
  "no UTF-8 among the words of a dictionary": [
    data(new Dictionary(new Utf8(), new Int8(), 1), 1, { values: Int8Array.of(0) }, [], {
      words: utf8(ints(0, 1), Uint8Array.of(0xff)),
    }),
  ],
  "lists that end beyond their items": [list(ints(0, 2, 99))],
  "list offsets that go back": [list(ints(0, 4, 2, 6)), 1],
  "list offsets below zero": [list(ints(-2, 2)), 0],
  "a key above the dictionary": [keyed([0, 1, 3]), 2],
  "a key below zero": [keyed([0, -1]), 1],
  "keys for no words": [keyed([0], 0), 0],
  "fewer keys than rows": [
    data(new Dictionary(new Utf8(), new Int32(), 2), 9, { values: ints(0) }, [], { words: utf8(ints(0, 1)) }),
  ],
  "fewer values than rows": [data(new Int32(), 10, { values: ints(1, 2, 3) })],
  "no values for rows": [data(new Int64(), 10, {})],
  "fewer bits than rows": [data(new Bool(), 100, { values: Uint8Array.of(1) })],
  "half a decimal": [data(new Decimal(2, 20, 128), 2, { values: new Uint32Array(6) })],
  "a short value of fixed width": [data(new FixedSizeBinary(7), 3, { values: new Uint8Array(20) })],
  "fewer validity bits than rows": [
    data(new Int32(), 100, { values: new Int32Array(100), valid: Uint8Array.of(1) }, [], { nulls: 99 }),
  ],
  "an offset beyond the validity bits": [
    data(new Int32(), 3, { values: ints(1, 2, 3), valid: Uint8Array.of(7) }, [], { nulls: 1, offset: 800 }),
  ],
  "more nulls than there are": [
    data(new Int32(), 3, { values: ints(1, 2, 3), valid: Uint8Array.of(5) }, [], { nulls: 2 }),
  ],
  "more nulls than rows": [
    data(new Int32(), 3, { values: ints(1, 2, 3), valid: Uint8Array.of(0) }, [], { nulls: 1_000 }),
  ],
  "a negative length": [long(-3)],
  "a length that is no number": [long(Number.NaN)],
  "half a row": [long(1.5)],
  "a length beyond every memory": [long(2 ** 52)],
  "an infinite length": [long(Number.POSITIVE_INFINITY)],
  "a negative offset": [
    data(new Int32(), 3, { values: ints(1, 2, 3), valid: Uint8Array.of(7) }, [], { nulls: 1, offset: -9 }),
  ],
  "a struct whose field is shorter": [
    data(new Struct([new Field("a", new Int32(), true)]), 5, {}, [int32(2)]),
    undefined,
    "x.a",
  ],
  "a fixed list with too few items": [data(new FixedSizeList(3, item(new Int32())), 4, {}, [int32(11)])],
  "a map with a null as a key": [
    data(new Map_(new Field("entries", entries, false) as never), 1, { offsets: ints(0, 1) }, [
      data(entries, 1, {}, [
        data(new Utf8(), 1, { offsets: ints(0, 0), values: new Uint8Array(0), valid: Uint8Array.of(0) }, [], {
          nulls: 1,
        }),
        int32(1),
      ]),
    ]),
  ],
  "a union's id that nobody has": [union([5, 6, 7], undefined), 1],
  "a dense union's id that nobody has": [union([5, 0], [0, 0]), 1],
  "a dense union's offset beyond its child": [union([5, 7], [0, 99]), 1],
  "a dense union's offset below zero": [union([5, 7], [0, -1]), 1],
  "fewer union ids than rows": [
    data(new SparseUnion([5, 7], unionFields), 9, { ids: Int8Array.of(5) }, [
      int32(9),
      data(new Float64(), 9, { values: new Float64Array(9) }),
    ]),
  ],
  "a view into a buffer that is not there": [views(new Utf8View(), view(20, 1, 0)), 0],
  "a view beyond its buffer": [views(new BinaryView(), view(20, 0, 5)), 0],
  "a view of negative length": [views(new BinaryView(), view(-1, 0, 0)), 0],
  "a view whose prefix is another": [views(new Utf8View(), view(20, 0, 0, "zzzz")), 0],
  "a view that is no UTF-8": [
    views(new Utf8View(), view(20, 0, 0, "abcd"), `abcd${"\u00e9".repeat(7)}ab`.slice(0, 11)),
    0,
  ],
  "fewer rows than the batch": [() => batchOf({ y: int32(5), x: int32(3) }, 5)],
  "more rows than the batch": [() => batchOf({ y: int32(5), x: int32(9) }, 5)],
  "a batch of negative length": [() => batchOf({ x: int32(3) }, -1), undefined, ""],
  "a batch of 1.5 rows": [() => batchOf({ x: int32(3) }, 1.5), undefined, ""],
};

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-lying-"));
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

describe("R-04 R-14 batches that lie", () => {
  for (const mode of ["pin", "copy"] as const)
    test(`by ${mode}: each is refused by column and row, and the rows around it arrive`, async () => {
      await using client = await connect("discard:", { handoff: mode, batching: { linger: 0 } });
      const faults: string[] = [];
      for (const [name, [what, row, field = "x"]] of Object.entries(lies)) {
        const before = await client.enqueue(batchOf({ x: int32(3) }));
        const error = await refusal(client.send(typeof what === "function" ? what() : batchOf({ x: what })));
        // The column, or a column inside it.
        const named = error.field === field || (field === "x" && error.field?.startsWith("x."));
        const blamed = row === undefined || error.row === row;
        const clear = error.code === "BATCH_INVALID" && (field === "" || named) && blamed;
        if (!clear)
          faults.push(`${name}: ${error.code} ${error.field} ${error.row} ${error.message.slice(0, 160)}`);
        expect(await before.result, name).toMatchObject({ status: "acknowledged" });
      }
      expect(faults).toEqual([]);
      expect(client.stats().pool.inUseBytes).toBe(0);
    });

  test("into a Delta table: refused, and the table holds the others", async () => {
    const table = path.join(folder, "table");
    const target = `delta:${table}`;
    let good = 0;
    {
      await using client = await connect(target, { delta: { commitInterval: "20ms" } });
      const sent: Promise<unknown>[] = [];
      for (const what of Object.values(lies)
        .map(([what]) => what)
        .filter((what) => typeof what !== "function" && what.type.typeId === new Utf8().typeId)) {
        sent.push(
          client.send(batchOf({ x: utf8(ints(0, 2, 4)) })),
          refusal(client.send(batchOf({ x: what as Data }))),
        );
        good += 2;
      }
      await Promise.all(sent);
    }
    const log = fs.readdirSync(path.join(table, "_delta_log")).filter((name) => name.endsWith(".json"));
    const rows = log
      .flatMap((name) =>
        fs
          .readFileSync(path.join(table, "_delta_log", name), "utf8")
          .trim()
          .split("\n"),
      )
      .map((line) => JSON.parse(line) as { add?: { stats: string } })
      .reduce((sum, { add }) => sum + (add ? JSON.parse(add.stats).numRecords : 0), 0);
    expect(good).toBeGreaterThan(10);
    expect(rows).toBe(good);
  });

  test("a null count of zero beside a bitmap is what the library says: no nulls", async () => {
    await using client = await connect("discard:", { batching: { linger: 0 } });
    const silent = data(new Int32(), 3, { values: ints(1, 2, 3), valid: Uint8Array.of(5) });
    expect(await client.send(batchOf({ x: silent }))).toMatchObject({ status: "acknowledged", rows: 3 });
  });
});

/** The error that came of it, thrown or on a result; none is told by name, too. */
async function refusal(sent: Promise<TransmissionResult>): Promise<IngestError> {
  const result = await sent.catch((error: unknown) => ({ status: "rejected", error }));
  const { error } = result;
  if (error instanceof IngestError) return error;
  return { code: result.status, field: "", row: null, message: String(error) } as never;
}
