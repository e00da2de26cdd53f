// An HTTP service that takes events as JSON and writes them into a table. It answers 200 when the event is on its disk:
// from then on the event gets into the table, once, whatever becomes of the process or of the table's store.
//
//   node examples/06-service.ts [target] [directory of the spool] [port]
//
//   curl --json '{ "id": "1", "at": "2026-11-30T12:00:00Z", "kind": "click" }' http://127.0.0.1:8080/events
import { NodeSDK } from "@opentelemetry/sdk-node";
import { connect, IngestError, type RowOf, t } from "arrow-ingest";
import { fastify } from "fastify";

const [target = "delta:./lake/events", directory = "./spool", port = "8080"] = process.argv.slice(2);

// Spans and metrics go where the environment says.
const telemetry = process.env.OTEL_EXPORTER_OTLP_ENDPOINT === undefined ? undefined : new NodeSDK();
telemetry?.start();

const event = t.schema({
  id: t.utf8(),
  at: t.timestamp("ms", "UTC"),
  kind: t.dictionary(t.utf8()),
  value: t.float64().nullable(),
});
type Event = RowOf<typeof event>;
const client = await connect(target, {
  schema: event,
  spool: { directory },
  logger: console,
  // Whoever sent the event was answered long ago, and the spool keeps what was refused: what is left is to say it.
  listeners: { onFailed: ({ error }) => console.error(error?.message) },
});
const events = client.rows(event);

const app = fastify();

app.post<{ Body: Event }>("/events", async ({ body }, reply) => {
  try {
    // Settles when the event is on the disk, together with all that came in the same turn of the event loop.
    const { sequence, rejection } = await events.enqueue(body);
    // One that does not fit the table is kept as well, among the dead letters.
    if (rejection !== null) return reply.code(422).send({ path: rejection.path, code: rejection.code });
    return { delivery: String(sequence) };
  } catch (error) {
    if (!(error instanceof IngestError)) throw error;
    // The disk is full, or the service is about to end: the caller still has the event.
    return reply.code(503).send({ code: error.code });
  }
});

app.get("/ready", (_, reply) => reply.code(client.ready ? 200 : 503).send(client.stats().spool));

async function end(): Promise<void> {
  // What was asked is answered; nothing new is taken.
  await app.close();
  // What is not in the table by then is in the spool, and the next start goes on with it.
  await client.close({ deadline: "10s" });
  await telemetry?.shutdown();
}
process.once("SIGTERM", end).once("SIGINT", end);

const address = await app.listen({ port: Number(port), host: "127.0.0.1" });
console.log(`listening on port ${new URL(address).port}`);
