// what apache-arrow 15 to 21 make, ESM and CJS copies side by side in one process, is taken by one client:
// the native side sees the same rows, and a Delta table of all of them is read back whole by others.
import * as fs from "node:fs";
import { createRequire } from "node:module";
import * as os from "node:os";
import * as path from "node:path";
import * as ours from "apache-arrow";
import { type Table, tableFromIPC, tableToIPC } from "apache-arrow";
import { afterAll, describe, expect, test } from "vitest";
import { type BatchInput, connect } from "../../dist/index.js";
import { valuesOf } from "../ts/support/batches.js";
import { Echo, MODES, PAYLOADS } from "../ts/support/echo.js";
import { base64, describeWith, Peer, PYTHON } from "./support/peer.js";

const require = createRequire(import.meta.url);
type Arrow = typeof import("apache-arrow");

const libraries: [string, Arrow][] = [];
for (const version of [15, 16, 17, 18, 19, 20, 21]) {
  const name = `apache-arrow-${version}`;
  libraries.push(
    [`${version} ESM`, (await import(name)) as Arrow],
    [`${version} CJS`, require(name) as Arrow],
  );
}
libraries.push(["ours CJS", require("apache-arrow") as Arrow]);

const echo = new Echo();
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-versions-"));
afterAll(() => {
  echo[Symbol.dispose]();
  fs.rmSync(folder, { recursive: true, force: true });
});

/** What a Delta table holds. */
function plain(arrow: Arrow, of: number): Record<string, unknown> {
  const { vectorFromArray: vector } = arrow;
  return {
    id: BigInt64Array.from([0, 1, 2, 3, 4], (row) => BigInt(of * 10 + row)),
    int: vector([1, null, -3, 4, 5], new arrow.Int32()),
    tiny: Int8Array.of(-128, 127, 0, 1, 2),
    float: vector([0.1, -0, null, Number.NaN, 1e300], new arrow.Float64()),
    text: vector(["one", null, "", "fünf🎉", "\0"], new arrow.Utf8()),
    bytes: vector(
      [Uint8Array.of(1, 2), null, new Uint8Array(0), Uint8Array.of(255), Uint8Array.of(0)],
      new arrow.Binary(),
    ),
    flag: vector([true, null, false, true, true], new arrow.Bool()),
    word: vector(["a", "b", "a", null, "c"], new arrow.Dictionary(new arrow.Utf8(), new arrow.Int8())),
    list: vector(
      [["x"], [], null, ["y", null], ["z"]],
      new arrow.List(new arrow.Field("item", new arrow.Utf8(), true)),
    ),
    day: vector([new Date(0), null, new Date(864e5), new Date(1728e5), new Date(0)], new arrow.DateDay()),
    when: vector(
      [new Date(0), null, new Date(864e5), new Date(1), new Date(2)],
      new arrow.TimestampMillisecond("UTC"),
    ),
    money: vector(
      [
        Uint32Array.of(1, 2, 0, 0),
        null,
        new Uint32Array(4),
        null,
        Uint32Array.of(0xffff_ff00, -1, -1, -1),
      ] as never,
      new arrow.Decimal(2, 25, 128),
    ),
    thing: vector(
      [{ a: 1, b: "x" }, { a: 2, b: null }, null, { a: null, b: "" }, { a: 5, b: "y" }],
      new arrow.Struct([
        new arrow.Field("a", new arrow.Float32(), true),
        new arrow.Field("b", new arrow.Utf8(), true),
      ] as never),
    ),
    map: vector(
      [
        new Map([["k", 1]]),
        new Map(),
        null,
        new Map([
          ["l", 2],
          ["m", 3],
        ]),
        null,
      ] as never,
      new arrow.Map_(
        new arrow.Field(
          "entries",
          new arrow.Struct([
            new arrow.Field("key", new arrow.Utf8(), false),
            new arrow.Field("value", new arrow.Int32(), true),
          ] as never),
          false,
        ) as never,
      ),
    ),
  };
}

/** And what only others hold. */
function odd(arrow: Arrow): Record<string, unknown> {
  const { vectorFromArray: vector } = arrow;
  return {
    wide: BigUint64Array.of(0n, 1n, 2n ** 64n - 1n, 3n, 4n),
    short: Uint16Array.of(1, 2, 3, 4, 5),
    time: vector([1, null, 3, 4, 5], new arrow.TimeMillisecond()),
    none: vector([null, null, null, null, null], new arrow.Null()),
    three: vector(
      [[1, 2, 3], null, [4, 5, 6], [7, 8, 9], [0, 0, 0]],
      new arrow.FixedSizeList(3, new arrow.Field("item", new arrow.Int16(), true)),
    ),
    fixed: vector(
      [Uint8Array.of(1, 2), null, Uint8Array.of(3, 4), null, Uint8Array.of(5, 6)],
      new arrow.FixedSizeBinary(2),
    ),
    union: new arrow.Vector([
      arrow.makeData({
        type: new arrow.DenseUnion([5], [new arrow.Field("i", new arrow.Int32(), true)] as never),
        length: 5,
        typeIds: new Int8Array(5).fill(5),
        valueOffsets: Int32Array.of(0, 1, 2, 3, 4),
        children: [vector([1, 2, null, 4, 5], new arrow.Int32()).data[0]!],
      } as never),
    ]),
  };
}

/** Version 15 reads dates as dates, later ones as numbers. */
const read = (batch: unknown): string => valuesOf(batch as never).replace(/"(-?\d+)"/g, "$1");

const tableFrom = (arrow: Arrow, columns: Record<string, unknown>): Table =>
  arrow.tableFromArrays(columns as never) as unknown as Table;

describe("R-07 the native side sees what other copies and versions of apache-arrow hold", () => {
  for (const [index, [name, arrow]] of libraries.entries())
    test(`${name}: batches, slices and tables, by every way`, () => {
      const columns = plain(arrow, index);
      for (const [name, vector] of Object.entries(odd(arrow))) columns[name] = vector;
      const table = tableFrom(arrow, columns);
      const twice = table.concat(table.slice(1, 4));
      const inputs: BatchInput[] = [table.batches[0]!, table.batches[0]!.slice(1, 4), table, twice];
      for (const input of inputs) {
        const given = "batches" in input ? (input as Table).batches : [input];
        const expected = given.map(read);
        for (const mode of MODES)
          for (const computed of PAYLOADS) {
            const { streams } = echo.echo(input, mode, computed);
            const came = streams.map((stream) => read(tableFromIPC(stream).batches[0]));
            expect(came, mode).toEqual(expected);
          }
      }
    });
});

describeWith(PYTHON, "R-07 R-20 one Delta table of all versions", () => {
  test("at once, by all ways: every row is there once, and equal", async () => {
    await using peer = await Peer.start();
    const target = path.join(folder, "table");
    const expected: string[] = [];
    {
      await using client = await connect(`delta:${target}`, { delta: { commitInterval: "100ms" } });
      const sent = libraries.flatMap(([name, arrow], index) => {
        const table = tableFrom(arrow, plain(arrow, index));
        // The values are the same whichever version they come from; not each version's writer gets them right.
        expected.push(base64(tableToIPC(tableFrom(ours, plain(ours, index)), "stream")));
        const handoff = MODES[index % 3]!;
        return [client.send(table, { handoff }).then((result) => ({ name, result }))];
      });
      for (const { name, result } of await Promise.all(sent))
        expect(result, `${name}: ${result.error?.message}`).toMatchObject({
          status: "acknowledged",
          rows: 5,
        });
    }
    const answers = await peer.ask("delta_equal", { path: target, expected, order_by: "id" });
    expect(answers).toEqual({ deltalake: null, files: null, polars: null });
  });

  test("a stream of all versions through sendAll, in order", async () => {
    await using client = await connect("discard:");
    const source = libraries.map(([, arrow], index) =>
      tableFrom(arrow, plain(arrow, index)).slice(0, 1 + (index % 5)),
    );
    const rows: number[] = [];
    for await (const result of client.sendAll(source)) rows.push(result.rows);
    expect(rows).toEqual(source.map(({ numRows }) => numRows));
  });
});
