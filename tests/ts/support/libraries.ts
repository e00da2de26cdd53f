// Libraries whose tables are taken, as they are loaded by those who have them: by name, and none of them typed here.

/** biome-ignore-all lint/suspicious/noExplicitAny: the shapes of other libraries are what is tested */

import * as fs from "node:fs";

const load = async (name: string): Promise<any> => {
  const found = await import(name);
  return found.default?.DuckDBInstance || found.default?.DataFrame ? found.default : found;
};

export const duckdb = (): Promise<any> => load("@duckdb/node-api");
export const polars = (): Promise<any> => load("nodejs-polars");
export const arquero = (): Promise<any> => load("arquero");

export async function parquetWasm(): Promise<typeof import("parquet-wasm/esm")> {
  const parquet = await import("parquet-wasm/esm");
  await parquet.default({
    module_or_path: fs.readFileSync("node_modules/parquet-wasm/esm/parquet_wasm_bg.wasm"),
  });
  return parquet;
}
