// what the core makes in WebAssembly is what the native client puts on the wire, byte by byte. The native bytes
// are those that a Flight server gets from it.
import {
  Dictionary,
  Int32,
  type RecordBatch,
  Table,
  tableFromArrays,
  tableFromIPC,
  tableToIPC,
  Utf8,
  vectorFromArray,
} from "apache-arrow";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { rebuildSchema, writeIpc } from "../../dist/handoff/rebuild.js";
import { type ConnectOptions, connect } from "../../dist/index.js";
import { moduleFile } from "../../scripts/wasm.mjs";
import { cases } from "../interop/support/golden.js";
import { describeWith, goldenRoot } from "../interop/support/peer.js";
import { batchOf, everyType, ROWS } from "../ts/support/batches.js";
import { FlightServer } from "../ts/support/flight-server.js";
import { generated } from "../ts/support/generate.js";
import { Core, descriptorOf, ipcOfPut } from "./support/core.js";

type Options = Pick<ConnectOptions, "batching" | "flight">;

const ipcOf = (batch: RecordBatch): Uint8Array =>
  Uint8Array.from(writeIpc(batch as never, rebuildSchema(batch.schema as never)));

describeWith(moduleFile(true), "R-54 WebAssembly encodes as the native client does", () => {
  let core: Core;
  let server: FlightServer;
  beforeAll(async () => {
    core = Core.load();
    server = await FlightServer.start(undefined, true);
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  /** The bytes of each stream that a client opened, and how each delivery ended. */
  async function native(
    deliveries: readonly (Uint8Array | RecordBatch)[],
    { batching, flight }: Options = {},
  ) {
    server.calls.length = 0;
    const client = await connect(server.url, {
      // Nothing goes for the time of day: rows wait until they are flushed, and a stream ends with that.
      batching: { ...batching, linger: "1h" },
      flight: { ...flight, commitInterval: "1h" },
      telemetry: { enabled: false },
    });
    const sent = [];
    for (const delivery of deliveries) sent.push(await client.enqueue(delivery as RecordBatch));
    await client.flush();
    const results = await Promise.all(sent.map(({ result }) => result));
    await client.close().catch((error) => expect(error.code).toBe("UNDELIVERED"));
    const puts = server.calls.filter(({ method }) => method === "DoPut");
    return { streams: puts.map(({ body }) => Buffer.concat(body)), results };
  }

  async function compare(
    deliveries: readonly Uint8Array[],
    options: Options = {},
    given: readonly (Uint8Array | RecordBatch)[] = deliveries,
  ) {
    const { streams, results } = await native(given, options);
    const own = core.encode(deliveries, options, descriptorOf("a"));
    // On 32 bits the compressor looks for four equal bytes, on 64 for five: its frames may differ, and not what they
    // expand to.
    const plain = (puts: Uint8Array[]) =>
      options.flight?.compression === "lz4" ? core.encode(puts.map(ipcOfPut)).streams : puts;
    const [made, wanted] = [plain(own.streams), plain(streams)];
    expect(made.map(({ length }) => length)).toEqual(wanted.map(({ length }) => length));
    made.forEach((stream, index) => {
      // Not toEqual, which would take a minute to tell of a megabyte that differs.
      expect(Buffer.compare(stream, wanted[index]!), `stream ${index}`).toBe(0);
    });
    const writes = own.head.streams.flatMap(({ writes }) => writes);
    for (const [index, result] of results.entries()) {
      const rejections = writes
        .flatMap(({ rejections }) => rejections ?? [])
        .filter(({ delivery }) => delivery === index);
      expect(rejections.map(({ row }) => row)).toEqual(result.rejections.map(({ row }) => row));
      expect(own.head.deliveries[index]!.error?.code).toBe(
        result.error?.code === "ROWS_REJECTED" ? undefined : result.error?.code,
      );
      const planned = writes.flatMap(({ ranges }) => ranges).filter(({ delivery }) => delivery === index);
      expect(planned.reduce((rows, range) => rows + range.rows, 0)).toBe(
        own.head.deliveries[index]!.error ? 0 : result.rows,
      );
    }
    return { ...own, results };
  }

  const every = batchOf(everyType());

  describe.each(["none", "lz4"] as const)("compression %s", (compression) => {
    test.each(["hydrate", "keep"] as const)(
      "every type of apache-arrow, dictionaries: %s",
      async (dictionaries) => {
        const { head } = await compare([ipcOf(every)], { flight: { compression, dictionaries } });
        expect(head.deliveries).toEqual([{ rows: ROWS }]);
        // The schema, with dictionaries kept two of them, and the rows.
        expect(head.streams[0]!.messages.length).toBe(dictionaries === "keep" ? 4 : 2);
      },
    );

    test("every type, cut in slices that begin at any bit of a byte", async () => {
      const { head } = await compare([ipcOf(every)], { batching: { maxRows: 5 }, flight: { compression } });
      expect(head.streams[0]!.writes.map(({ rows }) => rows)).toEqual([4, 5, 4, 5, 5]);
    });
  });

  test("a batch that is pinned, and slices of one", async () => {
    const flat = batchOf(
      Object.fromEntries(Object.entries(everyType()).filter(([name]) => !/dictionary|union|map/i.test(name))),
    );
    await compare([ipcOf(flat)], {}, [flat]);
  });

  test("many small deliveries share writes and messages", async () => {
    const deliveries = Array.from({ length: 40 }, (_, i) =>
      tableToIPC(
        tableFromArrays({
          n: Int32Array.from({ length: 5 + (i % 7) }, (_, row) => i * 100 + row),
          text: Array.from({ length: 5 + (i % 7) }, (_, row) => (row % 3 === 0 ? null : `row ${i} ${row}`)),
        }),
        "stream",
      ),
    );
    const plain = deliveries.map((bytes) => {
      const [n, text] = [tableFromIPC(bytes).getChild("n")!, tableFromIPC(bytes).getChild("text")!];
      return tableToIPC(new Table({ n, text: vectorFromArray([...text], new Utf8()) }), "stream");
    });
    const { head } = await compare(plain, { batching: { maxRows: 64 } });
    const writes = head.streams[0]!.writes;
    expect(writes.length).toBeGreaterThan(4);
    // Each write is one message of rows of several deliveries.
    for (const { ranges, parts } of writes.slice(0, -1)) {
      expect(ranges.length).toBeGreaterThan(1);
      expect(parts.length).toBe(1);
    }
  });

  test("other schemas get streams of their own, and a bad delivery is refused alone", async () => {
    const ofNumbers = tableToIPC(tableFromArrays({ n: Int32Array.of(1, 2, 3) }), "stream");
    const ofFloats = tableToIPC(tableFromArrays({ n: Float64Array.of(1, 2) }), "file");
    const bad = ofNumbers.slice(0, ofNumbers.length - 20);
    const { head } = await compare([ofNumbers, ofNumbers, bad, ofFloats, ofNumbers, new Uint8Array()]);
    expect(head.streams.length).toBe(3);
    expect(head.deliveries.map(({ error }) => error?.code)).toEqual([
      undefined,
      undefined,
      "BATCH_INVALID",
      undefined,
      undefined,
      "BATCH_INVALID",
    ]);
  });

  test("rows that no message takes are refused, the others go in as many as it needs", async () => {
    const rows = Array.from({ length: 200 }, (_, row) => "x".repeat(row % 50 === 7 ? 90_000 : 1_000));
    const bytes = tableToIPC(new Table({ text: vectorFromArray(rows, new Utf8()) }), "stream");
    const { head, results } = await compare([bytes], { flight: { maxMessageSize: "64KiB" } });
    expect(results[0]).toMatchObject({ status: "partial", acceptedRows: 196 });
    expect(head.streams[0]!.writes[0]!.rejections.map(({ row }) => row)).toEqual([7, 57, 107, 157]);
    expect(head.streams[0]!.writes[0]!.parts.length).toBeGreaterThan(3);
  });

  test("large buffers, and dictionaries that are sent again only where they change", async () => {
    const words = (from: number) =>
      vectorFromArray(
        Array.from({ length: 60_000 }, (_, row) => `word ${from + (row % 100)}`),
        new Dictionary(new Utf8(), new Int32(), 5),
      );
    const of = (from: number) =>
      tableToIPC(
        new Table({ word: words(from), n: vectorFromArray(new Float64Array(60_000).fill(from)) }),
        "stream",
      );
    const flight = { dictionaries: "keep", maxMessageSize: "256KiB" } as const;
    const { head } = await compare([of(0), of(0), of(1)], { batching: { maxRows: 50_000 }, flight });
    const [stream] = head.streams;
    const parts = stream!.writes.flatMap(({ parts }) => parts);
    expect(stream!.messages.length).toBe(1 + 2 + parts.length);
  });

  test("whatever is generated", async () => {
    await fc.assert(
      fc.asyncProperty(
        generated,
        fc.constantFrom("hydrate", "keep"),
        fc.constantFrom("none", "lz4"),
        fc.integer({ min: 1, max: 50 }),
        async ({ batches }, dictionaries, compression, maxRows) => {
          let deliveries: Uint8Array[] = [];
          try {
            deliveries = batches.map(ipcOf);
          } catch {
            // What apache-arrow cannot write.
            fc.pre(false);
          }
          await compare(deliveries, { batching: { maxRows }, flight: { dictionaries, compression } });
        },
      ),
      { numRuns: 60 },
    );
  });

  describeWith(goldenRoot, "files that others wrote", () => {
    test.each([
      ["none", "hydrate"],
      ["lz4", "keep"],
    ] as const)("compression %s, dictionaries %s", async (compression, dictionaries) => {
      const files = cases((folder) => folder !== "2.0.0-compression");
      expect(files.length).toBeGreaterThan(40);
      const { head } = await compare(
        files.map(({ bytes }) => bytes),
        { flight: { compression, dictionaries } },
      );
      // Those of the other byte order, and of versions that nobody writes any more.
      expect(head.deliveries.filter(({ error }) => error === undefined).length).toBeGreaterThan(20);
    });

    test("compressed with LZ4; Zstandard is refused by name", async () => {
      const files = cases((folder) => folder === "2.0.0-compression");
      const [lz4, zstd] = ["lz4", "zstd"].map((codec) => files.filter(({ name }) => name.includes(codec)));
      expect([lz4!.length, zstd!.length]).toEqual([expect.any(Number), expect.any(Number)]);
      expect(Math.min(lz4!.length, zstd!.length)).toBeGreaterThan(0);
      await compare(lz4!.map(({ bytes }) => bytes));
      const { head } = core.encode(zstd!.map(({ bytes }) => bytes));
      for (const { error } of head.deliveries) {
        expect(error?.code).toBe("UNSUPPORTED");
        expect(error?.message).toMatch(/Zstandard is not in this build/);
      }
    });
  });
});
