// The shape of `apache-arrow` objects, whichever copy or version made them.
//
// Invariants:
// - Nothing is recognised by `instanceof`: two copies of the library in one process are common, and each
//   calls the other's objects strangers.
// - Only what the versions 15 to 21 agree on is read, and no getter that counts or allocates.

import { types } from "node:util";

/** `Data`: one column's chunk. */
export interface ArrowData {
  readonly type: ArrowType;
  readonly length: number;
  readonly offset: number;
  /** -1: not counted yet. The `nullCount` getter would count bits, a pass over all rows. */
  readonly _nullCount: number;
  readonly nullBitmap?: ArrayBufferView | null;
  readonly valueOffsets?: (ArrayBufferView & ArrayLike<number | bigint>) | null;
  readonly values?: ArrayBufferView | null;
  readonly typeIds?: ArrayBufferView | null;
  readonly children: readonly ArrowData[];
  readonly dictionary?: ArrowVector | null;
  /** Since version 21. */
  readonly variadicBuffers?: readonly ArrayBufferView[] | null;
}

export interface ArrowVector {
  readonly data: readonly ArrowData[];
}

/** The fields of all types; which are there depends on `typeId`. */
export interface ArrowType {
  readonly typeId: number;
  readonly children?: readonly ArrowField[] | null;
  readonly bitWidth?: number;
  readonly isSigned?: boolean;
  readonly precision?: number;
  readonly scale?: number;
  readonly unit?: number;
  readonly timezone?: string | null;
  readonly byteWidth?: number;
  readonly listSize?: number;
  readonly mode?: number;
  readonly typeIds?: ArrayLike<number>;
  readonly keysSorted?: boolean;
  readonly id?: number;
  readonly isOrdered?: boolean;
  readonly indices?: ArrowType;
  readonly dictionary?: ArrowType;
}

export interface ArrowField {
  readonly name: string;
  readonly type: ArrowType;
  readonly nullable: boolean;
  readonly metadata: ReadonlyMap<string, string>;
}

export interface ArrowSchema {
  readonly fields: readonly ArrowField[];
  readonly metadata: ReadonlyMap<string, string>;
}

export interface ArrowBatch {
  readonly schema: ArrowSchema;
  readonly data: ArrowData;
}

export interface ArrowTable {
  readonly schema: ArrowSchema;
  readonly batches: readonly ArrowBatch[];
}

export function isSchema(value: unknown): value is ArrowSchema {
  if (!isObject(value) || !Array.isArray(value.fields) || !isMap(value.metadata)) return false;
  return value.fields.every(
    (field: unknown) =>
      isObject(field) &&
      typeof field.name === "string" &&
      isObject(field.type) &&
      typeof field.type.typeId === "number",
  );
}

export function isRecordBatch(value: unknown): value is ArrowBatch {
  if (!isObject(value) || !isObject(value.data) || !isObject(value.schema)) return false;
  const { data } = value;
  return (
    Array.isArray(data.children) && typeof data.length === "number" && Array.isArray(value.schema.fields)
  );
}

export function isTable(value: unknown): value is ArrowTable {
  return isObject(value) && Array.isArray(value.batches) && isObject(value.schema) && isSchema(value.schema);
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null;

const isMap = (value: unknown): boolean => value == null || types.isMap(value);
