// A WritableStream over `enqueue`.
//
// A stream has no place for outcomes, so the first delivery that is not acknowledged fails it.

import type { InFlight } from "../delivery.js";
import type { SendOptions, WritableOptions } from "../options.js";
import type { TransmissionResult } from "../result.js";
import type { BatchInput } from "../source.js";

interface Sender {
  prepare(batch: unknown, options: SendOptions | undefined, operation: "send" | "enqueue"): InFlight;
  admit(group: readonly InFlight[]): Promise<void> | undefined;
  operation(start: (operation: number) => void): Promise<void>;
  readonly binding: { flush(operation: number): void };
}

export function writable(core: Sender, options: WritableOptions | undefined): WritableStream<BatchInput> {
  let failure: unknown;
  const unsettled = new Set<Promise<void>>();
  return new WritableStream<BatchInput>(
    {
      async write(batch, controller) {
        const inFlight = core.prepare(batch, options, "enqueue");
        const waiting = core.admit([inFlight]);
        if (waiting !== undefined) await waiting;
        const judged = inFlight.observe().then((result: TransmissionResult) => {
          unsettled.delete(judged);
          if (result.success) return;
          failure ??= failureOf(result);
          controller.error(failure);
        });
        unsettled.add(judged);
      },
      async close() {
        await core.operation((operation) => core.binding.flush(operation));
        // The outcomes came before the answer; what they say of the stream is a microtask behind.
        await Promise.all(unsettled);
        if (failure !== undefined) throw failure;
      },
    },
    // A batch is the unit, and one that waits is enough: the rest of the waiting is the budget's.
    { highWaterMark: 1 },
  );
}

function failureOf(result: TransmissionResult): unknown {
  try {
    result.orThrow();
  } catch (error) {
    return error;
  }
  return undefined;
}
