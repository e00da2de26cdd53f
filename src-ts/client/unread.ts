// Outcomes that are not good and that nobody has looked at.
//
// Invariants:
// - It holds no batch, and errors of a few only, so a producer that never looks cannot run out of memory by it.
// - An outcome that a listener has taken, but has not finished with, is unread until it has.

import { LONGEST_TIMER_MS } from "../duration.js";
import { type IngestError, ingestError } from "../errors.js";
import type { DeliveryStatus } from "../result.js";

export interface Unread {
  /** Set here: whether it counts. */
  isUnread?: boolean;
  readonly sequence: bigint;
  readonly status: DeliveryStatus;
  readonly error: IngestError | null;
}

const NAMED = 10;
/** Some of those that are kept to be named may be read, and others take their place. */
const KEPT = 10 * NAMED;

export class UnreadOutcomes {
  /** The first of them. */
  readonly #kept = new Set<Unread>();
  #count = 0;
  /** Those of the outcomes that a listener may still turn out to have read. */
  readonly #open = new Set<Unread>();
  #onNoneOpen: (() => void) | undefined;

  /** @param read Whether a listener has read it, once that is known. Never rejects. */
  add(unread: Unread, read?: Promise<boolean>): void {
    unread.isUnread = true;
    this.#count++;
    if (this.#kept.size < KEPT) this.#kept.add(unread);
    if (read === undefined) return;
    this.#open.add(unread);
    read.then((read) => (read ? this.delete(unread) : this.#close(unread)));
  }

  delete(unread: Unread): void {
    if (unread.isUnread === true) this.#count--;
    unread.isUnread = false;
    this.#kept.delete(unread);
    this.#close(unread);
  }

  get size(): number {
    return this.#count;
  }

  /** Settles when listeners have finished with all that they took, at the latest after `limitMs`. */
  async decided(limitMs: number): Promise<void> {
    if (this.#open.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onNoneOpen = resolve;
    const timer = setTimeout(resolve, Math.min(limitMs, LONGEST_TIMER_MS));
    await promise;
    clearTimeout(timer);
  }

  /** `UNDELIVERED`, naming the first of them; null if there are none. */
  toError(): IngestError | null {
    const { size } = this;
    if (size === 0) return null;
    const kept = [...this.#kept];
    const named = kept.slice(0, NAMED);
    // Deliveries that failed together have one cause, which is said once.
    const groups = new Map<string, string[]>();
    for (const { sequence, status, error } of named) {
      const why = `${status}${error === null ? "" : ` (${error.code}: ${error.message})`}`;
      const group = groups.get(why);
      if (group === undefined) groups.set(why, [`#${sequence}`]);
      else group.push(`#${sequence}`);
    }
    const reasons = [...groups].map(([why, sequences]) => `${sequences.join(", ")} ${why}`);
    const more = size > named.length ? `; and ${size - named.length} more` : "";
    const first = kept.find(({ error }) => error !== null)?.error;
    return ingestError({
      code: "UNDELIVERED",
      operation: "close",
      message:
        `${size} ${size === 1 ? "delivery was" : "deliveries were"} not acknowledged, ` +
        `and nobody read the outcome: ${reasons.join("; ")}${more}`,
      cause: first ?? undefined,
    });
  }

  #close(unread: Unread): void {
    if (this.#open.delete(unread) && this.#open.size === 0) this.#onNoneOpen?.();
  }
}
