// OpenTelemetry, from facts that are there anyway.
//
// Invariants:
// - `@opentelemetry/api` is an optional peer, loaded when a client connects, unless a tracer and a meter were given;
//   without any of them, and while no SDK is registered, nothing is made, timed or counted.
// - An SDK that is registered after `connect` counts from then on.
// - Telemetry never fails a delivery: what an SDK throws is swallowed.
// - Rust tells of each write while somebody listens, and not otherwise.
//
// Names are in `telemetry/names.ts` and `specs/telemetry.md`. Of the URL, scheme, host and port are in attributes, and
// no data is, so no secret can be.

import type * as Otel from "@opentelemetry/api";
import type { Fact } from "./binding.js";
import type { TelemetryContext, TelemetryMeter, TelemetrySpan, TelemetryTracer } from "./options.js";
import type { TransmissionResult } from "./result.js";
import { type Counted, Instruments, type Totals } from "./telemetry/instruments.js";
import type { StatNumbers } from "./telemetry/names.js";
import { WriteSpans, type WriteStart } from "./telemetry/writes.js";

// Of the API, which may not be there. Its enumerations are numbers for good.
const PRODUCER = 3;
const CLIENT = 2;
const ERROR = 2;
/** Outcomes of one hop whose times are recorded: six histograms cost the SDK some 4 µs for each. */
const RECORDED = 8;

/** By meter provider, or by the meter that was given. */
const instruments = new WeakMap<object, Instruments>();

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

export type { StatNumbers };

/** What spans and metrics are made with. */
export interface TelemetryParts {
  readonly api: typeof Otel | undefined;
  readonly tracer: TelemetryTracer | undefined;
  readonly meter: TelemetryMeter | undefined;
  /** Of this package. */
  readonly version: string;
  readonly url: string;
  /** Number of the client in this thread. */
  readonly client: number;
  readonly stats: () => StatNumbers;
  /** Has Rust tell of each write, or no longer. */
  readonly follow: (writes: boolean) => void;
  /** Has calls to a server carry this from now on. */
  readonly carry: (parent: string, state: string) => void;
}

/** The telemetry of one client. */
export class Telemetry implements Counted {
  readonly #parts: TelemetryParts;
  readonly destination: string;
  readonly stats: () => StatNumbers;
  readonly #common: Readonly<Record<string, string | number>>;
  readonly #calls: Readonly<Record<string, string | number>>;
  /** Made once: a span is made for each delivery. */
  readonly #delivering: object;
  readonly #connecting: object;
  /** What an api without an SDK delegates to. */
  readonly #noTracing: unknown;
  #meterProvider: object | undefined;
  #instruments: Instruments | undefined;
  #hide: (() => void) | undefined;
  #follows = false;
  readonly #writes = new WriteSpans((start) => this.#startWrite(start));
  /** Whose context calls to a server carry. */
  #carried: object | null = null;
  #carriedInThisTurn = false;
  #closed = false;
  /** Of what an earlier client left in the spool, from the first write that carries some of it. */
  #replay: TelemetrySpan | null = null;
  #hasReplayed = false;
  /** Outcomes of this hop. */
  #recorded = 0;

  constructor(parts: TelemetryParts) {
    this.#parts = parts;
    const { scheme, attributes, calls } = targetFacts(parts.url);
    this.destination = scheme;
    this.stats = parts.stats;
    this.#common = { "arrow_ingest.destination": scheme, "arrow_ingest.client": parts.client, ...attributes };
    this.#calls = calls;
    this.#delivering = { kind: PRODUCER, attributes: this.#common };
    this.#connecting = { kind: CLIENT, attributes: { ...this.#common, ...calls } };
    try {
      this.#noTracing = parts.api && new parts.api.ProxyTracerProvider().getDelegate();
      this.#meter();
    } catch {
      // An SDK that throws must not keep a client from connecting.
    }
  }

  /** A span for one delivery under the caller's context, or null while nobody records it. */
  start(operation: "send" | "enqueue", context?: TelemetryContext): object | null {
    return this.#start(`arrow_ingest.${operation}`, this.#delivering, context);
  }

  /** A span for connecting. */
  startConnecting(): object | null {
    return this.#start("arrow_ingest.connect", this.#connecting);
  }

  /** A try at connecting failed, and another follows after so long. */
  connectingAgain(span: object | null, code: string, delayMs: number): void {
    try {
      this.#instruments?.totals(this.destination).failed(code);
      const attributes = { "error.type": code, "arrow_ingest.delay_ms": delayMs };
      (span as TelemetrySpan | null)?.addEvent("arrow_ingest.retry", attributes);
    } catch {}
  }

  connected(span: object | null, tookMs: number): void {
    try {
      this.#meter()?.histograms.connect.record(tookMs / 1e3, {
        "arrow_ingest.destination": this.destination,
      });
      this.#carryNoMore(span);
      (span as TelemetrySpan | null)?.end();
    } catch {}
  }

  /** The client never opened. */
  notConnected(span: object | null, error: unknown, tookMs: number): void {
    try {
      const code = codeOf(error);
      const instruments = this.#meter();
      instruments?.totals(this.destination).failed(code);
      const attributes = { "arrow_ingest.destination": this.destination, "error.type": code };
      instruments?.histograms.connect.record(tookMs / 1e3, attributes);
    } catch {}
    this.refused(span, error);
    this.close();
  }

  /** Calls to a server that begin from now on carry the context of this span, until its delivery is settled. */
  carry(span: object): void {
    // Once in a turn: at the rate of small batches each would cost a call into Rust, for a context that the next one
    // replaces before a stream begins.
    if (this.#carriedInThisTurn) return;
    this.#carriedInThisTurn = true;
    setImmediate(() => {
      this.#carriedInThisTurn = false;
    });
    try {
      const { traceId, spanId, traceFlags, traceState } = (span as TelemetrySpan).spanContext();
      const flags = (Number(traceFlags) & 0xff).toString(16).padStart(2, "0");
      this.#parts.carry(`00-${traceId}-${spanId}-${flags}`, String(traceState?.serialize?.() ?? ""));
      this.#carried = span;
    } catch {}
  }

  #carryNoMore(span: object | null): void {
    if (span === null || span !== this.#carried) return;
    this.#carried = null;
    this.#parts.carry("", "");
  }

  /** The delivery of `span` is settled. */
  settled(given: object | null, result: TransmissionResult, retries: number, writes: number): void {
    try {
      this.#carryNoMore(given);
      if (given !== null) this.#end(given as TelemetrySpan, result, writes);
      const instruments = this.#meter();
      if (instruments === undefined) return;
      const totals = instruments.totals(this.destination);
      const { timings } = result;
      count(totals, result);
      totals.retries += retries;
      totals.handoffMs += timings.handoffMs;
      if (!this.#mayRecord()) return;
      const { histograms } = instruments;
      const { attributes } = totals;
      histograms.duration.record(result.latencyMs / 1e3, attributes);
      histograms.handoff.record(timings.handoffMs / 1e3, attributes);
      histograms.queue.record(timings.queueMs / 1e3, attributes);
      histograms.encode.record(timings.encodeMs / 1e3, attributes);
      histograms.transmit.record(timings.transmitMs / 1e3, attributes);
      histograms.acknowledge.record(timings.acknowledgeMs / 1e3, attributes);
    } catch {}
  }

  /** Whether times are recorded of this outcome: those behind the first few of a hop shared their writes. */
  #mayRecord(): boolean {
    if (this.#recorded === 0)
      queueMicrotask(() => {
        this.#recorded = 0;
      });
    return this.#recorded++ < RECORDED;
  }

  /** A delivery that an earlier client left in the spool came to its end. Nobody knows how long it took. */
  recovered(result: TransmissionResult): void {
    try {
      const totals = this.#meter()?.totals(this.destination);
      if (totals !== undefined) count(totals, result);
    } catch {}
  }

  /** The delivery of `span` is in the spool. */
  spooled(span: object | null): void {
    try {
      (span as TelemetrySpan | null)?.addEvent("arrow_ingest.spooled");
    } catch {}
  }

  /** The delivery of `span` was never admitted. */
  refused(given: object | null, error: unknown): void {
    if (given === null) return;
    try {
      const span = given as TelemetrySpan;
      span.setAttribute("error.type", codeOf(error));
      span.setStatus({ code: ERROR, message: String((error as Error)?.message ?? error) });
      span.end();
    } catch {}
  }

  /** Something happened on the way. */
  told(fact: Fact, spanOf: (sequence: number) => object | null): void {
    try {
      if (fact.fact === "sent" && fact.recovered > 0 && !this.#hasReplayed) {
        // Once, whatever the sampler says.
        this.#hasReplayed = true;
        this.#replay = this.#startReplay(fact.atMs);
      }
      this.#writes.told(fact, spanOf, this.#replay);
      if (fact.fact === "replayed") this.#endReplay(fact.atMs);
      const instruments = this.#instruments;
      if (instruments === undefined) return;
      const { attributes } = instruments.totals(this.destination);
      const { histograms } = instruments;
      switch (fact.fact) {
        case "sent":
          if (fact.attempt > 1) return;
          histograms.writeRows.record(fact.rows, attributes);
          histograms.writeBytes.record(fact.bytes, attributes);
          return;
        case "acknowledged":
          histograms.news.record(Math.max(0, Date.now() - fact.atMs) / 1e3, attributes);
          return;
        case "opened":
          if (fact.again) histograms.connect.record(fact.tookMs / 1e3, attributes);
          return;
        case "broke":
        case "refused-for-good":
          instruments.totals(this.destination).failed(fact.error.code);
          return;
      }
    } catch {}
  }

  /** The client is closed: what it holds counts no more. */
  close(): void {
    try {
      this.#closed = true;
      this.#hide?.();
      this.#writes.end();
      this.#replay?.setAttribute("arrow_ingest.status", "spooled");
      this.#endReplay(undefined);
    } catch {}
    this.#instruments = undefined;
  }

  #tracer(): TelemetryTracer | undefined {
    const { api, tracer, version } = this.#parts;
    if (tracer !== undefined) return tracer;
    const provider = api?.trace.getTracerProvider() as Partial<Otel.ProxyTracerProvider> | undefined;
    if (provider === undefined || (provider.getDelegate?.() ?? provider) === this.#noTracing)
      return undefined;
    return api?.trace.getTracer("arrow-ingest", version);
  }

  #start(name: string, options: object, context?: TelemetryContext): object | null {
    try {
      const tracer = this.#tracer();
      if (tracer === undefined) return null;
      const span = tracer.startSpan(name, options, context);
      if (span.isRecording?.() === false) return null;
      this.#follow();
      return span;
    } catch {
      return null;
    }
  }

  #startReplay(startTime: number): TelemetrySpan | null {
    const { recovered } = this.stats().spool as unknown as { recovered: Record<string, number> };
    const attributes = {
      ...this.#common,
      "arrow_ingest.deliveries": recovered.deliveries!,
      "arrow_ingest.rows": recovered.rows!,
      "arrow_ingest.bytes": recovered.bytes!,
    };
    const options = { kind: PRODUCER, attributes, startTime, root: true };
    return this.#start("arrow_ingest.replay", options) as TelemetrySpan | null;
  }

  #endReplay(atMs: number | undefined): void {
    const replay = this.#replay;
    this.#replay = null;
    replay?.end(atMs);
  }

  #startWrite({ attributes, links, startTime, parent }: WriteStart): TelemetrySpan {
    const options = {
      kind: CLIENT,
      attributes: { ...this.#common, ...this.#calls, ...attributes },
      links,
      startTime,
    };
    const { api, tracer } = this.#parts;
    // Only the API makes contexts. A tracer that was given has links alone.
    if (tracer !== undefined || api === undefined)
      return tracer!.startSpan("arrow_ingest.write", { ...options, root: true });
    const context = api.trace.setSpan(api.ROOT_CONTEXT, parent as unknown as Otel.Span);
    return this.#tracer()!.startSpan("arrow_ingest.write", options, context);
  }

  #follow(): void {
    if (this.#follows || this.#closed) return;
    this.#follows = true;
    this.#parts.follow(true);
  }

  #end(span: TelemetrySpan, result: TransmissionResult, writes: number): void {
    span.setAttributes({
      "arrow_ingest.sequence": Number(result.sequence),
      "arrow_ingest.status": result.status,
      "arrow_ingest.handoff": result.handoff,
      "arrow_ingest.rows": result.rows,
      "arrow_ingest.rows.rejected": result.rejectedRows,
      "arrow_ingest.bytes": result.batchBytes,
      "arrow_ingest.attempts": result.attempts,
      "arrow_ingest.writes": writes,
    });
    if (result.position !== null)
      span.setAttribute(`arrow_ingest.position.${result.position.kind}`, Number(result.position.value));
    const { error } = result;
    if (!result.success && error !== null) {
      span.setAttribute("error.type", error.code);
      span.setStatus({ code: ERROR, message: error.message });
    }
    span.end();
  }

  #meter(): Instruments | undefined {
    const { api, meter, version } = this.#parts;
    const provider: object | undefined = meter ?? api?.metrics.getMeterProvider();
    // The api's own stand-in is one object for good; asking it again costs a comparison.
    if (provider === this.#meterProvider || provider === undefined) return this.#instruments;
    this.#meterProvider = provider;
    this.#hide?.();
    this.#instruments = undefined;
    if (this.#closed || provider.constructor?.name === "NoopMeterProvider") return undefined;
    let made = instruments.get(provider);
    if (made === undefined) {
      made = new Instruments(meter ?? (provider as Otel.MeterProvider).getMeter("arrow-ingest", version));
      instruments.set(provider, made);
    }
    this.#hide = made.show(this);
    this.#instruments = made;
    this.#follow();
    return made;
  }
}

function count(totals: Totals, result: TransmissionResult): void {
  const tally = totals.tally(result.status, result.handoff, result.error?.code);
  tally.deliveries++;
  tally.bytes += result.batchBytes;
  totals.accepted += result.acceptedRows;
  totals.rejected += result.rejectedRows;
}

function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : "ABORTED";
}

/** What is told of the target: never its path, its query, or a user's name. */
export function targetFacts(url: string): {
  readonly scheme: string;
  readonly attributes: Readonly<Record<string, string | number>>;
  /** Of spans of calls. */
  readonly calls: Readonly<Record<string, string | number>>;
} {
  const scheme = /^[a-z][a-z0-9+]*/i.exec(url)?.[0].toLowerCase() ?? "unknown";
  if (!/^(grpc|flightsql|zerobus)/.test(scheme)) return { scheme, attributes: {}, calls: {} };
  const calls = {
    "rpc.system.name": "grpc",
    "rpc.method": "arrow.flight.protocol.FlightService/DoPut",
  };
  const attributes: Record<string, string | number> = {};
  try {
    // Of no scheme that URL treats in a way of its own.
    const { hostname, port } = new URL(`x-${scheme}${url.slice(scheme.length)}`);
    if (hostname !== "") attributes["server.address"] = hostname;
    if (port !== "") attributes["server.port"] = Number(port);
  } catch {
    // Rust refuses such a URL.
  }
  return { scheme, attributes, calls };
}
