import type { Table } from "apache-arrow";
import { connect, type TransmissionResult } from "arrow-ingest";

export async function deliver(table: Table): Promise<TransmissionResult> {
  await using client = await connect("delta:./lake/flights", {
    batching: { maxRows: 65_536, linger: "50ms" },
  });
  const result = await client.send(table);
  const sequence: bigint = result.sequence;
  if (result.status === "failed") throw new Error(`${sequence}: ${result.error?.code}`);
  // @ts-expect-error: a status that does not exist, so these types are not `any`
  return result.status === "delivered" ? result : result.orThrow();
}
