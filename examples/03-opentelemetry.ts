// Spans and metrics through the OpenTelemetry SDK that an application has anyway, exported as OTLP/HTTP JSON
// to a stand-in for a collector that decodes them.
//
//   node examples/03-opentelemetry.ts
import * as http from "node:http";
import type { AddressInfo } from "node:net";
import { trace } from "@opentelemetry/api";
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-http";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { NodeSDK } from "@opentelemetry/sdk-node";
import { tableFromArrays } from "apache-arrow";
import { connect } from "arrow-ingest";

const spans: string[] = [];
const metrics = new Set<string>();
const collector = http.createServer(async (request, response) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  collect(JSON.parse(Buffer.concat(chunks).toString("utf8")));
  response.writeHead(200, { "content-type": "application/json" }).end("{}");
});
await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
const url = `http://127.0.0.1:${(collector.address() as AddressInfo).port}/v1`;

const metricReader = new PeriodicExportingMetricReader({
  exporter: new OTLPMetricExporter({ url: `${url}/metrics` }),
});
const sdk = new NodeSDK({
  serviceName: "example",
  traceExporter: new OTLPTraceExporter({ url: `${url}/traces` }),
  metricReaders: [metricReader],
});
sdk.start();

await trace.getTracer("example").startActiveSpan("import", async (span) => {
  await using client = await connect("discard:", { batching: { linger: "1ms" } });
  for (const rows of [10, 20, 30]) await client.send(tableFromArrays({ n: new Int32Array(rows) }));
  // While the client is open: its gauges go with it.
  await metricReader.forceFlush();
  span.end();
});
await sdk.shutdown();
collector.close();

for (const line of spans.sort()) console.log(line);
for (const name of [...metrics].sort()) console.log(name);

interface Attribute {
  key: string;
  value: Record<string, unknown>;
}

function collect(body: {
  resourceSpans?: {
    scopeSpans: { spans: { name: string; parentSpanId?: string; attributes: Attribute[] }[] }[];
  }[];
  resourceMetrics?: { scopeMetrics: { metrics: { name: string; unit: string }[] }[] }[];
}): void {
  for (const { scopeSpans } of body.resourceSpans ?? [])
    for (const span of scopeSpans.flatMap((scope) => scope.spans)) {
      const attributes = span.attributes.map(({ key, value }) => `${key}=${Object.values(value)[0]}`);
      spans.push(
        `${span.name} ${span.parentSpanId ? "under its caller" : "root"} ${attributes.sort().join(" ")}`,
      );
    }
  for (const { scopeMetrics } of body.resourceMetrics ?? [])
    for (const metric of scopeMetrics.flatMap((scope) => scope.metrics))
      if (metric.name.startsWith("arrow_ingest.")) metrics.add(`${metric.name} [${metric.unit}]`);
}
