// As program.mjs, for CommonJS.
const { tableFromArrays } = require("apache-arrow");
const { connect, IngestError } = require("arrow-ingest");

async function main() {
  const said = {};
  try {
    for (const target of ["discard:", process.argv[2] ?? "delta:./lake/table"]) {
      const client = await connect(target);
      const result = await client.send(
        tableFromArrays({ id: Int32Array.of(1, 2, 3), name: ["one", "two", "three"] }),
      );
      said[target.split(":")[0]] = `${result.status} ${result.rows}`;
      await client.close();
    }
  } catch (error) {
    said.failed = error instanceof IngestError ? `${error.code} ${error.message}` : String(error);
  }
  console.log(JSON.stringify(said));
}

main();
