// One cell of a table → a value that can be shown, whatever it holds.
//
// Invariants:
// - It never throws for what a cell holds: apache-arrow does, for instants beyond what a Number counts exactly, and a
//   row that was refused is more likely than others to hold some.
// - What a Number or a Date cannot say is shown as the number that is stored.

import { type Data, DataType, type Decimal, type TypeMap, Vector } from "apache-arrow";

/** The value of a row of a column. Bigints, bytes, lists and plain objects as well as what JSON knows. */
export function cellOf(column: Vector | null | undefined, row: number): unknown {
  let left = row;
  for (const chunk of column?.data ?? []) {
    if (left < chunk.length) return cellIn(chunk, left);
    left -= chunk.length;
  }
  return null;
}

function cellIn(data: Data, row: number): unknown {
  const { type } = data;
  if (!DataType.isUnion(type) && !data.getValid(row)) return null;
  if (DataType.isStruct(type))
    return Object.fromEntries(type.children.map(({ name }, at) => [name, cellIn(data.children[at]!, row)]));
  if (DataType.isMap(type)) {
    // As pairs: keys need be no text, and need not differ.
    const [keys, values] = data.children[0]!.children as [Data, Data];
    return range(data, row).map((at) => [cellIn(keys, at), cellIn(values, at)]);
  }
  if (DataType.isList(type) || DataType.isLargeList(type) || DataType.isFixedSizeList(type))
    return range(data, row).map((at) => cellIn(data.children[0]!, at));
  if (DataType.isUnion(type)) {
    const id = (data.typeIds as Int8Array)[row]!;
    const child = data.children[type.typeIdToChildIndex[id] ?? -1];
    if (child === undefined) return null;
    return cellIn(child, DataType.isDenseUnion(type) ? data.valueOffsets[row]! : row);
  }
  if (DataType.isDictionary(type)) return cellOf(data.dictionary, Number((data.values as Int32Array)[row]));
  if (DataType.isDecimal(type)) return decimal(data as Data<Decimal>, row);
  return leaf(data, row);
}

/** The rows of the items of a list. */
function range(data: Data, row: number): number[] {
  const { listSize } = data.type as { listSize?: number };
  const [from, to] =
    listSize === undefined
      ? [Number(data.valueOffsets[row]), Number(data.valueOffsets[row + 1])]
      : [row * listSize, (row + 1) * listSize];
  // A file may say anything; what is not there is not made up.
  return Array.from({ length: Math.min(to, data.children[0]!.length) - from }, (_, at) => from + at);
}

function leaf(data: Data, row: number): unknown {
  try {
    const value: unknown = new Vector<TypeMap[keyof TypeMap]>([data as never]).get(row);
    // JSON has no other words for these, and takes them for null.
    if (typeof value === "number" && !Number.isFinite(value)) return String(value);
    return ArrayBuffer.isView(value) && !(value instanceof Uint8Array) ? [...(value as Int32Array)] : value;
  } catch {
    return (data.values as BigInt64Array | undefined)?.[row] ?? null;
  }
}

/** The digits that are stored, with the point where the type says. */
function decimal({ type, values, stride }: Data<Decimal>, row: number): string {
  const words = (values as Uint32Array).subarray(row * stride, (row + 1) * stride);
  let unscaled = 0n;
  for (let at = words.length - 1; at >= 0; at--) unscaled = (unscaled << 32n) | BigInt(words[at]!);
  unscaled = BigInt.asIntN(32 * words.length, unscaled);
  const sign = unscaled < 0n ? "-" : "";
  const digits = String(unscaled < 0n ? -unscaled : unscaled).padStart(type.scale + 1, "0");
  if (type.scale <= 0) return `${sign}${digits}${"0".repeat(-type.scale)}`;
  return `${sign}${digits.slice(0, -type.scale)}.${digits.slice(-type.scale)}`;
}
