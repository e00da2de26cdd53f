// Several chunks of one type → one chunk.
//
// Invariants:
// - Bit-exact: what a chunk holds at a row, the joined one holds at that row, nulls included.
// - Chunks may be slices, and may share buffers.
// - What is made is of the chunks' own classes, whichever copy or version of the library they are of.
//
// The library itself cannot do this. It is for dictionaries and for refused rows, not for a hot path.

import { Data, type DataType, type Dictionary, type Field, Vector } from "apache-arrow";

/** @throws {RangeError} when joined dictionaries have more values than their keys can count. */
export function joinData(type: DataType, chunks: readonly Data[]): Data {
  const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const { validity, nullCount } = joinValidity(chunks, length);
  const Class = classOf(chunks[0], Data);
  const make = (
    buffers: { offsets?: unknown; values?: unknown; typeIds?: unknown },
    children: Data[] = [],
    dictionary?: Vector,
    variadic: Uint8Array[] = [],
  ): Data =>
    new Class(
      type,
      0,
      length,
      nullCount,
      [buffers.offsets, buffers.values, validity, buffers.typeIds] as never,
      children,
      dictionary as never,
      variadic as never,
    );
  const field = (index: number): Field => type.children[index] as Field;
  switch (type.typeId) {
    case 1:
      return new Class(type, 0, length, length);
    case 6: {
      const values = new Uint8Array((length + 7) >> 3);
      let at = 0;
      for (const chunk of chunks) {
        copyBits(bytesOf(chunk.values), chunk.offset, values, at, chunk.length);
        at += chunk.length;
      }
      return make({ values });
    }
    case 4:
    case 5:
    case 19:
    case 20: {
      const { offsets, ranges } = joinOffsets(type, chunks, length);
      const bytes = chunks.map((chunk, i) => bytesOf(chunk.values).subarray(ranges[i]!.from, ranges[i]!.to));
      return make({ offsets, values: joinBytes(bytes) });
    }
    case 12:
    case 17:
    case 21: {
      const { offsets, ranges } = joinOffsets(type, chunks, length);
      const items = chunks.map((chunk, i) => sliceOf(chunk.children[0]!, ranges[i]!.from, ranges[i]!.to));
      return make({ offsets }, [joinData(field(0).type, items)]);
    }
    case 16: {
      const size = (type as { listSize?: number }).listSize ?? 0;
      const items = chunks.map((chunk) => sliceOf(chunk.children[0]!, 0, chunk.length * size));
      return make({}, [joinData(field(0).type, items)]);
    }
    case 13:
      return make({}, joinChildren(type, chunks));
    case 14:
      return joinUnion(type, chunks, make);
    case 23:
    case 24:
      return joinViews(chunks, length, make);
    case -1:
      return joinDictionary(type as Dictionary, chunks, make);
    default: {
      // Fixed width: the typed array's own element size and the stride say how much a row takes.
      const parts = chunks.map((chunk) => bytesOf(chunk.values).subarray(0, chunk.length * widthOf(chunk)));
      return make({ values: like(chunks[0]!.values, joinBytes(parts)) });
    }
  }
}

/**
 * The class of an object of any copy of the library, of `Data`, `Vector` or `RecordBatch`: they have none above them,
 * and classes below them with other constructors. Not by `instanceof`, which version 21 answers for all copies of it.
 */
export function classOf<T extends abstract new (...args: never[]) => object>(
  object: object | undefined,
  ours: T,
): T {
  if (object === undefined) return ours;
  let prototype = Object.getPrototypeOf(object);
  for (let above = prototype; Object.getPrototypeOf(above) !== null; above = Object.getPrototypeOf(above))
    prototype = above;
  return prototype.constructor;
}

/** Rows `from` to `to` of a chunk. */
export function sliceOf(data: Data, from: number, to: number): Data {
  return from === 0 && to === data.length ? data : data.slice(from, to - from);
}

type Make = (
  buffers: { offsets?: unknown; values?: unknown; typeIds?: unknown },
  children?: Data[],
  dictionary?: Vector,
  variadic?: Uint8Array[],
) => Data;

function joinChildren(type: DataType, chunks: readonly Data[]): Data[] {
  return (type.children as Field[]).map((child, index) =>
    joinData(
      child.type,
      // A parent may refer to fewer rows than its child has.
      chunks.map((chunk) => sliceOf(chunk.children[index]!, 0, chunk.length)),
    ),
  );
}

function joinUnion(type: DataType, chunks: readonly Data[], make: Make): Data {
  const typeIds = joinBytes(chunks.map((chunk) => bytesOf(chunk.typeIds).subarray(0, chunk.length)));
  const ids = new Int8Array(typeIds.buffer);
  if ((type as { mode?: number }).mode !== 1) return make({ typeIds: ids }, joinChildren(type, chunks));
  const childOf = new Map(
    Array.from((type as unknown as { typeIds: ArrayLike<number> }).typeIds, (id, index) => [id, index]),
  );
  // Slices of one chunk have the same children: those are kept once.
  const kept: { parts: Data[]; starts: number[]; length: number }[] = type.children.map(() => ({
    parts: [],
    starts: [],
    length: 0,
  }));
  const offsets = new Int32Array(ids.length);
  let at = 0;
  for (const chunk of chunks) {
    const starts = kept.map((child, index) => {
      const data = chunk.children[index]!;
      let found = child.parts.indexOf(data);
      if (found < 0) {
        found = child.parts.push(data) - 1;
        child.starts.push(child.length);
        child.length += data.length;
      }
      return child.starts[found]!;
    });
    const from = chunk.valueOffsets as unknown as Int32Array;
    for (let i = 0; i < chunk.length; i++, at++) offsets[at] = from[i]! + starts[childOf.get(ids[at]!)!]!;
  }
  return make(
    { typeIds: ids, offsets },
    kept.map((child, index) => joinData((type.children[index] as Field).type, child.parts)),
  );
}

function joinViews(chunks: readonly Data[], length: number, make: Make): Data {
  const values = new Uint8Array(length * 16);
  const words = new Int32Array(values.buffer);
  const variadic: Uint8Array[] = [];
  let at = 0;
  for (const chunk of chunks) {
    values.set(bytesOf(chunk.values).subarray(0, chunk.length * 16), at * 16);
    const places = (chunk.variadicBuffers ?? []).map((buffer) => {
      const found = variadic.indexOf(buffer);
      return found < 0 ? variadic.push(buffer) - 1 : found;
    });
    for (let i = 0; i < chunk.length; i++, at++) {
      // Up to 12 bytes lie in the view itself; what is there is no reference to a buffer.
      if (words[at * 4]! > 12) words[at * 4 + 2] = places[words[at * 4 + 2]!] ?? 0;
    }
  }
  return make({ values }, [], undefined, variadic);
}

function joinDictionary(type: Dictionary, chunks: readonly Data[], make: Make): Data {
  const dictionaries: Data[] = [];
  const seen: { vector: Vector; start: number }[] = [];
  let size = 0;
  const starts = chunks.map((chunk) => {
    const vector = chunk.dictionary!;
    let found = seen.find((entry) => entry.vector === vector);
    if (found === undefined) {
      found = { vector, start: size };
      seen.push(found);
      for (const data of vector.data) {
        dictionaries.push(data);
        size += data.length;
      }
    }
    return found.start;
  });
  const bits = (type.indices as { bitWidth: number }).bitWidth;
  const signed = (type.indices as { isSigned: boolean }).isSigned;
  if (size > 2 ** (signed ? bits - 1 : bits))
    throw new RangeError(
      `the joined dictionary has ${size} values, more than its ${bits}-bit keys can count`,
    );
  const parts = chunks.map((chunk, index) => {
    const keys = (chunk.values as Int32Array).subarray(0, chunk.length);
    const start = starts[index]!;
    if (start === 0) return bytesOf(keys);
    const big = bits === 64;
    return bytesOf(
      (keys as unknown as { map(f: (key: never) => unknown): Int32Array }).map((key) =>
        big ? (key as bigint) + BigInt(start) : (key as number) + start,
      ),
    );
  });
  const Class = classOf(seen[0]?.vector, Vector);
  const values = dictionaries.length === 1 ? dictionaries[0]! : joinData(type.dictionary, dictionaries);
  return make({ values: like(chunks[0]!.values, joinBytes(parts)) }, [], new Class([values]));
}

function joinValidity(chunks: readonly Data[], length: number): { validity?: Uint8Array; nullCount: number } {
  const holds = (chunk: Data): boolean => {
    const { _nullCount } = chunk as unknown as { _nullCount: number };
    return _nullCount !== 0 && chunk.nullBitmap != null && chunk.nullBitmap.byteLength > 0;
  };
  if (!chunks.some(holds)) return { nullCount: 0 };
  const validity = new Uint8Array((length + 7) >> 3).fill(255);
  let at = 0;
  for (const chunk of chunks) {
    if (holds(chunk)) copyBits(bytesOf(chunk.nullBitmap), chunk.offset, validity, at, chunk.length);
    at += chunk.length;
  }
  return { validity, nullCount: -1 };
}

function joinOffsets(
  type: DataType,
  chunks: readonly Data[],
  length: number,
): { offsets: Int32Array | BigInt64Array; ranges: { from: number; to: number }[] } {
  const big = type.typeId > 18;
  const offsets = big ? new BigInt64Array(length + 1) : new Int32Array(length + 1);
  let at = 0;
  let end = 0;
  const ranges = chunks.map((chunk) => {
    const given = chunk.valueOffsets as unknown as ArrayLike<number | bigint>;
    const from = chunk.length === 0 ? 0 : Number(given[0]);
    for (let i = 0; i < chunk.length; i++) {
      const next = Number(given[i + 1]) - from + end;
      offsets[++at] = (big ? BigInt(next) : next) as never;
    }
    const to = chunk.length === 0 ? 0 : Number(given[chunk.length]);
    end += to - from;
    return { from, to };
  });
  return { offsets, ranges };
}

function copyBits(from: Uint8Array, offset: number, to: Uint8Array, at: number, length: number): void {
  for (let i = 0; i < length; i++) {
    const source = offset + i;
    const target = at + i;
    if ((from[source >> 3]! >> (source & 7)) & 1) to[target >> 3]! |= 1 << (target & 7);
    else to[target >> 3]! &= ~(1 << (target & 7));
  }
}

function widthOf(data: Data): number {
  return data.stride * ((data.values as Uint8Array | undefined)?.BYTES_PER_ELEMENT ?? 1);
}

/** `bytes` in the class that `values` has; it starts at 0 of its own buffer, so any element size fits. */
function like(values: unknown, bytes: Uint8Array): unknown {
  const Class = (values as { constructor?: new (buffer: ArrayBufferLike) => unknown } | null)?.constructor;
  // A Buffer is a Uint8Array, and its constructor is deprecated.
  return Class === undefined || values instanceof Uint8Array ? bytes : new Class(bytes.buffer);
}

function bytesOf(view: ArrayBufferView | null | undefined): Uint8Array {
  return view == null ? new Uint8Array(0) : new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function joinBytes(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.byteLength;
  }
  return joined;
}
