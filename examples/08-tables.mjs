// Columns and tables of other libraries, each sent as it is.
//
//   node examples/08-tables.mjs
//
// The libraries are development dependencies of this repository; your program needs those that it uses.
import { connect } from "arrow-ingest";

const client = await connect("discard:");
const say = (what, { rows, handoff, handoffReason }) =>
  console.log(`${what}: ${rows} rows, ${handoff}${handoffReason ? ` (${handoffReason})` : ""}`);

// #region columns
import { t } from "arrow-ingest";

const readings = {
  sensor: Int32Array.of(1, 2, 3),
  value: Float64Array.of(20.5, 21.25, 19.75),
};
const lent = await client.send(readings);

const named = { ...readings, place: ["Berlin", null, "Hamburg"] };
const schema = t.schema({ sensor: t.int32(), value: t.float64(), place: t.utf8().nullable() });
const mixed = await client.send(named, { schema });
// #endregion
say("typed arrays", lent);
say("arrays", mixed);

// #region flechette
import * as flechette from "@uwdata/flechette";

const flights = flechette.tableFromArrays(
  { id: [1n, 2n], origin: ["BER", "MUC"] },
  { types: { id: flechette.int64(), origin: flechette.dictionary(flechette.utf8()) } },
);
const fromFlechette = await client.send(flights);
// #endregion
say("flechette", fromFlechette);

// #region arquero
import * as aq from "arquero";

const table = aq.table({ sensor: Int32Array.of(3, 1, 2), value: Float64Array.of(0.3, 0.1, 0.2) });
const fromArquero = await client.send(table.filter((d) => d.value < 0.25).orderby("sensor"));
// #endregion
say("Arquero", fromArquero);

// #region polars
import pl from "nodejs-polars";

const frame = pl.DataFrame({ sensor: [1, 2, 3], place: ["Berlin", null, "Hamburg"] });
const fromPolars = await client.send(frame);
for await (const result of client.sendAll(frame)) result.orThrow(); // in slices, each a delivery
// #endregion
say("polars", fromPolars);

// #region duckdb
import { DuckDBInstance } from "@duckdb/node-api";

const instance = await DuckDBInstance.create(":memory:");
const connection = await instance.connect();
const fromDuckdb = await client.send(
  await connection.run("select range as id, 'row ' || range as name from range(5)"),
);
// Of any size: read, converted and sent chunk by chunk.
const large = await connection.stream("select range as id from range(200000)");
for await (const result of client.sendAll(large)) result.orThrow();
// #endregion
say("DuckDB", fromDuckdb);

// #region parquet
import { readFile } from "node:fs/promises";
import initParquet, { readParquet } from "parquet-wasm/esm";

await initParquet({
  module_or_path: await readFile("node_modules/parquet-wasm/esm/parquet_wasm_bg.wasm"),
});
const parquet = readParquet(await readFile("node_modules/vega-datasets/data/flights-3m.parquet"), {
  limit: 10_000,
});
const fromParquet = await client.send(parquet);
// #endregion
say("parquet-wasm", fromParquet);

// #region stream
import { connect as connectSocket, createServer } from "node:net";
import { tableFromArrays, tableToIPC } from "apache-arrow";
import { ipcBatches } from "arrow-ingest";

const ipc = tableToIPC(tableFromArrays({ id: Int32Array.of(1, 2, 3) }), "stream");
const server = createServer((socket) => socket.end(ipc)).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const socket = connectSocket(server.address().port, "127.0.0.1");
for await (const result of client.sendAll(ipcBatches(socket))) say("socket", result);
server.close();
// #endregion

await client.close();
