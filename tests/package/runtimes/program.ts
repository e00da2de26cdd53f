// As program.mjs, with types: for what runs TypeScript by itself.
import { tableFromArrays } from "apache-arrow";
import { connect, type TransmissionResult } from "arrow-ingest";

async function main(): Promise<void> {
  const said: Record<string, string> = {};
  for (const target of ["discard:", "delta:./lake/table"]) {
    const client = await connect(target);
    const table = tableFromArrays({ id: Int32Array.of(1, 2, 3), name: ["one", "two", "three"] });
    const result: TransmissionResult = await client.send(table);
    said[target.split(":")[0] as string] = `${result.status} ${result.rows}`;
    await client.close();
  }
  console.log(JSON.stringify(said));
}

main();
