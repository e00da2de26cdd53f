// Schemas and batches of any copy of `apache-arrow` → the same in the copy that this package imports.
//
// Invariants:
// - No value is touched: buffers are passed on as they are.
// - What the library's own writer gets wrong is put right before it sees it: slices of view columns (it cuts
//   them twice), slices of dense unions (it assumes offsets in order), dictionaries of several chunks (it
//   writes deltas), null counts that it cannot count, and ids that two dictionaries share (it throws).

import {
  Binary,
  BinaryView,
  Bool,
  Data,
  type DataType,
  Date_,
  Decimal,
  Dictionary,
  Duration,
  Field,
  FixedSizeBinary,
  FixedSizeList,
  Float,
  Int,
  Interval,
  LargeBinary,
  LargeList,
  LargeUtf8,
  List,
  Map_,
  Null,
  RecordBatch,
  RecordBatchStreamWriter,
  Schema,
  Struct,
  Time,
  Timestamp,
  Union,
  Utf8,
  Utf8View,
  Vector,
} from "apache-arrow";
import type { ArrowBatch, ArrowData, ArrowField, ArrowSchema, ArrowType, ArrowVector } from "./arrow.js";
import { joinData } from "./join.js";

/** The same schema in our classes, its dictionaries numbered in order from 0. */
export function rebuildSchema(schema: ArrowSchema): Schema {
  const ids = { next: 0 };
  return new Schema(
    schema.fields.map((field) => rebuildField(field, ids)),
    new Map(schema.metadata ?? []),
  );
}

interface Ids {
  next: number;
}

/** A type of a later `apache-arrow`, or of none. */
export class UnknownType extends TypeError {
  readonly typeId: unknown;
  /** Of the column, and of what is within it. */
  readonly path: string;

  constructor(typeId: unknown, path: string) {
    const where = path === "" ? "" : `column ${path} is of `;
    super(`${where}apache-arrow's type ${String(typeId)}, which is not known here`);
    this.typeId = typeId;
    this.path = path;
  }
}

function rebuildField(field: ArrowField, ids: Ids): Field {
  const { name, nullable, metadata } = field;
  try {
    return new Field(name, rebuildType(field.type, ids), nullable, new Map(metadata ?? []));
  } catch (error) {
    if (!(error instanceof UnknownType)) throw error;
    throw new UnknownType(error.typeId, error.path === "" ? name : `${name}.${error.path}`);
  }
}

function rebuildType(type: ArrowType, ids: Ids): DataType {
  const fields = (): Field[] => (type.children ?? []).map((child) => rebuildField(child, ids));
  const unit = type.unit ?? 0;
  switch (type.typeId) {
    case 1:
      return new Null();
    case 2:
      return new Int(type.isSigned as never, type.bitWidth as never);
    case 3:
      return new Float(type.precision as never);
    case 4:
      return new Binary();
    case 5:
      return new Utf8();
    case 6:
      return new Bool();
    case 7:
      return new Decimal(type.scale ?? 0, type.precision ?? 38, type.bitWidth ?? 128);
    case 8:
      return new Date_(unit);
    case 9:
      return new Time(unit, type.bitWidth as never);
    case 10:
      return new Timestamp(unit, type.timezone);
    case 11:
      return new Interval(unit);
    case 12:
      return new List(fields()[0]!);
    case 13:
      return new Struct(fields());
    case 14:
      return new Union(type.mode as never, Int32Array.from(type.typeIds ?? []), fields());
    case 15:
      return new FixedSizeBinary(type.byteWidth ?? 0);
    case 16:
      return new FixedSizeList(type.listSize ?? 0, fields()[0]!);
    case 17:
      return new Map_(fields()[0] as never, type.keysSorted);
    case 18:
      return new Duration(unit);
    case 19:
      return new LargeBinary();
    case 20:
      return new LargeUtf8();
    case 21:
      return new LargeList(fields()[0]!);
    case 23:
      return new BinaryView();
    case 24:
      return new Utf8View();
    case -1: {
      const id = ids.next++;
      const values = rebuildType(type.dictionary!, ids);
      return new Dictionary(values, rebuildType(type.indices!, ids) as never, id, type.isOrdered);
    }
    default:
      throw new UnknownType(type.typeId, "");
  }
}

/**
 * A batch without rows. The library's own may lack the children that its types speak of, and nothing of what
 * they hold could matter.
 */
export function emptyBatch(schema: Schema): RecordBatch {
  const children = schema.fields.map((field) => emptyData(field.type));
  return batchOf(schema, 0, children);
}

/** Given offsets, the writer writes them, for types that have none as well: all buffers behind them shift. */
function emptyOffsets(typeId: number): Int32Array | BigInt64Array | undefined {
  if (typeId > 18 && typeId < 22) return new BigInt64Array(1);
  return typeId === 4 || typeId === 5 || typeId === 12 || typeId === 14 || typeId === 17
    ? new Int32Array(1)
    : undefined;
}

function batchOf(schema: Schema, length: number, children: Data[]): RecordBatch {
  const batch = new RecordBatch(
    schema,
    new Data(new Struct(schema.fields), 0, length, 0, {}, children) as never,
  );
  // The constructor merges columns of the same name into one field, and the writer drops a batch whose schema
  // is not its own.
  (batch as { schema: Schema }).schema = schema;
  return batch;
}

function emptyData(type: DataType): Data {
  const ArrayType = arrayTypeOf(type);
  const dictionary =
    type.typeId === -1 ? new Vector([emptyData((type as Dictionary).dictionary)]) : undefined;
  return new Data(
    type,
    0,
    0,
    0,
    [
      emptyOffsets(type.typeId),
      ArrayType === undefined ? new Uint8Array(0) : new ArrayType(new ArrayBuffer(0), 0, 0),
      undefined,
      new Int8Array(0),
    ] as never,
    type.typeId === -1 ? [] : (type.children ?? []).map((field: Field) => emptyData(field.type)),
    dictionary as never,
  );
}

/** The same batch in our classes, under `schema`, which `rebuildSchema` made of the batch's own. */
export function rebuildBatch(batch: ArrowBatch, schema: Schema): RecordBatch {
  if (batch.data.length === 0) return emptyBatch(schema);
  const children = schema.fields.map((field, index) => rebuildData(batch.data.children[index]!, field.type));
  const { length } = batch.data;
  return batchOf(schema, length, children);
}

export function rebuildData(data: ArrowData, type: DataType): Data {
  const { length, typeIds } = data;
  if (type.typeId === 1) return new Nulls(type, length);
  let { valueOffsets, children } = data;
  if (type.typeId === 12 || type.typeId === 17 || type.typeId === 21)
    [valueOffsets, children] = compact(valueOffsets!, children[0]!, length);
  const values = likeOurs(data.values, type);
  let { offset, nullBitmap } = data;
  const views = type.typeId === 23 || type.typeId === 24;
  if (offset > 0 && (views || type.typeId === 14)) {
    if (nullBitmap != null && nullBitmap.byteLength > 0) nullBitmap = shiftBits(nullBitmap, offset, length);
    offset = 0;
  }
  return new Data(
    type,
    offset,
    length,
    nullCountOf(data),
    [valueOffsets, values, nullBitmap, typeIds] as never,
    type.typeId === -1
      ? []
      : (type.children ?? []).map((field: Field, index: number) => rebuildData(children[index]!, field.type)),
    type.typeId === -1 ? rebuildDictionary(data.dictionary!, (type as Dictionary).dictionary) : undefined,
    [...(data.variadicBuffers ?? [])] as never,
  );
}

/** A list's items cut to those that it refers to: the writer's own cut is one of those that it gets wrong. */
function compact(offsets: Offsets, items: ArrowData, length: number): [Offsets, readonly ArrowData[]] {
  const first = Number(offsets[0]);
  const last = Number(offsets[length]);
  // An offset that is not there is the writer's to complain about.
  if ((first === 0 && last === items.length) || !(first <= last)) return [offsets, [items]];
  const cut = (items as Sliceable).slice(first, last - first);
  if (first === 0) return [offsets, [cut]];
  const moved =
    offsets instanceof BigInt64Array
      ? offsets.subarray(0, length + 1).map((offset) => offset - BigInt(first))
      : Int32Array.from({ length: length + 1 }, (_, row) => Number(offsets[row]) - first);
  return [moved, [cut]];
}

type Offsets = NonNullable<ArrowData["valueOffsets"]>;
type Sliceable = ArrowData & { slice(offset: number, length: number): ArrowData };

/** Without a bitmap to count in, the writer would write -1 as a count, which no reader takes. */
function nullCountOf(data: ArrowData): number {
  return data.nullBitmap == null || data.nullBitmap.byteLength === 0 ? 0 : (data._nullCount ?? -1);
}

/** A column of type Null. What lies below a list is sliced by the writer, and its own slices forget their count. */
class Nulls extends Data {
  constructor(type: DataType, length: number) {
    super(type, 0, length, length);
  }
  override slice(_offset: number, length: number): this {
    return new Nulls(this.type, length) as this;
  }
}

/**
 * Older versions hold 64-bit values as pairs of 32 bits. Taken as they are, ours would count twice as many
 * values, and write half of them.
 */
function likeOurs(
  values: ArrayBufferView | null | undefined,
  type: DataType,
): ArrayBufferView | null | undefined {
  if (values == null) return values;
  const ArrayType = arrayTypeOf(type);
  if (ArrayType === undefined || values instanceof ArrayType) return values;
  const { buffer, byteOffset, byteLength } = values as ArrayBufferView;
  const size = ArrayType.BYTES_PER_ELEMENT;
  if (byteOffset % size === 0) return new ArrayType(buffer, byteOffset, Math.floor(byteLength / size));
  return new ArrayType((buffer as ArrayBuffer).slice(byteOffset), 0, Math.floor(byteLength / size));
}

/** Of what `values` holds: a dictionary's keys, not the dictionary. */
function arrayTypeOf(type: DataType): ViewClass | undefined {
  const { ArrayType } = (type.typeId === -1 ? (type as Dictionary).indices : type) as unknown as {
    ArrayType?: unknown;
  };
  // The library says `Array` of types that have no values, and cannot slice one.
  return typeof ArrayType === "function" && "BYTES_PER_ELEMENT" in ArrayType
    ? (ArrayType as unknown as ViewClass)
    : undefined;
}

interface ViewClass {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): ArrayBufferView;
}

function rebuildDictionary(dictionary: ArrowVector, type: DataType): Vector {
  const chunks = dictionary.data.map((chunk) => rebuildData(chunk, type));
  return new Vector([chunks.length === 1 ? chunks[0]! : joinData(type, chunks)]);
}

/** Bits from `offset` on, moved to the start of a new bitmap. */
function shiftBits(bitmap: ArrayBufferView, offset: number, length: number): Uint8Array {
  const from = new Uint8Array(bitmap.buffer, bitmap.byteOffset, bitmap.byteLength);
  const bits = new Uint8Array((length + 7) >> 3);
  for (let i = 0; i < length; i++) {
    const bit = offset + i;
    if ((from[bit >> 3]! >> (bit & 7)) & 1) bits[i >> 3]! |= 1 << (i & 7);
  }
  return bits;
}

/** A batch as an IPC stream of its own, schema and dictionaries included. */
export function writeIpc(batch: ArrowBatch, schema: Schema): Uint8Array {
  const writer = new RecordBatchStreamWriter();
  // The schema is set beforehand: given another one, the writer closes itself and drops the batch.
  writer.reset(undefined, schema);
  writer.write(rebuildBatch(batch, schema));
  writer.finish();
  const bytes = writer.toUint8Array(true);
  // The library answers what it does not understand with nothing, and no error.
  if (bytes.byteLength === 0) throw new TypeError("apache-arrow wrote no bytes");
  return bytes;
}
