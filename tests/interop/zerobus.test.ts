// R-15 R-22 R-23: what a client sends through Zerobus is in the table, as deltalake and polars read it: every type,
// brought into the table's own, and every row but those that came back.
import * as path from "node:path";
import {
  Binary,
  Data,
  type DataType,
  Decimal,
  Dictionary,
  Field,
  Float64,
  Int32,
  Int64,
  LargeUtf8,
  makeData,
  type RecordBatch,
  Struct,
  Table,
  TimestampMillisecond,
  TimestampNanosecond,
  TimestampSecond,
  tableToIPC,
  Utf8,
  Vector,
  vectorFromArray,
} from "apache-arrow";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { rebuildSchema, writeIpc } from "../../dist/handoff/rebuild.js";
import {
  type ConnectOptions,
  connect,
  type Emulator,
  type EmulatorOptions,
  type IngestClient,
  listDeadLetters,
  readDeadLetter,
  startEmulator,
} from "../../dist/index.js";
import { batchOf, everyType, ofKnownYears, ROWS } from "../ts/support/batches.js";
import { tableOf } from "../ts/support/table.js";
import { base64, describeWith, folderOfFile, PYTHON, peerOfFile } from "./support/peer.js";

const folder = folderOfFile("zerobus");
const peer = peerOfFile();

const NAME = "main.sales.orders";
const agree = { deltalake: null, files: null, polars: null };
const quick: ConnectOptions = { batching: { linger: 0 }, retry: { baseDelay: 1, maxDelay: 5 } };
let lakes = 0;

/** An emulator with a lake of its own. */
async function emulate(options: EmulatorOptions = {}): Promise<{ emulator: Emulator; table: string }> {
  const lake = path.join(folder, `lake${++lakes}`);
  const emulator = await startEmulator({ lake, commitInterval: "2ms", ...options });
  return { emulator, table: path.join(lake, ...NAME.split(".")) };
}

const open = (emulator: Emulator, options: ConnectOptions = {}): Promise<IngestClient> =>
  connect(emulator.url(NAME), { ...quick, ...emulator.options, ...options });

/** The library's own writer gets slices of views wrong. */
const ipc = (batch: RecordBatch): string =>
  base64(writeIpc(batch as never, rebuildSchema(batch.schema as never)));

const instants = <T extends DataType>(type: T, values: (bigint | null)[]): Data => {
  const data = makeData({ type: new Int64(), data: BigInt64Array.from(values, (value) => value ?? 0n) });
  const bitmap = new Uint8Array((values.length + 7) >> 3);
  for (const [row, value] of values.entries()) if (value !== null) bitmap[row >> 3]! |= 1 << (row & 7);
  return new Data(type, 0, values.length, -1, [undefined, data.values, bitmap] as never);
};

const VARIANT = new Struct([
  new Field("metadata", new Binary(), false),
  new Field("value", new Binary(), false),
]);

/** A table of every type that SQL has there, and a batch for it. */
function everySqlType() {
  const all = ofKnownYears(everyType());
  const bytes = (seed: number) =>
    vectorFromArray(
      Array.from({ length: ROWS }, (_, row) => Uint8Array.of(seed, row)),
      new Binary(),
    ).data[0]!;
  const variant = new Data(VARIANT, 0, ROWS, 0, [] as never, [bytes(1), bytes(2)]);
  const columns: Record<string, readonly [string, Data]> = {
    flag: ["BOOLEAN", all.bool!],
    tiny: ["TINYINT", all.int8!],
    small: ["SMALLINT", all.int16!],
    whole: ["INT", all.int32!],
    big: ["BIGINT", all.int64!],
    single: ["FLOAT", all.float32!],
    double: ["DOUBLE", all.float64!],
    text: ["STRING", all.utf8!],
    bytes: ["BINARY", all.binary!],
    day: ["DATE", all.date32!],
    instant: ["TIMESTAMP", all.timestamp!],
    reading: [
      "TIMESTAMP_NTZ",
      instants(
        new TimestampMillisecond(),
        fill((row) => BigInt(row) - 11n),
      ),
    ],
    amount: [
      "DECIMAL(38,2)",
      vectorFromArray(
        fill((row) => Uint32Array.of(row * 7, row, 0, row % 2 ? 0xffff_fff0 : 0)),
        new Decimal(2, 38, 128),
      ).data[0]!,
    ],
    variant: ["VARIANT", variant],
    list: ["ARRAY<INT>", all.list!],
    texts: ["ARRAY<STRING>", all.listOfText!],
    map: ["MAP<STRING, INT>", all.map!],
    pair: ["STRUCT<a: INT, b: STRING>", all.struct!],
    nested: ["STRUCT<inner: STRUCT<a: INT, b: STRING>>", all.structOfStruct!],
  };
  const entries = Object.entries(columns);
  return {
    declared: entries.map(([name, [type]]) => ({ name, type })),
    batch: batchOf(Object.fromEntries(entries.map(([name, [, data]]) => [name, data]))),
  };
}

const fill = <T>(value: (row: number) => T): (T | null)[] =>
  Array.from({ length: ROWS }, (_, row) => (row % 3 === 1 ? null : value(row)));

describeWith(PYTHON, "R-22 what arrives", () => {
  test.each(["auto", "ipc"] as const)(
    "R-03 every type of a declared table, with nulls, whole and sliced; handoff %s",
    async (handoff) => {
      const { declared, batch } = everySqlType();
      for (const slice of [batch, batch.slice(3, 20)]) {
        const { emulator, table } = await emulate({ tables: { [NAME]: declared } });
        await using _ = emulator;
        await using client = await open(emulator, { handoff });
        const result = await client.send(slice);
        expect(result.orThrow()).toMatchObject({ acceptedRows: slice.numRows, attempts: 1 });
        expect(await peer.ask("delta_equal", { path: table, expected: [ipc(slice)] })).toEqual(agree);
      }
    },
  );

  test("every type that has a like there, into a table that is made of it", async () => {
    const lost =
      /^null$|^time(32|64|Ns)|duration|yearMonth|dayTime|monthDayNano|Union|timestampNs|date64|decimal|dictionaryOfStruct/;
    const batch = batchOf(
      Object.fromEntries(Object.entries(ofKnownYears(everyType())).filter(([name]) => !lost.test(name))),
    );
    expect(batch.schema.fields.length).toBeGreaterThan(26);
    const { emulator, table } = await emulate();
    await using _ = emulator;
    await using client = await open(emulator);
    expect((await client.send(batch)).error).toBeNull();
    expect(await peer.ask("delta_equal", { path: table, expected: [ipc(batch)] })).toEqual(agree);
  });

  test("columns by name, text of any kind, dictionaries, instants of any unit, and what is missing as null", async () => {
    const tables = {
      [NAME]: [
        { name: "id", type: "BIGINT", nullable: false },
        { name: "city", type: "STRING" },
        { name: "at", type: "TIMESTAMP" },
        { name: "note", type: "STRING" },
      ],
    };
    const { emulator, table } = await emulate({ tables });
    await using _ = emulator;
    await using client = await open(emulator);
    const cities = ["BER", null, "MUC", "BER"];
    const ids = (from: number) =>
      vectorFromArray(
        [0, 1, 2, 3].map((row) => from + row),
        new Int32(),
      );
    const at = (type: DataType, unit: bigint) =>
      new Vector([instants(type, [0n, null, 1_700_000_000n * unit, -unit])]);
    const notes = vectorFromArray(["a", null, "c", "d"], new LargeUtf8());
    const sent = [
      { at: at(new TimestampSecond("UTC"), 1n), city: vectorFromArray(cities, new Utf8()), id: ids(0) },
      { note: notes, city: vectorFromArray(cities, new LargeUtf8()), id: ids(4) },
      {
        id: ids(8),
        city: vectorFromArray(cities, new Dictionary(new Utf8(), new Int32())),
        at: at(new TimestampNanosecond("Europe/Berlin"), 1_000_000_000n),
      },
      {
        city: vectorFromArray(cities, new Utf8()),
        id: ids(12),
        at: at(new TimestampMillisecond("UTC"), 1_000n),
      },
    ];
    for (const columns of sent) expect((await client.send(new Table(columns))).error).toBeNull();

    const none = [null, null, null, null];
    const when = [0n, null, 1_700_000_000n, -1n];
    const all = <T>(parts: readonly (readonly T[])[]) => parts.flat();
    const expected = new Table({
      id: vectorFromArray(
        Array.from({ length: 16 }, (_, row) => BigInt(row)),
        new Int64(),
      ),
      city: vectorFromArray(all([cities, cities, cities, cities]), new Utf8()),
      at: new Vector([instants(new TimestampSecond("UTC"), all([when, none, when, when]))]),
      note: vectorFromArray(all<string | null>([none, ["a", null, "c", "d"], none, none]), new Utf8()),
    });
    const request = { path: table, expected: [base64(tableToIPC(expected))], order_by: "id" };
    expect(await peer.ask("delta_equal", request)).toEqual(agree);
  });

  test("over TLS, by the emulator's own authority", async () => {
    const { emulator, table } = await emulate({ tls: true });
    await using _ = emulator;
    expect(emulator.url(NAME)).toMatch(/^zerobus:/);
    await using client = await open(emulator);
    const batch = tableOf({ id: Int32Array.of(1, 2, 3) });
    expect((await client.send(batch)).orThrow().acceptedRows).toBe(3);
    const held = await peer.ask("delta_rows", { path: table, column: "id" });
    expect(held).toMatchObject({ values: [1, 2, 3] });
    const stranger = open(emulator, { tls: {} });
    await expect(stranger).rejects.toMatchObject({ code: "CONFIG_INVALID", attempts: 1 });
  });
});

describeWith(PYTHON, "R-15 refused rows", () => {
  test("instants out of range among others: partial, each named, given back as they were, kept on the disk", async () => {
    const tables = {
      [NAME]: [
        { name: "id", type: "INT" },
        { name: "at", type: "TIMESTAMP" },
      ],
    };
    const { emulator, table } = await emulate({ tables });
    await using _ = emulator;
    const directory = path.join(folder, "letters");
    const far = 1n << 50n;
    const ats = [1n, far, 3n, null, -far, 6n];
    const sent = new Table({
      at: new Vector([instants(new TimestampSecond("UTC"), ats)]),
      id: vectorFromArray([0, 1, 2, 3, 4, 5], new Int32()),
    });
    {
      await using client = await open(emulator, { deadLetter: { directory } });
      const result = await client.send(sent);
      expect(result).toMatchObject({ status: "partial", acceptedRows: 4, rejectedRows: 2, attempts: 1 });
      expect(result.errorCode).toBe("ROWS_REJECTED");
      expect(result.rejections.map(({ row, code }) => [row, code])).toEqual([
        [1, "BATCH_INVALID"],
        [4, "BATCH_INVALID"],
      ]);
      expect(result.rejections[0]!.message).toContain(
        'at: 1125899906842624 as Timestamp(s, "UTC") does not fit Timestamp(µs, "UTC")',
      );
      expect([...result.rejectionsByCode()].map(([code, rows]) => [code, rows.length])).toEqual([
        ["BATCH_INVALID", 2],
      ]);
      const refused = result.rejectedBatch()!;
      expect(String(refused.schema)).toBe(String(sent.schema));
      expect([...refused.getChild("id")!]).toEqual([1, 4]);
      expect([...(refused.getChild("at")!.data[0]!.values as BigInt64Array)]).toEqual([far, -far]);
      expect([...result.acceptedBatch()!.getChild("id")!]).toEqual([0, 2, 3, 5]);
      expect(client.stats().deadLetters).toMatchObject({ kept: 2, failed: 0 });
    }
    const [file, ...more] = await listDeadLetters(directory);
    expect(more).toEqual([]);
    const kept = await readDeadLetter(file!);
    expect(String(kept.rows.schema)).toBe(String(sent.schema));
    expect(kept.rejections.map(({ row, code }) => [row, code])).toEqual([
      [1, "BATCH_INVALID"],
      [4, "BATCH_INVALID"],
    ]);
    expect(await peer.ask("delta_rows", { path: table, column: "id" })).toMatchObject({
      values: [0, 2, 3, 5],
    });
    expect((await emulator.summary()).tables[NAME]).toMatchObject({ rowsReceived: 4, batchesRefused: 0 });
  });

  test("rows that the service refuses without a name are found, and nothing else comes back", async () => {
    const { emulator, table } = await emulate({ faults: ["reject:column=price,below=0"] });
    await using _ = emulator;
    await using client = await open(emulator, { batching: { linger: "20ms" } });
    const ids = Array.from({ length: 3_000 }, (_, id) => id);
    const bad = [0, 777, 778, 2_999];
    const rows = (from: number, to: number) =>
      new Table({
        id: vectorFromArray(ids.slice(from, to), new Int32()),
        price: vectorFromArray(
          ids.slice(from, to).map((id) => (bad.includes(id) ? -1 : id / 7)),
          new Float64(),
        ),
      });
    const parts = [rows(0, 700), rows(700, 2_000), rows(2_000, 3_000)];
    const results = await Promise.all(parts.map((part) => client.send(part)));
    expect(results.map(({ status }) => status)).toEqual(["partial", "partial", "partial"]);
    expect(results.map(({ rejections }) => rejections.map(({ row }) => row))).toEqual([[0], [77, 78], [999]]);
    expect([...results[1]!.rejectionsByCode().keys()]).toEqual(["INVALID_ARGUMENT"]);
    const refused = results.flatMap((result) => [...result.rejectedBatch()!.getChild("id")!]);
    expect(refused).toEqual(bad);
    const held = await peer.ask<{ values: number[] }>("delta_rows", { path: table, column: "id" });
    expect(held.values).toEqual(ids.filter((id) => !bad.includes(id)));
  });

  test("R-14 accepted rows and refused rows are the rows that were given, for any pattern of bad ones", async () => {
    // `local` rows do not fit the table and are found before the wire; `remote` ones the service refuses.
    const tables = {
      [NAME]: [
        { name: "id", type: "INT" },
        { name: "amount", type: "INT" },
        { name: "text", type: "STRING" },
      ],
    };
    const kind = fc.constantFrom("good", "good", "good", "good", "good", "local", "remote" as const);
    const batch = fc.tuple(
      fc.array(fc.record({ kind, text: fc.option(fc.string({ unit: "grapheme" })) }), {
        minLength: 1,
        maxLength: 60,
      }),
      fc.nat({ max: 3 }),
    );
    const property = fc.asyncProperty(fc.array(batch, { minLength: 1, maxLength: 6 }), async (given) => {
      const { emulator, table } = await emulate({ tables, faults: ["reject:column=amount,below=0"] });
      await using _ = emulator;
      let next = 0;
      const sent = given.map(([rows, cut]) => {
        const values = rows.map(({ kind, text }) => ({
          id: next++,
          amount: kind === "good" ? 1n : kind === "local" ? 1n << 40n : -1n,
          text,
        }));
        const whole = new Table({
          text: vectorFromArray(
            values.map(({ text }) => text),
            new Utf8(),
          ),
          id: vectorFromArray(
            values.map(({ id }) => id),
            new Int32(),
          ),
          amount: vectorFromArray(
            values.map(({ amount }) => amount),
            new Int64(),
          ),
        }).batches[0]!;
        return whole.slice(Math.min(cut, values.length - 1));
      });
      {
        await using client = await open(emulator, { batching: { maxRows: 50, linger: "2ms" } });
        const results = await Promise.all(sent.map((batch) => client.send(batch)));
        for (const [index, result] of results.entries()) {
          const rows = [...sent[index]!];
          const isBad = rows.map((row) => row.amount !== 1n);
          expect(result.rejections.map(({ row }) => row)).toEqual(
            isBad.flatMap((bad, row) => (bad ? [row] : [])),
          );
          expect(result.acceptedRows + result.rejectedRows).toBe(result.rows);
          const texts = (part: RecordBatch | null) => (part === null ? [] : [...part].map(String));
          expect(texts(result.rejectedBatch())).toEqual(rows.filter((_, row) => isBad[row]).map(String));
          expect(texts(result.acceptedBatch())).toEqual(rows.filter((_, row) => !isBad[row]).map(String));
          if (isBad.some(Boolean))
            expect(String(result.rejectedBatch()!.schema)).toBe(String(sent[index]!.schema));
        }
        const kept = results.flatMap((result) => result.acceptedBatch() ?? []);
        if (kept.length === 0) return;
        const expected = kept.map(ipc);
        expect(await peer.ask("delta_equal", { path: table, expected, order_by: "id" })).toEqual(agree);
      }
    });
    await fc.assert(property, { numRuns: Number(process.env.PROPERTY_RUNS ?? 12) });
  });
});
