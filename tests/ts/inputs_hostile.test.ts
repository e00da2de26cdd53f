// R-04 R-65: objects that look like tables and lie: an error with a code for each, and the process lives.
import * as flechette from "@uwdata/flechette";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connect, type IngestClient, t } from "../../dist/index.js";

/** `@types/node` does not declare it. */
declare const WebAssembly: { Memory: new (limits: { initial: number }) => { readonly buffer: ArrayBuffer } };

let client: IngestClient;
beforeAll(async () => {
  client = await connect("discard:", { batching: { linger: 0 }, telemetry: { enabled: false } });
});
afterAll(() => client.close());

/** What became of it: the code of an error that was thrown, or of a result; `none` if all went well. */
async function codeOf(given: unknown, options?: object): Promise<string> {
  try {
    const result = await client.send(given as never, options);
    return result.errorCode ?? "none";
  } catch (error) {
    return (error as { code?: string }).code ?? `uncoded: ${String(error)}`;
  }
}

function throwing(names: readonly string[], base: object = {}): object {
  const made = Object.create(Object.getPrototypeOf(base) as object, Object.getOwnPropertyDescriptors(base));
  for (const name of names)
    Object.defineProperty(made, name, {
      enumerable: true,
      configurable: true,
      get() {
        throw new Error("never");
      },
    });
  return made as object;
}

describe("columns", () => {
  const schema = t.schema({ a: t.int32(), b: t.utf8() });

  test("getters that throw", async () => {
    expect(await codeOf(throwing(["a"]))).toBe("BATCH_INVALID");
    expect(await codeOf({ a: Int32Array.of(1), b: throwing(["0"], ["x"]) }, { schema })).toBe(
      "BATCH_INVALID",
    );
    const array = new Proxy(["x"], {
      get(target, key) {
        if (key === "length") throw new Error("never");
        return Reflect.get(target, key) as unknown;
      },
    });
    expect(await codeOf({ a: array })).toBe("BATCH_INVALID");
    const keys = new Proxy(
      {},
      {
        ownKeys: () => {
          throw new Error("never");
        },
      },
    );
    expect(await codeOf(keys)).toBe("BATCH_INVALID");
    const revoked = Proxy.revocable({ a: [1] }, {});
    revoked.revoke();
    expect(await codeOf(revoked.proxy)).toBe("BATCH_INVALID");
  });

  test("lengths that lie", async () => {
    const of = (length: unknown) =>
      new Proxy([1], {
        get: (target, key) => (key === "length" ? length : (Reflect.get(target, key) as unknown)),
      });
    for (const length of [-1, 1.5, Number.NaN, "1", 2 ** 53, 2 ** 40, undefined])
      expect(await codeOf({ a: of(length) }, { schema: t.schema({ a: t.int8() }) }), String(length)).toBe(
        "BATCH_INVALID",
      );
    // It says that it has two, and has one.
    expect(await codeOf({ a: of(2) }, { schema: t.schema({ a: t.int8() }) })).toBe("BATCH_INVALID");
  });

  test("values and lengths that change while they are read", async () => {
    let count = 0;
    const moody = {
      get a() {
        return count++ % 2 === 0 ? [1] : "text";
      },
    };
    expect(await codeOf(moody, { schema: t.schema({ a: t.int8() }) })).toBe("none");
    const shrinking = [1, 2, 3];
    const b = new Proxy(["x", "y", "z"], {
      get(target, key) {
        shrinking.length = 0;
        return Reflect.get(target, key) as unknown;
      },
    });
    expect(await codeOf({ b, a: shrinking }, { schema })).toBe("BATCH_INVALID");
  });

  test("memory that is gone, shared, resizable or of WebAssembly", async () => {
    const gone = Int32Array.of(1, 2);
    structuredClone(gone.buffer, { transfer: [gone.buffer] });
    expect(await codeOf({ a: gone })).toBe("BATCH_INVALID");
    const resizable = new Int32Array(new ArrayBuffer(8, { maxByteLength: 64 }));
    const out = new Int32Array(new ArrayBuffer(16, { maxByteLength: 64 }), 8, 2);
    (out.buffer as unknown as { resize(length: number): void }).resize(8);
    expect(await codeOf({ a: out })).toBe("BATCH_INVALID");
    const wasm = new Int32Array(new WebAssembly.Memory({ initial: 1 }).buffer, 0, 2);
    const shared = new Int32Array(new SharedArrayBuffer(8));
    for (const a of [resizable, wasm, shared]) {
      const result = await client.send({ a });
      expect(result).toMatchObject({ status: "acknowledged", handoff: "copied" });
      expect(result.handoffReason).toContain("column a");
    }
  });

  test("schemas that throw", async () => {
    const trap = () => {
      throw new Error("never");
    };
    for (const lie of [throwing(["fields"]), new Proxy({}, { get: trap, has: trap })])
      expect(await codeOf({ a: [1] }, { schema: lie })).toBe("CONFIG_INVALID");
  });

  test("names that mean something else to JavaScript", async () => {
    const names = ["__proto__", "constructor", "1", "", "then", 'a"b', "a\nb"];
    const columns = Object.fromEntries(names.map((name) => [name, Int32Array.of(1)]));
    expect(await codeOf(columns)).toBe("none");
    expect(await codeOf({ "\ud800": Int32Array.of(1) })).toBe("CONFIG_INVALID");
    expect(
      await codeOf(Object.create(null, { a: { value: [1], enumerable: true } }), {
        schema: t.schema({ a: t.int8() }),
      }),
    ).toBe("none");
  });
});

describe("tables that lie", () => {
  const make = () =>
    flechette.tableFromArrays(
      { a: [1, 2, 3], s: ["x", "yy", null], l: [[1], [2, 3], []], d: ["k", "k", "m"] },
      {
        types: {
          a: flechette.int32(),
          s: flechette.utf8(),
          l: flechette.list(flechette.int32()),
          d: flechette.dictionary(flechette.utf8()),
        },
      },
    );
  type Batch = Record<string, unknown> & { children?: Batch[] };
  const batchOf = (table: ReturnType<typeof make>, column: number): Batch =>
    table.children[column]!.data[0] as unknown as Batch;

  test("the honest one is sent", async () => {
    expect(await codeOf(make())).toBe("none");
  });

  // What is put where, and what an error may be called: some lies are found here, others by Rust.
  const LIES: [string, (table: ReturnType<typeof make>) => void][] = [
    [
      "a length beyond its values",
      (table) => {
        batchOf(table, 0).length = 1_000;
      },
    ],
    [
      "a negative length",
      (table) => {
        batchOf(table, 0).length = -1;
      },
    ],
    [
      "a length that is no number",
      (table) => {
        batchOf(table, 0).length = "3";
      },
    ],
    [
      "a length of NaN",
      (table) => {
        batchOf(table, 1).length = Number.NaN;
      },
    ],
    [
      "values that are no array",
      (table) => {
        batchOf(table, 0).values = { buffer: new ArrayBuffer(8), byteOffset: 0, byteLength: 1e9 };
      },
    ],
    [
      "values that are gone",
      (table) => {
        batchOf(table, 0).values = undefined;
      },
    ],
    [
      "offsets beyond the text",
      (table) => {
        batchOf(table, 1).offsets = Int32Array.of(0, 1, 3, 2 ** 30);
      },
    ],
    [
      "offsets that go back",
      (table) => {
        batchOf(table, 1).offsets = Int32Array.of(0, 3, 1, 3);
      },
    ],
    [
      "offsets that are missing",
      (table) => {
        batchOf(table, 1).offsets = null;
      },
    ],
    [
      "text that is no UTF-8",
      (table) => {
        batchOf(table, 1).values = Uint8Array.of(0xff, 0xfe, 0xfd);
      },
    ],
    [
      "items that are missing",
      (table) => {
        batchOf(table, 2).children = [];
      },
    ],
    [
      "items that are null",
      (table) => {
        batchOf(table, 2).children = [null as never];
      },
    ],
    [
      "keys beyond the dictionary",
      (table) => {
        batchOf(table, 3).values = Int32Array.of(0, 1, 7);
      },
    ],
    [
      "no dictionary",
      (table) => {
        batchOf(table, 3).dictionary = undefined;
      },
    ],
    [
      "a validity that is too short",
      (table) => {
        batchOf(table, 1).validity = new Uint8Array(0);
        batchOf(table, 1).nullCount = 1;
        batchOf(table, 0).length = 100;
      },
    ],
    [
      "a column of another length",
      (table) => {
        (table.children as unknown[])[0] = flechette.columnFromArray([1]);
      },
    ],
    [
      "a column too few",
      (table) => {
        (table.children as unknown[]).pop();
      },
    ],
    [
      "a column that is null",
      (table) => {
        (table.children as unknown[])[0] = null;
      },
    ],
    [
      "batches that are none",
      (table) => {
        (table.children[0] as unknown as { data: unknown }).data = 5;
      },
    ],
    [
      "a name that is none",
      (table) => {
        (table.schema.fields[0] as unknown as { name: unknown }).name = 5;
      },
    ],
    [
      "a type that is none",
      (table) => {
        (table.schema.fields[0] as unknown as { type: unknown }).type = { typeId: 99 };
      },
    ],
    [
      "a type that is no object",
      (table) => {
        (table.schema.fields[0] as unknown as { type: unknown }).type = null;
      },
    ],
    [
      "a type of another width",
      (table) => {
        (table.schema.fields[0] as unknown as { type: unknown }).type = flechette.int64();
      },
    ],
    [
      "a type that holds itself",
      (table) => {
        const type = { typeId: 12, children: [] as unknown[] };
        type.children.push({ name: "x", type, nullable: true });
        (table.schema.fields[0] as unknown as { type: unknown }).type = type;
      },
    ],
    [
      "metadata that is none",
      (table) => {
        (table.schema as unknown as { metadata: unknown }).metadata = new Map([[1, 2]]);
      },
    ],
  ];
  test.each(LIES)("flechette: %s", async (name, lie) => {
    const table = make();
    lie(table);
    const code = await codeOf(table);
    expect(["BATCH_INVALID", "SCHEMA_MISMATCH"], name).toContain(code);
    for await (const result of client.sendAll([make()] as never)) expect(result.success).toBe(true);
  });

  test("flechette: a batch that changes between two looks", async () => {
    const table = make();
    let looks = 0;
    Object.defineProperty(batchOf(table, 0), "length", { get: () => (looks++ === 0 ? 3 : 1_000_000) });
    expect(await codeOf(table)).toBe("none");
  });

  const shape = {
    polars: {
      writeIPCStream: () => new Uint8Array(0),
      slice: () => ({}),
      height: 1,
      columns: [],
    },
    arquero: {
      columnNames: () => ["a"],
      column: () => [1],
      isFiltered: () => false,
      isOrdered: () => false,
      reify: () => ({}),
    },
    duckdb: { columnNames: () => ["a"], columnTypes: () => [{ typeId: 4 }], fetchChunk: async () => null },
    parquet: {
      intoIPCStream: () => new Uint8Array(0),
      recordBatch: () => undefined,
      numBatches: 1,
      schema: { intoIPCStream: () => new Uint8Array(0) },
    },
    parquetBatch: {
      intoIPCStream: () => new Uint8Array(0),
      slice: () => ({ intoIPCStream: () => 5 }),
      numRows: 1,
    },
  };
  class Shaped {
    constructor(like: object) {
      Object.assign(this, like);
    }
  }
  const never = () => {
    throw new Error("never");
  };
  const chunk = (more: object) => ({
    chunkCount: 1,
    getChunk: () => ({ rowCount: 1, getColumnVector: () => ({ getItem: () => 1 }), ...more }),
  });
  test.each<[string, object, string]>([
    ["polars writes no bytes", { ...shape.polars, writeIPCStream: () => 5 }, "BATCH_INVALID"],
    ["polars writes nothing", shape.polars, "BATCH_INVALID"],
    [
      "polars writes garbage",
      { ...shape.polars, writeIPCStream: () => new Uint8Array(100) },
      "BATCH_INVALID",
    ],
    ["polars throws", { ...shape.polars, writeIPCStream: never }, "BATCH_INVALID"],
    ["polars has no height", { ...shape.polars, height: Number.NaN }, "BATCH_INVALID"],
    ["polars has too much height", { ...shape.polars, height: 1e6 }, "BATCH_INVALID"],
    [
      "polars cannot write a column",
      {
        ...shape.polars,
        writeIPCStream: never,
        columns: ["a", "b"],
        select: (name: string) => ({ writeIPCStream: () => (name === "b" ? never() : 1) }),
      },
      "SCHEMA_MISMATCH",
    ],
    ["arquero throws", { ...shape.arquero, columnNames: never }, "BATCH_INVALID"],
    ["arquero has no columns", { ...shape.arquero, columnNames: () => [] }, "BATCH_INVALID"],
    ["arquero has a column that is none", { ...shape.arquero, column: () => 5 }, "BATCH_INVALID"],
    ["arquero has plain arrays", shape.arquero, "SCHEMA_REQUIRED"],
    [
      "arquero has a column that lies about its length",
      {
        ...shape.arquero,
        column: () => ({ type: flechette.int32(), data: [], toArray() {}, length: 5 }),
      },
      "BATCH_INVALID",
    ],
    [
      "duckdb has no columns",
      { ...shape.duckdb, columnNames: () => [], columnTypes: () => [] },
      "BATCH_INVALID",
    ],
    ["duckdb has more names than types", { ...shape.duckdb, columnNames: () => ["a", "b"] }, "BATCH_INVALID"],
    ["duckdb rejects", { ...shape.duckdb, fetchChunk: async () => never() }, "BATCH_INVALID"],
    ["duckdb has no rows", shape.duckdb, "none"],
    [
      "duckdb has a chunk without columns",
      { ...shape.duckdb, chunkCount: 1, getChunk: () => ({ rowCount: 1 }) },
      "BATCH_INVALID",
    ],
    [
      "duckdb has a chunk that is too large",
      { ...shape.duckdb, ...chunk({ rowCount: 2 ** 40 }) },
      "BATCH_INVALID",
    ],
    ["duckdb has a chunk of no number", { ...shape.duckdb, ...chunk({ rowCount: "many" }) }, "BATCH_INVALID"],
    [
      "duckdb has a value of another type",
      { ...shape.duckdb, ...chunk({ getColumnVector: () => ({ getItem: () => "x" }) }) },
      "BATCH_INVALID",
    ],
    [
      "duckdb throws at a value",
      { ...shape.duckdb, ...chunk({ getColumnVector: () => ({ getItem: never }) }) },
      "BATCH_INVALID",
    ],
    [
      "duckdb has fewer items than rows",
      {
        ...shape.duckdb,
        ...chunk({
          rowCount: 5,
          getColumnVector: () => ({ items: Int32Array.of(1), validity: { data: null } }),
        }),
      },
      "BATCH_INVALID",
    ],
    ["parquet has no batches in it", shape.parquet, "BATCH_INVALID"],
    ["parquet has no number of them", { ...shape.parquet, numBatches: "1" }, "BATCH_INVALID"],
    [
      "parquet writes garbage",
      { ...shape.parquet, recordBatch: () => ({ intoIPCStream: () => new Uint8Array(64) }) },
      "BATCH_INVALID",
    ],
    ["a batch of parquet writes no bytes", shape.parquetBatch, "BATCH_INVALID"],
    [
      "a symbol is thrown",
      {
        ...shape.polars,
        writeIPCStream: () => {
          throw Symbol("x");
        },
      },
      "BATCH_INVALID",
    ],
    [
      "an error without a message is thrown",
      {
        ...shape.polars,
        writeIPCStream: () => {
          throw throwing(["message"], new Error("x"));
        },
      },
      "BATCH_INVALID",
    ],
  ])("%s", async (name, like, code) => {
    expect(await codeOf(new Shaped(like)), name).toBe(code);
  });

  test("shapes whose every property throws", async () => {
    for (const like of Object.values(shape)) {
      const all = Object.keys(like);
      for (const name of all) expect(await codeOf(throwing([name], new Shaped(like)))).toBe("BATCH_INVALID");
    }
  });
});
