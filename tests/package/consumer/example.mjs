// What a user's first program looks like. Prints one line of JSON for the test.
import { tableFromArrays } from "apache-arrow";
import { connect } from "arrow-ingest";

const table = tableFromArrays({ id: Int32Array.from([1, 2, 3]), name: ["one", "two", "three"] });
// Without `await using`, which is syntax of Node 24: this runs on the oldest Node, too.
const client = await connect(process.argv[2]);
const result = await client.send(table);
await client.close();
console.log(JSON.stringify({ status: result.status, rows: result.rows, handoff: result.handoff }));
