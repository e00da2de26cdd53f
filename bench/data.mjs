// Data that the cases share.
import * as fs from "node:fs";
import { createRequire } from "node:module";
import * as path from "node:path";
import {
  Data,
  Field,
  Float64,
  Int32,
  Int64,
  LargeUtf8,
  RecordBatch,
  Schema,
  Struct,
  TimestampMicrosecond,
  TimestampMillisecond,
  tableFromIPC,
  Utf8,
} from "apache-arrow";

/** Five mixed columns (int32, int64, float64, timestamp, utf8), over and over up to `columns`, about `bytes` in all. */
export function mixedBatch(bytes, columns = 5) {
  const types = [new Int32(), new Int64(), new Float64(), new TimestampMillisecond(), new Utf8()];
  const rowBytes = Math.ceil(columns / 5) * (4 + 8 + 8 + 8 + 4 + 12);
  const rows = Math.max(1, Math.floor(bytes / rowBytes));
  const fields = [];
  const children = [];
  for (let column = 0; column < columns; column++) {
    const type = types[column % 5];
    fields.push(new Field(`c${column}`, type, true));
    children.push(columnData(type, rows));
  }
  return new RecordBatch(new Schema(fields), new Data(new Struct(fields), 0, rows, 0, [], children));
}

/** Another batch of the same schema object over memory of its own, as a producer makes them. */
export function another(batch) {
  const children = batch.data.children.map((data) => {
    const { type, length, values, valueOffsets } = data;
    const buffers = valueOffsets ? [valueOffsets.slice(), values.slice()] : [undefined, values.slice()];
    return new Data(type, 0, length, 0, buffers);
  });
  return new RecordBatch(batch.schema, new Data(batch.data.type, 0, batch.numRows, 0, [], children));
}

function columnData(type, rows) {
  if (type instanceof Utf8) {
    const offsets = new Int32Array(rows + 1);
    for (let row = 0; row <= rows; row++) offsets[row] = row * 12;
    const values = new Uint8Array(rows * 12);
    for (let at = 0; at < values.length; at++) values[at] = 97 + (at % 26);
    return new Data(type, 0, rows, 0, [offsets, values]);
  }
  const values =
    type instanceof Int32
      ? new Int32Array(rows)
      : type instanceof Float64
        ? new Float64Array(rows)
        : new BigInt64Array(rows);
  for (let row = 0; row < rows; row++)
    values[row] = values instanceof BigInt64Array ? BigInt(row) : row * 1.5;
  return new Data(type, 0, rows, 0, [undefined, values]);
}

/** The three million flights as an Arrow table of many batches, and the IPC bytes that they are views of. */
export async function flights() {
  const require = createRequire(import.meta.url);
  const { readParquet } = require("parquet-wasm/node");
  const folder = path.resolve(path.dirname(require.resolve("vega-datasets")), "..");
  const parquet = readParquet(new Uint8Array(fs.readFileSync(path.join(folder, "data/flights-3m.parquet"))));
  const bytes = parquet.intoIPCStream();
  return { bytes, table: tableFromIPC(bytes) };
}

const rings = new Map();
const LOCAL = new TimestampMicrosecond();
export const UTC = new TimestampMicrosecond("UTC");

/** Batches of the same rows, each over memory of its own. */
export function ringOf(rows, size, text = new Utf8(), at = LOCAL) {
  const key = `${rows} ${size} ${text} ${at}`;
  if (!rings.has(key)) {
    const first = batchOf(rows, text, at);
    rings.set(key, [first, ...Array.from({ length: size - 1 }, () => another(first))]);
  }
  return rings.get(key);
}

/** As in shared.rs and flight_peer.py: five columns, 48 bytes a row; 52 with `LargeUtf8`. */
function batchOf(rows, text, at) {
  const encoder = new TextEncoder();
  const names = new Uint8Array(rows * 16);
  const large = text instanceof LargeUtf8;
  const offsets = new (large ? BigInt64Array : Int32Array)(rows + 1);
  for (let row = 0; row < rows; row++) {
    const name = `name-${String((row * 31) % 99_991).padStart(11, "0")}`;
    encoder.encodeInto(name, names.subarray(row * 16));
    offsets[row + 1] = large ? BigInt((row + 1) * 16) : (row + 1) * 16;
  }
  const columns = [
    ["id", new Int64(), [undefined, BigInt64Array.from({ length: rows }, (_, row) => BigInt(row * 7919))]],
    ["value", new Float64(), [undefined, Float64Array.from({ length: rows }, (_, row) => row / 3)]],
    ["code", new Int32(), [undefined, Int32Array.from({ length: rows }, (_, row) => row % 1000)]],
    ["name", text, [offsets, names]],
    [
      "at",
      at,
      [undefined, BigInt64Array.from({ length: rows }, (_, row) => 1_700_000_000_000_000n + BigInt(row))],
    ],
  ];
  const schema = new Schema(columns.map(([name, type]) => new Field(name, type, false)));
  const children = columns.map(([, type, buffers]) => new Data(type, 0, rows, 0, buffers));
  return new RecordBatch(schema, new Data(new Struct(schema.fields), 0, rows, 0, [], children));
}

export function bytesOf(batch) {
  let bytes = 0;
  for (const { values, valueOffsets } of batch.data.children)
    bytes += values.byteLength + (valueOffsets?.byteLength ?? 0);
  return bytes;
}

export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
