// The program of README: three rows into a Delta Lake table on this disk. Runs on every supported Node.
//
//   node examples/00-first.mjs

// #region program
import { connect, t } from "arrow-ingest";

const flight = t.schema({ origin: t.utf8(), day: t.date(), delay: t.float64().nullable() });
const client = await connect("delta:./lake/flights", { schema: flight });

const result = await client.send([
  { origin: "BER", day: "2026-11-29", delay: 3.5 },
  { origin: "MUC", day: "2026-11-29", delay: -2 },
  { origin: "HAM", day: "2026-11-30" },
]);
console.log(result.status, result.rows, result.position);
// acknowledged 3 { kind: 'version', value: 1n }

await client.close();
// #endregion
