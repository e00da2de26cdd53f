// OpenTelemetry, from facts that are there anyway.
//
// Invariants:
// - `@opentelemetry/api` is an optional peer, loaded when a client connects; without it, and while no SDK is
//   registered, nothing is made, timed or counted.
// - An SDK that is registered after `connect` counts from then on.
// - Telemetry never fails a delivery: what an SDK throws is swallowed.
// - Instruments are made once for a meter provider, and nothing in it grows with the number of clients: an SDK
//   goes on exporting every set of attributes that it has ever seen, so gauges are sums over the open clients.
// - A client that is dropped is not kept by what is counted of it.
//
// Names are in `specs/telemetry.md`. No URL and no data is in any attribute, so no secret can be.

import type * as Otel from "@opentelemetry/api";
import type { TransmissionResult } from "./result.js";

/** What gauges show; a part of `ClientStats`. */
export interface Gauges {
  readonly deliveries: { readonly unsettled: number; readonly waiting: number };
  readonly bytes: { readonly inFlight: number };
  readonly pinned: { readonly bytes: number };
  readonly pool: { readonly allocatedBytes: number };
  readonly retry: { readonly strikes: number };
}

interface Instruments {
  readonly deliveries: Otel.Counter;
  readonly rows: Otel.Counter;
  readonly rejectedRows: Otel.Counter;
  readonly bytes: Otel.Counter;
  readonly retries: Otel.Counter;
  readonly duration: Otel.Histogram;
  readonly handoff: Otel.Histogram;
}

/** By meter provider. */
const instruments = new WeakMap<object, Instruments>();
/** Whose gauges are shown. */
const open = new Set<WeakRef<Telemetry>>();
/** Destinations that a client was ever open to: schemes, so there are few. */
const destinations = new Set<string>();

let api: Promise<typeof Otel | undefined> | undefined;

/** The installed `@opentelemetry/api`, or undefined. */
export function loadApi(
  load: () => Promise<typeof Otel | undefined> = () =>
    // Bundlers fail for what is not installed: webpack unless it is told to ignore it, esbuild unless there is a `catch`.
    import(/* webpackIgnore: true */ /* @vite-ignore */ "@opentelemetry/api").catch(() => undefined),
) {
  api ??= load().catch(() => undefined);
  return api;
}

/** For tests: forgets what `loadApi` found. */
export function forgetApi(): void {
  api = undefined;
}

let clients = 0;

/** The telemetry of one client. */
export class Telemetry {
  readonly #api: typeof Otel;
  readonly #version: string;
  readonly destination: string;
  readonly gauges: () => Gauges;
  readonly #self = new WeakRef<Telemetry>(this);
  readonly #client = ++clients;
  /** What an api without an SDK delegates to. */
  readonly #noTracing: unknown;
  #meterProvider: Otel.MeterProvider | undefined;
  #instruments: Instruments | undefined;

  constructor(otel: typeof Otel, version: string, destination: string, gauges: () => Gauges) {
    this.#api = otel;
    this.#version = version;
    this.destination = destination;
    this.gauges = gauges;
    this.#noTracing = new otel.ProxyTracerProvider().getDelegate();
    try {
      this.#meter();
    } catch {
      // An SDK that throws must not keep a client from connecting.
    }
  }

  /** A span for one delivery under the caller's context, or null while nobody listens. */
  start(operation: "send" | "enqueue"): object | null {
    try {
      const provider = this.#api.trace.getTracerProvider() as Partial<Otel.ProxyTracerProvider>;
      if ((provider.getDelegate?.() ?? provider) === this.#noTracing) return null;
      const { SpanKind } = this.#api;
      const span = this.#api.trace
        .getTracer("arrow-ingest", this.#version)
        .startSpan(`arrow_ingest.${operation}`, {
          kind: SpanKind.PRODUCER,
          attributes: { "arrow_ingest.destination": this.destination, "arrow_ingest.client": this.#client },
        });
      return span;
    } catch {
      return null;
    }
  }

  /** The delivery of `span` is settled. */
  settled(span: object | null, result: TransmissionResult, retries: number): void {
    try {
      if (span !== null) this.#end(span as Otel.Span, result);
      const instruments = this.#meter();
      if (instruments === undefined) return;
      const { status, timings } = result;
      const attributes = { "arrow_ingest.destination": this.destination, "arrow_ingest.status": status };
      instruments.deliveries.add(1, { ...attributes, "arrow_ingest.handoff": result.handoff });
      instruments.rows.add(result.acceptedRows, { "arrow_ingest.destination": this.destination });
      if (result.rejectedRows > 0)
        instruments.rejectedRows.add(result.rejectedRows, { "arrow_ingest.destination": this.destination });
      instruments.bytes.add(result.batchBytes, attributes);
      if (retries > 0) instruments.retries.add(retries, { "arrow_ingest.destination": this.destination });
      instruments.duration.record(result.latencyMs / 1e3, attributes);
      instruments.handoff.record(timings.handoffMs / 1e3, { "arrow_ingest.handoff": result.handoff });
    } catch {}
  }

  /** The delivery of `span` was never admitted. */
  refused(given: object | null, error: unknown): void {
    if (given === null) return;
    const span = given as Otel.Span;
    try {
      const code = (error as { code?: unknown } | null)?.code;
      span.setAttribute("error.type", typeof code === "string" ? code : "ABORTED");
      span.setStatus({
        code: this.#api.SpanStatusCode.ERROR,
        message: String((error as Error)?.message ?? error),
      });
      span.end();
    } catch {}
  }

  /** The client is closed: its gauges count no more. */
  close(): void {
    open.delete(this.#self);
    this.#instruments = undefined;
  }

  #end(span: Otel.Span, result: TransmissionResult): void {
    span.setAttributes({
      "arrow_ingest.sequence": Number(result.sequence),
      "arrow_ingest.status": result.status,
      "arrow_ingest.handoff": result.handoff,
      "arrow_ingest.rows": result.rows,
      "arrow_ingest.rows.rejected": result.rejectedRows,
      "arrow_ingest.bytes": result.batchBytes,
      "arrow_ingest.attempts": result.attempts,
    });
    if (result.position !== null)
      span.setAttribute(`arrow_ingest.position.${result.position.kind}`, Number(result.position.value));
    const { error } = result;
    if (!result.success && error !== null) {
      span.setAttribute("error.type", error.code);
      span.setStatus({ code: this.#api.SpanStatusCode.ERROR, message: error.message });
    }
    span.end();
  }

  #meter(): Instruments | undefined {
    const provider = this.#api.metrics.getMeterProvider();
    // The api's own stand-in is one object for good; asking it again costs a comparison.
    if (provider === this.#meterProvider) return this.#instruments;
    this.#meterProvider = provider;
    this.#instruments = undefined;
    if (provider.constructor.name === "NoopMeterProvider") return undefined;
    destinations.add(this.destination);
    open.add(this.#self);
    this.#instruments = instruments.get(provider) ?? make(provider.getMeter("arrow-ingest", this.#version));
    instruments.set(provider, this.#instruments);
    return this.#instruments;
  }
}

function make(meter: Otel.Meter): Instruments {
  observeGauges(meter);
  const counter = (name: string, unit: string, description: string): Otel.Counter =>
    meter.createCounter(`arrow_ingest.${name}`, { unit, description });
  return {
    deliveries: counter("deliveries", "{delivery}", "Deliveries settled, by status."),
    rows: counter("rows.accepted", "{row}", "Rows known to be durable."),
    rejectedRows: counter("rows.rejected", "{row}", "Rows that the destination refused."),
    bytes: counter("bytes", "By", "Bytes of deliveries settled, by status."),
    retries: counter("retries", "{retry}", "Writes that had to be tried again."),
    duration: meter.createHistogram("arrow_ingest.delivery.duration", {
      unit: "s",
      description: "From admission to the outcome.",
      advice: {
        explicitBucketBoundaries: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
      },
    }),
    handoff: meter.createHistogram("arrow_ingest.handoff.duration", {
      unit: "s",
      description: "On the JavaScript thread.",
      advice: {
        explicitBucketBoundaries: [1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1],
      },
    }),
  };
}

function observeGauges(meter: Otel.Meter): void {
  const gauge = (name: string, unit: string, description: string): Otel.ObservableGauge =>
    meter.createObservableGauge(`arrow_ingest.${name}`, { unit, description });
  const gauges: readonly (readonly [Otel.ObservableGauge, (stats: Gauges) => number])[] = [
    [
      gauge("deliveries.unsettled", "{delivery}", "Deliveries admitted and not settled."),
      (stats) => stats.deliveries.unsettled,
    ],
    [
      gauge("deliveries.waiting", "{call}", "Calls that wait for room in the budget."),
      (stats) => stats.deliveries.waiting,
    ],
    [gauge("bytes.in_flight", "By", "Bytes admitted and not settled."), (stats) => stats.bytes.inFlight],
    [gauge("memory.pinned", "By", "JavaScript memory held."), (stats) => stats.pinned.bytes],
    [
      gauge("memory.pool", "By", "Memory that copies are made into, in use or kept."),
      (stats) => stats.pool.allocatedBytes,
    ],
    [
      gauge("retry.strikes", "{failure}", "Failures that still slow the pace down."),
      (stats) => stats.retry.strikes,
    ],
  ];
  // Never taken off: it holds no client, and an SDK would repeat the last values of a callback that is gone.
  meter.addBatchObservableCallback(
    (observer) => {
      for (const destination of destinations) {
        const stats = statsOf(destination);
        const attributes = { "arrow_ingest.destination": destination };
        for (const [gauge, of] of gauges)
          observer.observe(
            gauge,
            stats.reduce((sum, one) => sum + of(one), 0),
            attributes,
          );
      }
    },
    gauges.map(([gauge]) => gauge),
  );
}

/** Of the open clients of this destination. */
function statsOf(destination: string): Gauges[] {
  const found: Gauges[] = [];
  for (const reference of open) {
    const client = reference.deref();
    if (client === undefined) open.delete(reference);
    else if (client.destination === destination) found.push(client.gauges());
  }
  return found;
}
