// Rows through the encoder, by compiled loops or by closures, and what is then in the memory of the columns.
import type { Data, Dictionary, Schema, Struct } from "apache-arrow";
import type { RowRejection } from "../../../dist/index.js";
import { type EncoderOptions, RowEncoder } from "../../../dist/rows/encoder.js";

export interface Encoded {
  /** By row, by column: what is there, as Arrow has it (units, unscaled decimals, bytes as hex). */
  readonly rows: Record<string, unknown>[];
  readonly rejections: readonly RowRejection[];
  readonly batches: RowEncoder["batches"];
}

export function encode(
  schema: { toArrow(): Schema },
  rows: readonly unknown[],
  options: EncoderOptions = {},
): Encoded {
  const encoder = new RowEncoder(schema.toArrow(), options);
  for (let row = 0; row < rows.length; ) row += encoder.step(rows, row, rows.length);
  encoder.cut();
  encoder.release();
  const { batches, rejections } = encoder;
  return {
    batches,
    rejections,
    rows: batches.flatMap((batch) => raw(batch.data) as Record<string, unknown>[]),
  };
}

/** `path code` of each rejection, by row. */
export const faults = (encoded: Encoded): string[] =>
  encoded.rejections.map(({ row, path, code }) => `${row} ${path} ${code}`.replace("  ", " "));

const isNull = (
  { nullBitmap, _nullCount }: { nullBitmap: Uint8Array; _nullCount: number },
  i: number,
): boolean => _nullCount > 0 && ((nullBitmap[i >> 3]! >> (i & 7)) & 1) === 0;

/** The elements of a column, read from its buffers. */
export function raw(data: Data): unknown[] {
  const elements = Array.from({ length: data.length }, (_, i) => i);
  const { type, values, valueOffsets: ends, children } = data as unknown as Buffers;
  const facts = type as unknown as Record<string, number>;
  if (type.typeId === 1) return elements.map(() => null);
  let read: (i: number) => unknown;
  switch (type.typeId) {
    case 4:
    case 19:
      read = (i) => hex(values, Number(ends[i]), Number(ends[i + 1]));
      break;
    case 5:
    case 20:
      read = (i) => bufferOf(values).toString("utf8", Number(ends[i]), Number(ends[i + 1]));
      break;
    case 23:
    case 24: {
      const [bytes] = data.variadicBuffers;
      read = (i) => {
        const view = bufferOf(values).subarray(16 * i, 16 * i + 16);
        const length = view.readInt32LE(0);
        const from = view.readInt32LE(12);
        const found =
          length <= 12 ? view.subarray(4, 4 + length) : bufferOf(bytes!).subarray(from, from + length);
        if (length > 12 && !found.subarray(0, 4).equals(view.subarray(4, 8)))
          throw new Error("another beginning");
        return found.toString(type.typeId === 24 ? "utf8" : "hex");
      };
      break;
    }
    case 6:
      read = (i) => ((Number(values[i >> 3]) >> (i & 7)) & 1) === 1;
      break;
    case 7:
      read = (i) => words(values, i, facts.bitWidth! / 32);
      break;
    case 11: {
      const width = [1, 2, 4][facts.unit!]!;
      read = (i) => Array.from((values as Int32Array).subarray(i * width, (i + 1) * width));
      break;
    }
    case 12:
    case 21: {
      const items = raw(children[0]!);
      read = (i) => items.slice(Number(ends[i]), Number(ends[i + 1]));
      break;
    }
    case 13: {
      const names = (type as Struct).children.map((field) => field.name);
      const columns = children.map(raw);
      for (const column of columns)
        if (column.length !== data.length) throw new Error("columns of two lengths");
      read = (i) => Object.fromEntries(names.map((name, index) => [name, columns[index]![i]]));
      break;
    }
    case 15:
      read = (i) => hex(values, i * facts.byteWidth!, (i + 1) * facts.byteWidth!);
      break;
    case 16: {
      const items = raw(children[0]!);
      if (items.length !== data.length * facts.listSize!) throw new Error("items of another number");
      read = (i) => items.slice(i * facts.listSize!, (i + 1) * facts.listSize!);
      break;
    }
    case 17: {
      const entries = raw(children[0]!) as Record<string, unknown>[];
      read = (i) => entries.slice(Number(ends[i]), Number(ends[i + 1])).map((entry) => Object.values(entry));
      break;
    }
    case -1: {
      const dictionary = raw(data.dictionary!.data[0]!);
      if ((type as Dictionary).dictionary.typeId !== data.dictionary!.type.typeId)
        throw new Error("another type");
      read = (i) => {
        const key = Number(values[i]);
        if (key < 0 || key >= dictionary.length) throw new Error(`no value ${key}`);
        return dictionary[key];
      };
      break;
    }
    default:
      read = (i) => values[i];
  }
  return elements.map((i) => {
    const value = read(i);
    return isNull(data as never, i) ? null : value;
  });
}

interface Buffers {
  readonly type: { readonly typeId: number };
  readonly values: ArrayLike<number | bigint>;
  readonly valueOffsets: ArrayLike<number | bigint>;
  readonly children: readonly Data[];
}

const hex = (values: ArrayLike<number | bigint>, from: number, to: number): string =>
  bufferOf(values).toString("hex", from, to);

/** The same memory: a copy for each value would be most of the time. */
const bufferOf = (values: unknown): Buffer => {
  const { buffer, byteOffset, byteLength } = values as Uint8Array;
  return Buffer.from(buffer, byteOffset, byteLength);
};

function words(values: ArrayLike<number | bigint>, at: number, width: number): bigint {
  let sum = 0n;
  for (let i = width - 1; i >= 0; i--) sum = (sum << 32n) | BigInt(values[at * width + i]!);
  return BigInt.asIntN(32 * width, sum);
}
