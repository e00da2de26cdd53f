// What a strict program uses: the shapes that exactOptionalPropertyTypes and skipLibCheck: false look at.
import type { Table } from "apache-arrow";
import {
  type ConnectOptions,
  connect,
  IngestError,
  type RowOf,
  type TransmissionResult,
  t,
  tableFromRows,
} from "arrow-ingest";

const order = t.schema({ id: t.int64(), note: t.utf8().nullable() });
const options: ConnectOptions = { batching: { maxRows: 65_536, linger: "50ms" }, retry: { attempts: 5 } };

export async function deliver(table: Table): Promise<TransmissionResult> {
  const client = await connect("delta:./lake/flights", options);
  try {
    const row: RowOf<typeof order> = { id: 1n };
    await client.send((await tableFromRows([row], order)).table);
    for await (const result of client.sendAll([table])) if (!result.success) throw result.error;
    // @ts-expect-error: a status that does not exist, so these types are not `any`
    if ((await client.send(table)).status === "delivered") throw new IngestError();
    return await client.send(table);
  } finally {
    await client.close();
  }
}
