// An HTTP service that takes events as JSON and writes them into a table. It answers 200 when the event is on its disk:
// from then on the event gets into the table, once, whatever becomes of the process or of the table's store.
//
//   node examples/06-service.ts [target] [directory of the spool] [port]
//
//   curl -d '{ "id": "1", "at": "2026-11-30T12:00:00Z", "kind": "click" }' http://127.0.0.1:8080/events
import * as http from "node:http";
import type { AddressInfo } from "node:net";
import { NodeSDK } from "@opentelemetry/sdk-node";
import { connect, IngestError, type RowOf, t } from "arrow-ingest";

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

const MAX_BODY_BYTES = 1 << 20;

async function bodyOf(request: http.IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) throw new SyntaxError(`the body is larger than ${MAX_BODY_BYTES} bytes`);
    chunks.push(chunk);
  }
  return JSON.parse(Buffer.concat(chunks).toString("utf8"));
}

/** Status and body of the answer to an event. */
async function take(request: http.IncomingMessage): Promise<[number, object]> {
  try {
    // Settles when the event is on the disk, together with all that came in the same turn of the event loop.
    const { sequence, rejection } = await events.enqueue((await bodyOf(request)) as Event);
    // One that does not fit the table is kept as well, among the dead letters.
    if (rejection !== null) return [422, { path: rejection.path, code: rejection.code }];
    return [200, { delivery: String(sequence) }];
  } catch (error) {
    if (error instanceof SyntaxError) return [400, { message: error.message }];
    // The disk is full, or the service is about to end: the caller still has the event.
    return [503, { code: error instanceof IngestError ? error.code : "INTERNAL" }];
  }
}

const server = http.createServer(async (request, response) => {
  const [status, body] =
    request.method === "POST" && request.url === "/events"
      ? await take(request)
      : request.url === "/ready"
        ? [client.ready ? 200 : 503, client.stats().spool ?? {}]
        : [404, {}];
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
});

async function end(): Promise<void> {
  // What was asked is answered; nothing new is taken.
  await new Promise((resolve) => server.close(resolve));
  // What is not in the table by then is in the spool, and the next start goes on with it.
  await client.close({ deadline: "10s" });
  await telemetry?.shutdown();
}
process.once("SIGTERM", end).once("SIGINT", end);

server.listen(Number(port), "127.0.0.1", () => {
  console.log(`listening on port ${(server.address() as AddressInfo).port}`);
});
