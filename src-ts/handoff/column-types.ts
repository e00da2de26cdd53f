// A batch whose schema and columns disagree because columns share a name: the columns are right.
//
// Invariant: only batches with such names are touched; for all others this is one look into a map.

import type { ArrowBatch, ArrowField, ArrowSchema } from "./arrow.js";
import { sameType } from "./plan.js";

/**
 * A batch under the schema that its columns have. Where two columns share a name, `new RecordBatch` (the
 * library's own readers included) gives both the last one's type and metadata, and a slice hides what was
 * right before. The columns themselves still know their types.
 */
export function withColumnTypes(batch: ArrowBatch): ArrowBatch {
  const { schema, data } = batch;
  if (!namesTwice(schema)) return batch;
  // The library keeps the fields in two places, and mixes up the schema's before those of the data.
  const others = data.type?.children ?? [];
  const fields = schema.fields.map((field, index): ArrowField => {
    const type = data.children[index]?.type ?? others[index]?.type ?? field.type;
    const right = [others[index], field].find(
      (one) => one !== undefined && one.name === field.name && sameType(one.type, type),
    );
    return right ?? { name: field.name, type, nullable: true, metadata: new Map() };
  });
  return { schema: { fields, metadata: schema.metadata }, data };
}

const doubles = new WeakMap<ArrowSchema, boolean>();
let last: { readonly schema: ArrowSchema; readonly twice: boolean } | undefined;

function namesTwice(schema: ArrowSchema): boolean {
  if (last !== undefined && (schema === last.schema || sameNames(schema.fields, last.schema.fields)))
    return last.twice;
  let twice = doubles.get(schema);
  if (twice === undefined) {
    const { fields } = schema;
    twice = new Set(fields.map((field) => field?.name)).size < fields.length;
    doubles.set(schema, twice);
  }
  last = { schema, twice };
  return twice;
}

/** The library makes a new schema for every batch, and an entry for each would cost more than this look. */
function sameNames(ones: readonly ArrowField[], others: readonly ArrowField[]): boolean {
  if (ones.length !== others.length) return false;
  for (let i = 0; i < ones.length; i++) if (ones[i]?.name !== others[i]?.name) return false;
  return true;
}
