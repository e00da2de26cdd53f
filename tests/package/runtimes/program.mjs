// What each runtime and tool has to be able to do: send a batch and write a table. Prints one line of JSON.
import { tableFromArrays } from "apache-arrow";
import { connect, IngestError } from "arrow-ingest";

const table = tableFromArrays({ id: Int32Array.of(1, 2, 3), name: ["one", "two", "three"] });
const said = {};
try {
  for (const target of ["discard:", process.argv[2] ?? "delta:./lake/table"]) {
    const client = await connect(target);
    const result = await client.send(table);
    said[target.split(":")[0]] = `${result.status} ${result.rows}`;
    await client.close();
  }
} catch (error) {
  said.failed = error instanceof IngestError ? `${error.code} ${error.message}` : String(error);
}
console.log(JSON.stringify(said));
