// A program in CommonJS. Prints one line of JSON for the test.
const { tableFromArrays } = require("apache-arrow");
const { connect, IngestError } = require(process.argv[2]);

async function main() {
  const client = await connect("discard:");
  const result = await client.send(tableFromArrays({ id: Int32Array.of(1, 2, 3) }));
  await client.close();
  const modules = await import("arrow-ingest");
  const failed = await connect("nowhere:").catch((error) => error);
  return {
    status: result.status,
    rows: result.rows,
    failed: failed instanceof IngestError && failed.code,
    same: modules.IngestError === IngestError,
  };
}

main().then((facts) => console.log(JSON.stringify(facts)));
