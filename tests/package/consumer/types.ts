import type { Table } from "apache-arrow";
import {
  connect,
  type DeliveryStatus,
  type ErrorCode,
  type RowOf,
  type TransmissionResult,
  t,
  tableFromRows,
} from "arrow-ingest";

export async function deliver(table: Table): Promise<TransmissionResult> {
  await using client = await connect("delta:./lake/flights", {
    batching: { maxRows: 65_536, linger: "50ms" },
    schema: table.schema,
  });
  const result = await client.send(table);
  const sequence: bigint = result.sequence;
  if (result.status === "failed") throw new Error(`${sequence}: ${result.error.code}`);
  // @ts-expect-error: a status that does not exist, so these types are not `any`
  return result.status === "delivered" ? result : result.orThrow();
}

/** A look at `success` or `status` says whether there is an error. */
export function why(result: TransmissionResult): ErrorCode | null {
  if (!result.success && result.status !== "spooled") {
    const { code } = result.error;
    const status: Exclude<DeliveryStatus, "acknowledged" | "spooled"> = result.status;
    return status === "unknown" ? result.errorCode : code;
  }
  // @ts-expect-error: a success may have one, PAYLOAD_CHANGED
  return result.status === "acknowledged" ? result.error.code : null;
}

const order = t.schema({ id: t.int64(), at: t.timestamp("us", "UTC"), note: t.utf8().nullable() });

/** Rows have the types of their schema. */
export async function rows(): Promise<Table> {
  const row: RowOf<typeof order> = { id: 1n, at: new Date() };
  // @ts-expect-error: a column that is not nullable is missing
  const wrong: RowOf<typeof order> = { id: 1n };
  const { table, rejections } = await tableFromRows([row, wrong], order);
  if (rejections.length !== 1) throw new Error("one row does not fit");
  return table;
}
