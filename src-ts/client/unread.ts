// Outcomes that are not good and that nobody has looked at.
//
// Invariant: it holds no batch, so a producer that never looks cannot run out of memory by it.

import { type IngestError, ingestError } from "../errors.js";
import type { DeliveryStatus } from "../result.js";

export interface Unread {
  readonly sequence: bigint;
  readonly status: DeliveryStatus;
  readonly error: IngestError | null;
}

const NAMED = 10;

export class UnreadOutcomes {
  readonly #outcomes = new Set<Unread>();

  add(unread: Unread): void {
    this.#outcomes.add(unread);
  }

  delete(unread: Unread): void {
    this.#outcomes.delete(unread);
  }

  /** `UNDELIVERED`, naming the first of them; null if there are none. */
  toError(): IngestError | null {
    const { size } = this.#outcomes;
    if (size === 0) return null;
    const named = [...this.#outcomes].slice(0, NAMED).map(({ sequence, status, error }) => {
      return `#${sequence} ${status}${error === null ? "" : ` (${error.code}: ${error.message})`}`;
    });
    const more = size > NAMED ? `, and ${size - NAMED} more` : "";
    const first = [...this.#outcomes].find(({ error }) => error !== null)?.error;
    return ingestError({
      code: "UNDELIVERED",
      operation: "close",
      message:
        `${size} ${size === 1 ? "delivery was" : "deliveries were"} not acknowledged, ` +
        `and nobody read the outcome: ${named.join(", ")}${more}`,
      cause: first ?? undefined,
    });
  }
}
