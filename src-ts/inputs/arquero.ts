// Tables of Arquero → columns.
//
// Invariants:
// - Rows that are filtered out are not sent, and rows come in the table's order: Arquero makes such a table into one of
//   just its rows, which copies it.
// - Columns that came from Arrow data, of flechette or of `apache-arrow`, keep their types and are handed over by their
//   buffers. Of dictionaries Arquero keeps what its own accessor gives: those are values like any others.

import type { DataType } from "apache-arrow";
import type { ArrowData, ArrowType } from "../handoff/arrow.js";
import { rebuildData, rebuildSchema } from "../handoff/rebuild.js";
import { Lookup } from "./assemble.js";
import { type ArrowColumn, columnsInput, type Given } from "./columns.js";
import { chunksOf, type FlechetteColumn, fieldOf, isFlechetteColumn } from "./flechette.js";
import { type Input, invalid, type Wanted } from "./input.js";
import { nameOfTyped } from "./views.js";

const WHAT = "a table of Arquero";

interface ArqueroTable {
  columnNames(): readonly string[];
  column(name: string): unknown;
  isFiltered(): boolean;
  isOrdered(): boolean;
  reify(): ArqueroTable;
}

export function isArqueroTable(value: object): value is ArqueroTable {
  const { columnNames, column, isFiltered, isOrdered, reify } = value as Partial<ArqueroTable>;
  return [columnNames, column, isFiltered, isOrdered, reify].every((method) => typeof method === "function");
}

export function arqueroInput(table: ArqueroTable, wanted: Wanted): Input {
  const { operation } = wanted;
  const isView = table.isFiltered() || table.isOrdered();
  const source = isView ? table.reify() : table;
  const given = [...source.columnNames()].map((name) =>
    columnOf(String(name), source.column(name), operation),
  );
  if (given.length === 0) throw invalid(operation, `${WHAT} has no columns`);
  return columnsInput(WHAT, given, wanted, isView ? TAKEN_OUT : undefined);
}

const TAKEN_OUT = "copied: Arquero took the rows of a filtered or ordered table out of it";

function columnOf(name: string, column: unknown, operation: string): Given {
  if (Array.isArray(column) || nameOfTyped(column) !== undefined)
    return { name, values: column as ArrayLike<unknown> };
  // Both have a type, chunks and `toArray`; only the chunks tell them apart.
  if (isFlechetteColumn(column)) {
    const arrow = isOfApacheArrow(column) ? apacheArrow(column) : flechette(name, column, operation);
    return { name, arrow };
  }
  const { length, at } = (column ?? {}) as { readonly length?: unknown; readonly at?: unknown };
  if (typeof length === "number" && typeof at === "function")
    return { name, values: new Lookup(length, (row) => Reflect.apply(at, column, [row]) as unknown) };
  throw invalid(
    operation,
    `column ${name} of ${WHAT} is neither an array nor Arrow data: derive one that is`,
    name,
  );
}

function flechette(name: string, column: FlechetteColumn, operation: string): ArrowColumn {
  return {
    type: fieldOf({ name, type: column.type }, "", 0, operation).type,
    length: column.length,
    chunks: (field) => chunksOf(column, field, operation),
  };
}

/** A vector of `apache-arrow`, of any copy or version. */
interface VectorLike {
  readonly type: ArrowType;
  readonly length: number;
  readonly data: readonly ArrowData[];
}

const isOfApacheArrow = (column: object): column is VectorLike =>
  (column as VectorLike).data.some(
    (chunk) => typeof chunk === "object" && chunk !== null && "_nullCount" in chunk,
  );

function apacheArrow(column: VectorLike): ArrowColumn {
  const { type, length } = column;
  const fields = [{ name: "", type, nullable: true, metadata: new Map() }];
  // As the canonical copy has it: ids of dictionaries are numbered.
  const ours = rebuildSchema({ fields, metadata: new Map() }).fields[0]!.type as unknown as ArrowType;
  return {
    type: ours,
    length,
    chunks: (field) => [...column.data].map((chunk) => rebuildData(chunk, field.type as DataType)),
  };
}
