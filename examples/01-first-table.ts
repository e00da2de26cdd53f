// One table of flights, from JavaScript memory into a Delta Lake table on this disk.
//
//   node examples/01-first-table.ts [target]        (Node 24 runs TypeScript as it is)
import { tableFromArrays } from "apache-arrow";
import { connect } from "arrow-ingest";

const target = process.argv[2] ?? "delta:./lake/first-table";

const flights = tableFromArrays({
  origin: ["BER", "MUC", "HAM"],
  distance: Int32Array.from([504, 480, 612]),
  delay: Float64Array.from([3.5, -2, 17]),
});

// Closed at the end of the block, also if the block throws: what was admitted is delivered first.
await using client = await connect(target, { delta: { commitInterval: "100ms" } });

const result = await client.send(flights);
console.log(result);

// A failure is a value; orThrow turns it into an error for those who want one.
result.orThrow();
console.log(`${result.acceptedRows} rows are durable (${result.position?.kind} ${result.position?.value})`);
