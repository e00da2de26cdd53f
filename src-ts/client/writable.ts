// A WritableStream over `enqueue`.
//
// Invariants:
// - A stream has no place for outcomes, so the first delivery that is not acknowledged fails it.
// - A stream that was aborted, or failed for another reason, can report nothing more: failures of its deliveries then
//   count as unread.
// - An abort takes back what waits; what was admitted goes on.

import type { UnsettledDelivery } from "../delivery.js";
import type { IngestError } from "../errors.js";
import { checkNames, checkSendOptions } from "../options/checks.js";
import type { SendOptions, WritableOptions } from "../options.js";
import type { BatchInput } from "../source.js";

interface Sender {
  prepare(
    batch: unknown,
    options: SendOptions | undefined,
    operation: "send" | "enqueue",
  ): UnsettledDelivery | Promise<UnsettledDelivery>;
  admit(group: readonly UnsettledDelivery[]): Promise<void> | undefined;
  withdraw(group: readonly UnsettledDelivery[], reason: unknown): void;
  operation(start: (operation: number) => void): Promise<void>;
  readonly isSpooled: boolean;
  readonly binding: { flush(operation: number): void };
}

export function writable(core: Sender, options: WritableOptions | undefined): WritableStream<BatchInput> {
  checkNames(options, ["handoff", "schema"], "writable");
  checkSendOptions(options, "writable");
  /** Of the first delivery that was not acknowledged: what the stream fails with. */
  let failure: IngestError | null = null;
  /** It failed with something else, or was aborted. */
  let isOver = false;
  let waiting: readonly UnsettledDelivery[] | undefined;
  return new WritableStream<BatchInput>(
    {
      start(controller) {
        // The types of Node do not know it.
        const { signal } = controller as unknown as { readonly signal: AbortSignal };
        // The sink's own `abort` is called only when the write under way has ended.
        const onAbort = (): void => {
          isOver = true;
          if (waiting !== undefined) core.withdraw(waiting, signal.reason);
        };
        signal.addEventListener("abort", onAbort, { once: true });
      },
      async write(batch, controller) {
        try {
          const prepared = core.prepare(batch, options, "enqueue");
          const delivery = prepared instanceof Promise ? await prepared : prepared;
          delivery.onSettled = ({ result }) => {
            if (isOver) return;
            delivery.look();
            if (result === null || result.success || result.status === "spooled" || failure !== null) return;
            failure = result.error;
            controller.error(failure);
          };
          waiting = [delivery];
          const admitted = core.admit(waiting);
          if (admitted !== undefined) await admitted;
          if (core.isSpooled) await delivery.durable;
        } catch (error) {
          isOver = true;
          throw error;
        } finally {
          waiting = undefined;
        }
      },
      async close() {
        // What is in the spool is safe: a destination that is away must not keep the stream open.
        if (!core.isSpooled) await core.operation((operation) => core.binding.flush(operation));
        // The outcomes came before the answer.
        if (failure !== null) throw failure;
      },
    },
    // A batch is the unit, and one that waits is enough: the rest of the waiting is the budget's.
    { highWaterMark: 1 },
  );
}
