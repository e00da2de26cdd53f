// An Arrow batch → numbers and buffers for one native call.
//
// Invariants:
// - By columns, time grows with the number of columns: no row is looked at, and no byte is read but the
//   first and last offset of a text or list column.
// - What is written is exactly the layout of `specs/boundary.md`.
// - A delivery that cannot be packed leaves no trace in the call.
// - Which memory may be lent is decided by the table in handoff/memory.ts, and nowhere else.
//
// It does not validate: whether offsets are in range is checked by Rust, off this thread, on its own copies.

import { ingestError } from "./errors.js";
import type { ArrowBatch, ArrowData } from "./handoff/arrow.js";
import { CallBuffer, type HandoffMode, invalid, refuseDetached } from "./handoff/call-buffer.js";
import * as plans from "./handoff/plan.js";
import { type ColumnPlan, planOf, type SchemaPlan, sameSchema, sameType } from "./handoff/plan.js";
import { emptyBatch, writeIpc } from "./handoff/rebuild.js";

/** What one delivery holds: batches of columns, or Arrow IPC bytes, stream or file, or several such streams. */
export type DeliveryContent =
  | {
      readonly batches: readonly ArrowBatch[];
      readonly bytes?: undefined;
      readonly streams?: undefined;
      readonly made?: Made | undefined;
    }
  | {
      readonly bytes: ArrayBufferView;
      readonly batches?: undefined;
      readonly streams?: undefined;
      readonly made?: undefined;
    }
  | {
      readonly streams: readonly Uint8Array[];
      readonly batches?: undefined;
      readonly bytes?: undefined;
      readonly made?: Made | undefined;
    };

/** What was done to something that is no Arrow batch before it could be packed. */
export interface Made {
  /** For `handoffReason`. */
  readonly reason: string;
  /** Whether all memory is a copy that was made here: then nothing of the user's is lent. */
  readonly isCopy: boolean;
}

/** How one delivery was packed. */
export interface Packing {
  /** Of its buffers. */
  readonly bytes: number;
  /** What it takes from the budget. */
  readonly charge: number;
  /** Buffers lent. */
  readonly pinned: number;
  /** Buffers copied. */
  readonly copied: number;
  /** Batches that crossed as IPC bytes. */
  readonly ipc: number;
  /** What did not go the fastest way, and why; null when everything did. */
  readonly reason: string | null;
}

/** As `specs/boundary.md` has them, and `src-rs/handoff.rs`: what a delivery takes from the budget beside its bytes. */
const DELIVERY_FLOOR = 1_024;
/** For each batch, node and buffer; four numbers describe each of them. */
const ENTRY_FLOOR = 128;

/** Schemas that Rust is asked to remember at a time. Of more, those that were not used for longest are forgotten. */
const MAX_SCHEMAS = 1_024;

interface Registered {
  readonly plan: SchemaPlan;
  /** One for all that have the same message, once Rust has been told. */
  slot: Slot;
}

interface Slot {
  /** -1 until Rust has been told, and again once it is to forget. */
  id: number;
  /** The last call that it was used in. */
  call: number;
}

export class Packer {
  readonly #register: (message: Uint8Array) => number;
  readonly #schemas = new WeakMap<object, Registered>();
  readonly #forget: (id: number) => void;
  /** What Rust remembers, by message. */
  readonly #slots = new Map<string, Slot>();
  #call = 0;
  /** The last call that had too many by itself. */
  #fullInCall = -1;
  #lastSchema: object | undefined;
  #lastRegistered: Registered | undefined;

  readonly #callBuffer = new CallBuffer();
  #count = 0;
  #charge = 0;
  /** Where the next node of the batch under way is written. */
  #node = 0;
  /** The most that the call buffer's `slot` can come to in this batch. */
  #bound = 0;
  #ipc = 0;
  /** Set by the walk when it meets what columns cannot carry. */
  #ipcReason = "";
  #packing = false;

  /**
   * @param register Tells Rust about a schema, and says by which number it is known from then on.
   * @param forget Takes such a number back.
   */
  constructor(register: (message: Uint8Array) => number, forget: (id: number) => void = () => {}) {
    this.#register = register;
    this.#forget = forget;
  }

  /**
   * Begins a call: its own, or the second try of one that was queued under `ticket`.
   *
   * @throws {IngestError} `BATCH_INVALID` out of the getters of a batch that is being packed: the numbers of
   * the one would go with the memory of the other.
   */
  begin(ticket: number): void {
    if (this.#packing) throw invalid("a getter of another batch sends it while that one is packed");
    this.#callBuffer.begin(ticket);
    this.#count = 0;
    this.#charge = 0;
    this.#call++;
  }

  /** The numbers of the call. Valid until the next `begin`. */
  finish(): Float64Array {
    const { call } = this.#callBuffer;
    call[1] = this.#charge;
    call[2] = this.#count;
    return this.#callBuffer.written();
  }

  /** Forgets the call, which was made or given up. Nothing happens while a batch is being packed. */
  end(): void {
    if (!this.#packing) this.#callBuffer.end();
  }

  /** The ArrayBuffers of the call. Never touched again after `end` or the next `begin`. */
  get buffers(): ArrayBuffer[] {
    return this.#callBuffer.buffers;
  }

  /**
   * Adds a delivery to the call.
   *
   * @throws {IngestError} `BATCH_INVALID` or `HANDOFF_UNSAFE`; the call is then as it was before.
   */
  add(sequence: number, content: DeliveryContent, mode: HandoffMode): Packing {
    const callBuffer = this.#callBuffer;
    callBuffer.beginDelivery(mode);
    this.#ipc = 0;
    const mark = callBuffer.mark();
    this.#packing = true;
    try {
      const { at } = callBuffer;
      callBuffer.room(at + 3);
      callBuffer.call[at] = sequence;
      callBuffer.call[at + 1] = 0;
      callBuffer.at = at + 3;
      if (content.batches !== undefined) {
        callBuffer.call[at + 2] = content.batches.length;
        for (let i = 0; i < content.batches.length; i++) this.#batch(content.batches[i]!);
        if (content.made !== undefined) this.#wasMade(content.made);
      } else if (content.streams !== undefined) {
        callBuffer.call[at + 2] = content.streams.length;
        for (const stream of content.streams)
          this.#given(stream, content.made?.reason ?? "the batch was given as Arrow IPC");
      } else {
        callBuffer.call[at + 2] = 1;
        this.#given(content.bytes, "the batch was given as Arrow IPC");
      }
    } catch (error) {
      callBuffer.undo(mark);
      throw error;
    } finally {
      this.#packing = false;
    }
    this.#count++;
    const bytes = callBuffer.bytes - mark.bytes;
    const charge = bytes + DELIVERY_FLOOR + (ENTRY_FLOOR * (callBuffer.at - mark.at - 3)) / 4;
    this.#charge += charge;
    return {
      bytes,
      charge,
      pinned: callBuffer.pinned,
      copied: callBuffer.copied,
      ipc: this.#ipc,
      reason: callBuffer.reason(),
    };
  }

  /** The number by which Rust knows a schema. A schema that Rust does not know yet is registered. */
  schemaId(schema: object): number {
    return this.#idOf(this.#registered(schema));
  }

  #idOf(known: Registered): number {
    if (known.slot.id < 0) this.#tell(known);
    known.slot.call = this.#call;
    return known.slot.id;
  }

  #tell(known: Registered): void {
    const { key, message } = known.plan;
    const told = this.#slots.get(key);
    if (told !== undefined) {
      known.slot = told;
      return;
    }
    if (this.#slots.size >= MAX_SCHEMAS && this.#fullInCall !== this.#call) this.#forgetHalf();
    known.slot.id = this.#register(message);
    this.#slots.set(key, known.slot);
  }

  /** Those that were not used for longest. Half of them, so that looking for them is paid by as many new ones. */
  #forgetHalf(): void {
    const byUse = [...this.#slots].sort(([, one], [, other]) => one.call - other.call);
    for (const [key, slot] of byUse.slice(0, byUse.length - MAX_SCHEMAS / 2)) {
      // Its number is in the call that is being written, and so are those of all that follow.
      if (slot.call === this.#call) {
        this.#fullInCall = this.#call;
        return;
      }
      this.#forget(slot.id);
      slot.id = -1;
      this.#slots.delete(key);
    }
  }

  #registered(schema: object): Registered {
    if (schema === this.#lastSchema) return this.#lastRegistered!;
    let known = this.#schemas.get(schema);
    if (known === undefined) {
      // The library makes a new schema object for every batch: encoding each would cost more than the batch, and
      // remembering each a quarter of it.
      known = this.#likeTheLast(schema as ArrowBatch["schema"]);
      if (known === undefined) {
        known = { plan: plan(schema), slot: { id: -1, call: 0 } };
        this.#schemas.set(schema, known);
      }
    }
    this.#lastSchema = schema;
    this.#lastRegistered = known;
    return known;
  }

  #likeTheLast(schema: ArrowBatch["schema"]): Registered | undefined {
    if (this.#lastSchema === undefined) return undefined;
    try {
      return sameSchema(schema, this.#lastSchema as ArrowBatch["schema"]) ? this.#lastRegistered : undefined;
    } catch {
      // No schema at all: `plan` says so better.
      return undefined;
    }
  }

  #batch(batch: ArrowBatch): void {
    const known = this.#registered(batch.schema);
    const { unknown } = known.plan;
    if (this.#callBuffer.mode === "ipc") this.#written(batch, known.plan, "ipc was asked for");
    else if (unknown !== "")
      this.#fallBackToIpc(batch, known.plan, `the type of column ${unknown} is not known`);
    else this.#columns(batch, known);
  }

  #columns(batch: ArrowBatch, known: Registered): void {
    const id = this.#idOf(known);
    const { columns, nodeCount } = known.plan;
    const { length } = batch.data;
    const data = length === 0 ? (emptyBatch(known.plan.schema).data as unknown as ArrowData) : batch.data;
    const { children } = data;
    if (children.length !== columns.length)
      throw invalid(`it has ${children.length} columns where its schema has ${columns.length}`);
    const callBuffer = this.#callBuffer;
    const mark = callBuffer.mark();
    const { at } = mark;
    callBuffer.batch = children;
    this.#node = at + 4;
    callBuffer.slot = this.#node + 4 * nodeCount;
    // Three buffers at most to a node; what views have beyond that makes its own room.
    this.#bound = callBuffer.slot + 12 * nodeCount;
    callBuffer.room(this.#bound);
    this.#ipcReason = "";
    try {
      for (let i = 0; i < columns.length; i++) this.#walk(children[i]!, columns[i]!);
    } catch (error) {
      throw error instanceof TypeError ? invalid("it is no well-formed record batch", null, error) : error;
    }
    if (this.#ipcReason !== "") {
      callBuffer.undo(mark);
      this.#fallBackToIpc(batch, known.plan, this.#ipcReason);
      return;
    }
    const { call, slot } = callBuffer;
    call[at] = id;
    call[at + 1] = length;
    call[at + 2] = nodeCount;
    call[at + 3] = (slot - at - 4) / 4 - nodeCount;
    callBuffer.at = slot;
  }

  #walk(data: ArrowData, plan: ColumnPlan): void {
    if (data.type !== plan.type && !sameType(data.type, plan.type))
      throw invalid("its data is of another type than its schema says", plan.path);
    const callBuffer = this.#callBuffer;
    const node = this.#node;
    this.#node = node + 4;
    const { length, offset, children } = data;
    // From here on they are multiplied: a lie would come out as a number that nobody can place.
    if (length >>> 0 !== length || offset >>> 0 !== offset)
      throw invalid(`it says it has ${length} rows from ${offset} on`, plan.path);
    const { call } = callBuffer;
    call[node] = length;
    call[node + 1] = 0;
    // Bitmaps are handed over from the byte on in which the first bit is.
    call[node + 2] = offset & 7;
    call[node + 3] = 0;
    switch (plan.kind) {
      case plans.FIXED:
        this.#validity(data, node, plan);
        callBuffer.put(data.values, 0, length * plan.width, plan);
        return;
      case plans.BOOL:
        this.#validity(data, node, plan);
        callBuffer.put(data.values, firstByte(offset), bytesOfBits(offset, length), plan);
        return;
      case plans.BYTES:
      case plans.LARGE_BYTES: {
        this.#validity(data, node, plan);
        const offsets = data.valueOffsets;
        const first = offsetAt(offsets, 0);
        const last = offsetAt(offsets, length);
        callBuffer.put(offsets, 0, (length + 1) * (plan.kind === plans.BYTES ? 4 : 8), plan);
        if (first > 0 && last >= first) {
          // What comes before belongs to rows that are not handed over.
          call[node + 3] = first;
          callBuffer.put(data.values, first, last - first, plan);
        } else {
          // Where offsets lie, everything is handed over, and Rust names the row.
          callBuffer.put(data.values, 0, last >= 0 ? last : Number.MAX_SAFE_INTEGER, plan);
        }
        return;
      }
      case plans.VIEWS: {
        this.#validity(data, node, plan);
        callBuffer.put(data.values, 0, length * 16, plan);
        const variadic = data.variadicBuffers ?? [];
        this.#bound += 4 * variadic.length;
        callBuffer.room(this.#bound);
        callBuffer.call[node + 3] = variadic.length;
        for (let i = 0; i < variadic.length; i++)
          callBuffer.put(variadic[i], 0, Number.MAX_SAFE_INTEGER, plan);
        return;
      }
      case plans.LIST:
      case plans.LARGE_LIST: {
        this.#validity(data, node, plan);
        const offsets = data.valueOffsets;
        const first = offsetAt(offsets, 0);
        const last = offsetAt(offsets, length);
        let items = children[0]!;
        callBuffer.put(offsets, 0, (length + 1) * (plan.kind === plans.LIST ? 4 : 8), plan);
        // What lies before and behind belongs to rows that are not handed over.
        if ((first > 0 || last < items.length) && last >= first && first >= 0 && last <= items.length) {
          call[node + 3] = first;
          items = (items as Sliceable).slice(first, last - first);
        }
        this.#walk(items, plan.children[0]!);
        return;
      }
      case plans.NESTED:
        this.#validity(data, node, plan);
        this.#children(children, plan);
        return;
      case plans.DENSE_UNION:
        callBuffer.put(data.typeIds, 0, length, plan);
        callBuffer.put(data.valueOffsets, 0, length * 4, plan);
        this.#children(children, plan);
        return;
      case plans.SPARSE_UNION:
        callBuffer.put(data.typeIds, 0, length, plan);
        this.#children(children, plan);
        return;
      case plans.DICTIONARY: {
        this.#validity(data, node, plan);
        callBuffer.put(data.values, 0, length * plan.width, plan);
        const chunks = data.dictionary?.data;
        if (chunks?.length === 1) this.#walk(chunks[0]!, plan.children[0]!);
        else this.#ipcReason ||= `the dictionary of column ${plan.path} has ${chunks?.length ?? 0} chunks`;
        return;
      }
      default:
        // Null has no buffers. Kinds that are not known never get here: their schemas go by IPC.
        call[node + 1] = length;
    }
  }

  #children(children: readonly ArrowData[], plan: ColumnPlan): void {
    if (children.length !== plan.children.length)
      throw invalid(
        `it has ${children.length} children where its schema has ${plan.children.length}`,
        plan.path,
      );
    for (let i = 0; i < children.length; i++) this.#walk(children[i]!, plan.children[i]!);
  }

  #validity(data: ArrowData, node: number, plan: ColumnPlan): void {
    const { _nullCount, nullBitmap, length, offset } = data;
    if (_nullCount === 0 || nullBitmap == null || length === 0) {
      this.#callBuffer.absent();
    } else if (nullBitmap.byteLength === 0) {
      // The library's way to say "no nulls"; and what is left of a bitmap that was transferred away.
      refuseDetached(nullBitmap, plan);
      this.#callBuffer.absent();
    } else {
      this.#callBuffer.call[node + 1] = _nullCount ?? -1;
      this.#callBuffer.put(nullBitmap, firstByte(offset), bytesOfBits(offset, length), plan);
    }
  }

  /** Columns cannot carry this batch. */
  #fallBackToIpc(batch: ArrowBatch, plan: SchemaPlan, why: string): void {
    if (this.#callBuffer.mode === "pin")
      throw ingestError({
        code: "HANDOFF_UNSAFE",
        operation: "handoff",
        message: `the batch cannot be pinned: ${why}`,
      });
    this.#written(batch, plan, why);
  }

  #written(batch: ArrowBatch, plan: SchemaPlan, why: string): void {
    const callBuffer = this.#callBuffer;
    let bytes: Uint8Array;
    try {
      bytes = writeIpc(batch, plan.schema);
    } catch (cause) {
      throw invalid(`it cannot be written as Arrow IPC: ${(cause as Error).message}`, null, cause);
    }
    callBuffer.because(`ipc: ${why}`);
    this.#bytesHead(batch.data.length);
    const { copied } = callBuffer;
    callBuffer.own(bytes);
    callBuffer.copied = copied;
    callBuffer.at = callBuffer.slot;
  }

  /** Memory that was made for this delivery is lent, and is a copy all the same. */
  #wasMade({ reason, isCopy }: Made): void {
    const callBuffer = this.#callBuffer;
    callBuffer.because(reason);
    if (!isCopy) return;
    callBuffer.copied += callBuffer.pinned;
    callBuffer.pinned = 0;
  }

  #given(view: ArrayBufferView, why: string): void {
    const callBuffer = this.#callBuffer;
    callBuffer.because(`ipc: ${why}`);
    this.#bytesHead(-1);
    const { pinned, copied } = callBuffer;
    callBuffer.put(view, 0, Number.MAX_SAFE_INTEGER, null);
    callBuffer.pinned = pinned;
    callBuffer.copied = copied;
    callBuffer.at = callBuffer.slot;
  }

  #bytesHead(rows: number): void {
    const callBuffer = this.#callBuffer;
    const { at } = callBuffer;
    callBuffer.room(at + 8);
    callBuffer.call[at] = -1;
    callBuffer.call[at + 1] = rows;
    callBuffer.call[at + 2] = 0;
    callBuffer.call[at + 3] = 1;
    callBuffer.slot = at + 4;
    this.#ipc++;
  }
}

/** About as much as packing would take from the budget; nothing is packed. */
export function measure(content: DeliveryContent): number {
  let sum = DELIVERY_FLOOR;
  if (content.batches === undefined) {
    for (const { byteLength } of content.streams ?? [content.bytes]) sum += 2 * ENTRY_FLOOR + byteLength;
    return sum;
  }
  for (const batch of content.batches) {
    sum += ENTRY_FLOOR;
    for (const child of batch.data.children) sum += sizeOf(child);
  }
  return sum;
}

function sizeOf(data: ArrowData): number {
  const { nullBitmap, valueOffsets, values, typeIds, children, dictionary, variadicBuffers, length } = data;
  // Of text and lists, what the rows refer to, or all of it where offsets lie.
  const first = offsetAt(valueOffsets, 0);
  const used = offsetAt(valueOffsets, length) - first;
  const isSlice = typeIds == null && first >= 0 && used >= 0;
  let sum =
    4 * ENTRY_FLOOR +
    Math.min(nullBitmap?.byteLength ?? 0, (length >>> 3) + 2) +
    (valueOffsets?.byteLength ?? 0) +
    Math.min(values?.byteLength ?? 0, isSlice ? used : Number.MAX_SAFE_INTEGER) +
    (typeIds?.byteLength ?? 0);
  for (const child of children)
    sum += sizeOf(child) * (isSlice && child.length > used ? used / child.length : 1);
  for (const chunk of dictionary?.data ?? []) sum += sizeOf(chunk);
  for (const buffer of variadicBuffers ?? []) sum += ENTRY_FLOOR + buffer.byteLength;
  return Math.ceil(sum);
}

function plan(schema: object): SchemaPlan {
  try {
    return planOf(schema as ArrowBatch["schema"]);
  } catch (cause) {
    throw invalid(`its schema cannot be written: ${(cause as Error).message}`, null, cause);
  }
}

type Sliceable = ArrowData & { slice(offset: number, length: number): ArrowData };
type Offsets = ArrayLike<number | bigint>;

function offsetAt(offsets: Offsets | null | undefined, index: number): number {
  const value = offsets?.[index];
  return typeof value === "number" ? value : value === undefined ? -1 : Number(value);
}

// Not `>> 3`: beyond 2³¹ rows it gives negative numbers, and a bitmap that is not there has no nulls.
const firstByte = (bit: number): number => Math.floor(bit / 8);
const bytesOfBits = (bit: number, bits: number): number => Math.ceil(((bit & 7) + bits) / 8);
