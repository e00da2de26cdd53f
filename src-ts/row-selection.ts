// Some rows of what was sent, as a record batch.
//
// Invariants:
// - Bit-exact, in order; rows count through all batches of what was sent.
// - One run of rows is a slice and costs nothing; several are copied into one batch.
// - What comes of a batch is of the classes of that batch: of another copy or version of `apache-arrow`, its owner's
//   `instanceof` and `new Table` would not take ours. What comes of bytes is of ours.

import { Data, RecordBatch, type Schema, type Struct, tableFromIPC } from "apache-arrow";
import { classOf, joinData, sliceOf } from "./handoff/join.js";
import { rebuildBatch, rebuildSchema } from "./handoff/rebuild.js";
import type { DeliveryContent } from "./handoff.js";

/** The rows that `refused` names, or all others. Null when there are none. */
export function selectRows(
  content: DeliveryContent,
  refused: ReadonlySet<number>,
  keep: "refused" | "others",
): RecordBatch | null {
  const batches = batchesOf(content);
  const first = batches[0];
  if (first === undefined) return null;
  const pieces: RecordBatch[] = [];
  let base = 0;
  for (const batch of batches) {
    let from = -1;
    for (let row = 0; row <= batch.numRows; row++) {
      const wanted = row < batch.numRows && refused.has(base + row) === (keep === "refused");
      if (wanted && from < 0) from = row;
      if (!wanted && from >= 0) {
        pieces.push(from === 0 && row === batch.numRows ? batch : batch.slice(from, row));
        from = -1;
      }
    }
    base += batch.numRows;
  }
  if (pieces.length <= 1) return pieces[0] ?? null;
  return join(first.schema, pieces);
}

/** Batches as one, or null of none; undefined if they are of several schemas, or of several copies of the library. */
export function joinBatches(pieces: readonly RecordBatch[]): RecordBatch | null | undefined {
  const [first, ...others] = pieces;
  if (first === undefined) return null;
  if (others.length === 0) return first;
  const isLike = (piece: RecordBatch): boolean =>
    piece.constructor === first.constructor && isSameSchema(piece.schema, first.schema);
  return others.every(isLike) ? join(first.schema, pieces) : undefined;
}

/** By what the types say of themselves: those of one library. */
function isSameSchema(one: Schema, other: Schema): boolean {
  if (one === other) return true;
  const words = ({ fields }: Schema): string =>
    JSON.stringify(fields.map(({ name, type, nullable }) => [name, String(type), typeWords(type), nullable]));
  return words(one) === words(other);
}

/** What `toString` of some types leaves out: the time zone, and what children are called. */
function typeWords(type: { readonly children?: unknown }): unknown {
  const { timezone, ordered, keysSorted, children } = type as Record<string, unknown>;
  const inner = Array.isArray(children) ? children : [];
  const fields = inner.map(({ name, type, nullable }) => [name, String(type), typeWords(type), nullable]);
  return [timezone ?? null, ordered ?? null, keysSorted ?? null, fields];
}

function join(schema: Schema, pieces: readonly RecordBatch[]): RecordBatch {
  const length = pieces.reduce((sum, piece) => sum + piece.numRows, 0);
  const children = schema.fields.map((field, index) =>
    joinData(
      field.type,
      pieces.map((piece) => sliceOf(piece.data.children[index] as Data, 0, piece.numRows)),
    ),
  );
  const first = pieces[0]!;
  const Batch = classOf(first, RecordBatch);
  const Chunk = classOf(first.data, Data);
  const type = new (first.data.type.constructor as typeof Struct)(schema.fields);
  return new Batch(schema, new Chunk(type, 0, length, 0, {}, children) as never);
}

function batchesOf(content: DeliveryContent): readonly RecordBatch[] {
  if (content.batches === undefined)
    return (content.streams ?? [content.bytes]).flatMap(
      ({ buffer, byteOffset, byteLength }) =>
        tableFromIPC(new Uint8Array(buffer, byteOffset, byteLength)).batches,
    );
  const [first] = content.batches;
  // What stands for a batch whose columns share a name, and for one without rows, cannot be sliced.
  if (first === undefined || content.batches.every((batch) => "slice" in batch))
    return content.batches as unknown as RecordBatch[];
  const schema = rebuildSchema(first.schema);
  return content.batches.map((batch) => rebuildBatch(batch, schema));
}
