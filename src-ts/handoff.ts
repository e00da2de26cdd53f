// An Arrow batch → numbers and buffers for one native call.
//
// Invariants:
// - By columns, time grows with the number of columns: no row is looked at, no byte is read but the first
//   and last offset of a text column.
// - What is written is exactly the layout of `specs/boundary.md`; the numbers are reused by the next call,
//   the array of buffers never is, because Rust holds it for as long as it reads.
// - A delivery that cannot be packed leaves no trace in the call.
// - Which memory may be lent is decided by the table in `handoff/memory.ts`, and nowhere else.
//
// It does not validate: whether offsets are in range is checked by Rust, off this thread, on its own copies.

import { ingestError } from "./errors.js";
import type { ArrowBatch, ArrowData } from "./handoff/arrow.js";
import { type Kind, know, markForGood, PINNING_IS_SOUND, PLAIN, SHARED, WHY_NOT } from "./handoff/memory.js";
import * as plans from "./handoff/plan.js";
import { type Plan, planOf, type SchemaPlan, sameType } from "./handoff/plan.js";
import { writeIpc } from "./handoff/rebuild.js";
import type { HandoffMode } from "./options.js";

/** Arrow IPC, stream or file. */
export type IpcBytes = ArrayBufferView | ArrayBufferLike;

/** What one delivery holds: batches of columns, or bytes. */
export type Cargo =
  | { readonly batches: readonly ArrowBatch[]; readonly bytes?: undefined }
  | { readonly bytes: ArrayBufferView; readonly batches?: undefined };

/** How one delivery was packed. */
export interface Packing {
  /** Buffers lent, copied by columns, and parcels of IPC bytes. */
  readonly pinned: number;
  readonly copied: number;
  readonly ipc: number;
  /** Why something did not go the way of `auto`; null when everything did. */
  readonly reason: string | null;
}

interface Registered {
  readonly plan: SchemaPlan;
  /** -1 until Rust has been told. */
  id: number;
}

const PIN = 0;
const COPY = 1;
const ABSENT = 2;

/** Of all packers of this thread: tells the buffers of this call from those of an earlier one. */
let generations = 0;

export class Packer {
  /** ArrayBuffers of the call under way. */
  buffers: ArrayBuffer[] = [];
  /** Bytes of all buffers of the call: what it takes from the budget. */
  bytes = 0;
  /** Deliveries of the call. */
  count = 0;

  readonly #register: (message: Uint8Array) => number;
  readonly #schemas = new WeakMap<object, Registered>();
  readonly #ids = new Map<string, number>();
  #lastSchema: object | undefined;
  #lastRegistered: Registered | undefined;

  #call = new Float64Array(1024);
  #at = 0;
  /** Where the next node and the next buffer of the batch under way are written. */
  #node = 0;
  #slot = 0;
  /** The most that `#slot` can come to. */
  #bound = 0;

  #generation = 0;
  #lastBuffer: ArrayBufferLike | null = null;
  #lastIndex = 0;
  #lastWay = PIN;

  #mode: HandoffMode = "auto";
  /** Whether plain memory is copied, for whatever reason. */
  #copying = false;
  #pinned = 0;
  #copied = 0;
  #ipc = 0;
  /** Reasons of the delivery under way, each kind of memory once. */
  #reasons: string[] | null = null;
  #reasonKinds = 0;
  /** Set by the walk when it meets what columns cannot carry. */
  #misfit = "";

  /** @param register Tells Rust about a schema, and says by which number it is known from then on. */
  constructor(register: (message: Uint8Array) => number) {
    this.#register = register;
  }

  /** Begins a call: its own, or the second try of one that was queued under `ticket`. */
  begin(ticket: number): void {
    this.buffers = [];
    this.bytes = 0;
    this.count = 0;
    this.#call[0] = ticket;
    this.#at = 3;
    this.#forgetBuffers();
  }

  /** The numbers of the call. Valid until the next `begin`. */
  finish(): Float64Array {
    this.#call[1] = this.bytes;
    this.#call[2] = this.count;
    return this.#call.subarray(0, this.#at);
  }

  /**
   * Adds a delivery to the call.
   *
   * @throws {IngestError} `BATCH_INVALID` or `HANDOFF_UNSAFE`; the call is then as it was before.
   */
  add(sequence: number, cargo: Cargo, mode: HandoffMode): Packing {
    const at = this.#at;
    const bytes = this.bytes;
    const buffers = this.buffers.length;
    this.#mode = mode;
    this.#copying = mode === "copy" || !PINNING_IS_SOUND;
    this.#pinned = this.#copied = this.#ipc = 0;
    this.#reasons = null;
    this.#reasonKinds = 0;
    // Finding a buffer again would skip saying why it is copied.
    this.#lastBuffer = null;
    try {
      this.#room(at + 3);
      this.#call[at] = sequence;
      this.#call[at + 1] = 0;
      this.#at = at + 3;
      if (cargo.batches !== undefined) {
        const { batches } = cargo;
        this.#call[at + 2] = batches.length;
        for (let i = 0; i < batches.length; i++) this.#batch(batches[i]!);
      } else {
        this.#call[at + 2] = 1;
        this.#given(cargo.bytes);
      }
    } catch (error) {
      this.#at = at;
      this.bytes = bytes;
      this.buffers.length = buffers;
      this.#forgetBuffers();
      throw error;
    }
    this.count++;
    return {
      pinned: this.#pinned,
      copied: this.#copied,
      ipc: this.#ipc,
      reason: this.#reason(),
    };
  }

  /** Where Rust knows a schema; it is told when it does not yet. */
  schemaId(schema: object): number {
    const known = this.#registered(schema);
    if (known.id < 0) {
      const { key, message } = known.plan;
      let id = this.#ids.get(key);
      if (id === undefined) {
        id = this.#register(message);
        this.#ids.set(key, id);
      }
      known.id = id;
    }
    return known.id;
  }

  #registered(schema: object): Registered {
    if (schema === this.#lastSchema) return this.#lastRegistered!;
    let known = this.#schemas.get(schema);
    if (known === undefined) {
      known = { plan: this.#planOf(schema), id: -1 };
      this.#schemas.set(schema, known);
    }
    this.#lastSchema = schema;
    this.#lastRegistered = known;
    return known;
  }

  #planOf(schema: object): SchemaPlan {
    try {
      return planOf(schema as ArrowBatch["schema"]);
    } catch (cause) {
      throw invalid(`its schema cannot be written: ${(cause as Error).message}`, null, cause);
    }
  }

  #batch(batch: ArrowBatch): void {
    const known = this.#registered(batch.schema);
    if (this.#mode === "ipc") return this.#written(batch, known.plan, "ipc was asked for");
    if (known.plan.unknown !== "")
      return this.#misfits(batch, known.plan, `column ${known.plan.unknown} is of a type only IPC can carry`);
    const id = known.id < 0 ? this.schemaId(batch.schema) : known.id;
    const { columns, nodeCount } = known.plan;
    const { length, children } = batch.data;
    if (children.length !== columns.length)
      throw invalid(`it has ${children.length} columns where its schema has ${columns.length}`);

    const at = this.#at;
    const bytes = this.bytes;
    const buffers = this.buffers.length;
    const pinned = this.#pinned;
    const copied = this.#copied;
    this.#node = at + 4;
    this.#slot = this.#node + 4 * nodeCount;
    // Three buffers at most to a node; what views have beyond that makes its own room.
    this.#bound = this.#slot + 12 * nodeCount;
    this.#room(this.#bound);
    this.#misfit = "";
    try {
      for (let i = 0; i < columns.length; i++) this.#walk(children[i]!, columns[i]!);
    } catch (error) {
      throw error instanceof TypeError ? invalid("it is no well-formed record batch", null, error) : error;
    }
    if (this.#misfit !== "") {
      this.bytes = bytes;
      this.buffers.length = buffers;
      this.#pinned = pinned;
      this.#copied = copied;
      this.#forgetBuffers();
      return this.#misfits(batch, known.plan, this.#misfit);
    }
    const call = this.#call;
    call[at] = id;
    call[at + 1] = length;
    call[at + 2] = nodeCount;
    call[at + 3] = (this.#slot - at - 4 - 4 * nodeCount) / 4;
    this.#at = this.#slot;
  }

  #walk(data: ArrowData, plan: Plan): void {
    if (data.type !== plan.type && !sameType(data.type, plan.type))
      throw invalid("its data is of another type than its schema says", plan.path);
    const node = this.#node;
    this.#node = node + 4;
    const { length, offset, children } = data;
    const call = this.#call;
    call[node] = length;
    call[node + 1] = 0;
    // A bitmap is handed over from the byte on in which its first bit is.
    call[node + 2] = offset & 7;
    call[node + 3] = 0;
    switch (plan.kind) {
      case plans.FIXED:
        this.#validity(data.nullBitmap, data._nullCount, offset, length, node, plan);
        this.#put(data.values, 0, length * plan.width, plan);
        return;
      case plans.BYTES:
      case plans.LARGE_BYTES: {
        this.#validity(data.nullBitmap, data._nullCount, offset, length, node, plan);
        const width = plan.kind === plans.BYTES ? 4 : 8;
        const offsets = data.valueOffsets;
        const first = this.#offset(offsets, 0);
        const last = this.#offset(offsets, length);
        if (this.#copying && this.#mostlyOther(first, last, offsets)) {
          this.#own(rebase(offsets!, length, first));
          this.#put(data.values, first, last - first, plan);
        } else {
          this.#put(offsets, 0, (length + 1) * width, plan);
          // Lying offsets hand over everything, and Rust names the row that lies.
          this.#put(data.values, 0, last >= 0 ? last : Number.MAX_SAFE_INTEGER, plan);
        }
        return;
      }
      case plans.BOOL:
        this.#validity(data.nullBitmap, data._nullCount, offset, length, node, plan);
        this.#put(data.values, offset >> 3, ((offset & 7) + length + 7) >> 3, plan);
        return;
      case plans.DICTIONARY: {
        this.#validity(data.nullBitmap, data._nullCount, offset, length, node, plan);
        this.#put(data.values, 0, length * plan.width, plan);
        const chunks = data.dictionary?.data;
        if (chunks?.length !== 1) {
          this.#misfit ||= `the dictionary of column ${plan.path} has ${chunks?.length ?? "no"} chunks`;
          return;
        }
        return this.#walk(chunks[0]!, plan.children[0]!);
      }
      case plans.VIEWS: {
        this.#validity(data.nullBitmap, data._nullCount, offset, length, node, plan);
        this.#put(data.values, 0, length * 16, plan);
        const variadic = data.variadicBuffers ?? [];
        this.#call[node + 3] = variadic.length;
        this.#bound += 4 * variadic.length;
        this.#room(this.#bound);
        for (let i = 0; i < variadic.length; i++)
          this.#put(variadic[i], 0, variadic[i]!.byteLength || 1, plan, true);
        return;
      }
      case plans.LIST:
      case plans.LARGE_LIST: {
        this.#validity(data.nullBitmap, data._nullCount, offset, length, node, plan);
        const offsets = data.valueOffsets;
        const first = this.#offset(offsets, 0);
        const last = this.#offset(offsets, length);
        if (this.#copying && this.#mostlyOther(first, last, offsets)) {
          this.#own(rebase(offsets!, length, first));
          const items = children[0] as ArrowData & { slice(offset: number, length: number): ArrowData };
          return this.#walk(items.slice(first, last - first), plan.children[0]!);
        }
        this.#put(offsets, 0, (length + 1) * (plan.kind === plans.LIST ? 4 : 8), plan);
        return this.#walk(children[0]!, plan.children[0]!);
      }
      case plans.NESTED:
        this.#validity(data.nullBitmap, data._nullCount, offset, length, node, plan);
        return this.#children(children, plan);
      case plans.DENSE_UNION:
        this.#put(data.typeIds, 0, length, plan);
        this.#put(data.valueOffsets, 0, length * 4, plan);
        return this.#children(children, plan);
      case plans.SPARSE_UNION:
        this.#put(data.typeIds, 0, length, plan);
        return this.#children(children, plan);
      default:
        // Null has no buffers; other kinds never get here, their schemas go by IPC.
        this.#call[node + 1] = length;
        return;
    }
  }

  #children(children: readonly ArrowData[], plan: Plan): void {
    if (children.length !== plan.children.length)
      throw invalid(
        `it has ${children.length} children where its schema has ${plan.children.length}`,
        plan.path,
      );
    for (let i = 0; i < children.length; i++) this.#walk(children[i]!, plan.children[i]!);
  }

  #validity(
    bitmap: ArrayBufferView | null | undefined,
    nullCount: number | undefined,
    offset: number,
    length: number,
    node: number,
    plan: Plan,
  ): void {
    if (nullCount === 0 || bitmap == null || length === 0) {
      this.#absent();
      return;
    }
    if (bitmap.byteLength === 0) {
      // The library's way to say "no nulls"; and what is left of a bitmap that was transferred away.
      refuseDetached(bitmap, plan);
      this.#absent();
      return;
    }
    this.#call[node + 1] = nullCount ?? -1;
    this.#put(bitmap, offset >> 3, ((offset & 7) + length + 7) >> 3, plan);
  }

  #absent(): void {
    const slot = this.#slot;
    const call = this.#call;
    call[slot] = ABSENT;
    call[slot + 1] = 0;
    call[slot + 2] = 0;
    call[slot + 3] = 0;
    this.#slot = slot + 4;
  }

  /** Hands over `need` bytes of a view from its byte `from` on, or as many as there are. */
  #put(
    view: ArrayBufferView | null | undefined,
    from: number,
    need: number,
    plan: Plan,
    whole = false,
  ): void {
    if (view == null || need <= 0) return this.#absent();
    const have = view.byteLength - from;
    const length = need < have ? need : have;
    if (length <= 0) {
      if (!whole || view.byteLength === 0) refuseDetached(view, plan);
      return this.#absent();
    }
    const { buffer } = view;
    if (buffer !== this.#lastBuffer && !this.#locate(buffer, plan)) {
      // Rust takes no SharedArrayBuffer, and other threads may write to it while it is read.
      this.#copied++;
      return this.#place(copyOf(view, from, length), 0, length, PIN);
    }
    if (this.#lastWay === PIN) this.#pinned++;
    else this.#copied++;
    const slot = this.#slot;
    const call = this.#call;
    call[slot] = this.#lastWay;
    call[slot + 1] = this.#lastIndex;
    call[slot + 2] = view.byteOffset + from;
    call[slot + 3] = length;
    this.#slot = slot + 4;
    this.bytes += length;
  }

  /** Memory that was made here: nobody else can transfer it, so it is lent without a mark. */
  #own(view: ArrayBufferView): void {
    this.#copied++;
    this.#place(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength, PIN);
  }

  #place(buffer: ArrayBuffer, from: number, length: number, way: number): void {
    const slot = this.#slot;
    const call = this.#call;
    call[slot] = way;
    call[slot + 1] = this.buffers.push(buffer) - 1;
    call[slot + 2] = from;
    call[slot + 3] = length;
    this.#slot = slot + 4;
    this.bytes += length;
  }

  /** Finds or gives a buffer its place in the call, and its way. False: it cannot cross as it is. */
  #locate(buffer: ArrayBufferLike, plan: Plan | null): boolean {
    const known = know(buffer);
    const { kind } = known;
    const copying = this.#copying || kind !== PLAIN;
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

  #explain(kind: Kind, plan: Plan | null): void {
    const column = plan === null ? null : plan.path;
    if (this.#mode === "pin")
      throw ingestError({
        code: "HANDOFF_UNSAFE",
        operation: "handoff",
        field: column,
        message: `${column === null ? "the bytes" : `column ${column}`} cannot be pinned: ${WHY_NOT[kind]}`,
      });
    if (this.#mode === "copy" || (this.#reasonKinds >> kind) & 1) return;
    this.#reasonKinds |= 1 << kind;
    const where = kind === PLAIN || column === null ? "" : `column ${column}: `;
    this.#because(`copied: ${where}${WHY_NOT[kind]}`);
  }

  #because(reason: string): void {
    if (this.#reasons === null) this.#reasons = [reason];
    // A table of a thousand odd batches needs no thousand lines.
    else if (this.#reasons.length < 8 && !this.#reasons.includes(reason)) this.#reasons.push(reason);
  }

  #reason(): string | null {
    if (this.#mode === "copy" && this.#copied > 0) this.#because("copied: copy was asked for");
    return this.#reasons === null ? null : this.#reasons.join("; ");
  }

  /** Columns cannot carry this batch. */
  #misfits(batch: ArrowBatch, plan: SchemaPlan, why: string): void {
    if (this.#mode === "pin")
      throw ingestError({
        code: "HANDOFF_UNSAFE",
        operation: "handoff",
        message: `the batch cannot be pinned: ${why}`,
      });
    this.#written(batch, plan, why);
  }

  #written(batch: ArrowBatch, plan: SchemaPlan, why: string): void {
    let bytes: Uint8Array;
    try {
      bytes = writeIpc(batch, plan.schema);
    } catch (cause) {
      throw invalid(`it cannot be written as Arrow IPC: ${(cause as Error).message}`, null, cause);
    }
    this.#because(`ipc: ${why}`);
    this.#head(batch.data.length);
    this.#place(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength, PIN);
    this.#ipc++;
    this.#at = this.#slot;
  }

  #given(view: ArrayBufferView): void {
    this.#because("ipc: the batch was given as Arrow IPC");
    this.#head(-1);
    if (view.byteLength === 0) {
      refuseDetached(view, null);
      this.#absent();
    } else if (this.#locate(view.buffer, null)) {
      this.#place(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength, this.#lastWay);
    } else {
      this.#place(copyOf(view, 0, view.byteLength), 0, view.byteLength, PIN);
    }
    this.#ipc++;
    this.#at = this.#slot;
  }

  #head(rows: number): void {
    const at = this.#at;
    this.#room(at + 8);
    const call = this.#call;
    call[at] = -1;
    call[at + 1] = rows;
    call[at + 2] = 0;
    call[at + 3] = 1;
    this.#slot = at + 4;
  }

  #offset(offsets: ArrayLike<number | bigint> | null | undefined, index: number): number {
    const value = offsets?.[index];
    return typeof value === "number" ? value : value === undefined ? -1 : Number(value);
  }

  /** Whether copying the whole of what a slice refers into would mostly copy what it does not refer to. */
  #mostlyOther(first: number, last: number, offsets: unknown): boolean {
    return offsets != null && first > 0 && last >= first && first > last - first;
  }

  #forgetBuffers(): void {
    this.#generation = ++generations;
    this.#lastBuffer = null;
  }

  #room(numbers: number): void {
    if (numbers <= this.#call.length) return;
    const larger = new Float64Array(Math.max(numbers, this.#call.length * 2));
    larger.set(this.#call);
    this.#call = larger;
  }
}

/** About as many bytes as packing would take from the budget; nothing is packed. */
export function measure(cargo: Cargo): number {
  if (cargo.bytes !== undefined) return cargo.bytes.byteLength;
  let sum = 0;
  for (const batch of cargo.batches) for (const child of batch.data.children) sum += sizeOf(child);
  return sum;
}

function sizeOf(data: ArrowData): number {
  const { nullBitmap, valueOffsets, values, typeIds, children, dictionary, variadicBuffers } = data;
  let sum =
    (nullBitmap?.byteLength ?? 0) +
    (valueOffsets?.byteLength ?? 0) +
    (values?.byteLength ?? 0) +
    (typeIds?.byteLength ?? 0);
  for (const child of children) sum += sizeOf(child);
  for (const chunk of dictionary?.data ?? []) sum += sizeOf(chunk);
  for (const buffer of variadicBuffers ?? []) sum += buffer.byteLength;
  return sum;
}

/** Offsets of `length` rows that start at 0. */
function rebase(offsets: ArrayLike<number | bigint>, length: number, first: number): ArrayBufferView {
  if (typeof offsets[0] === "bigint") {
    const rebased = new BigInt64Array(length + 1);
    const base = BigInt(first);
    for (let i = 0; i <= length; i++) rebased[i] = (offsets[i] as bigint) - base;
    return rebased;
  }
  const rebased = new Int32Array(length + 1);
  for (let i = 0; i <= length; i++) rebased[i] = (offsets[i] as number) - first;
  return rebased;
}

function copyOf(view: ArrayBufferView, from: number, length: number): ArrayBuffer {
  const copy = new ArrayBuffer(length);
  new Uint8Array(copy).set(new Uint8Array(view.buffer, view.byteOffset + from, length));
  return copy;
}

/** A detached view looks like an empty one; only its buffer tells them apart. */
function refuseDetached(view: ArrayBufferView, plan: Plan | null): void {
  const { buffer } = view;
  if ((buffer as ArrayBuffer).detached === true)
    throw invalid(
      "its ArrayBuffer is detached: it was transferred away, or the WebAssembly memory behind it has grown",
      plan?.path ?? null,
    );
}

function invalid(message: string, field: string | null = null, cause?: unknown): Error {
  const where = field === null ? "the batch is not valid" : `column ${field} is not valid`;
  return ingestError({
    code: "BATCH_INVALID",
    operation: "handoff",
    field,
    message: `${where}: ${message}`,
    cause,
  });
}
