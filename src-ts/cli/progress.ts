// One line on a terminal that says how far it got.
//
// Nothing is written where nobody watches, and nothing of the line stays behind.

import type { ClientStats } from "../index.js";
import type { Output } from "./io.js";
import { bytes, count, seconds } from "./text.js";

const EVERY_MS = 200;

export interface ProgressFacts {
  readonly stats: ClientStats;
  /** Bytes read of the inputs. */
  readonly read: number;
  /** Of all inputs; null if not known. */
  readonly total: number | null;
}

export class Progress implements Disposable {
  readonly #output: Output;
  readonly #began = performance.now();
  readonly #timer: NodeJS.Timeout | undefined;

  constructor(output: Output, quiet: boolean, facts: () => ProgressFacts) {
    this.#output = output;
    if (quiet || output.isTTY !== true) return;
    this.#timer = setInterval(() => this.#draw(facts()), EVERY_MS);
    // A line about the work must not keep the process when the work is over.
    this.#timer.unref();
  }

  #draw(facts: ProgressFacts): void {
    const line = progressLine(facts, performance.now() - this.#began);
    // A line that wraps could not be overwritten.
    this.#output.write(`\r${CLEAR}${line.slice(0, (this.#output.columns ?? 80) - 1)}`);
  }

  [Symbol.dispose](): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#output.write(`\r${CLEAR}`);
  }
}

const CLEAR = "\u001b[K";

export function progressLine({ stats, read, total }: ProgressFacts, elapsedMs: number): string {
  const { rows, bytes: amount } = stats;
  const done = total === null || total === 0 ? null : Math.min(read / total, 1);
  const share = done === null ? "" : `${bar(done)} ${Math.floor(done * 100)} %  `;
  const rate = bytes(amount.accepted / (elapsedMs / 1e3));
  const refused = rows.rejected === 0 ? "" : `  ${count(rows.rejected)} refused`;
  // What is read is sent soon after; before some is, nobody can say.
  const left =
    done === null || done === 0 || done === 1 ? "" : `  ${seconds((elapsedMs * (1 - done)) / done)} left`;
  return `${share}${count(rows.accepted)} rows  ${rate}/s${left}  ${bytes(amount.inFlight)} in flight${refused}`;
}

const BAR_LETTERS = 20;

function bar(done: number): string {
  const full = Math.floor(done * BAR_LETTERS);
  return `[${"#".repeat(full)}${"-".repeat(BAR_LETTERS - full)}]`;
}
