// The numbers and buffers of one native call while they are written.
//
// Invariants:
// - The numbers are reused by the next call; the array of buffers never is, because Rust holds it for as long
//   as it reads any of them.
// - A buffer is in the array once, and its way is decided by the table in memory.ts.
// - `undo` leaves no trace of what was written after `mark`.

import { type IngestError, ingestError } from "../errors.js";
import type { ArrowData } from "./arrow.js";
import { know, type MemoryKind, markForGood, PLAIN, pinningIsSound, SHARED, WHY_NOT } from "./memory.js";
import type { ColumnPlan } from "./plan.js";

const PIN = 0;
const COPY = 1;
const ABSENT = 2;

/** Lines of reasons on one result: a table of a thousand odd batches needs no thousand. */
const MAX_REASONS = 8;

/** Of all call buffers of this thread: tells the buffers of this call from those of an earlier one. */
let generations = 0;

/**
 * How a batch crosses into Rust.
 *
 * - `auto`: pinned where that is sound, else copied; the result says which, and why.
 * - `pin`: its memory is lent to Rust, never copied on the JavaScript thread. From then on its ArrayBuffers
 *   can no longer be transferred, and their bytes must not change before the result is there. Where pinning
 *   is not sound: `HANDOFF_UNSAFE`.
 * - `copy`: one copy on the JavaScript thread. The batch is yours again as soon as the call returns.
 * - `ipc`: written as Arrow IPC on the JavaScript thread. Slowest; for comparison and debugging.
 */
export type HandoffMode = "auto" | "pin" | "copy" | "ipc";

export interface Mark {
  readonly at: number;
  readonly bytes: number;
  readonly buffers: number;
  readonly pinned: number;
  readonly copied: number;
}

export class CallBuffer {
  call = new Float64Array(1024);
  /** Where the next delivery or batch is written. */
  at = 0;
  /** Where the next buffer of the batch under way is written. */
  slot = 0;
  buffers: ArrayBuffer[] = [];
  /** Of all buffers. */
  bytes = 0;

  /** Columns of the batch under way: where to look for memory like that which is asked about. */
  batch: readonly ArrowData[] = [];
  mode: HandoffMode = "auto";
  /** Whether plain memory is copied, for whatever reason. */
  copying = false;
  /** Buffers of the delivery under way. */
  pinned = 0;
  copied = 0;

  #written = new Float64Array(0);
  #generation = 0;
  #lastBuffer: ArrayBufferLike | null = null;
  #lastIndex = 0;
  #lastWay = PIN;
  #reasons: string[] | null = null;
  #reasonKinds = 0;

  begin(ticket: number): void {
    this.buffers = [];
    this.bytes = 0;
    this.call[0] = ticket;
    this.at = 3;
    this.#forgetBuffers();
  }

  /** The call is over: what it referred to is the user's alone again, however long the next one takes. */
  end(): void {
    this.buffers = [];
    this.batch = [];
    this.#forgetBuffers();
  }

  beginDelivery(mode: HandoffMode): void {
    this.mode = mode;
    this.copying = mode === "copy" || !pinningIsSound();
    this.pinned = 0;
    this.copied = 0;
    this.#reasons = null;
    this.#reasonKinds = 0;
    // A buffer that is found again is not explained again: each delivery explains its own.
    this.#lastBuffer = null;
  }

  mark(): Mark {
    const { at, bytes, buffers, pinned, copied } = this;
    return { at, bytes, buffers: buffers.length, pinned, copied };
  }

  undo(mark: Mark): void {
    this.at = mark.at;
    this.bytes = mark.bytes;
    this.buffers.length = mark.buffers;
    this.pinned = mark.pinned;
    this.copied = mark.copied;
    this.#forgetBuffers();
  }

  room(numbers: number): void {
    if (numbers <= this.call.length) return;
    const larger = new Float64Array(Math.max(numbers, this.call.length * 2));
    larger.set(this.call);
    this.call = larger;
  }

  /** The numbers so far. One view serves all calls of a length, and a producer's batches have mostly one. */
  written(): Float64Array {
    if (this.#written.length !== this.at || this.#written.buffer !== this.call.buffer)
      this.#written = this.call.subarray(0, this.at);
    return this.#written;
  }

  absent(): void {
    this.#write(ABSENT, 0, 0, 0);
  }

  /** Hands over `need` bytes of a view from its byte `from` on, or as many as there are. */
  put(view: ArrayBufferView | null | undefined, from: number, need: number, plan: ColumnPlan | null): void {
    if (view == null || need <= 0) {
      this.absent();
      return;
    }
    const have = view.byteLength - from;
    const length = Math.min(need, have);
    if (length <= 0) {
      refuseDetached(view, plan);
      this.absent();
      return;
    }
    const { buffer } = view;
    if (buffer !== this.#lastBuffer && !this.#locate(buffer, plan)) {
      // Rust takes no SharedArrayBuffer, and other threads may write to it while it is read.
      this.own(copyOf(view, from, length));
      return;
    }
    if (this.#lastWay === PIN) this.pinned++;
    else this.copied++;
    this.#write(this.#lastWay, this.#lastIndex, view.byteOffset + from, length);
  }

  /** Memory that was made here: nobody else can transfer it, so it is lent without a mark. */
  own(view: ArrayBufferView): void {
    this.copied++;
    this.#write(PIN, this.buffers.push(view.buffer as ArrayBuffer) - 1, view.byteOffset, view.byteLength);
  }

  because(reason: string): void {
    if (this.#reasons === null) this.#reasons = [reason];
    else if (this.#reasons.length < MAX_REASONS && !this.#reasons.includes(reason))
      this.#reasons.push(reason);
  }

  reason(): string | null {
    if (this.mode === "copy" && this.copied > 0) this.because("copied: copy was asked for");
    return this.#reasons === null ? null : this.#reasons.join("; ");
  }

  #write(way: number, index: number, from: number, length: number): void {
    const { call, slot } = this;
    call[slot] = way;
    call[slot + 1] = index;
    call[slot + 2] = from;
    call[slot + 3] = length;
    this.slot = slot + 4;
    this.bytes += length;
  }

  /** Finds or gives a buffer its place in the call, and its way. False: it cannot cross as it is. */
  #locate(buffer: ArrayBufferLike, plan: ColumnPlan | null): boolean {
    const known = know(buffer, this.batch);
    const { kind } = known;
    const copying = this.copying || kind !== PLAIN;
    if (copying) this.#explain(kind, plan);
    if (kind === SHARED) return false;
    if (!copying && !known.marked) markForGood(buffer as ArrayBuffer, known);
    if (known.generation !== this.#generation) {
      known.generation = this.#generation;
      known.index = this.buffers.push(buffer as ArrayBuffer) - 1;
    }
    this.#lastBuffer = buffer;
    this.#lastIndex = known.index;
    this.#lastWay = copying ? COPY : PIN;
    return true;
  }

  #explain(kind: MemoryKind, plan: ColumnPlan | null): void {
    const column = plan === null ? null : plan.path;
    if (this.mode === "pin")
      throw ingestError({
        code: "HANDOFF_UNSAFE",
        operation: "handoff",
        field: column,
        message: `${column === null ? "the bytes" : `column ${column}`} cannot be pinned: ${WHY_NOT[kind]}`,
      });
    if (this.mode === "copy" || (this.#reasonKinds >> kind) & 1) return;
    this.#reasonKinds |= 1 << kind;
    const where = kind === PLAIN || column === null ? "" : `column ${column}: `;
    this.because(`copied: ${where}${WHY_NOT[kind]}`);
  }

  #forgetBuffers(): void {
    this.#generation = ++generations;
    this.#lastBuffer = null;
  }
}

/** A detached view looks like an empty one; only its buffer tells them apart. */
export function refuseDetached(view: ArrayBufferView, plan: ColumnPlan | null): void {
  if ((view.buffer as ArrayBuffer).detached === true)
    throw invalid(
      "its ArrayBuffer is detached: it was transferred away, or the WebAssembly memory behind it has grown",
      plan?.path ?? null,
    );
}

export function invalid(message: string, field: string | null = null, cause?: unknown): IngestError {
  const where = field === null ? "the batch is not valid" : `column ${field} is not valid`;
  return ingestError({
    code: "BATCH_INVALID",
    operation: "handoff",
    field,
    message: `${where}: ${message}`,
    cause,
  });
}

function copyOf(view: ArrayBufferView, from: number, length: number): Uint8Array {
  const copy = new Uint8Array(length);
  copy.set(new Uint8Array(view.buffer, view.byteOffset + from, length));
  return copy;
}
