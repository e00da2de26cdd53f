// A test in TypeScript, as ts-jest compiles it.
import { tableFromArrays } from "apache-arrow";
import { connect, IngestError, type TransmissionResult } from "arrow-ingest";

test("a table is written", async () => {
  const client = await connect("delta:./lake/table");
  const result: TransmissionResult = await client.send(tableFromArrays({ n: Int32Array.of(1, 2, 3) }));
  expect([result.status, result.rows]).toEqual(["acknowledged", 3]);
  await client.close();
  await expect(connect("nowhere:")).rejects.toBeInstanceOf(IngestError);
});
