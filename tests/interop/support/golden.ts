// The Arrow project's integration files, read where they lie, and two readings of them that share no code:
// of their JSON, and of the buffers of a batch. Both give physical values, so that nothing is rounded,
// no zone applied, no duplicate name lost.
import * as fs from "node:fs";
import * as path from "node:path";
import { gunzipSync } from "node:zlib";
import type { RecordBatch } from "apache-arrow";
import type { ArrowData } from "../../../dist/handoff/arrow.js";
import { goldenRoot } from "./peer.js";

export interface Case {
  readonly name: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly json: () => GoldenJson;
}

export function cases(wanted: (folder: string) => boolean): Case[] {
  if (!fs.existsSync(goldenRoot)) return [];
  const found: Case[] = [];
  for (const folder of fs.readdirSync(goldenRoot).filter((name) => /^\d/.test(name) && wanted(name)))
    for (const file of fs.readdirSync(path.join(goldenRoot, folder))) {
      if (!/\.(stream|arrow_file)$/.test(file)) continue;
      const whole = path.join(goldenRoot, folder, file);
      const json = whole.replace(/\.[a-z_]+$/, ".json.gz");
      found.push({
        name: `${folder}/${file}`,
        // Not the Buffer itself: small ones lie in Node's pool, which cannot be pinned.
        bytes: Uint8Array.from(fs.readFileSync(whole)),
        json: () => JSON.parse(gunzipSync(fs.readFileSync(json)).toString(), exactly) as GoldenJson,
      });
    }
  return found;
}

/** Integers beyond 2^53 stand in some of the files as numbers. */
function exactly(_key: string, value: unknown, context?: { source?: string }): unknown {
  return typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "")
    ? BigInt(context!.source!)
    : value;
}

interface JsonField {
  name: string;
  type: Record<string, unknown> & { name: string };
  children: JsonField[];
  dictionary?: { id: number };
}
interface JsonColumn {
  count: number;
  VALIDITY?: number[];
  OFFSET?: (number | string)[];
  TYPE_ID?: number[];
  DATA?: unknown[];
  children?: JsonColumn[];
}
export interface GoldenJson {
  schema: { fields: JsonField[] };
  batches: { count: number; columns: JsonColumn[] }[];
  dictionaries?: { id: number; data: { columns: JsonColumn[] } }[];
}

/** Values by column, of all batches one after the other. */
export function valuesOfJson(json: GoldenJson): unknown[][] {
  return json.schema.fields.map((field, index) =>
    json.batches.flatMap((batch) => jsonValues(field, batch.columns[index]!, json)),
  );
}

function jsonValues(field: JsonField, column: JsonColumn, json: GoldenJson, plain = false): unknown[] {
  const valid = (row: number): boolean => column.VALIDITY === undefined || column.VALIDITY[row] === 1;
  const rows = <T>(value: (row: number) => T): (T | null)[] =>
    Array.from({ length: column.count }, (_, row) => (valid(row) ? value(row) : null));
  const data = column.DATA ?? [];
  if (field.dictionary !== undefined && !plain) {
    const words = json.dictionaries!.find(({ id }) => id === field.dictionary!.id)!;
    const values = jsonValues(field, words.data.columns[0]!, json, true);
    return rows((row) => values[Number(data[row])]);
  }
  const child = (index: number): unknown[] =>
    jsonValues(field.children[index]!, column.children![index]!, json);
  switch (field.type.name) {
    case "null":
      return new Array(column.count).fill(null);
    case "bool":
      return rows((row) => Boolean(data[row]));
    case "floatingpoint":
      return rows((row) =>
        field.type.precision === "SINGLE" ? Math.fround(data[row] as number) : Number(data[row]),
      );
    case "utf8":
    case "largeutf8":
      return rows((row) => data[row]);
    case "binary":
    case "largebinary":
    case "fixedsizebinary":
      return rows((row) => (data[row] as string).toLowerCase());
    case "interval":
      return rows((row) => {
        const value = data[row] as Record<string, unknown>;
        if (field.type.unit === "YEAR_MONTH") return String(value);
        return field.type.unit === "DAY_TIME"
          ? `${value.days},${value.milliseconds}`
          : `${value.months},${value.days},${value.nanoseconds}`;
      });
    case "list":
    case "largelist":
    case "map": {
      const items = child(0);
      return rows((row) => items.slice(Number(column.OFFSET![row]), Number(column.OFFSET![row + 1])));
    }
    case "fixedsizelist": {
      const items = child(0);
      const size = Number(field.type.listSize);
      return rows((row) => items.slice(row * size, (row + 1) * size));
    }
    case "struct": {
      const children = field.children.map((_, index) => child(index));
      return rows((row) => children.map((values) => values[row]));
    }
    case "union": {
      const children = field.children.map((_, index) => child(index));
      const ids = field.type.typeIds as number[];
      return Array.from({ length: column.count }, (_, row) => {
        const id = column.TYPE_ID![row]!;
        const at = field.type.mode === "DENSE" ? Number(column.OFFSET![row]) : row;
        return [id, children[ids.indexOf(id)]![at]];
      });
    }
    default: // int, date, time, timestamp, duration, decimal
      return rows((row) => String(data[row]));
  }
}

/** Values by column, of all batches one after the other. Only of batches that are no slices. */
export function valuesOfBatches(batches: readonly RecordBatch[]): unknown[][] {
  const columns = batches[0]?.schema.fields.length ?? 0;
  return Array.from({ length: columns }, (_, index) =>
    batches.flatMap((batch) => bufferValues(batch.data.children[index] as never)),
  );
}

function bufferValues(data: ArrowData): unknown[] {
  const { type, length } = data;
  const bits = bytesOf(data.nullBitmap);
  const some = data._nullCount !== 0 && bits.byteLength > 0;
  const valid = (row: number): boolean => !some || ((bits[row >> 3]! >> (row & 7)) & 1) === 1;
  const rows = <T>(value: (row: number) => T): (T | null)[] =>
    Array.from({ length }, (_, row) => (valid(row) ? value(row) : null));
  const bytes = bytesOf(data.values);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const offsets = data.valueOffsets;
  const range = (row: number): [number, number] => [Number(offsets![row]), Number(offsets![row + 1])];
  const int = (width: number, signed = true) =>
    rows((row) => {
      const sized = BigInt.asUintN(8 * width, littleEndian(bytes, row * width, width));
      return String(signed ? BigInt.asIntN(8 * width, sized) : sized);
    });
  switch (type.typeId) {
    case 1:
      return new Array(length).fill(null);
    case 2:
      return int(type.bitWidth! / 8, type.isSigned);
    case 3:
      if (type.precision === 0) return rows((row) => view.getFloat16(row * 2, true));
      return rows((row) =>
        type.precision === 1 ? view.getFloat32(row * 4, true) : view.getFloat64(row * 8, true),
      );
    case 4:
    case 19:
      return rows((row) => Buffer.from(bytes.subarray(...range(row))).toString("hex"));
    case 5:
    case 20:
      return rows((row) => Buffer.from(bytes.subarray(...range(row))).toString());
    case 6:
      return rows((row) => ((bytes[row >> 3]! >> (row & 7)) & 1) === 1);
    case 7:
      return int((type.bitWidth ?? 128) / 8);
    case 8:
      return int(type.unit === 0 ? 4 : 8);
    case 9:
      return int(type.bitWidth! / 8);
    case 10:
    case 18:
      return int(8);
    case 11:
      return rows((row) => {
        if (type.unit === 0) return String(view.getInt32(row * 4, true));
        const wide = 8 * type.unit!;
        const first = `${view.getInt32(row * wide, true)},${view.getInt32(row * wide + 4, true)}`;
        return type.unit === 1 ? first : `${first},${view.getBigInt64(row * wide + 8, true)}`;
      });
    case 12:
    case 17:
    case 21: {
      const items = bufferValues(data.children[0]!);
      return rows((row) => items.slice(...range(row)));
    }
    case 13: {
      const children = data.children.map(bufferValues);
      return rows((row) => children.map((values) => values[row]));
    }
    case 14: {
      const children = data.children.map(bufferValues);
      const ids = Array.from(type.typeIds!);
      const chosen = data.typeIds as unknown as Int8Array;
      return Array.from({ length }, (_, row) => {
        const at = type.mode === 1 ? Number(offsets![row]) : row;
        return [chosen[row], children[ids.indexOf(chosen[row]!)]![at]];
      });
    }
    case 15: {
      const width = type.byteWidth!;
      return rows((row) => Buffer.from(bytes.subarray(row * width, (row + 1) * width)).toString("hex"));
    }
    case 16: {
      const items = bufferValues(data.children[0]!);
      return rows((row) => items.slice(row * type.listSize!, (row + 1) * type.listSize!));
    }
    case -1: {
      const words = data.dictionary!.data.flatMap(bufferValues);
      const width = type.indices!.bitWidth! / 8;
      return rows((row) => words[Number(littleEndian(bytes, row * width, width))]);
    }
    default:
      throw new Error(`type ${type.typeId} is not read here`);
  }
}

function littleEndian(bytes: Uint8Array, at: number, width: number): bigint {
  let value = 0n;
  for (let i = width - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[at + i]!);
  return value;
}

function bytesOf(view: ArrayBufferView | null | undefined): Uint8Array {
  return view == null ? new Uint8Array(0) : new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
