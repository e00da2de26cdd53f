// Batches that nobody thought of: any type in any type, any nulls, any slice.
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
  DurationMillisecond,
  DurationNanosecond,
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
  Null,
  RecordBatch,
  Schema,
  SparseUnion,
  Struct,
  TimeMicrosecond,
  TimeMillisecond,
  TimeNanosecond,
  TimeSecond,
  TimestampMicrosecond,
  TimestampMillisecond,
  TimestampNanosecond,
  TimestampSecond,
  Uint8,
  Uint16,
  Uint32,
  Uint64,
  Utf8,
  Utf8View,
  Vector,
} from "apache-arrow";
import fc from "fast-check";

const leaves: (() => DataType)[] = [
  () => new Null(),
  () => new Bool(),
  ...[Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64, Float16, Float32, Float64].map(
    (Class) => () => new Class() as DataType,
  ),
  ...[Utf8, LargeUtf8, Utf8View, Binary, LargeBinary, BinaryView].map(
    (Class) => () => new Class() as DataType,
  ),
  ...[DateDay, DateMillisecond, TimeSecond, TimeMillisecond, TimeMicrosecond, TimeNanosecond].map(
    (Class) => () => new Class() as DataType,
  ),
  () => new TimestampSecond("UTC"),
  () => new TimestampMillisecond(),
  () => new TimestampMicrosecond("Asia/Kathmandu"),
  () => new TimestampNanosecond(),
  () => new DurationMillisecond(),
  () => new DurationNanosecond(),
  () => new IntervalYearMonth(),
  () => new IntervalDayTime(),
  () => new IntervalMonthDayNano(),
  () => new Decimal(3, 30, 128),
  () => new Decimal(-2, 9, 128),
  () => new Decimal(5, 70, 256),
  () => new FixedSizeBinary(1),
  () => new FixedSizeBinary(16),
];

const name = fc.constantFrom("a", "b", "", "ünï🎉", "with.dot", "a b");
const metadata = fc.constantFrom(new Map<string, string>(), new Map([["k", "v"]]), new Map([["", "é"]]));
let dictionaries = 0;

const { type } = fc.letrec<{ type: DataType; field: Field; nested: DataType }>((tie) => ({
  field: fc
    .tuple(name, tie("type"), metadata)
    .map(([name, type, metadata]) => new Field(name, type as DataType, true, metadata)),
  nested: fc.oneof(
    fc.tuple(fc.boolean(), tie("field")).map(([large, field]) => {
      return large ? new LargeList(field as Field) : new List(field as Field);
    }),
    fc
      .tuple(fc.nat(4), tie("field"))
      .map(([size, field]) => new FixedSizeList(size, field as Field) as DataType),
    fc
      .array(tie("field"), { minLength: 0, maxLength: 3 })
      .map((fields) => new Struct(fields as Field[]) as DataType),
    fc.tuple(fc.boolean(), fc.array(tie("field"), { minLength: 1, maxLength: 3 })).map(([dense, fields]) => {
      const ids = fields.map((_, index) => index * 3);
      return (
        dense ? new DenseUnion(ids, fields as Field[]) : new SparseUnion(ids, fields as Field[])
      ) as DataType;
    }),
    tie("type").map((value) => {
      const entry = [new Field("key", new Utf8(), false), new Field("value", value as DataType, true)];
      return new Map_(new Field("entries", new Struct(entry), false) as never) as DataType;
    }),
    fc.tuple(tie("type"), fc.constantFrom(new Int8(), new Uint16(), new Int32(), new Uint8())).map(
      // A dictionary's values are no dictionary themselves: Arrow has no such thing in practice.
      ([values, keys]) =>
        new Dictionary(
          (hasDictionary(values as DataType) ? new Utf8() : values) as DataType,
          keys as never,
          dictionaries++,
        ) as DataType,
    ),
  ),
  type: fc.oneof(
    { maxDepth: 3, depthSize: "small" },
    fc.constantFrom(...leaves).map((make) => make()),
    tie("nested") as fc.Arbitrary<DataType>,
  ),
}));

export function hasDictionary(type: DataType): boolean {
  return type.typeId === -1 || (type.children ?? []).some((field: Field) => hasDictionary(field.type));
}

/** Deterministic, and good enough to hit every branch. */
class Dice {
  #state: number;
  constructor(seed: number) {
    this.#state = (seed ^ 0x9e37_79b9) >>> 0;
  }
  next(below: number): number {
    this.#state = (Math.imul(this.#state ^ (this.#state >>> 15), 0x2c1b_3c6d) + 0x6d2b_79f5) >>> 0;
    return ((this.#state ^ (this.#state >>> 13)) >>> 0) % below;
  }
  bytes(count: number): Uint8Array<ArrayBuffer> {
    return Uint8Array.from({ length: count }, () => this.next(256));
  }
}

const WORDS = ["", "a", "é", "🎉", "a longer text than twelve", "\0", "ﬀ".repeat(9)];

function validity(rows: number, dice: Dice): { bits: Uint8Array | undefined; nulls: number } {
  const kind = dice.next(4);
  if (kind === 0) return { bits: undefined, nulls: 0 };
  const bits = new Uint8Array(((rows + 7) >> 3) + dice.next(3));
  let nulls = 0;
  for (let row = 0; row < rows; row++)
    if (kind !== 1 && dice.next(3) > 0) bits[row >> 3]! |= 1 << (row & 7);
    else nulls++;
  return { bits, nulls: dice.next(2) === 0 ? nulls : -1 };
}

function make(type: DataType, rows: number, dice: Dice): Data {
  const { bits, nulls } = validity(rows, dice);
  const of = (buffers: unknown[], children: Data[] = [], dictionary?: Vector, views?: Uint8Array[]): Data => {
    buffers[2] ??= bits;
    return new Data(
      type,
      0,
      rows,
      nulls,
      buffers as never,
      children,
      dictionary as never,
      (views ?? []) as never,
    );
  };
  const fields = (type.children ?? []) as Field[];
  const offsets = (large: boolean, step: () => number): [never, number] => {
    const found = large ? new BigInt64Array(rows + 1) : new Int32Array(rows + 1);
    let end = 0;
    for (let row = 0; row < rows; row++) {
      end += step();
      found[row + 1] = (large ? BigInt(end) : end) as never;
    }
    return [found as never, end];
  };
  switch (type.typeId) {
    case 1:
      return new Data(type, 0, rows, rows);
    case 4:
    case 5:
    case 19:
    case 20: {
      const values: Uint8Array[] = [];
      const [ends] = offsets(type.typeId > 18, () => {
        const bytes = Uint8Array.from(Buffer.from(WORDS[dice.next(WORDS.length)]!));
        values.push(bytes);
        return bytes.length;
      });
      return of([ends, Uint8Array.from(values.flatMap((bytes) => [...bytes]))]);
    }
    case 6:
      return of([undefined, dice.bytes((rows + 7) >> 3)]);
    case 12:
    case 17:
    case 21: {
      const [ends, items] = offsets(type.typeId === 21, () => dice.next(4));
      const child =
        type.typeId === 17
          ? whole(fields[0]!.type, items, dice)
          : make(fields[0]!.type, items + dice.next(2), dice);
      return of([ends], [child]);
    }
    case 13:
      return of(
        [],
        fields.map((field) => make(field.type, rows, dice)),
      );
    case 14: {
      const { mode, typeIds } = type as unknown as { mode: number; typeIds: Int32Array };
      const chosen = Array.from({ length: rows }, () => dice.next(fields.length));
      const counts = fields.map(() => 0);
      const at = Int32Array.from(chosen, (child) => counts[child]!++);
      const children = fields.map((field, index) =>
        make(field.type, mode === 1 ? counts[index]! : rows, dice),
      );
      const ids = Int8Array.from(chosen, (child) => typeIds[child]!);
      return new Data(
        type,
        0,
        rows,
        0,
        [mode === 1 ? at : undefined, undefined, undefined, ids] as never,
        children,
      );
    }
    case 16: {
      const { listSize } = type as unknown as { listSize: number };
      return of([], [make(fields[0]!.type, rows * listSize, dice)]);
    }
    case 23:
    case 24: {
      const raw = new Uint8Array(rows * 16);
      const heap: number[] = [];
      for (let row = 0; row < rows; row++) {
        const bytes = Buffer.from(WORDS[dice.next(WORDS.length)]!);
        const view = new DataView(raw.buffer, row * 16, 16);
        view.setInt32(0, bytes.length, true);
        raw.set(bytes.subarray(0, bytes.length > 12 ? 4 : 12), row * 16 + 4);
        if (bytes.length <= 12) continue;
        view.setInt32(12, heap.length, true);
        heap.push(...bytes);
      }
      return of([undefined, raw], [], undefined, [Uint8Array.from(heap)]);
    }
    case -1: {
      const { dictionary, indices } = type as Dictionary;
      const words = 1 + dice.next(5);
      const { ArrayType } = indices as unknown as { ArrayType: { from(a: unknown): unknown } };
      const keys = Array.from({ length: rows }, () => dice.next(words));
      return of(
        [undefined, ArrayType.from(keys)],
        [],
        new Vector([make(dictionary as DataType, words, dice)]),
      );
    }
    default:
      return of([undefined, numbers(type, rows, dice)]);
  }
}

/** A map's entries and keys are never null. */
function whole(type: DataType, rows: number, dice: Dice): Data {
  const [key, value] = type.children as Field[];
  let keys = make(key!.type, rows, dice);
  keys = new Data(keys.type, 0, rows, 0, [keys.valueOffsets, keys.values] as never);
  return new Data(type, 0, rows, 0, [] as never, [keys, make(value!.type, rows, dice)]);
}

function numbers(type: DataType, rows: number, dice: Dice): unknown {
  const facts = type as unknown as { ArrayType: new (buffer: ArrayBuffer) => unknown; byteWidth?: number };
  const width = widthOf(type);
  const bytes = dice.bytes(rows * width);
  // The library reads 64-bit values of these as numbers, decimals have digits to keep to, days have hours.
  if (type.typeId > 6 && type.typeId !== 15)
    for (let i = 0; i < bytes.length; i++)
      if (i % width > (type.typeId === 9 || type.typeId === 8 ? 1 : 2)) bytes[i] = 0;
  return new facts.ArrayType(bytes.buffer);
}

function widthOf(type: DataType): number {
  const { bitWidth, byteWidth, unit, precision } = type as unknown as Record<string, number>;
  switch (type.typeId) {
    case 3:
      return 2 << precision!;
    case 8:
      return unit === 0 ? 4 : 8;
    case 10:
    case 18:
      return 8;
    case 11:
      return 4 << unit!;
    case 15:
      return byteWidth!;
    default:
      return bitWidth! / 8;
  }
}

export interface Generated {
  readonly batches: RecordBatch[];
  readonly types: readonly DataType[];
}

/** One to three batches of a schema: other rows, other dictionaries, other slices each. */
export const generated: fc.Arbitrary<Generated> = fc
  .record({
    columns: fc.array(fc.tuple(name, type as fc.Arbitrary<DataType>, metadata), { maxLength: 4 }),
    metadata,
    batches: fc.array(
      fc.record({
        rows: fc.nat(40),
        seed: fc.nat(),
        cuts: fc.array(fc.tuple(fc.nat(40), fc.nat(40)), { maxLength: 2 }),
      }),
      { minLength: 1, maxLength: 3 },
    ),
  })
  .map(({ columns, metadata, batches }) => {
    const fields = columns.map(([name, type, metadata]) => new Field(name, type, true, metadata));
    const schema = new Schema(fields, metadata);
    return {
      types: fields.map((field) => field.type),
      batches: batches.map(({ rows, seed, cuts }) => {
        const dice = new Dice(seed);
        const children = fields.map((field) => make(field.type, rows, dice));
        const data = new Data(new Struct(fields), 0, rows, 0, [] as never, children);
        let batch = new RecordBatch(schema, data as never);
        for (const [a, b] of cuts)
          batch = batch.slice(Math.min(a, b, batch.numRows), Math.min(Math.max(a, b), batch.numRows));
        return batch;
      }),
    };
  });
