// The instruments of one meter, and what is counted between two collections.
//
// Invariants:
// - They are made once for a meter, and nothing in them grows with the number of clients: an SDK goes on exporting
//   every set of attributes that it has ever seen, so numbers are sums over the clients of a destination.
// - What a client had counted when it was closed, or dropped, stays counted.
// - A client that is dropped is not kept by what is counted of it.
//
// Counters are read when the SDK collects: at the rate of small batches a call of the SDK for each number of each
// delivery would cost more than the delivery.

import type { TelemetryHistogram, TelemetryMeter } from "../options.js";
import { FROM_STATS, HISTOGRAMS, SHARE, type StatNumbers, TALLIED } from "./names.js";

/** A client whose numbers are shown. */
export interface Counted {
  readonly destination: string;
  readonly stats: () => StatNumbers;
}

type Attributes = Readonly<Record<string, string>>;

/** Deliveries that ended alike. */
export interface Tally {
  readonly attributes: Attributes;
  deliveries: number;
  bytes: number;
}

/** All that was counted of one destination. */
export class Totals {
  readonly attributes: Attributes;
  readonly tallies = new Map<string, Tally>();
  readonly failures = new Map<string, { readonly attributes: Attributes; count: number }>();
  accepted = 0;
  rejected = 0;
  retries = 0;
  handoffMs = 0;
  /** Of clients that are gone, in the order of `FROM_STATS`. */
  readonly past = new Float64Array(FROM_STATS.length);
  readAt = performance.now();
  readHandoffMs = 0;

  constructor(destination: string) {
    this.attributes = { "arrow_ingest.destination": destination };
  }

  tally(status: string, handoff: string, code: string | undefined): Tally {
    const key = `${status} ${handoff} ${code}`;
    let tally = this.tallies.get(key);
    if (tally === undefined) {
      const ended = { "arrow_ingest.status": status, "arrow_ingest.handoff": handoff };
      const attributes = {
        ...this.attributes,
        ...ended,
        ...(code === undefined ? {} : { "error.type": code }),
      };
      tally = { attributes, deliveries: 0, bytes: 0 };
      this.tallies.set(key, tally);
    }
    return tally;
  }

  failed(code: string): void {
    const found = this.failures.get(code);
    if (found !== undefined) found.count++;
    else this.failures.set(code, { attributes: { ...this.attributes, "error.type": code }, count: 1 });
  }
}

/** Of a client, since it is counted. */
interface Source {
  readonly client: WeakRef<Counted>;
  readonly totals: Totals;
  /** What it had before, and what it had last. */
  readonly before: Float64Array;
  last: Float64Array;
}

type Histograms = { readonly [name in keyof typeof HISTOGRAMS]: TelemetryHistogram };

export class Instruments {
  readonly histograms: Histograms;
  readonly #totals = new Map<string, Totals>();
  readonly #sources = new Map<symbol, Source>();

  constructor(meter: TelemetryMeter) {
    const made: Record<string, TelemetryHistogram> = {};
    for (const [key, [name, unit, description, buckets]] of Object.entries(HISTOGRAMS))
      made[key] = meter.createHistogram(`arrow_ingest.${name}`, {
        unit,
        description,
        advice: { explicitBucketBoundaries: [...buckets] },
      });
    this.histograms = made as Histograms;
    this.#observe(meter);
  }

  totals(destination: string): Totals {
    let totals = this.#totals.get(destination);
    if (totals === undefined) {
      totals = new Totals(destination);
      this.#totals.set(destination, totals);
    }
    return totals;
  }

  /** Shows the client's numbers from now on. Returns what ends that. */
  show(client: Counted): () => void {
    const last = read(client);
    const before = last.map((value, i) => (FROM_STATS[i]!.kind === "counter" ? value : 0));
    const key = Symbol();
    const totals = this.totals(client.destination);
    this.#sources.set(key, { client: new WeakRef(client), totals, before, last });
    return () => {
      const source = this.#sources.get(key);
      if (source === undefined) return;
      this.#sources.delete(key);
      const client = source.client.deref();
      leave(source, client === undefined ? source.last : read(client));
    };
  }

  #observe(meter: TelemetryMeter): void {
    const tallied = Object.fromEntries(
      Object.entries(TALLIED).map(([key, [name, unit, description]]) => [
        key,
        meter.createObservableCounter(`arrow_ingest.${name}`, { unit, description }),
      ]),
    ) as { [name in keyof typeof TALLIED]: object };
    const [name, unit, description] = SHARE;
    const share = meter.createObservableGauge(`arrow_ingest.${name}`, { unit, description });
    const fromStats = FROM_STATS.map(({ name, kind, unit, words }) => {
      const options = { unit, description: words };
      return kind === "counter"
        ? meter.createObservableCounter(`arrow_ingest.${name}`, options)
        : meter.createObservableGauge(`arrow_ingest.${name}`, options);
    });
    // Never taken off: it holds no client, and an SDK would repeat the last values of a callback that is gone.
    meter.addBatchObservableCallback(
      (observer) => {
        const sums = this.#sums();
        for (const totals of this.#totals.values()) {
          const { attributes } = totals;
          for (const tally of totals.tallies.values()) {
            observer.observe(tallied.deliveries, tally.deliveries, tally.attributes);
            observer.observe(tallied.bytes, tally.bytes, tally.attributes);
          }
          for (const { attributes, count } of totals.failures.values())
            observer.observe(tallied.failures, count, attributes);
          observer.observe(tallied.accepted, totals.accepted, attributes);
          observer.observe(tallied.rejected, totals.rejected, attributes);
          observer.observe(tallied.retries, totals.retries, attributes);
          observer.observe(tallied.handoffTime, totals.handoffMs / 1e3, attributes);
          const now = performance.now();
          const spent = totals.handoffMs - totals.readHandoffMs;
          observer.observe(share, Math.min(1, spent / Math.max(now - totals.readAt, 1e-3)), attributes);
          totals.readAt = now;
          totals.readHandoffMs = totals.handoffMs;
          const sum = sums.get(totals) ?? totals.past;
          for (let i = 0; i < FROM_STATS.length; i++)
            observer.observe(fromStats[i]!, sum[i]! * (FROM_STATS[i]!.scale ?? 1), attributes);
        }
      },
      [...Object.values(tallied), share, ...fromStats],
    );
  }

  /** Of each destination, over clients that are open and those that were. */
  #sums(): Map<Totals, Float64Array> {
    const sums = new Map<Totals, Float64Array>();
    for (const [key, source] of this.#sources) {
      const client = source.client.deref();
      if (client === undefined) {
        this.#sources.delete(key);
        leave(source, source.last);
      } else {
        source.last = read(client);
      }
    }
    for (const { totals, before, last } of this.#sources.values()) {
      const sum = sums.get(totals) ?? totals.past.slice();
      for (let i = 0; i < sum.length; i++) sum[i]! += last[i]! - before[i]!;
      sums.set(totals, sum);
    }
    return sums;
  }
}

/** What it counted stays; what it held does not. */
function leave({ totals, before }: Source, last: Float64Array): void {
  for (let i = 0; i < FROM_STATS.length; i++)
    if (FROM_STATS[i]!.kind === "counter") totals.past[i]! += last[i]! - before[i]!;
}

function read(client: Counted): Float64Array {
  const stats = client.stats();
  return Float64Array.from(FROM_STATS, ({ at }) => {
    let found: StatNumbers[string] | undefined = stats;
    for (const name of at) found = typeof found === "object" && found !== null ? found[name] : undefined;
    return Number(found ?? 0);
  });
}
