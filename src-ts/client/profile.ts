// Where the time of one operation goes.
//
// Invariants:
// - Counted are the deliveries that were handed over within the operation, by whatever it calls, and no others.
// - A client that never had a profile pays a comparison for each delivery.

import { AsyncLocalStorage } from "node:async_hooks";
import type { Profile, ProfileStage } from "../observation.js";
import type { TransmissionResult } from "../result.js";

const STAGES = ["handoff", "queue", "encode", "transmit", "acknowledge"] as const;

/** One operation that is measured. */
export class Measurement {
  deliveries = 0;
  rows = 0;
  bytes = 0;
  #open = 0;
  readonly #totals = new Float64Array(STAGES.length);
  readonly #peaks = new Float64Array(STAGES.length);
  #whenEmpty: (() => void) | undefined;

  prepared(): void {
    this.#open++;
  }

  /** Never admitted. */
  dropped(): void {
    this.#close();
  }

  settled({ rows, batchBytes, timings }: TransmissionResult): void {
    this.deliveries++;
    this.rows += rows;
    this.bytes += batchBytes;
    for (let i = 0; i < STAGES.length; i++) {
      const ms = timings[`${STAGES[i]!}Ms`];
      this.#totals[i]! += ms;
      this.#peaks[i] = Math.max(this.#peaks[i]!, ms);
    }
    this.#close();
  }

  /** Resolves when all that was handed over is settled. */
  async settledAll(): Promise<void> {
    while (this.#open > 0)
      await new Promise<void>((resolve) => {
        this.#whenEmpty = resolve;
      });
  }

  stages(): Profile<unknown>["stages"] {
    const stage = (i: number): ProfileStage => ({
      meanMs: this.deliveries === 0 ? 0 : this.#totals[i]! / this.deliveries,
      maxMs: this.#peaks[i]!,
      totalMs: this.#totals[i]!,
    });
    return Object.fromEntries(STAGES.map((name, i) => [name, stage(i)])) as Profile<unknown>["stages"];
  }

  #close(): void {
    this.#open--;
    if (this.#open === 0) this.#whenEmpty?.();
  }
}

export class Profiler {
  #within: AsyncLocalStorage<Measurement> | undefined;

  /** What the caller is measured by. */
  current(): Measurement | undefined {
    return this.#within?.getStore();
  }

  async run<T>(operation: () => T | PromiseLike<T>): Promise<Profile<T>> {
    this.#within ??= new AsyncLocalStorage();
    const measurement = new Measurement();
    const began = performance.now();
    const before = performance.eventLoopUtilization();
    const result = await this.#within.run(measurement, operation);
    const operationMs = performance.now() - began;
    await measurement.settledAll();
    const { active, idle } = performance.eventLoopUtilization(before);
    const { deliveries, rows, bytes } = measurement;
    return {
      result,
      operationMs,
      elapsedMs: performance.now() - began,
      eventLoopShare: active + idle > 0 ? active / (active + idle) : 0,
      deliveries,
      rows,
      bytes,
      stages: measurement.stages(),
    };
  }
}
