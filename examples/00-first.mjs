// The program of README: three rows into a Delta Lake table on this disk. Runs on every supported Node.
//
//   node examples/00-first.mjs

// #region program
import { tableFromArrays } from "apache-arrow";
import { connect } from "arrow-ingest";

const client = await connect("delta:./lake/flights");

const flights = tableFromArrays({
  origin: ["BER", "MUC", "HAM"],
  delay: Float64Array.of(3.5, -2, 17),
});
const result = await client.send(flights);
console.log(result.status, result.rows, result.position);
// acknowledged 3 { kind: 'version', value: 1n }

await client.close();
// #endregion
