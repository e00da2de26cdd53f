// Which memory may be lent to a native thread, and what is done with the rest.
//
// Everything here was tried (specs/javascript-memory.md). This is the one table:
//
//   memory                    auto              pin              copy            why
//   ------------------------  ----------------  ---------------  --------------  ------------------------------
//   ArrayBuffer, and the      pin, marked       pin, marked      copied by Rust  marked, nothing can detach it:
//   runtime honours the mark  untransferable    untransferable   in the call     collection is the only danger,
//                                                                                and a reference prevents that
//   ArrayBuffer, and it does  copied by Rust    HANDOFF_UNSAFE   copied by Rust  transfer() frees it under the
//   not (Node 22)             in the call                        in the call     reading thread: SIGSEGV
//   resizable ArrayBuffer     copied by Rust    HANDOFF_UNSAFE   copied by Rust  shrinking unmaps it
//   WebAssembly.Memory's,     copied by Rust,   HANDOFF_UNSAFE   copied by Rust, growing detaches it; and if it
//   or marked by others,      never marked                       never marked    is marked, growing aborts the
//   as Node's Buffer pool is                                                     process. The two cannot be told
//                                                                                apart
//   SharedArrayBuffer         copied here, the  HANDOFF_UNSAFE   copied here,    other threads may write; the
//                             copy is pinned                     copy is pinned  boundary takes ArrayBuffers only
//   memory made here (such a  pin, unmarked     pin, unmarked    pin, unmarked   nobody else has a reference to
//   copy, IPC bytes we wrote)                                                    transfer it by
//   detached ArrayBuffer      BATCH_INVALID     BATCH_INVALID    BATCH_INVALID   the rows are gone
//
// Marks cannot be taken off; `docs` of `HandoffMode` say so. Nothing here reads or writes a batch's bytes.

import { types } from "node:util";
import { markAsUntransferable } from "node:worker_threads";
import type { ArrowData } from "./arrow.js";

/** What an ArrayBuffer is, for good: none of these can become another one, but by being detached. */
export const PLAIN = 0;
export const RESIZABLE = 1;
export const WASM = 2;
export const SHARED = 3;
export type MemoryKind = typeof PLAIN | typeof RESIZABLE | typeof WASM | typeof SHARED;

/** Why a buffer of this kind cannot be pinned, for results and errors. */
export const WHY_NOT: Readonly<Record<MemoryKind, string>> = {
  [PLAIN]: `this runtime (Node ${process.versions.node}) lets lent memory be transferred away`,
  [RESIZABLE]: "its ArrayBuffer is resizable",
  [WASM]:
    "its ArrayBuffer is Node's pool of small Buffers, belongs to WebAssembly, or is marked as untransferable by " +
    "somebody else",
  [SHARED]: "its memory is shared with other threads",
};

let sound: boolean | undefined;

/**
 * Whether this runtime keeps a marked ArrayBuffer from being detached. Tried at the first call and not at load, because
 * Node loads all it has for threads for it.
 */
export function pinningIsSound(): boolean {
  sound ??= tryPinning(markAsUntransferable);
  return sound;
}

/** Exported for its test. */
export function tryPinning(mark: (buffer: ArrayBuffer) => void): boolean {
  const ways: ((buffer: ArrayBuffer) => void)[] = [
    (buffer) => buffer.transfer(),
    (buffer) => buffer.transferToFixedLength(),
    (buffer) => structuredClone(buffer, { transfer: [buffer] }),
  ];
  return ways.every((detach) => {
    const probe = new ArrayBuffer(8);
    try {
      mark(probe);
    } catch {
      return false;
    }
    try {
      detach(probe);
    } catch {
      // A runtime without `transfer` throws a TypeError as well, and cannot detach that way.
    }
    return probe.byteLength === 8;
  });
}

/** Makes the fields of a subclass those of the object that was given. */
class Returned {
  constructor(object: object) {
    // biome-ignore lint/correctness/noConstructorReturn: it is what this class is for
    return object;
  }
}

/** What is remembered of an ArrayBuffer. `generation` and `index` say where it is in the call being written. */
export class Known {
  readonly kind: MemoryKind;
  marked = false;
  generation = 0;
  index = 0;
  constructor(kind: MemoryKind) {
    this.kind = kind;
  }
}

/**
 * Carries what is known on the ArrayBuffer itself, as a private field: nobody can see, forge or trap it. A
 * WeakMap of all buffers alive would do as well, but costs half a microsecond for each one that is new.
 */
class Stamp extends Returned {
  readonly #known: Known;
  constructor(buffer: ArrayBufferLike, entry: Known) {
    super(buffer);
    this.#known = entry;
  }
  static of(buffer: ArrayBufferLike): Known | undefined {
    return #known in buffer ? (buffer as unknown as Stamp).#known : undefined;
  }
}

/** @param columns Where to look for more buffers of its kind, when finding out about one is costly. */
export function know(buffer: ArrayBufferLike, columns: readonly ArrowData[]): Known {
  const found = Stamp.of(buffer);
  if (found !== undefined) return found;
  let kind = kindOf(buffer);
  if (kind === PAGES) {
    findOut(columns);
    const learnt = Stamp.of(buffer);
    if (learnt !== undefined) return learnt;
    kind = isPlain([buffer as ArrayBuffer]) ? PLAIN : WASM;
  }
  return learn(buffer, kind);
}

function learn(buffer: ArrayBufferLike, kind: MemoryKind): Known {
  const entry = new Known(kind);
  new Stamp(buffer, entry);
  return entry;
}

/** From here on `buffer` cannot be detached. Only for a `PLAIN` one. */
export function markForGood(buffer: ArrayBuffer, entry: Known): void {
  markAsUntransferable(buffer);
  entry.marked = true;
}

/** `@types/node` does not declare it, and `node --jitless` has none. */
declare const WebAssembly:
  | { Memory: new (limits: { initial: number }) => { readonly buffer: ArrayBuffer } }
  | undefined;

const PAGE = 65_536;
const unclonable = (): void => {};
/** The one that was tried below: one put in its place later may detach first and complain afterwards. */
const clone = structuredClone;

/**
 * Transfers buffers together with something that cannot be cloned. That fails either way and detaches
 * nothing; which complaint comes first tells whether the buffers could have been transferred.
 */
function complaint(buffers: ArrayBuffer[]): string {
  try {
    clone(unclonable, { transfer: buffers });
  } catch (error) {
    return String((error as Error).message);
  }
  return "";
}

/** What is said about plain buffers; empty when a runtime says the same about WebAssembly's. */
const PLAIN_COMPLAINT: string = (() => {
  const probe = new ArrayBuffer(8);
  const plain = complaint([probe]);
  if (probe.byteLength !== 8) return "";
  if (typeof WebAssembly === "undefined") return plain;
  return plain === complaint([new WebAssembly.Memory({ initial: 0 }).buffer]) ? "" : plain;
})();

function isPlain(buffers: ArrayBuffer[]): boolean {
  return PLAIN_COMPLAINT !== "" && complaint(buffers) === PLAIN_COMPLAINT;
}

/** Whole pages: plain, or WebAssembly's. */
const PAGES = 4;

// What a buffer truly is: properties of its own, or of a class of the user's, may say anything. On what is no
// ArrayBuffer they throw a TypeError.
const isResizable = truth<boolean>("resizable");
const trueLength = truth<number>("byteLength");

function truth<T>(name: "resizable" | "byteLength"): (buffer: ArrayBufferLike) => T {
  const get = Object.getOwnPropertyDescriptor(ArrayBuffer.prototype, name)!.get as () => T;
  return (buffer) => Reflect.apply(get, buffer, []);
}

function kindOf(buffer: ArrayBufferLike): MemoryKind | typeof PAGES {
  // Not `instanceof`: a buffer of another realm (a vm context, a test runner) is no instance of ours.
  if (types.isSharedArrayBuffer(buffer)) return SHARED;
  if (isResizable(buffer)) return RESIZABLE;
  const byteLength = trueLength(buffer);
  // An empty one is no use to anybody, and WebAssembly's have none to begin with.
  if (byteLength === 0) return WASM;
  return byteLength % PAGE !== 0 ? PLAIN : PAGES;
}

/**
 * Finds out about all buffers of whole pages at once: a complaint takes 5 to 10 µs, about one buffer or
 * about many, and columns of 65,536 values are whole pages all of them.
 */
function findOut(columns: readonly ArrowData[]): void {
  const buffers = new Set<ArrayBuffer>();
  for (let i = 0; i < columns.length; i++) collect(columns[i]!, buffers);
  if (buffers.size < 2 || !isPlain([...buffers])) return;
  for (const buffer of buffers) learn(buffer, PLAIN);
}

function collect(data: ArrowData, buffers: Set<ArrayBuffer>): void {
  collectView(data.nullBitmap, buffers);
  collectView(data.valueOffsets, buffers);
  collectView(data.values, buffers);
  collectView(data.typeIds, buffers);
  for (const view of data.variadicBuffers ?? []) collectView(view, buffers);
  for (const child of data.children) collect(child, buffers);
  for (const chunk of data.dictionary?.data ?? []) collect(chunk, buffers);
}

function collectView(view: ArrayBufferView | null | undefined, buffers: Set<ArrayBuffer>): void {
  if (view == null) return;
  const buffer = view.buffer as ArrayBuffer;
  if (Stamp.of(buffer) === undefined && kindOf(buffer) === PAGES) buffers.add(buffer);
}
