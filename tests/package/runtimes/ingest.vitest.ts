// A test as Vitest runs it.
import { tableFromArrays } from "apache-arrow";
import { connect, IngestError } from "arrow-ingest";
import { expect, test } from "vitest";

test("a table is written", async () => {
  const client = await connect("delta:./lake/table");
  const result = await client.send(tableFromArrays({ n: Int32Array.of(1, 2, 3) }));
  expect([result.status, result.rows]).toEqual(["acknowledged", 3]);
  await client.close();
  await expect(connect("nowhere:")).rejects.toBeInstanceOf(IngestError);
});
