// A schema → the tree of columns that its rows are encoded by.
//
// Invariants:
// - Columns take their loops in one order for every tree of a schema, children before their parent: compile.ts gives
//   loops by number.
// - A type that rows cannot fill throws here, before any row is read.
//
// It reads no row.

import { type DataType, type Dictionary, type Field, type Schema, Struct } from "apache-arrow";
import { ingestError } from "../errors.js";
import { BytesColumn, TextColumn } from "./bytes.js";
import type { Column, Context } from "./column.js";
import type { Loops } from "./compile.js";
import { DictionaryColumn } from "./dictionary.js";
import { BoolColumn, FixedBytesColumn, NullColumn } from "./fixed.js";
import { FixedListColumn, ListColumn, MapColumn } from "./items.js";
import { DecimalColumn, FloatColumn, HalfColumn, Int64Column, IntColumn } from "./numbers.js";
import { member } from "./refusal.js";
import { StructColumn } from "./struct.js";
import {
  DayColumn,
  DayMillisecondColumn,
  DurationColumn,
  IntervalColumn,
  LongTimeColumn,
  TimeColumn,
  TimestampColumn,
} from "./temporal.js";

const fillable = new WeakSet<Schema>();

/**
 * Finds a type that no row can fill before there is a row: a schema is looked at once.
 *
 * @throws {IngestError} `SCHEMA_MISMATCH` with the column's path: a union, or a dictionary of a dictionary.
 */
export function checkFillable(schema: Schema, operation: string): void {
  if (fillable.has(schema)) return;
  for (const { name, type } of schema.fields) checkType(type, member("", name), operation);
  fillable.add(schema);
}

function checkType(type: DataType, path: string, operation: string): void {
  if (type.typeId === 14) throw unfillable(type, path, operation);
  if (type.typeId === -1) {
    refuseNested(type, path, operation);
    checkType((type as Dictionary).dictionary, path, operation);
  } else if (type.typeId === 17) {
    const [key, value] = (type.children[0] as Field<Struct>).type.children as [Field, Field];
    checkType(key.type, `${path}[].key`, operation);
    checkType(value.type, `${path}[].value`, operation);
  } else {
    for (const { name, type: below } of type.children ?? [])
      checkType(below, type.typeId === 13 ? member(path, name) : `${path}[]`, operation);
  }
}

function unfillable(type: DataType, path: string, operation: string): Error {
  const message = `column ${path} is of type ${type}, and rows do not say what a value of a union is`;
  return ingestError({ code: "SCHEMA_MISMATCH", operation, field: path, message });
}

/** Arrow's messages have one dictionary for a field: a second one below it has no place. */
function refuseNested(type: DataType, path: string, operation: string): void {
  if ((type as Dictionary).dictionary.typeId !== -1) return;
  const message = `column ${path} is a dictionary of a dictionary, which Arrow's messages do not have`;
  throw ingestError({ code: "SCHEMA_MISMATCH", operation, field: path, message });
}

/**
 * The rows' own column.
 *
 * @throws {IngestError} `SCHEMA_MISMATCH`: as {@link checkFillable}.
 */
export function rootOf(schema: Schema, context: Context, loops: Loops): StructColumn {
  const { names, children } = members(schema.fields, context, loops, "");
  const root = new StructColumn(context, new Struct(schema.fields), false, names, children);
  root.loop = loops.next(root, undefined);
  return root;
}

/**
 * A column whose source holds the values themselves: of arrays, and of other tables.
 *
 * @throws {IngestError} `SCHEMA_MISMATCH`: as {@link rootOf}.
 */
export function columnOfValues(field: Field, context: Context, loops: Loops): Column {
  const path = member("", field.name);
  const column = columnOf(field, context, loops, path);
  column.parent = { rowOfChild: (i) => i, pathOfChild: () => path };
  return column;
}

function members(
  fields: readonly Field[],
  context: Context,
  loops: Loops,
  path: string,
): { names: string[]; children: Column[] } {
  return {
    names: fields.map((field) => field.name),
    children: fields.map((field) => columnOf(field, context, loops, member(path, field.name), field.name)),
  };
}

/** @param key By which the source's objects hold the value; undefined: the source holds it itself. */
function columnOf(field: Field, context: Context, loops: Loops, path: string, key?: string): Column {
  const column = make(field.type, field.nullable, context, loops, path);
  column.loop = loops.next(column, key);
  return column;
}

function make(type: DataType, isNullable: boolean, context: Context, loops: Loops, path: string): Column {
  const child = (index: number): Column =>
    columnOf(type.children[index] as Field, context, loops, `${path}[]`);
  const { bitWidth, precision, unit } = type as unknown as Record<string, number>;
  switch (type.typeId) {
    case 1:
      return new NullColumn(context, type, true);
    case 2:
      return new (bitWidth === 64 ? Int64Column : IntColumn)(context, type, isNullable);
    case 3:
      return new (precision === 0 ? HalfColumn : FloatColumn)(context, type, isNullable);
    case 4:
    case 19:
    case 23:
      return new BytesColumn(context, type, isNullable);
    case 5:
    case 20:
    case 24:
      return new TextColumn(context, type, isNullable);
    case 6:
      return new BoolColumn(context, type, isNullable);
    case 7:
      return new DecimalColumn(context, type, isNullable);
    case 8:
      return new (unit === 0 ? DayColumn : DayMillisecondColumn)(context, type, isNullable);
    case 9:
      return new (bitWidth === 32 ? TimeColumn : LongTimeColumn)(context, type, isNullable);
    case 10:
      return new TimestampColumn(context, type, isNullable);
    case 11:
      return new IntervalColumn(context, type, isNullable);
    case 12:
    case 21:
      return new ListColumn(context, type, isNullable, child(0));
    case 13: {
      const { names, children } = members(type.children as Field[], context, loops, path);
      return new StructColumn(context, type, isNullable, names, children);
    }
    case 15:
      return new FixedBytesColumn(context, type, isNullable);
    case 16:
      return new FixedListColumn(context, type, isNullable, child(0));
    case 17: {
      const [key, value] = (type.children[0] as Field<Struct>).type.children as [Field, Field];
      // Whatever the schema says: Arrow has no null keys.
      const keys = make(key.type, false, context, loops, `${path}[].key`);
      keys.loop = loops.next(keys, undefined);
      return new MapColumn(
        context,
        type,
        isNullable,
        keys,
        columnOf(value, context, loops, `${path}[].value`),
      );
    }
    case 18:
      return new DurationColumn(context, type, isNullable);
    case -1: {
      refuseNested(type, path, "rows");
      const values = make((type as Dictionary).dictionary, false, context, loops, path);
      values.loop = loops.next(values, undefined);
      return new DictionaryColumn(context, type, isNullable, values);
    }
    default:
      throw unfillable(type, path, "rows");
  }
}
