// objects of other copies and versions of apache-arrow, ESM and CJS, cross like our own.
import { createRequire } from "node:module";
import * as ours from "apache-arrow";
import { type RecordBatch, tableFromIPC } from "apache-arrow";
import { describe, expect, test } from "vitest";
import { Packer } from "../../dist/handoff.js";
import { type ConnectOptions, connect, TransmissionResult } from "../../dist/index.js";
import { parse, unpack, valuesOf } from "./support/batches.js";
import { contentOf } from "./support/content.js";

const require = createRequire(import.meta.url);
type Arrow = typeof import("apache-arrow");

const libraries: [string, () => Promise<Arrow>][] = [15, 16, 17, 18, 19, 20, 21].flatMap((version) => {
  const name = `apache-arrow-${version}`;
  return [
    [`${version} ESM`, async () => (await import(name)) as Arrow],
    [`${version} CJS`, async () => require(name) as Arrow],
  ];
});
libraries.push(["21 CJS beside ours", async () => require("apache-arrow") as Arrow]);

function tableOf(arrow: Arrow) {
  const { vectorFromArray: vector } = arrow;
  return arrow.tableFromArrays({
    int: Int32Array.from([1, 2, 3, 4, 5]),
    big: BigInt64Array.from([1n, -2n, 3n, -4n, 5n]),
    text: vector(["one", null, "three", "", "fünf"], new arrow.Utf8()),
    flag: vector([true, null, false, true, true], new arrow.Bool()),
    word: vector(["a", "b", "a", null, "c"], new arrow.Dictionary(new arrow.Utf8(), new arrow.Int8())),
    list: vector(
      [[1, 2], [], null, [3], [4, 5]],
      new arrow.List(new arrow.Field("item", new arrow.Int16(), true)),
    ),
    when: vector(
      [new Date(0), null, new Date(86_400_000), new Date(1), new Date(2)],
      new arrow.TimestampMillisecond(),
    ),
    money: vector(
      [new Uint32Array([1, 2, 3, 4]), null, new Uint32Array(4), null, null] as never,
      new arrow.Decimal(2, 20, 128),
    ),
    thing: vector(
      [{ a: 1 }, { a: 2 }, null, { a: 4 }, { a: null }],
      new arrow.Struct([new arrow.Field("a", new arrow.Float64(), true)]),
    ),
  } as never);
}

describe("R-07 objects of another copy or version of apache-arrow", () => {
  for (const [name, load] of libraries)
    test(`${name}: by columns and by IPC, whole and sliced`, async () => {
      const arrow = await load();
      const table = tableOf(arrow);
      for (const batch of [table.batches[0]!, table.batches[0]!.slice(1, 4)]) {
        const expected = valuesOf(batch as never);
        for (const mode of ["pin", "copy", "ipc"] as const) {
          const schemas: Uint8Array[] = [];
          const packer = new Packer((message) => schemas.push(message) - 1);
          packer.begin(0);
          packer.add(1, contentOf(batch), mode);
          const packed = parse(packer.finish()).deliveries[0]!.batches[0]!;
          const read = (): RecordBatch => {
            if (mode !== "ipc") return unpack(packed, packer.buffers, tableFromIPC(schemas[0]!).schema);
            const [slot] = packed.buffers;
            return tableFromIPC(new Uint8Array(packer.buffers[0]!, slot!.offset, slot!.length)).batches[0]!;
          };
          expect(valuesOf(read())).toBe(expected);
        }
      }
    });

  for (const [name, load] of libraries)
    test(`${name}: a table arrives, and its rows come back split, in classes of its own library`, async () => {
      const arrow = await load();
      const table = tableOf(arrow);
      await using client = await connect("discard:", {
        batching: { linger: 0 },
        schema: table.schema,
        telemetry: { enabled: false },
      });
      expect(await client.send(table)).toMatchObject({ status: "acknowledged", rows: 5, handoff: "pinned" });
      expect(await client.send(new arrow.Table(table.schema))).toMatchObject({
        status: "acknowledged",
        rows: 0,
      });
      const facts = await client.send(table.batches[0]!);
      const all = Object.fromEntries(JSON.parse(valuesOf(table.batches[0] as never))) as Record<
        string,
        unknown[]
      >;
      for (const refused of [[0, 2, 4], [1, 2], [3]]) {
        const partial = new TransmissionResult(
          {
            ...facts,
            status: "partial",
            rejections: refused.map((row) => ({ row, code: "X", message: "" })),
          },
          contentOf(table),
        );
        const [rejected, accepted] = [partial.rejectedBatch()!, partial.acceptedBatch()!];
        for (const batch of [rejected, accepted]) {
          expect(Object.getPrototypeOf(batch)).toBe(arrow.RecordBatch.prototype);
          expect(batch).toBeInstanceOf(arrow.RecordBatch);
          expect(batch.data).toBeInstanceOf(arrow.Data);
          // What does not fit overflowed the stack of older versions.
          expect(new arrow.Table([batch as never]).numRows).toBe(batch.numRows);
          expect(arrow.tableToIPC(new arrow.Table([batch as never])).length).toBeGreaterThan(0);
        }
        const rows = [0, 1, 2, 3, 4];
        for (const [batch, wanted] of [
          [rejected, refused],
          [accepted, rows.filter((row) => !refused.includes(row))],
        ] as const) {
          const found = Object.fromEntries(JSON.parse(valuesOf(batch))) as Record<string, unknown[]>;
          for (const [column, values] of Object.entries(all))
            expect(found[column], column).toEqual(wanted.map((row) => values[row]));
        }
      }
    });

  test("a Schema of any of them is an option of connect, in types too", () => {
    type Schema =
      | import("apache-arrow-15").Schema
      | import("apache-arrow-16").Schema
      | import("apache-arrow-17").Schema
      | import("apache-arrow-18").Schema
      | import("apache-arrow-19").Schema
      | import("apache-arrow-20").Schema
      | import("apache-arrow-21").Schema;
    const options = (schema: Schema): ConnectOptions => ({ schema });
    expect(options(new ours.Schema([]))).toBeDefined();
    // @ts-expect-error: but not anything at all
    expect({ schema: { fields: [] } } satisfies ConnectOptions).toBeDefined();
  });

  test("of bytes, rows come back in our classes", async () => {
    await using client = await connect("discard:", { batching: { linger: 0 } });
    const bytes = ours.tableToIPC(ours.tableFromArrays({ n: Int32Array.of(1, 2, 3) }), "stream");
    const facts = await client.send(bytes);
    const rejections = [0, 2].map((row) => ({ row, code: "X", message: "" }));
    const partial = new TransmissionResult({ ...facts, status: "partial", rejections }, contentOf(bytes));
    expect(partial.rejectedBatch()).toBeInstanceOf(ours.RecordBatch);
  });

  test("rows and other things are refused by name", async () => {
    await using client = await connect("discard:");
    const refusal = async (value: unknown): Promise<string> => {
      const error = await client.send(value as never).catch((reason: Error) => reason);
      expect(error).toMatchObject({ code: expect.stringMatching(/^(BATCH_INVALID|SCHEMA_REQUIRED)$/) });
      return (error as Error).message;
    };
    expect(await refusal([{ a: 1 }])).toContain("no schema says what the columns of these rows are");
    expect(await refusal([])).toContain("no schema says what the columns of these rows are");
    expect(await refusal({ a: 1 })).toContain("plain object");
    expect(await refusal("text")).toContain('not "text"');
    expect(await refusal(null)).toContain("not null");
    expect(await refusal(new Date())).toContain("a Date");
  });
});
