// A dead-letter file, as a client writes them.
import * as fs from "node:fs";
import * as path from "node:path";
import {
  Field,
  Int64,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  Schema,
  Struct,
  TimestampMillisecond,
  Uint64,
  Utf8,
  vectorFromArray,
} from "apache-arrow";

/** Rows with these ids, in a folder that is made if need be. */
export function letters(folder: string, ids: readonly bigint[]): string {
  const columns = [
    ["id", new Int64(), ids],
    ["_rejection_reason", new Utf8(), ids.map((id) => `too ${id}`)],
    ["_rejection_code", new Utf8(), ids.map(() => "ODD")],
    ["_rejection_sequence", new Uint64(), ids.map(() => 7n)],
    ["_rejection_row", new Uint64(), ids],
    ["_rejection_time", new TimestampMillisecond("UTC"), ids.map(() => 1_700_000_000_000)],
  ] as const;
  const fields = columns.map(([name, type]) => new Field(name, type, true));
  const schema = new Schema(fields, new Map([["arrow-ingest.dead-letter.prefix", "_rejection_"]]));
  const children = columns.map(([, type, values]) => vectorFromArray(values, type as never).data[0]!);
  const data = makeData({ type: new Struct(fields), length: ids.length, children: children as never });
  fs.mkdirSync(folder, { recursive: true });
  const file = path.join(folder, "rejected-1700000000000000-aa.arrow");
  fs.writeFileSync(
    file,
    RecordBatchFileWriter.writeAll([new RecordBatch(schema, data as never)]).toUint8Array(true),
  );
  return file;
}
