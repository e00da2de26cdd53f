// A span for each write, linked to the spans of the deliveries that it carries.
//
// Invariants:
// - A write has a span if a delivery that it carries has one that is recorded, and none otherwise: sampling is
//   decided with the delivery.
// - Every span ends: with the acknowledgement, when the write leaves the window without one, or with the client.
// - What is kept grows with the writes in the window, which `inflight.maxWrites` bounds.

import type { Fact } from "../binding.js";
import type { TelemetrySpan } from "../options.js";

/** More are no help to a reader, and SDKs keep no more by default. */
const MAX_LINKS = 128;

type Attributes = Record<string, string | number | boolean>;

/** What a span begins with. */
export interface WriteStart {
  readonly attributes: Attributes;
  readonly links: readonly { readonly context: object }[];
  readonly startTime: number;
  /** Of the first delivery that has one. */
  readonly parent: TelemetrySpan;
}

interface OpenWrite {
  readonly span: TelemetrySpan;
  /** What it failed with last. */
  code: string | undefined;
}

export class WriteSpans {
  readonly #open = new Map<number, OpenWrite>();
  readonly #make: (start: WriteStart) => TelemetrySpan;

  constructor(make: (start: WriteStart) => TelemetrySpan) {
    this.#make = make;
  }

  /**
   * @param spanOf The span of an unsettled delivery, if it has one.
   * @param replay The span of what an earlier client left in the spool, while there is one.
   */
  told(fact: Fact, spanOf: (sequence: number) => object | null, replay: TelemetrySpan | null = null): void {
    switch (fact.fact) {
      case "sent":
        return this.#sent(fact, spanOf, replay);
      case "taken":
        this.#open
          .get(fact.id)
          ?.span.addEvent("arrow_ingest.taken", { "arrow_ingest.took_ms": fact.tookMs }, fact.atMs);
        return;
      case "broke": {
        const attributes = { "error.type": fact.error.code, "arrow_ingest.delay_ms": fact.delayMs };
        const name = fact.throttled ? "arrow_ingest.pause" : "arrow_ingest.retry";
        return this.#event(name, attributes, fact.atMs, fact.error.code);
      }
      case "rotated":
        return this.#event("arrow_ingest.rotation", { "error.type": fact.error.code }, fact.atMs);
      case "searching":
      case "refused-for-good":
        return this.#event(
          "arrow_ingest.refusal",
          { "error.type": fact.error.code },
          fact.atMs,
          fact.error.code,
        );
      case "opened":
        if (fact.again)
          this.#event("arrow_ingest.reconnect", { "arrow_ingest.took_ms": fact.tookMs }, fact.atMs);
        return;
      case "acknowledged":
        for (const [id, { span }] of this.#open) {
          // In the order in which they were first sent, which is that of their numbers.
          if (id > fact.through) break;
          if (fact.value !== null) span.setAttribute(`arrow_ingest.position.${fact.position}`, fact.value);
          span.end(fact.atMs);
          this.#open.delete(id);
        }
        return;
      case "gone":
        for (const [id, write] of this.#open) if (id < fact.before) this.#fail(id, write, fact.atMs);
        return;
    }
  }

  /** The client is closed. */
  end(): void {
    for (const [id, write] of this.#open) this.#fail(id, write, undefined);
  }

  #sent(
    fact: Fact & { fact: "sent" },
    spanOf: (sequence: number) => object | null,
    replay: TelemetrySpan | null,
  ): void {
    const open = this.#open.get(fact.id);
    if (open !== undefined) {
      open.span.addEvent("arrow_ingest.try", { "arrow_ingest.attempt": fact.attempt }, fact.atMs);
      open.span.setAttribute("arrow_ingest.attempts", fact.attempt);
      return;
    }
    const spans: TelemetrySpan[] = [];
    let deliveries = fact.recovered;
    if (replay !== null && fact.recovered > 0) spans.push(replay);
    for (const [first, last] of fact.sequences) {
      deliveries += last - first + 1;
      for (let sequence = first; sequence <= last && spans.length < MAX_LINKS; sequence++) {
        const span = spanOf(sequence);
        if (span !== null) spans.push(span as TelemetrySpan);
      }
    }
    const parent = spans[0];
    if (parent === undefined) return;
    const span = this.#make({
      attributes: {
        "arrow_ingest.write.id": fact.id,
        "arrow_ingest.rows": fact.rows,
        "arrow_ingest.bytes": fact.bytes,
        "arrow_ingest.deliveries": deliveries,
        "arrow_ingest.attempts": fact.attempt,
      },
      links: spans.map((span) => ({ context: span.spanContext() })),
      startTime: fact.atMs,
      parent,
    });
    this.#open.set(fact.id, { span, code: undefined });
  }

  #event(name: string, attributes: Attributes, atMs: number, code?: string): void {
    for (const write of this.#open.values()) {
      write.span.addEvent(name, attributes, atMs);
      write.code = code ?? write.code;
    }
  }

  #fail(id: number, { span, code }: OpenWrite, atMs: number | undefined): void {
    this.#open.delete(id);
    span.setAttribute("error.type", code ?? "UNACKNOWLEDGED");
    span.setStatus({ code: 2 });
    span.end(atMs);
  }
}
