// What all kinds of input share: the steps by which something becomes what a delivery holds.
//
// Invariants:
// - Steps are taken without waiting for as long as they give parts, so that a small input keeps its place among the
//   calls before and behind it.
// - Whatever the user's object throws comes out as `BATCH_INVALID` with that as its cause; an abort comes out as the
//   signal's reason.
// - Each part can be sent by itself, and there is one at least: an input without rows still has a schema to check.
//
// It knows no library.

import { types } from "node:util";
import type { Schema } from "apache-arrow";
import { IngestError, ingestError } from "../errors.js";
import type { ArrowBatch } from "../handoff/arrow.js";
import type { DeliveryContent, Made } from "../handoff.js";

/** A record batch, or an Arrow IPC stream. An input gives parts of one kind. */
export type Part = ArrowBatch | Uint8Array;

/** A part, or what is to be waited for before the next step. */
export type Step = Part | Promise<unknown>;

/** Something of the user's that was recognised. */
export interface Input {
  /** For errors: "a table of flechette". */
  readonly what: string;
  /** What was done to it before its handoff; undefined where its memory is handed over as it is. Known with its parts. */
  readonly made?: Made | undefined;
  /** Called once. */
  steps(): Iterator<Step, void, undefined>;
}

/** What a destination says of its table's schema; null where nobody can tell. */
interface TableSchema {
  readonly known: Schema | undefined;
  get(): Promise<Schema | null>;
}

/** What the call and the client say about the input. */
export interface Wanted {
  readonly operation: string;
  /** The call's schema, else the client's, as it was given. */
  readonly schema: unknown;
  /** The table's own, for columns without types. */
  readonly table?: TableSchema | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Milliseconds at a stretch. */
export const STRETCH_MS = 3;

/** An input as one delivery: at once where no step has to be waited for. */
export function gather(input: Input, wanted: Wanted): DeliveryContent | Promise<DeliveryContent> {
  const parts: Part[] = [];
  const steps = stepsOf(input, wanted);
  for (;;) {
    const step = take(input, steps, wanted);
    if (step === undefined) return contentOf(parts, input.made);
    if (types.isPromise(step)) return gatherOn(input, wanted, parts, steps, step);
    parts.push(step as Part);
  }
}

async function gatherOn(
  input: Input,
  wanted: Wanted,
  parts: Part[],
  steps: Iterator<Step, void, undefined>,
  first: Promise<unknown>,
): Promise<DeliveryContent> {
  let step: Step | undefined = first;
  while (step !== undefined) {
    if (types.isPromise(step)) await pause(input, step, wanted);
    else parts.push(step as Part);
    step = take(input, steps, wanted);
  }
  return contentOf(parts, input.made);
}

/** An input as many deliveries. */
export async function* each(input: Input, wanted: Wanted): AsyncGenerator<Ready, void, undefined> {
  const steps = stepsOf(input, wanted);
  for (;;) {
    const step = take(input, steps, wanted);
    if (step === undefined) return;
    if (types.isPromise(step)) await pause(input, step, wanted);
    else yield new Ready(contentOf([step as Part], input.made));
  }
}

/** What a delivery holds, found out before: it is sent as it is. */
export class Ready {
  readonly content: DeliveryContent;
  constructor(content: DeliveryContent) {
    this.content = content;
  }
}

function contentOf(parts: readonly Part[], made: Made | undefined): DeliveryContent {
  return ArrayBuffer.isView(parts[0])
    ? { streams: parts as readonly Uint8Array[], made }
    : { batches: parts as readonly ArrowBatch[], made };
}

function stepsOf(input: Input, wanted: Wanted): Iterator<Step, void, undefined> {
  return guarded(input, wanted, () => input.steps());
}

function take(input: Input, steps: Iterator<Step, void, undefined>, wanted: Wanted): Step | undefined {
  return guarded(input, wanted, () => steps.next().value ?? undefined);
}

async function pause(input: Input, step: Promise<unknown>, wanted: Wanted): Promise<void> {
  try {
    await step;
  } catch (thrown) {
    throw unreadable(input.what, wanted.operation, thrown);
  }
  wanted.signal?.throwIfAborted();
}

function guarded<T>(input: Input, wanted: Wanted, run: () => T): T {
  try {
    return run();
  } catch (thrown) {
    throw unreadable(input.what, wanted.operation, thrown);
  }
}

/** What was thrown while somebody else's object was read, unless it is an error of ours already. */
export function unreadable(what: string, operation: string, thrown: unknown): unknown {
  if (thrown instanceof IngestError) return thrown;
  return invalid(operation, `${what} cannot be read: ${messageOf(thrown)}`, null, thrown);
}

export function invalid(
  operation: string,
  message: string,
  field: string | null = null,
  cause?: unknown,
): IngestError {
  return ingestError({ code: "BATCH_INVALID", operation, field, message, cause });
}

/** `message` may be a getter of the user's. */
function messageOf(thrown: unknown): string {
  try {
    return types.isNativeError(thrown) ? String(thrown.message) : `${typeof thrown} was thrown`;
  } catch {
    return "an error without a message was thrown";
  }
}
