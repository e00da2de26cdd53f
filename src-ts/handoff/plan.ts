// A schema → what the walk over its batches has to do, and the message that Rust knows it by.
//
// Invariants:
// - Both are made once per schema object; a walk looks nothing up but by index.
// - The message is canonical: dictionary ids, which `apache-arrow` draws at random, are numbered in order.
//   Two schemas that mean the same have the same bytes, so Rust learns each once.

import { type Schema, Table, tableToIPC } from "apache-arrow";
import type { ArrowField, ArrowSchema, ArrowType } from "./arrow.js";
import { rebuildSchema } from "./rebuild.js";

/** What kinds of buffers a node has; see the table in `specs/boundary.md`. */
export const NULL = 0;
export const FIXED = 1;
export const BOOL = 2;
export const BYTES = 3;
export const LARGE_BYTES = 4;
export const VIEWS = 5;
export const LIST = 6;
export const LARGE_LIST = 7;
export const NESTED = 8;
export const DENSE_UNION = 9;
export const SPARSE_UNION = 10;
export const DICTIONARY = 11;
export const UNKNOWN = 12;

/** One node of the walk. All of them have the same hidden class: the walk's loads stay monomorphic. */
export class ColumnPlan {
  readonly kind: number;
  /** Bytes of a value: of a fixed-width type, of a view, of a dictionary's key. */
  readonly width: number;
  /** The object that batches of this very schema refer to; comparing it is all that most walks do. */
  readonly type: ArrowType;
  /** Dotted, for errors. */
  readonly path: string;
  /** A dictionary's only child is its values. */
  readonly children: readonly ColumnPlan[];

  constructor(kind: number, width: number, type: ArrowType, path: string, children: readonly ColumnPlan[]) {
    this.kind = kind;
    this.width = width;
    this.type = type;
    this.path = path;
    this.children = children;
  }
}

export interface SchemaPlan {
  readonly columns: readonly ColumnPlan[];
  /** Of all columns: fixed, because a dictionary is one chunk wherever it crosses by columns. */
  readonly nodeCount: number;
  /** Why batches of this schema cannot cross by columns, or empty. */
  readonly unknown: string;
  /** Our own, canonical copy. */
  readonly schema: Schema;
  /** An IPC stream that holds just the schema. */
  readonly message: Uint8Array;
  /** `message` as a key. */
  readonly key: string;
}

const plans = new WeakMap<ArrowSchema, SchemaPlan>();

export function planOf(schema: ArrowSchema): SchemaPlan {
  let found = plans.get(schema);
  if (found === undefined) {
    found = makePlan(schema);
    plans.set(schema, found);
  }
  return found;
}

function makePlan(schema: ArrowSchema): SchemaPlan {
  const columns = schema.fields.map((field) => planOfField(field, ""));
  const canonical = rebuildSchema(schema);
  const message = tableToIPC(new Table(canonical), "stream");
  return {
    columns,
    nodeCount: columns.reduce((sum, column) => sum + nodesOf(column), 0),
    unknown: columns.map(unknownIn).find((path) => path !== "") ?? "",
    schema: canonical,
    message,
    key: Buffer.from(message.buffer, message.byteOffset, message.byteLength).toString("latin1"),
  };
}

function planOfField(field: ArrowField, parent: string): ColumnPlan {
  return planOfType(field.type, parent === "" ? field.name : `${parent}.${field.name}`);
}

function planOfType(type: ArrowType, path: string): ColumnPlan {
  const { kind, width } = layoutOf(type);
  const children =
    kind === DICTIONARY
      ? [planOfType(type.dictionary!, path)]
      : (type.children ?? []).map((field) => planOfField(field, path));
  return new ColumnPlan(kind, width, type, path, children);
}

/** Of everything that `apache-arrow` 15 to 21 can hold. The numbers are those of its `Type`. */
function layoutOf(type: ArrowType): { kind: number; width: number } {
  switch (type.typeId) {
    case 1:
      return { kind: NULL, width: 0 };
    case 2: // Int
    case 7: // Decimal
    case 9: // Time
      return { kind: FIXED, width: (type.bitWidth ?? 128) / 8 };
    case 3: // Float: half, single, double
      return { kind: FIXED, width: 2 << (type.precision ?? 2) };
    case 4:
    case 5:
      return { kind: BYTES, width: 1 };
    case 6:
      return { kind: BOOL, width: 0 };
    case 8: // Date: days, milliseconds
      return { kind: FIXED, width: type.unit === 0 ? 4 : 8 };
    case 10: // Timestamp
    case 18: // Duration
      return { kind: FIXED, width: 8 };
    case 11: // Interval: year-month, day-time, month-day-nano
      return { kind: FIXED, width: 4 << (type.unit ?? 0) };
    case 12:
    case 17:
      return { kind: LIST, width: 0 };
    case 13:
    case 16:
      return { kind: NESTED, width: 0 };
    case 14:
      return { kind: type.mode === 1 ? DENSE_UNION : SPARSE_UNION, width: 0 };
    case 15:
      return { kind: FIXED, width: type.byteWidth ?? 0 };
    case 19:
    case 20:
      return { kind: LARGE_BYTES, width: 1 };
    case 21:
      return { kind: LARGE_LIST, width: 0 };
    case 23:
    case 24:
      return { kind: VIEWS, width: 16 };
    case -1:
      return { kind: DICTIONARY, width: (type.indices?.bitWidth ?? 32) / 8 };
    default:
      return { kind: UNKNOWN, width: 0 };
  }
}

const nodesOf = (plan: ColumnPlan): number => plan.children.reduce((sum, child) => sum + nodesOf(child), 1);

function unknownIn(plan: ColumnPlan): string {
  if (plan.kind === UNKNOWN) return plan.path;
  return plan.children.map(unknownIn).find((path) => path !== "") ?? "";
}

/**
 * Whether a column's own type says the same as its schema. They are one object in every batch that the
 * library made; where they are not, a column of 32-bit values under a field of 64 bits must not pass.
 */
export function sameType(one: ArrowType, other: ArrowType): boolean {
  if (one === other) return true;
  const { typeId } = one;
  if (typeId !== other.typeId) return false;
  // Only what a type has is compared: a producer that makes new types for every batch pays for this each time.
  switch (typeId) {
    case 2:
      return one.bitWidth === other.bitWidth && one.isSigned === other.isSigned;
    case 3:
      return one.precision === other.precision;
    case 7:
      return (
        one.precision === other.precision && one.scale === other.scale && one.bitWidth === other.bitWidth
      );
    case 8:
    case 11:
    case 18:
      return one.unit === other.unit;
    case 9:
      return one.unit === other.unit && one.bitWidth === other.bitWidth;
    case 10:
      return one.unit === other.unit && (one.timezone || "") === (other.timezone || "");
    case 15:
      return one.byteWidth === other.byteWidth;
    case 14:
      return one.mode === other.mode && sameNumbers(one.typeIds, other.typeIds) && sameChildren(one, other);
    case 16:
      return one.listSize === other.listSize && sameChildren(one, other);
    case 17:
      return one.keysSorted === other.keysSorted && sameChildren(one, other);
    case -1:
      return sameType(one.indices!, other.indices!) && sameType(one.dictionary!, other.dictionary!);
    default:
      return sameChildren(one, other);
  }
}

/** Whether two schemas have the same message: the same fields with the same names, nullability and metadata. */
export function sameSchema(one: ArrowSchema, other: ArrowSchema): boolean {
  return sameMap(one.metadata, other.metadata) && sameFields(one.fields, other.fields);
}

function sameFields(ones: readonly ArrowField[], others: readonly ArrowField[]): boolean {
  if (ones.length !== others.length) return false;
  for (let i = 0; i < ones.length; i++) {
    const one = ones[i]!;
    const other = others[i]!;
    if (one === other) continue;
    if (one.name !== other.name || one.nullable !== other.nullable) return false;
    if (!sameMap(one.metadata, other.metadata) || !sameDeep(one.type, other.type)) return false;
  }
  return true;
}

/** As `sameType`, and down to the names, nullability and metadata of children, which the message has too. */
function sameDeep(one: ArrowType, other: ArrowType): boolean {
  if (one === other) return true;
  if (!sameType(one, other)) return false;
  if (one.typeId === -1)
    return (
      (one.isOrdered ?? false) === (other.isOrdered ?? false) && sameDeep(one.dictionary!, other.dictionary!)
    );
  return sameFields(one.children ?? NONE, other.children ?? NONE);
}

const NONE: readonly ArrowField[] = [];

function sameChildren(one: ArrowType, other: ArrowType): boolean {
  const ones = one.children ?? NONE;
  const others = other.children ?? NONE;
  if (ones.length !== others.length) return false;
  for (let i = 0; i < ones.length; i++) if (!sameType(ones[i]!.type, others[i]!.type)) return false;
  return true;
}

function sameNumbers(one: ArrayLike<number> | undefined, other: ArrayLike<number> | undefined): boolean {
  if (one?.length !== other?.length) return false;
  for (let i = 0; i < (one?.length ?? 0); i++) if (one![i] !== other![i]) return false;
  return true;
}

function sameMap(
  one: ReadonlyMap<string, string> | null | undefined,
  other: ReadonlyMap<string, string> | null | undefined,
): boolean {
  const size = one?.size ?? 0;
  if (size !== (other?.size ?? 0)) return false;
  if (size === 0) return true;
  const others = other!.entries();
  // Their order is part of the message.
  for (const [key, value] of one!) {
    const { value: entry } = others.next();
    if (entry![0] !== key || entry![1] !== value) return false;
  }
  return true;
}
