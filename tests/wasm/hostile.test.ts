// R-54, and "Bad input" of the bars: nothing that a host gives is a trap, and every refusal has a code.
import {
  Field,
  Int32,
  Int64,
  List,
  Schema,
  SparseUnion,
  Table,
  tableFromArrays,
  tableFromIPC,
  tableToIPC,
  Utf8,
  vectorFromArray,
} from "apache-arrow";
import { beforeAll, expect, test } from "vitest";
import { connect } from "../../dist/index.js";
import { moduleFile } from "../../scripts/wasm.mjs";
import { describeWith } from "../interop/support/peer.js";
import { malformed, wellFormed, wellFormedFile } from "../ts/support/malformed.js";
import { Core, headed } from "./support/core.js";

/** Numbers that look like chance, the same in every run. */
function dice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** A code that says what is wrong with the input: INTERNAL would be a panic of ours. */
const CODES = ["BATCH_INVALID", "SCHEMA_MISMATCH", "UNSUPPORTED", "RESOURCE_EXHAUSTED"];

describeWith(moduleFile(true), "R-54 a hostile host", () => {
  let core: Core;
  beforeAll(() => {
    core = Core.load();
  });

  /** Whatever it is, it ends in an answer; where it is refused, by one of the codes. */
  function given(bytes: Uint8Array, options: object = {}): string | undefined {
    const { head } = core.encode([bytes], options);
    const errors = [
      head.deliveries[0]!.error,
      ...head.failed.map(({ error }) => error),
      ...head.streams.flatMap(({ error, writes }) => [error, ...writes.map(({ error }) => error)]),
    ].filter((error) => error !== undefined);
    for (const { code, message } of errors) {
      expect(CODES, message).toContain(code);
      expect(message).not.toMatch(/panick|src-rs|\.rs:/);
    }
    return errors[0]?.code;
  }

  test("each kind of malformed Arrow IPC is refused as the native client refuses it", async () => {
    await using client = await connect("discard:", {
      batching: { linger: 0 },
      telemetry: { enabled: false },
    });
    for (const { name, bytes } of malformed()) {
      const result = await client.send(bytes);
      const { head } = core.encode([bytes]);
      expect(head.deliveries[0]!.error?.code, name).toBe(result.error!.code);
    }
    await client.close().catch(() => {});
  });

  test("a stream and a file that break off anywhere", () => {
    for (const whole of [wellFormed(), wellFormedFile()]) {
      const { rows } = core.encode([whole]).head.deliveries[0]!;
      for (let length = 0; length < whole.length; length += 61) {
        const code = given(whole.subarray(0, length));
        // A stream without its mark of the end is whole, before its rows and behind them.
        if (code === undefined)
          expect([0, rows]).toContain(core.encode([whole.subarray(0, length)]).head.deliveries[0]!.rows);
      }
    }
  });

  test("10,000 inputs with bytes changed by chance, and no memory is kept", () => {
    const inputs = [
      wellFormed(),
      wellFormedFile(),
      tableToIPC(tableFromArrays({ n: Int32Array.of(1, 2, 3), text: ["a", "b", "c"] }), "stream"),
    ];
    const options = [
      {},
      { flight: { dictionaries: "keep" } },
      { flight: { compression: "lz4" }, batching: { maxRows: 2 } },
      { flight: { maxMessageSize: "16KiB" } },
    ];
    const round = (): number => {
      const next = dice(7);
      let refused = 0;
      for (let call = 0; call < 5_000; call++) {
        const bytes = Uint8Array.from(inputs[call % 50 < 48 ? 2 : call % 2]!);
        for (let flips = 1 + next(4); flips > 0; flips--) bytes[next(bytes.length)] = next(256);
        if (given(bytes, options[call % options.length]) !== undefined) refused++;
      }
      return refused;
    };
    const refused = round();
    expect(refused).toBeGreaterThan(500);
    expect(refused).toBeLessThan(5_000);
    const before = core.bytes;
    // The same again: what was not given back after the first time would be missing now.
    expect(round()).toBe(refused);
    expect(core.bytes).toBe(before);
  }, 300_000);

  test("types that are nested as deep as may be, and deeper", async () => {
    await using client = await connect("discard:", {
      batching: { linger: 0 },
      telemetry: { enabled: false },
    });
    const nested = (depth: number) => {
      let type: List | Int32 = new Int32();
      for (let level = 0; level < depth; level++) type = new List(new Field("item", type as never, true));
      const column = vectorFromArray([null, null], type as never);
      return tableToIPC(new Table({ deep: column }), "stream");
    };
    const verdicts = [];
    for (const depth of [1, 30, 60, 61, 62, 63, 64, 65, 200, 2_000]) {
      const bytes = nested(depth);
      const { error } = await client.send(bytes as Uint8Array<ArrayBuffer>);
      expect(given(bytes), `${depth}`).toBe(error?.code);
      verdicts.push(error?.code);
    }
    expect(new Set(verdicts)).toEqual(new Set([undefined, "BATCH_INVALID"]));
    await client.close().catch(() => {});
  });

  test("requests that are none", () => {
    const text = (json: string) => new TextEncoder().encode(json);
    const length = (bytes: number) => new Uint8Array(Uint32Array.of(bytes).buffer);
    const refused: [string, string, Uint8Array[]][] = [
      ["nothing", "INPUT_INVALID", []],
      ["half a length", "INPUT_INVALID", [Uint8Array.of(1, 2)]],
      ["a head that breaks off", "INPUT_INVALID", [length(10), text("{}")]],
      ["a head of 4 GiB", "INPUT_INVALID", [length(2 ** 32 - 1), text("{}")]],
      ["no JSON", "INPUT_INVALID", [length(2), text("{]")]],
      ["no object", "INPUT_INVALID", [length(2), text("[]")]],
      ["no text", "INPUT_INVALID", [length(4), Uint8Array.of(0xff, 0xfe, 0xfd, 0xfc)]],
      ["a head that is deep", "INPUT_INVALID", [length(40_000), text("[".repeat(40_000))]],
    ];
    for (const [name, code, parts] of refused) expect(core.raw(...parts).head.error?.code, name).toBe(code);

    const heads: [object, string][] = [
      [{}, "INPUT_INVALID"],
      [{ do: "dance" }, "CONFIG_INVALID"],
      [{ do: "encode" }, "CONFIG_INVALID"],
      [{ do: "encode", deliveries: [-1] }, "CONFIG_INVALID"],
      [{ do: "encode", deliveries: [1e300] }, "CONFIG_INVALID"],
      [{ do: "encode", deliveries: [4_294_967_295] }, "INPUT_INVALID"],
      [{ do: "encode", deliveries: new Array(65_537).fill(0) }, "CONFIG_INVALID"],
      [{ do: "settle", deliveries: new Array(65_537).fill(0), settled: [] }, "CONFIG_INVALID"],
      [{ do: "encode", deliveries: [], descriptor: 5 }, "INPUT_INVALID"],
      [{ do: "encode", deliveries: [], more: 1 }, "CONFIG_INVALID"],
      [{ do: "encode", deliveries: [], options: { spool: { directory: "/" } } }, "CONFIG_INVALID"],
      [{ do: "encode", deliveries: [], options: { flight: { streams: 2 } } }, "CONFIG_INVALID"],
      [{ do: "encode", deliveries: [], options: { flight: 3 } }, "CONFIG_INVALID"],
      [{ do: "encode", deliveries: [], options: { batching: { maxRows: 0 } } }, "CONFIG_INVALID"],
      [{ do: "encode", deliveries: [], options: { flight: { compression: "zstd" } } }, "UNSUPPORTED"],
    ];
    for (const [head, code] of heads) {
      expect(core.call(head).head.error?.code, JSON.stringify(head)).toBe(code);
    }
    const extra = core.call({ do: "encode", deliveries: [] }, [Uint8Array.of(1)]);
    expect(extra.head.error?.code).toBe("INPUT_INVALID");
    // And the module is as good as new.
    expect(core.encode([wellFormed()]).head.deliveries[0]!.error).toBe(undefined);
  });

  test("memory that is out is an error with a code, and passes", async () => {
    const poor = Core.load();
    const small = tableToIPC(tableFromArrays({ n: Int32Array.of(1, 2, 3) }), "stream");
    const isWell = () => expect(poor.encode([small]).head.deliveries).toEqual([{ rows: 3 }]);
    // What it has had stays its own.
    for (let call = 0; call < 3; call++) isWell();
    const texts = Array.from({ length: 20_000 }, (_, row) => `text ${row}`);
    const bytes = tableToIPC(new Table({ text: vectorFromArray(texts, new Utf8()) }), "stream");
    const options = { batching: { maxRows: 10 }, flight: { compression: "lz4" } };
    for (const room of [0, 1, 4, 8, 16, 24, 32, 48, 64]) {
      const one = Core.load();
      one.write([...headed({ do: "encode", deliveries: [bytes.length], options }), bytes]);
      one.fill(room);
      const { head } = one.run();
      const error = head.error ?? (head.deliveries as { error?: { code: string } }[])[0]!.error;
      // With enough room it goes, with little it is out wherever it happens to be.
      if (room === 0) expect(error).toMatchObject({ code: "RESOURCE_EXHAUSTED" });
      else if (error) expect(error).toMatchObject({ code: "RESOURCE_EXHAUSTED" });
      // And the module is as good as new.
      expect(one.encode([small]).head.deliveries).toEqual([{ rows: 3 }]);
    }
    poor.fill(0);
    isWell();
  });
});

describeWith(moduleFile(true), "R-54 rules of schemas and outcomes in WebAssembly", () => {
  let core: Core;
  beforeAll(() => {
    core = Core.load();
  });
  const schemaOf = (...fields: Field[]) => tableToIPC(new Table(new Schema(fields), []), "stream");
  const ask = (destination: string, schema: Uint8Array, more: object = {}, table?: Uint8Array) =>
    core.call(
      { do: "schema", destination, schema: schema.length, table: table?.length, ...more },
      table ? [schema, table] : [schema],
    );

  test("Zerobus: types are named as the service has them, or refused by column", () => {
    const given = schemaOf(new Field("n", new Int64(), true), new Field("text", new Utf8(), false));
    const { head, body } = ask("zerobus", given);
    expect(head).toEqual({ converts: false });
    expect(tableFromIPC(body).schema.fields.map(String)).toEqual(["n: Int64", "text: Utf8"]);
    const union = new SparseUnion([0], [new Field("a", new Int32(), true)]);
    const refused = ask("zerobus", schemaOf(new Field("choice", union, true))).head.error;
    expect(refused).toMatchObject({ code: "SCHEMA_MISMATCH", field: "choice" });
    // A table that is there decides.
    const wider = ask(
      "zerobus",
      schemaOf(new Field("n", new Int32(), true)),
      {},
      schemaOf(new Field("n", new Int64(), true)),
    );
    expect(wider.head).toEqual({ converts: true });
    const other = ask("zerobus", given, {}, schemaOf(new Field("n", new Int64(), true)));
    expect(other.head.error).toMatchObject({ code: "SCHEMA_MISMATCH", field: "text" });
  });

  test("Flight: dictionaries become values unless they are kept", () => {
    const words = tableFromArrays({ word: ["a", "b"] });
    const given = tableToIPC(new Table(words.schema, []), "stream");
    const hydrated = ask("flight", given);
    expect(hydrated.head).toEqual({ converts: true });
    expect(String(tableFromIPC(hydrated.body).schema.fields[0]!.type)).toBe("Utf8");
    expect(ask("flight", given, { keepDictionaries: true }).head).toEqual({ converts: false });
    for (const bytes of [new Uint8Array(), Uint8Array.from({ length: 99 }, (_, i) => i)])
      expect(ask("flight", bytes).head.error?.code).toBe("BATCH_INVALID");
  });

  test("outcomes are folded as the native client folds them", () => {
    const settle = (deliveries: number[], settled: object[]) =>
      core.call({ do: "settle", deliveries, settled }).head;
    const rejections = [{ row: 3, code: "22P02", message: "no number" }];
    const { outcomes, open } = settle(
      [10, 5, 4, 0, 7],
      [
        { delivery: 0, firstRow: 0, rows: 6, rejections },
        { delivery: 1, firstRow: 0, rows: 5 },
        { delivery: 0, firstRow: 6, rows: 4 },
        { delivery: 2, firstRow: 0, rows: 1, end: "failed" },
        { delivery: 2, firstRow: 1, rows: 3, end: "unknown" },
        { delivery: 4, firstRow: 2, rows: 5 },
      ],
    ) as { outcomes: { delivery: number; status: string; error: { code: string } | null }[]; open: number[] };
    expect(open).toEqual([4]);
    expect(outcomes.map(({ delivery, status }) => [delivery, status])).toEqual([
      [3, "acknowledged"],
      [1, "acknowledged"],
      [0, "partial"],
      [2, "unknown"],
    ]);
    expect(outcomes[2]).toMatchObject({ acceptedRows: 9, rejections, error: { code: "ROWS_REJECTED" } });
    const wrong: object[][] = [
      [{ delivery: 9, firstRow: 0, rows: 1 }],
      [{ delivery: 0, firstRow: 9, rows: 2 }],
      [{ delivery: 0, firstRow: 4_294_967_295, rows: 4_294_967_295 }],
      [{ delivery: 0, firstRow: 0, rows: 0 }],
      [
        { delivery: 0, firstRow: 2, rows: 3 },
        { delivery: 0, firstRow: 0, rows: 3 },
      ],
      [
        { delivery: 0, firstRow: 2, rows: 3 },
        { delivery: 0, firstRow: 3, rows: 1 },
      ],
      [{ delivery: 0, firstRow: 0, rows: 2, rejections: [{ row: 2, code: "x", message: "" }] }],
      [{ delivery: 0, firstRow: 0, rows: 2, rejections: [rejections[0], rejections[0]] }],
      [{ delivery: 0, firstRow: 0, rows: 5, end: "failed", rejections }],
    ];
    for (const settled of wrong)
      expect(settle([10], settled).error, JSON.stringify(settled)).toMatchObject({ code: "CONFIG_INVALID" });
  });
});
