// Tables and columns of `@uwdata/flechette` → schemas and Arrow data.
//
// Invariants:
// - No value is read: a column is handed over by its own buffers, not by what its accessors make of them, which
//   turn 64-bit integers and decimals into numbers.
// - A buffer is one only if the runtime says so; whether it is long enough for its column is checked by Rust.
// - A type that crosses only as Arrow IPC bytes is refused by the name of its column, with the call that writes them.

import { Data, type DataType, type Dictionary, type Field, Vector } from "apache-arrow";
import { ingestError } from "../errors.js";
import type { ArrowField, ArrowType } from "../handoff/arrow.js";
import { rebuildSchema } from "../handoff/rebuild.js";
import { assemble, type Source } from "./assemble.js";
import { type Input, invalid, type Wanted } from "./input.js";
import { viewAs } from "./views.js";

const WHAT = "a table of flechette";
const WAY_OUT = 'send tableToIPC(table, { format: "stream" }) of @uwdata/flechette';

interface FlechetteTable {
  readonly schema: { readonly fields: readonly unknown[]; readonly metadata?: unknown };
  readonly names: readonly unknown[];
  readonly children: readonly unknown[];
}

/** A column of a table, or of a table of Arquero. */
export interface FlechetteColumn {
  readonly type: FlechetteType;
  readonly length: number;
  readonly data: readonly FlechetteBatch[];
}

interface FlechetteBatch {
  readonly length: number;
  readonly nullCount: number;
  readonly validity?: unknown;
  readonly values?: unknown;
  readonly offsets?: unknown;
  readonly typeIds?: unknown;
  readonly children?: readonly FlechetteBatch[] | null;
  readonly dictionary?: FlechetteColumn;
  /** Of views. */
  readonly data?: readonly unknown[];
}

interface FlechetteField {
  readonly name: unknown;
  readonly type: FlechetteType;
  readonly nullable?: unknown;
  readonly metadata?: unknown;
}

interface FlechetteType {
  readonly typeId: number;
  readonly bitWidth?: number;
  readonly signed?: boolean;
  readonly precision?: number;
  readonly scale?: number;
  readonly unit?: number;
  readonly timezone?: string | null;
  readonly mode?: number;
  readonly typeIds?: ArrayLike<number>;
  readonly stride?: number;
  readonly keysSorted?: boolean;
  readonly ordered?: boolean;
  readonly dictionary?: FlechetteType;
  readonly indices?: FlechetteType;
  readonly children?: readonly FlechetteField[];
}

/** Columns, and their names, where `apache-arrow` has batches. */
export function isFlechetteTable(value: object): value is FlechetteTable {
  const { children, names, schema, toColumns } = value as Partial<FlechetteTable> & { toColumns?: unknown };
  return (
    Array.isArray(children) &&
    Array.isArray(names) &&
    Array.isArray(schema?.fields) &&
    typeof toColumns === "function"
  );
}

export function isFlechetteColumn(value: unknown): value is FlechetteColumn {
  if (typeof value !== "object" || value === null) return false;
  const { type, data, toArray } = value as Partial<FlechetteColumn> & { toArray?: unknown };
  return typeof type?.typeId === "number" && Array.isArray(data) && typeof toArray === "function";
}

export function flechetteInput(table: FlechetteTable, { operation }: Wanted): Input {
  return {
    what: WHAT,
    *steps() {
      const { fields, metadata } = table.schema;
      const columns = [...table.children];
      if (columns.length !== fields.length)
        throw invalid(
          operation,
          `${WHAT} has ${columns.length} columns where its schema has ${fields.length}`,
        );
      const schema = rebuildSchema({
        fields: fields.map((field) => fieldOf(field as FlechetteField, "", 0, operation)),
        metadata: metadataOf(metadata, operation),
      });
      let length = 0;
      const sources = columns.map((column, index): Source => {
        const field = schema.fields[index]!;
        const chunks = chunksOf(column as FlechetteColumn, field, operation);
        const rows = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
        if (index === 0) length = rows;
        else if (rows !== length)
          throw invalid(
            operation,
            `column ${field.name} has ${rows} values where column ${schema.fields[0]!.name} has ${length}`,
            field.name,
          );
        return { chunks };
      });
      yield* assemble(schema, sources, length, operation);
    },
  };
}

/** The chunks of a column, each a column of Arrow's by the same buffers. */
export function chunksOf(column: FlechetteColumn, field: Field, operation: string): readonly Data[] {
  return [...column.data].map((batch) => dataOf(batch, field.type, field.name, operation));
}

/** Tells a chunk from one of `apache-arrow`, which has other names for its buffers. */
const isFlechetteBatch = (batch: unknown): batch is FlechetteBatch =>
  typeof batch === "object" && batch !== null && "validity" in batch;

/** Types that nest deeper are no types. */
const MAX_DEPTH = 64;

/** @throws {IngestError} `SCHEMA_MISMATCH`: the type crosses only as Arrow IPC. */
export function fieldOf(field: FlechetteField, above: string, depth: number, operation: string): ArrowField {
  const { type, nullable, metadata } = field;
  // Items of lists may have none.
  const name = field.name ?? (depth === 0 ? undefined : "item");
  if (typeof name !== "string") throw invalid(operation, `${WHAT} has a column without a name`);
  const path = above === "" ? name : `${above}.${name}`;
  return {
    name,
    type: typeOf(type, path, depth, operation),
    nullable: nullable !== false,
    metadata: metadataOf(metadata, operation),
  };
}

function metadataOf(metadata: unknown, operation: string): ReadonlyMap<string, string> {
  const entries = metadata instanceof Map ? [...(metadata as Map<unknown, unknown>)] : [];
  if (entries.some((entry) => entry.some((text) => typeof text !== "string")))
    throw invalid(operation, `${WHAT} has metadata that is no text by text`);
  return new Map(entries as [string, string][]);
}

/** The same type in the words of `apache-arrow`. Most words are the same. */
function typeOf(type: FlechetteType, path: string, depth: number, operation: string): ArrowType {
  const { typeId } = type;
  if (depth > MAX_DEPTH) throw invalid(operation, `column ${path} lies deeper than ${MAX_DEPTH}`, path);
  if (!Number.isInteger(typeId) || typeId < -1 || typeId === 0 || typeId === 22 || typeId > 24)
    throw ingestError({
      code: "SCHEMA_MISMATCH",
      operation,
      field: path,
      message: `column ${path} has a type (${String(typeId)}) that crosses as Arrow IPC bytes only: ${WAY_OUT}`,
    });
  const below = (one: FlechetteType): ArrowType => typeOf(one, path, depth + 1, operation);
  const { bitWidth, precision, scale, unit, timezone, mode, keysSorted, stride } = type;
  const { signed, typeIds, dictionary, indices, ordered, children } = type;
  return {
    typeId,
    ...(bitWidth === undefined ? {} : { bitWidth }),
    ...(precision === undefined ? {} : { precision }),
    ...(scale === undefined ? {} : { scale }),
    ...(unit === undefined ? {} : { unit }),
    ...(mode === undefined ? {} : { mode }),
    ...(timezone == null ? {} : { timezone }),
    ...(stride === undefined ? {} : { byteWidth: stride, listSize: stride }),
    ...(typeIds === undefined ? {} : { typeIds: Array.from(typeIds) }),
    isSigned: signed === true,
    keysSorted: keysSorted === true,
    isOrdered: ordered === true,
    ...(dictionary === undefined ? {} : { dictionary: below(dictionary) }),
    ...(indices === undefined ? {} : { indices: below(indices) }),
    children:
      typeId === -1 ? [] : (children ?? []).map((child) => fieldOf(child, path, depth + 1, operation)),
  };
}

function dataOf(batch: unknown, type: DataType, path: string, operation: string): Data {
  if (!isFlechetteBatch(batch))
    throw invalid(operation, `column ${path} has a chunk that is none of flechette`, path);
  const { length, nullCount, validity, values, offsets, typeIds, children, dictionary } = batch;
  // The library would make a number of whatever it is.
  if (!Number.isSafeInteger(length) || length < 0)
    throw invalid(operation, `column ${path} says it has ${String(length)} rows`, path);
  if (type.typeId === 1) return new Data(type, 0, length, length);
  const lost = (what: string): Error =>
    invalid(operation, `column ${path} has ${what} that are no typed array, or whose memory is gone`, path);
  const view = <C extends Parameters<typeof viewAs>[1]>(value: unknown, Class: C, what: string) => {
    const found = viewAs(value, Class);
    if (found === undefined) throw lost(what);
    return found;
  };
  const { typeId } = type;
  const isLarge = typeId > 18 && typeId < 22;
  const hasOffsets =
    isLarge ||
    typeId === 4 ||
    typeId === 5 ||
    typeId === 12 ||
    typeId === 17 ||
    (typeId === 14 && offsets != null);
  const { ArrayType } = (typeId === -1 ? (type as Dictionary).indices : type) as unknown as {
    ArrayType: Parameters<typeof viewAs>[1];
  };
  return new Data(
    type,
    0,
    length,
    // Where nothing is null the library looks at no bitmap, whatever it holds.
    validity == null ? 0 : Number.isSafeInteger(nullCount) ? nullCount : -1,
    [
      hasOffsets ? view(offsets, isLarge ? BigInt64Array : Int32Array, "offsets") : undefined,
      values == null || NESTED.has(typeId) ? undefined : view(values, ArrayType, "values"),
      validity == null ? undefined : view(validity, Uint8Array, "validity"),
      typeId === 14 ? view(typeIds, Int8Array, "type ids") : undefined,
    ] as never,
    typeId === -1 ? [] : childrenOf(children, type, path, operation),
    typeId === -1 ? dictionaryOf(dictionary, type as Dictionary, path, operation) : undefined,
    (typeId === 23 || typeId === 24
      ? [...(batch.data ?? [])].map((buffer) => view(buffer, Uint8Array, "bytes"))
      : []) as never,
  );
}

/** Types whose values are their children's. */
const NESTED: ReadonlySet<number> = new Set([12, 13, 14, 16, 17, 21]);

function childrenOf(
  children: readonly FlechetteBatch[] | null | undefined,
  type: DataType,
  path: string,
  operation: string,
): Data[] {
  const fields = (type.children ?? []) as Field[];
  const given = [...(children ?? [])];
  if (given.length !== fields.length)
    throw invalid(
      operation,
      `column ${path} has ${given.length} children where its type has ${fields.length}`,
      path,
    );
  return fields.map((field, index) => dataOf(given[index], field.type, `${path}.${field.name}`, operation));
}

function dictionaryOf(
  dictionary: FlechetteColumn | undefined,
  type: Dictionary,
  path: string,
  operation: string,
): Vector {
  if (!isFlechetteColumn(dictionary)) throw invalid(operation, `column ${path} has no dictionary`, path);
  return new Vector([...dictionary.data].map((chunk) => dataOf(chunk, type.dictionary, path, operation)));
}
