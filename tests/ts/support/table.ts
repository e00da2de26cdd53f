import { type Table, tableFromArrays } from "apache-arrow";

/** `tableFromArrays`, whose types know of no vectors. */
export const tableOf = (columns: Record<string, unknown>): Table =>
  tableFromArrays(columns as never) as unknown as Table;
