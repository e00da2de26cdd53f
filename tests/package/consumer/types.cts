// As types.ts, for a program in CommonJS.
import ingest = require("arrow-ingest");

export async function deliver(batches: Iterable<ingest.BatchInput>): Promise<string[]> {
  const client = await ingest.connect("discard:");
  const codes: string[] = [];
  for await (const result of client.sendAll(batches))
    if (!result.success && result.error !== null) codes.push(result.error.code);
  await client.close();
  return codes;
}
