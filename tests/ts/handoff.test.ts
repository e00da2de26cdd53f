// Promises of src-ts/handoff.ts: everything that apache-arrow holds is described exactly, in constant time a
// column. What is packed is read back here by a reader written from specs/boundary.md alone.
import { Bool, Data, Field, RecordBatch, Schema, Struct, Table, tableFromIPC } from "apache-arrow";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { joinData, sliceOf } from "../../dist/handoff/join.js";
import { rebuildBatch, rebuildSchema, writeIpc } from "../../dist/handoff/rebuild.js";
import { measure, Packer } from "../../dist/handoff.js";
import {
  batchOf,
  chargeOf,
  chunkedDictionary,
  everyType,
  parse,
  plain,
  ROWS,
  unpack,
  valuesOf,
} from "./support/batches.js";

type Mode = "auto" | "pin" | "copy" | "ipc";

function pack(batch: RecordBatch, mode: Mode = "auto") {
  const schemas: Uint8Array[] = [];
  const packer = new Packer((message) => schemas.push(message) - 1);
  packer.begin(0);
  const packing = packer.add(1, { batches: [batch as never] }, mode);
  const call = parse(packer.finish());
  const packed = call.deliveries[0]!.batches[0]!;
  return { packing, call, packed, buffers: packer.buffers, schemas };
}

function roundTrip(batch: RecordBatch, mode: Mode): RecordBatch {
  const { call, packed, buffers } = pack(batch, mode);
  expect(call.budget).toBe(chargeOf(call.deliveries));
  if (packed.schemaId === -1) {
    const [slot] = packed.buffers;
    const bytes = new Uint8Array(buffers[slot!.index]!, slot!.offset, slot!.length);
    const table = tableFromIPC(bytes);
    expect(table.batches.length).toBe(1);
    return table.batches[0]!;
  }
  return unpack(packed, buffers, batch.schema);
}

const columns = everyType();

describe("R-03 every type crosses bit-exactly", () => {
  for (const [name, data] of Object.entries(columns))
    for (const mode of ["pin", "copy", "ipc"] as const)
      test(`${name} by ${mode}, whole and in slices at odd offsets`, () => {
        const batch = batchOf({ [name]: data });
        for (const [from, to] of [
          [0, ROWS],
          [1, ROWS],
          [3, 20],
          [9, 10],
          [17, 23],
          [5, 5],
        ] as const) {
          const slice = batch.slice(from, to);
          expect(valuesOf(roundTrip(slice, mode))).toBe(valuesOf(slice));
        }
      });

  test("all of them in one batch, sliced twice", () => {
    const batch = batchOf(columns).slice(2, 21).slice(3, 17);
    for (const mode of ["auto", "pin", "copy"] as const)
      expect(valuesOf(roundTrip(batch, mode))).toBe(valuesOf(batch));
  });

  test("zero columns keep their rows, and duplicate names stay apart", () => {
    const none = batchOf({});
    expect(pack(none).packed).toMatchObject({ rows: 0, nodes: [], buffers: [] });
    const twice = batchOf({ a: columns.int32!, b: columns.utf8! });
    (twice.schema.fields[1] as { name: string }).name = "a";
    expect(valuesOf(roundTrip(twice, "auto"))).toBe(valuesOf(twice));
  });

  test("slices of slices, generated", () => {
    const names = Object.keys(columns);
    const property = fc.property(
      fc.uniqueArray(fc.constantFrom(...names), { minLength: 1, maxLength: 6 }),
      fc.array(fc.tuple(fc.nat(ROWS), fc.nat(ROWS)), { maxLength: 3 }),
      fc.constantFrom<Mode>("auto", "copy", "ipc"),
      (chosen, cuts, mode) => {
        let batch = batchOf(Object.fromEntries(chosen.map((name) => [name, columns[name]!])));
        for (const [a, b] of cuts) batch = batch.slice(Math.min(a, b, batch.numRows), Math.max(a, b));
        expect(valuesOf(roundTrip(batch, mode))).toBe(valuesOf(batch));
      },
    );
    fc.assert(property, { numRuns: 300 });
  });
});

describe("schemas", () => {
  test("R-03 names, metadata, nullability, dictionaries and zones cross with the schema", () => {
    const batch = batchOf(columns);
    const { schemas } = pack(batch);
    const { schema } = tableFromIPC(schemas[0]!);
    expect(schema.metadata).toEqual(new Map([["made", "here"]]));
    expect(schema.fields.map(String)).toEqual(batch.schema.fields.map(String));
    expect(schema.fields.map((field) => field.nullable)).toEqual(
      batch.schema.fields.map((field) => field.nullable),
    );
    expect(schema.fields[3]!.metadata).toEqual(new Map([["of", "int16"]]));
  });

  test("a schema crosses once, however many objects say the same", () => {
    const told: Uint8Array[] = [];
    const packer = new Packer((message) => told.push(message) - 1);
    for (let i = 0; i < 5; i++) {
      // Made anew each time, its dictionary gets another random id.
      const { schema } = batchOf({ ...everyType() });
      packer.schemaId(rebuildSchema(schema as never));
      packer.schemaId(schema);
    }
    expect(told.length).toBe(1);
  });

  test("R-05 of however many schemas, those that were used last are remembered, and numbers are given back", () => {
    const alive = new Map<number, string>();
    const free: number[] = [];
    let [told, most] = [0, 0];
    const packer = new Packer(
      (message) => {
        const id = free.pop() ?? alive.size + free.length;
        alive.set(id, tableFromIPC(message).schema.names.join());
        most = Math.max(most, alive.size);
        told++;
        return id;
      },
      (id) => {
        expect(alive.delete(id)).toBe(true);
        free.push(id);
      },
    );
    const named = (name: string) => batchOf({ [name]: columns.int32! });
    const packed = (batch: RecordBatch): string | undefined => {
      packer.begin(0);
      packer.add(1, { batches: [batch as never] }, "auto");
      return alive.get(parse(packer.finish()).deliveries[0]!.batches[0]!.schemaId);
    };
    const favourite = named("favourite");
    const first = named("s0");
    for (let i = 0; i < 3_000; i++) {
      expect(packed(i === 0 ? first : named(`s${i}`))).toBe(`s${i}`);
      if (i % 100 === 0) expect(packed(favourite)).toBe("favourite");
    }
    expect([told, most]).toEqual([3_001, 1_024]);
    // One that was forgotten is told again, by its old object and by a new one.
    expect([packed(first), packed(named("s0")), packed(named("s1"))]).toEqual(["s0", "s0", "s1"]);
    expect(told).toBe(3_003);
    // However many one call has, none of its own is forgotten before it is made.
    packer.begin(0);
    const many = Array.from({ length: 2_000 }, (_, i) => named(`m${i}`));
    packer.add(1, { batches: many as never }, "auto");
    const ids = parse(packer.finish()).deliveries[0]!.batches.map(({ schemaId }) => alive.get(schemaId));
    expect(ids).toEqual(many.map((_, i) => `m${i}`));
    packer.end();
    packed(named("after"));
    expect(alive.size).toBeLessThan(2_000);
  });

  test("data of another type than the schema says is refused, by name", () => {
    const batch = batchOf({ a: columns.int32! });
    const wrong = { schema: batch.schema, data: { ...batch.data, length: ROWS, children: [columns.int64!] } };
    expect(() => pack(wrong as never)).toThrowError(/column a is not valid: its data is of another type/);
    const fewer = { schema: batch.schema, data: { ...batch.data, length: ROWS, children: [] } };
    expect(() => pack(fewer as never)).toThrowError(/0 columns where its schema has 1/);
    const broken = { schema: batch.schema, data: { length: ROWS, children: [undefined] } };
    expect(() => pack(broken as never)).toThrowError(/no well-formed record batch/);
    const { struct } = columns;
    const childless = { ...struct, type: struct!.type, length: ROWS, offset: 0, children: [] };
    const nested = { schema: batchOf({ s: struct! }).schema, data: { length: ROWS, children: [childless] } };
    expect(() => pack(nested as never)).toThrowError(/0 children where its schema has 2/);
  });

  test("the same type from another object is no other type", () => {
    const batch = batchOf({
      a: everyType().timestamp!,
      d: everyType().dictionary!,
      u: everyType().denseUnion!,
    });
    const again = batchOf({
      a: everyType().timestamp!,
      d: everyType().dictionary!,
      u: everyType().denseUnion!,
    });
    const mixed = { schema: again.schema, data: batch.data };
    expect(pack(mixed as never).packed.rows).toBe(ROWS);
  });

  test("a type that nobody knows is refused by name, in every mode", () => {
    const type = { typeId: 99 };
    const schema = {
      fields: [{ name: "x", type, nullable: true, metadata: new Map() }],
      metadata: new Map(),
    };
    const batch = { schema, data: { length: 0, children: [] } };
    for (const mode of ["auto", "pin", "ipc"] as const)
      expect(() => pack(batch as never, mode)).toThrowError(/type 99/);
  });
});

describe("what columns cannot carry", () => {
  test("R-02 a dictionary of several chunks goes by IPC, and the result says why", () => {
    const batch = batchOf({ a: columns.int32!, d: chunkedDictionary() });
    const { packing, packed } = pack(batch);
    expect(packed).toMatchObject({ schemaId: -1, rows: ROWS });
    expect(packing).toMatchObject({ pinned: 0, copied: 0, ipc: 1 });
    expect(packing.reason).toBe("ipc: the dictionary of column d has 2 chunks");
    expect(valuesOf(roundTrip(batch, "auto"))).toBe(valuesOf(batch));
    expect(valuesOf(roundTrip(batch.slice(3, 9), "copy"))).toBe(valuesOf(batch.slice(3, 9)));
  });

  test("R-01 pin is refused for it", () => {
    const batch = batchOf({ d: chunkedDictionary() });
    expect(() => pack(batch, "pin")).toThrowError(expect.objectContaining({ code: "HANDOFF_UNSAFE" }));
  });

  test("a delivery that is refused leaves no trace in the call", () => {
    const packer = new Packer(() => 0);
    const good = batchOf({ a: everyType().int32! });
    packer.begin(0);
    packer.add(1, { batches: [good as never] }, "auto");
    expect(() =>
      packer.add(2, { batches: [good, batchOf({ d: chunkedDictionary() })] as never }, "pin"),
    ).toThrow();
    packer.add(2, { batches: [good as never] }, "auto");
    const { deliveries, budget } = parse(packer.finish());
    expect(deliveries.map(({ sequence }) => sequence)).toEqual([1, 2]);
    expect(budget).toBe(chargeOf(deliveries));
    for (const { batches } of deliveries)
      expect(valuesOf(unpack(batches[0]!, packer.buffers, good.schema))).toBe(valuesOf(good));
  });

  test("the writer of apache-arrow is kept from its mistakes", () => {
    // Sliced views are cut twice by it, and a sliced dense union loses its order.
    for (const name of ["utf8View", "binaryView", "denseUnion"]) {
      const slice = batchOf({ [name]: columns[name]! }).slice(5, 19);
      const schema = rebuildSchema(slice.schema as never);
      const table = tableFromIPC(writeIpc(slice as never, schema as Schema));
      expect(valuesOf(table.batches[0]!)).toBe(valuesOf(slice));
    }
  });
});

describe("what is handed over", () => {
  test("of a slice, no more than it refers to", () => {
    const batch = batchOf({ n: columns.int64!, t: columns.utf8!, b: columns.bool! }).slice(9, 11);
    const { packed } = pack(batch, "copy");
    const [, values, textValid, offsets] = packed.buffers.map(({ length }) => length);
    expect(values).toBe(16);
    expect(textValid).toBe(1);
    expect(offsets).toBe(12);
  });

  test.each(["pin", "copy"] as const)(
    "R-42 %s of a late slice takes its text, not the text before it",
    (mode) => {
      const whole = batchOf({ t: columns.utf8!, l: columns.listOfText!, g: columns.largeUtf8! });
      const slice = whole.slice(20, 23);
      const { bytes } = pack(slice, mode).packing;
      expect(bytes).toBeLessThan(pack(whole, mode).packing.bytes / 2);
      expect(valuesOf(roundTrip(slice, mode))).toBe(valuesOf(slice));
    },
  );

  test("one ArrayBuffer once, however many columns look into it", () => {
    const table = tableFromIPC(
      writeIpc(batchOf(columns) as never, rebuildSchema(batchOf(columns).schema as never)),
    );
    const { buffers, packed } = pack(table.batches[0]!);
    expect(buffers.length).toBeLessThanOrEqual(2);
    expect(packed.buffers.length).toBeGreaterThan(60);
  });

  test("measure comes close to what packing takes", () => {
    const batch = batchOf(columns);
    const content = { batches: [batch as never] };
    expect(measure(content)).toBeGreaterThanOrEqual(pack(batch).call.budget);
    const ofBytes = pack(batch, "ipc");
    const bytes = new Uint8Array(ofBytes.packing.bytes);
    expect(measure({ bytes })).toBe(ofBytes.call.budget);
    const slice = batch.slice(20, 22);
    expect(measure({ batches: [slice as never] })).toBeLessThan(pack(slice).call.budget * 1.5);
  });

  test("more columns than the call buffer has room for at first", () => {
    const wide = Object.fromEntries(Array.from({ length: 700 }, (_, i) => [`c${i}`, columns.utf8View!]));
    const batch = batchOf(wide);
    expect(valuesOf(roundTrip(batch, "auto"))).toBe(valuesOf(batch));
  });
});

describe("beyond 2³¹ rows", () => {
  // Never touched, so no memory is behind it.
  const bitmap = new Uint8Array(2 ** 28 + 8);
  const over = (data: Data) => {
    const fields = [new Field("c", data.type, true)];
    return new RecordBatch(
      new Schema(fields),
      new Data(new Struct(fields), 0, data.length, 0, {}, [data]) as never,
    );
  };

  test("bitmaps of all rows are handed over, and of none but those", () => {
    const rows = 2 ** 31 + 9;
    const nulls = pack(
      over(new Data(new Struct([]), 0, rows, -1, [undefined, undefined, bitmap] as never)),
    ).packed;
    expect(nulls.buffers).toMatchObject([{ mode: 0, offset: 0, length: 2 ** 28 + 2 }]);
    const bools = pack(over(new Data(new Bool(), 0, rows, 0, [undefined, bitmap]))).packed;
    expect(bools.buffers[1]).toMatchObject({ mode: 0, offset: 0, length: 2 ** 28 + 2 });
  });

  test("a slice there starts there", () => {
    const bools = new Data(new Bool(), 2 ** 31 + 11, 6, -1, [undefined, bitmap, bitmap]);
    const { buffers } = pack(over(bools)).packed;
    expect(buffers).toMatchObject([
      { offset: 2 ** 28 + 1, length: 2 },
      { offset: 2 ** 28 + 1, length: 2 },
    ]);
  });
});

describe("R-15 joined chunks hold what their parts held", () => {
  for (const [name, data] of Object.entries({ ...columns, chunked: chunkedDictionary() }))
    test(name, () => {
      const parts = [sliceOf(data, 3, 9), sliceOf(data, 9, 9), sliceOf(data, 1, 2), sliceOf(data, 11, ROWS)];
      const joined = batchOf({ c: joinData(data.type, parts) });
      const apart = parts.map((part) => batchOf({ c: part }));
      const values = (batch: RecordBatch) =>
        Array.from({ length: batch.numRows }, (_, row) => plain(batch.getChildAt(0)!.get(row)));
      expect(values(joined)).toEqual(apart.flatMap(values));
    });

  test("dictionaries that differ are put behind one another, and too many values are refused", () => {
    const one = everyType().dictionary!;
    const other = everyType().dictionary!;
    const joined = joinData(one.type, [one, other]);
    expect(joined.dictionary!.length).toBe(22);
    const values = (data: typeof one) =>
      Array.from({ length: data.length }, (_, row) => plain(batchOf({ c: data }).getChildAt(0)!.get(row)));
    expect(values(joined)).toEqual([...values(one), ...values(other)]);
    const small = { ...one.type, indices: { bitWidth: 8, isSigned: true } };
    const many = Array.from({ length: 12 }, () => everyType().dictionary!);
    const type = Object.assign(Object.create(Object.getPrototypeOf(one.type)), small);
    expect(() => joinData(type, many)).toThrowError(/132 values, more than its 8-bit keys/);
  });

  test("a rebuilt batch says what the original says", () => {
    const batch = batchOf(columns);
    const schema = rebuildSchema(batch.schema as never);
    const rebuilt = rebuildBatch(batch as never, schema);
    expect(valuesOf(rebuilt)).toBe(valuesOf(batch));
    expect(new Table([rebuilt]).numRows).toBe(ROWS);
  });
});
