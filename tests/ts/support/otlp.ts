// A collector that decodes what it receives over OTLP/HTTP, as JSON or as protobuf, and knows no SDK.
import * as http from "node:http";
import type { AddressInfo } from "node:net";

export interface OtlpSpan {
  readonly name: string;
  readonly id: string;
  readonly parent: string;
  readonly kind: number;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly links: readonly string[];
  readonly events: readonly {
    readonly name: string;
    readonly attributes: Readonly<Record<string, unknown>>;
  }[];
}

export interface OtlpMetric {
  readonly name: string;
  readonly unit: string;
  readonly instrument: "counter" | "gauge" | "histogram";
  readonly attributes: readonly Readonly<Record<string, unknown>>[];
}

export class Collector implements AsyncDisposable {
  readonly spans: OtlpSpan[] = [];
  readonly metrics = new Map<string, OtlpMetric>();
  readonly types = new Set<string>();
  /** All that came, as it came. */
  readonly bytes: Buffer[] = [];
  readonly #server: http.Server;

  static async start(): Promise<Collector> {
    const collector = new Collector();
    await new Promise<void>((resolve) => collector.#server.listen(0, "127.0.0.1", resolve));
    return collector;
  }

  private constructor() {
    this.#server = http.createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const body = Buffer.concat(chunks);
      const type = request.headers["content-type"]!;
      this.bytes.push(body);
      this.types.add(type);
      const isJson = type.includes("json");
      if (request.url!.endsWith("traces")) this.#traces(isJson ? JSON.parse(body.toString()) : traces(body));
      else this.#metrics(isJson ? JSON.parse(body.toString()) : metrics(body));
      response.writeHead(200, { "content-type": type }).end(isJson ? "{}" : "");
    });
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1`;
  }

  /** Spans of ours by the end of their names. */
  named(name: string): OtlpSpan[] {
    return this.spans.filter((span) => span.name === `arrow_ingest.${name}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #traces(body: JsonTraces): void {
    for (const { scopeSpans } of body.resourceSpans)
      for (const span of scopeSpans.flatMap(({ spans }) => spans))
        this.spans.push({
          name: span.name,
          id: span.spanId,
          parent: span.parentSpanId ?? "",
          kind: Number(span.kind),
          attributes: record(span.attributes),
          links: (span.links ?? []).map(({ spanId }) => spanId),
          events: (span.events ?? []).map(({ name, attributes }) => ({
            name,
            attributes: record(attributes),
          })),
        });
  }

  #metrics(body: JsonMetrics): void {
    for (const { scopeMetrics } of body.resourceMetrics)
      for (const { scope, metrics } of scopeMetrics)
        for (const { name, unit, sum, gauge, histogram } of metrics) {
          if (scope?.name !== "arrow-ingest") continue;
          const points = (sum ?? gauge ?? histogram)?.dataPoints ?? [];
          const instrument = sum ? "counter" : gauge ? "gauge" : "histogram";
          const attributes = points.map((point) => record(point.attributes));
          const before = this.metrics.get(name)?.attributes ?? [];
          this.metrics.set(name, { name, unit, instrument, attributes: [...before, ...attributes] });
        }
  }
}

interface Pair {
  key: string;
  value: Record<string, unknown>;
}
interface JsonTraces {
  resourceSpans: {
    scopeSpans: {
      spans: {
        name: string;
        spanId: string;
        parentSpanId?: string;
        kind: number | string;
        attributes?: Pair[];
        links?: { spanId: string }[];
        events?: { name: string; attributes?: Pair[] }[];
      }[];
    }[];
  }[];
}
interface Points {
  dataPoints: { attributes?: Pair[] }[];
}
interface JsonMetrics {
  resourceMetrics: {
    scopeMetrics: {
      scope?: { name: string };
      metrics: { name: string; unit: string; sum?: Points; gauge?: Points; histogram?: Points }[];
    }[];
  }[];
}

const record = (pairs: Pair[] = []): Record<string, unknown> =>
  Object.fromEntries(pairs.map(({ key, value }) => [key, Object.values(value)[0]]));

// ---- protobuf, by the numbers of opentelemetry-proto -------------------------------------------------------------

type Fields = Map<number, (Buffer | bigint)[]>;

function fields(bytes: Buffer): Fields {
  const found: Fields = new Map();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++]!;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    let value: Buffer | bigint;
    if ((tag & 7) === 0) value = varint();
    else {
      const length = (tag & 7) === 1 ? 8 : (tag & 7) === 5 ? 4 : Number(varint());
      value = bytes.subarray(at, at + length);
      at += length;
    }
    const list = found.get(tag >> 3) ?? [];
    list.push(value);
    found.set(tag >> 3, list);
  }
  return found;
}

const all = (from: Fields, number: number): Fields[] =>
  (from.get(number) ?? []).map((bytes) => fields(bytes as Buffer));
const text = (from: Fields, number: number): string => String(from.get(number)?.[0] ?? "");
const hex = (from: Fields, number: number): string =>
  (from.get(number)?.[0] as Buffer | undefined)?.toString("hex") ?? "";

const pairs = (from: Fields, number: number): Pair[] =>
  all(from, number).map((pair) => {
    const value = all(pair, 2)[0]!;
    const [kind, [raw]] = [...value][0]! as [number, [Buffer | bigint]];
    const decoded =
      kind === 1
        ? String(raw)
        : kind === 2
          ? raw === 1n
          : kind === 3
            ? Number(raw)
            : (raw as Buffer).readDoubleLE();
    return { key: text(pair, 1), value: { decoded } };
  });

function traces(body: Buffer): JsonTraces {
  return {
    resourceSpans: all(fields(body), 1).map((resource) => ({
      scopeSpans: all(resource, 2).map((scope) => ({
        spans: all(scope, 2).map((span) => ({
          name: text(span, 5),
          spanId: hex(span, 2),
          parentSpanId: hex(span, 4),
          kind: Number(span.get(6)?.[0] ?? 0),
          attributes: pairs(span, 9),
          links: all(span, 13).map((link) => ({ spanId: hex(link, 2) })),
          events: all(span, 11).map((event) => ({ name: text(event, 2), attributes: pairs(event, 3) })),
        })),
      })),
    })),
  };
}

function metrics(body: Buffer): JsonMetrics {
  const points = (metric: Fields, number: number, attributes: number): Points | undefined => {
    const data = all(metric, number)[0];
    return data && { dataPoints: all(data, 1).map((point) => ({ attributes: pairs(point, attributes) })) };
  };
  return {
    resourceMetrics: all(fields(body), 1).map((resource) => ({
      scopeMetrics: all(resource, 2).map((scope) => ({
        scope: { name: text(all(scope, 1)[0] ?? new Map(), 1) },
        metrics: all(scope, 2).map((metric) => {
          const [gauge, sum, histogram] = [points(metric, 5, 7), points(metric, 7, 7), points(metric, 9, 9)];
          return {
            name: text(metric, 1),
            unit: text(metric, 3),
            ...(gauge && { gauge }),
            ...(sum && { sum }),
            ...(histogram && { histogram }),
          };
        }),
      })),
    })),
  };
}
