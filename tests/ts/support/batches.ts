// Batches of everything that `apache-arrow` can hold, and an independent reader of what the packer wrote.
import {
  Binary,
  BinaryView,
  Bool,
  Data,
  type DataType,
  DateDay,
  DateMillisecond,
  Decimal,
  DenseUnion,
  Dictionary,
  DurationMicrosecond,
  Field,
  FixedSizeBinary,
  FixedSizeList,
  Float16,
  Float32,
  Float64,
  Int8,
  Int16,
  Int32,
  Int64,
  IntervalDayTime,
  IntervalMonthDayNano,
  IntervalYearMonth,
  LargeBinary,
  LargeList,
  LargeUtf8,
  List,
  Map_,
  makeData,
  Null,
  RecordBatch,
  Schema,
  SparseUnion,
  Struct,
  TimeMicrosecond,
  TimeNanosecond,
  TimeSecond,
  TimestampMicrosecond,
  TimestampNanosecond,
  Uint8,
  Uint16,
  Uint32,
  Uint64,
  Utf8,
  Utf8View,
  Vector,
  vectorFromArray,
} from "apache-arrow";

export const ROWS = 23;

/** Every third row is null, so that odd slices begin at every bit of a byte. */
function validity(rows: number): Uint8Array {
  const bits = new Uint8Array((rows + 7) >> 3);
  for (let i = 0; i < rows; i++) if (i % 3 !== 1) bits[i >> 3]! |= 1 << (i & 7);
  return bits;
}

function bytesFor(width: number, rows: number, seed: number): Uint8Array<ArrayBuffer> {
  // The top bytes of 64-bit values are 0: dates beyond 2^53 ms cannot be read back as numbers.
  return Uint8Array.from({ length: width * rows }, (_, i) =>
    width === 8 && i % 8 > 5 ? 0 : (i * 31 + seed * 17) & 127,
  );
}

function fixed(type: DataType, width: number, seed: number, rows = ROWS): Data {
  const bytes = bytesFor(width, rows, seed);
  const { ArrayType } = type as unknown as { ArrayType: new (buffer: ArrayBuffer) => never };
  return makeData({
    type,
    length: rows,
    nullCount: -1,
    nullBitmap: validity(rows),
    data: new ArrayType(bytes.buffer),
  } as never) as Data;
}

function text(type: DataType, seed: number, rows = ROWS, large = false): Data {
  const parts = Array.from({ length: rows }, (_, i) =>
    i % 3 === 1 ? "" : `é${seed}-${"x".repeat((i * 7) % 19)}`,
  );
  const encoded = parts.map((part) => new TextEncoder().encode(part));
  const offsets = large ? new BigInt64Array(rows + 1) : new Int32Array(rows + 1);
  let end = 0;
  encoded.forEach((part, i) => {
    end += part.length;
    offsets[i + 1] = (large ? BigInt(end) : end) as never;
  });
  return makeData({
    type,
    length: rows,
    nullCount: -1,
    nullBitmap: validity(rows),
    valueOffsets: offsets,
    // Not a Buffer: small ones lie in Node's pool, which Node has marked, so it cannot be pinned.
    data: Uint8Array.from(encoded.flatMap((part) => [...part])),
  } as never) as Data;
}

function views(type: DataType, rows = ROWS): Data {
  const words = new Int32Array(rows * 4);
  const bytes = new Uint8Array(words.buffer);
  const buffers = [new Uint8Array(400), new Uint8Array(400)];
  const ends = [0, 0];
  for (let i = 0; i < rows; i++) {
    const value = new TextEncoder().encode(`v${i}${"y".repeat((i * 5) % 29)}`);
    words[i * 4] = value.length;
    if (value.length <= 12) {
      bytes.set(value, i * 16 + 4);
      continue;
    }
    const which = i % 2;
    bytes.set(value.subarray(0, 4), i * 16 + 4);
    words[i * 4 + 2] = which;
    words[i * 4 + 3] = ends[which]!;
    buffers[which]!.set(value, ends[which]);
    ends[which]! += value.length;
  }
  return makeData({
    type,
    length: rows,
    nullBitmap: validity(rows),
    views: bytes,
    variadicBuffers: buffers,
  } as never) as Data;
}

function list(type: DataType, child: Data, rows = ROWS, large = false): Data {
  const offsets = large ? new BigInt64Array(rows + 1) : new Int32Array(rows + 1);
  for (let i = 0; i <= rows; i++) {
    const end = Math.min(child.length, Math.floor((i * child.length) / rows));
    offsets[i] = (large ? BigInt(end) : end) as never;
  }
  return new Data(type, 0, rows, -1, [offsets, undefined, validity(rows)] as never, [child]);
}

function union(dense: boolean): Data {
  const fields = [new Field("i", new Int32(), true), new Field("s", new Utf8(), true)];
  const ids = Int8Array.from({ length: ROWS }, (_, i) => (i % 2 === 0 ? 5 : 9));
  const type = dense ? new DenseUnion([5, 9], fields) : new SparseUnion([5, 9], fields);
  const children = [fixed(new Int32(), 4, 3), text(new Utf8(), 4)];
  const offsets = Int32Array.from({ length: ROWS }, (_, i) => i >> 1);
  return new Data(
    type,
    0,
    ROWS,
    0,
    [dense ? offsets : undefined, undefined, undefined, ids] as never,
    children,
  );
}

function dictionary(id: number, values: Data, chunks: Data[] = [values]): Data {
  const type = new Dictionary(values.type, new Int16(), id);
  const size = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const keys = Int16Array.from({ length: ROWS }, (_, i) => (i * 5) % size);
  return new Data(
    type,
    0,
    ROWS,
    -1,
    [undefined, keys, validity(ROWS)] as never,
    [],
    new Vector(chunks) as never,
  );
}

/** One column of every type, nulls in all that can have them. */
export function everyType(): Record<string, Data> {
  const struct = new Struct([new Field("a", new Int32(), true), new Field("b", new Utf8(), true)]);
  const structData = new Data(struct, 0, ROWS, -1, [undefined, undefined, validity(ROWS)] as never, [
    fixed(new Int32(), 4, 1),
    text(new Utf8(), 2),
  ]);
  const entry = new Struct([new Field("key", new Utf8(), false), new Field("value", new Int32(), true)]);
  const keys = vectorFromArray(
    Array.from({ length: 40 }, (_, i) => `k${i}`),
    new Utf8(),
  ).data[0]!;
  const entries = new Data(entry, 0, 40, 0, [] as never, [keys, fixed(new Int32(), 4, 8, 40)]);
  return {
    null: makeData({ type: new Null(), length: ROWS }),
    bool: makeData({
      type: new Bool(),
      length: ROWS,
      nullCount: -1,
      nullBitmap: validity(ROWS),
      data: bytesFor(1, 3, 9),
    }),
    int8: fixed(new Int8(), 1, 1),
    int16: fixed(new Int16(), 2, 2),
    int32: fixed(new Int32(), 4, 3),
    int64: fixed(new Int64(), 8, 4),
    uint8: fixed(new Uint8(), 1, 5),
    uint16: fixed(new Uint16(), 2, 6),
    uint32: fixed(new Uint32(), 4, 7),
    uint64: fixed(new Uint64(), 8, 8),
    float16: fixed(new Float16(), 2, 9),
    float32: fixed(new Float32(), 4, 10),
    float64: fixed(new Float64(), 8, 11),
    decimal: fixed(new Decimal(2, 20, 128), 16, 12),
    date32: fixed(new DateDay(), 4, 13),
    date64: fixed(new DateMillisecond(), 8, 14),
    time32: fixed(new TimeSecond(), 4, 15),
    time64: fixed(new TimeMicrosecond(), 8, 16),
    timeNs: fixed(new TimeNanosecond(), 8, 16),
    timestamp: fixed(new TimestampMicrosecond("Europe/Berlin"), 8, 17),
    timestampNs: fixed(new TimestampNanosecond(), 8, 17),
    duration: fixed(new DurationMicrosecond(), 8, 18),
    yearMonth: fixed(new IntervalYearMonth(), 4, 19),
    dayTime: fixed(new IntervalDayTime(), 8, 20),
    monthDayNano: fixed(new IntervalMonthDayNano(), 16, 21),
    fixedBinary: fixed(new FixedSizeBinary(5), 5, 22),
    utf8: text(new Utf8(), 1),
    binary: text(new Binary(), 2),
    largeUtf8: text(new LargeUtf8(), 3, ROWS, true),
    largeBinary: text(new LargeBinary(), 4, ROWS, true),
    utf8View: views(new Utf8View()),
    binaryView: views(new BinaryView()),
    list: list(new List(new Field("item", new Int32(), true)), fixed(new Int32(), 4, 30, 57)),
    listOfText: list(new List(new Field("item", new Utf8(), true)), text(new Utf8(), 5, 57)),
    largeList: list(new LargeList(new Field("item", new Utf8(), true)), text(new Utf8(), 6, 57), ROWS, true),
    fixedList: new Data(
      new FixedSizeList(3, new Field("item", new Int16(), true)),
      0,
      ROWS,
      -1,
      [undefined, undefined, validity(ROWS)] as never,
      [fixed(new Int16(), 2, 31, ROWS * 3)],
    ),
    struct: structData,
    structOfStruct: new Data(new Struct([new Field("inner", struct, true)]), 0, ROWS, 0, [] as never, [
      structData,
    ]),
    map: list(new Map_(new Field("entries", entry, false) as never), entries),
    denseUnion: union(true),
    sparseUnion: union(false),
    dictionary: dictionary(70, text(new Utf8(), 7, 11)),
    dictionaryOfStruct: dictionary(
      71,
      new Data(struct, 0, 11, 0, [] as never, [fixed(new Int32(), 4, 1, 11), text(new Utf8(), 2, 11)]),
    ),
  };
}

/** A dictionary of two chunks, which columns cannot carry. */
export function chunkedDictionary(): Data {
  const chunks = [text(new Utf8(), 7, 11), text(new Utf8(), 8, 6)];
  return dictionary(72, chunks[0]!, chunks);
}

/** With dates and times of the years that Delta holds; random bits are of any. */
export function ofKnownYears(all: Record<string, Data>): Record<string, Data> {
  const days = all.date32!.values as Int32Array;
  days.forEach((day, row) => {
    days[row] = day % 700_000;
  });
  const times = all.timestamp!.values as ArrayBufferView;
  const micros = new BigInt64Array(times.buffer, times.byteOffset, times.byteLength / 8);
  micros.forEach((time, row) => {
    micros[row] = time % (700_000n * 86_400_000_000n);
  });
  return all;
}

export function batchOf(columns: Record<string, Data>): RecordBatch {
  const fields = Object.entries(columns).map(
    ([name, data]) => new Field(name, data.type, true, new Map([["of", name]])),
  );
  const rows = Object.values(columns)[0]?.length ?? 0;
  const schema = new Schema(fields, new Map([["made", "here"]]));
  return new RecordBatch(
    schema,
    new Data(new Struct(fields), 0, rows, 0, {} as never, Object.values(columns)) as never,
  );
}

/** All values of a batch, in a form that compares; numbers keep their sign and NaN their name. */
export function valuesOf(batch: {
  schema: { fields: readonly { name: string }[] };
  numRows: number;
}): string {
  const { fields } = batch.schema;
  const columns = fields.map((field, index) => {
    const vector = (batch as RecordBatch).getChildAt(index)!;
    return [field.name, Array.from({ length: batch.numRows }, (_, row) => plain(vector.get(row)))];
  });
  return JSON.stringify(columns);
}

export function plain(value: unknown): unknown {
  if (value === null || value === undefined) return null;
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "number") return Object.is(value, -0) ? "-0" : String(value);
  if (typeof value !== "object") return value;
  if (ArrayBuffer.isView(value)) return Array.from(value as Uint8Array, plain);
  if (value instanceof Date) return value.getTime();
  const { toJSON } = value as { toJSON?: () => unknown };
  const json = typeof toJSON === "function" ? toJSON.call(value) : value;
  if (Array.isArray(json)) return json.map(plain);
  if (ArrayBuffer.isView(json)) return Array.from(json as Uint8Array, plain);
  if (typeof json !== "object" || json === null) return plain(json);
  return Object.fromEntries(Object.entries(json).map(([key, item]) => [key, plain(item)]));
}

export interface PackedBuffer {
  readonly mode: number;
  readonly index: number;
  readonly offset: number;
  readonly length: number;
}

export interface PackedBatch {
  readonly schemaId: number;
  readonly rows: number;
  readonly nodes: readonly (readonly [length: number, nullCount: number, offset: number, variadic: number])[];
  readonly buffers: readonly PackedBuffer[];
}

export interface PackedDelivery {
  readonly sequence: number;
  readonly batches: readonly PackedBatch[];
}

/** What deliveries take of the budget, by the formula of `specs/boundary.md`. */
export function chargeOf(deliveries: readonly PackedDelivery[]): number {
  let sum = 0;
  for (const { batches } of deliveries) {
    sum += 1_024;
    for (const { nodes, buffers } of batches) {
      sum += 128 * (1 + nodes.length + buffers.length);
      for (const { length } of buffers) sum += length;
    }
  }
  return sum;
}

/** `specs/boundary.md`, read back. */
export function parse(call: Float64Array): { ticket: number; budget: number; deliveries: PackedDelivery[] } {
  let at = 0;
  const next = (): number => {
    if (at >= call.length) throw new Error("the call is too short");
    return call[at++]!;
  };
  const times = <T>(count: number, make: () => T): T[] => Array.from({ length: count }, make);
  const ticket = next();
  const budget = next();
  const deliveries = times(next(), () => {
    const sequence = next();
    if (next() !== 0) throw new Error("flags are 0");
    return {
      sequence,
      batches: times(next(), () => {
        const schemaId = next();
        const rows = next();
        const nodes = next();
        const buffers = next();
        return {
          schemaId,
          rows,
          nodes: times(nodes, () => [next(), next(), next(), next()] as const),
          buffers: times(buffers, () => ({ mode: next(), index: next(), offset: next(), length: next() })),
        };
      }),
    };
  });
  if (at !== call.length) throw new Error(`${call.length - at} numbers too many`);
  return { ticket, budget, deliveries };
}

/** A batch made of nothing but what was packed, by the table of buffers in `specs/boundary.md`. */
export function unpack(packed: PackedBatch, buffers: readonly ArrayBuffer[], schema: Schema): RecordBatch {
  const nodes = packed.nodes.values();
  const slots = packed.buffers.values();
  const bytes = (): Uint8Array<ArrayBuffer> | undefined => {
    const slot = slots.next().value!;
    if (slot.mode === 2) return undefined;
    // Copied, so that it starts at 0 and any element size fits.
    return new Uint8Array(buffers[slot.index]!.slice(slot.offset, slot.offset + slot.length));
  };
  const as = <T>(Class: new (buffer: ArrayBuffer) => T): T =>
    new Class(bytes()?.buffer ?? new ArrayBuffer(0));
  const read = (type: DataType): Data => {
    const [length, nullCount, offset, variadic] = nodes.next().value!;
    const make = (
      parts: { valid?: unknown; offsets?: unknown; values?: unknown; ids?: unknown },
      kids: Data[] = [],
    ) =>
      new Data(
        type,
        offset,
        length,
        nullCount,
        [parts.offsets, parts.values, parts.valid, parts.ids] as never,
        kids,
      );
    /** Values before the first that was handed over are counted by offsets all the same. */
    const from0 = <T extends Int32Array | BigInt64Array>(offsets: T): T => {
      const first = offsets instanceof Int32Array ? variadic : BigInt(variadic);
      return (offsets as Int32Array).map((offset) => offset - (first as number)) as T;
    };
    const kids = () => (type.children as Field[]).map((field) => read(field.type));
    switch (type.typeId) {
      case 1:
        return new Data(type, 0, length, nullCount);
      case 4:
      case 5:
        return make({ valid: bytes(), offsets: from0(as(Int32Array)), values: bytes() ?? new Uint8Array(0) });
      case 19:
      case 20:
        return make({
          valid: bytes(),
          offsets: from0(as(BigInt64Array)),
          values: bytes() ?? new Uint8Array(0),
        });
      case 12:
      case 17: {
        const parts = { valid: bytes(), offsets: from0(as(Int32Array)) };
        return make(parts, kids());
      }
      case 21: {
        const parts = { valid: bytes(), offsets: from0(as(BigInt64Array)) };
        return make(parts, kids());
      }
      case 13:
      case 16: {
        const valid = bytes();
        return make({ valid }, kids());
      }
      case 14: {
        const ids = as(Int8Array);
        const offsets = (type as { mode?: number }).mode === 1 ? as(Int32Array) : undefined;
        return make({ ids, offsets }, kids());
      }
      case 23:
      case 24: {
        const valid = bytes();
        const values = bytes() ?? new Uint8Array(0);
        const data = Array.from({ length: variadic }, () => bytes() ?? new Uint8Array(0));
        return new Data(
          type,
          offset,
          length,
          nullCount,
          [undefined, values, valid] as never,
          [],
          undefined,
          data as never,
        );
      }
      case -1: {
        const valid = bytes();
        const { indices, dictionary } = type as Dictionary;
        const values = as(
          (indices as unknown as { ArrayType: new (buffer: ArrayBuffer) => unknown }).ArrayType,
        );
        const words = new Vector([read(dictionary)]);
        return new Data(
          type,
          offset,
          length,
          nullCount,
          [undefined, values, valid] as never,
          [],
          words as never,
        );
      }
      default: {
        const valid = bytes();
        const { ArrayType } = type as unknown as { ArrayType: new (buffer: ArrayBuffer) => unknown };
        return make({ valid, values: as(ArrayType) });
      }
    }
  };
  const children = schema.fields.map((field) => read(field.type));
  if (!nodes.next().done || !slots.next().done) throw new Error("nodes or buffers are left over");
  return new RecordBatch(
    schema,
    new Data(new Struct(schema.fields), 0, packed.rows, 0, {} as never, children) as never,
  );
}
