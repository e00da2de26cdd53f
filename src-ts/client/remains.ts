// What is left of a client that was dropped without `close()`, and its end.
//
// Invariants:
// - Nothing here, and nothing that the native side holds, refers to the client: it could never be collected.
// - A client that waits for an event of Rust is in `BUSY`, so a client with deliveries in flight is not collected.
//
// Of the user's objects it holds the logger. A logger that refers to the client keeps it alive, as its documentation
// says.

import type { Binding } from "../binding.js";
import { log } from "../callbacks.js";
import type { ClientStats } from "../client.js";
import type { Logger } from "../options.js";
import { EventHub } from "./events.js";
import { UnreadOutcomes } from "./unread.js";

/** How long the destination may take to close. Nothing is left to deliver. */
const CLOSE_MS = 2_000;
/** No operation of a client has this number. */
const LAST_OPERATION = 0;

/** Clients that must not be dropped. */
export const BUSY = new Set<object>();

/** Clients of this thread so far. */
let clients = 0;

export class Remains {
  readonly unread = new UnreadOutcomes();
  readonly events = new EventHub(++clients);
  readonly logger: Logger | undefined;
  binding: Binding | undefined;

  constructor(logger: Logger | undefined) {
    this.logger = logger;
  }

  /** Its client is gone. */
  end(): void {
    const { binding, logger, unread } = this;
    this.events.end();
    try {
      binding?.close(LAST_OPERATION, CLOSE_MS);
    } catch {
      // Its environment is ending as well.
    }
    const fields = { undelivered: unread.size };
    log(logger, "warn", "a client was dropped without close(); it is ended now", fields);
  }

  /** What `end` asked for is done. */
  answered(operation: number): void {
    if (operation === LAST_OPERATION && this.binding !== undefined) retire(this.binding);
  }
}

const dropped = new FinalizationRegistry((remains: Remains) => remains.end());

/** Has `remains` ended once `client` is gone. */
export function watch(client: object, remains: Remains): void {
  dropped.register(client, remains, client);
}

/** It ends by itself. */
export function unwatch(client: object): void {
  dropped.unregister(client);
}

/** Lets go of the event callback, once Rust has let go of the last batch: references need it for that. */
export function retire(binding: Binding, tries = 0): void {
  const { pinned } = binding.stats() as ClientStats;
  if (pinned.pins === 0 || tries >= 100) binding.dispose();
  else setTimeout(() => retire(binding, tries + 1), 10).unref();
}
