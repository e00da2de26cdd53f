// Columns of objects with members; and the rows themselves, which are one that is never null.
//
// Invariants:
// - Members are encoded column by column.
// - A member never looks below a null or a row that was refused.

import { types } from "node:util";
import { Data, type DataType } from "apache-arrow";
import { isOpaque, isRecord } from "./attend.js";
import { ABSENT, Column, type Context, type Parent } from "./column.js";
import { member } from "./refusal.js";

const getPrototypeOf = Object.getPrototypeOf;
const slice = Array.prototype.slice;

/** Objects with members. The rows are one that is never null. */
export class StructColumn extends Column implements Parent {
  readonly names: readonly string[];
  readonly children: readonly Column[];
  /** Of the chunk: in the place of what is no object, null or refused stands `ABSENT`. */
  objects: object[] = [];
  readonly #known: ReadonlySet<string>;
  /** Keys that were all known, in an order that was met. */
  #expected: readonly string[];
  /** The prototype of an object that was looked at closely. */
  #prototype: unknown;

  constructor(
    context: Context,
    type: DataType,
    isNullable: boolean,
    names: readonly string[],
    children: readonly Column[],
  ) {
    super(context, type, isNullable);
    this.names = names;
    this.children = children;
    const keys = names.map(asKey);
    this.#known = new Set(keys);
    this.#expected = keys;
    for (const child of children) child.parent = this;
  }

  override put(i: number, value: unknown): void {
    if (typeof value === "object" && value !== null && this.#isRecord(value)) {
      this.objects[i] = value;
      if (this.context.refusesUnknownKeys) this.#checkKeys(i, value);
    } else if ((value === null || value === undefined) && this.parent !== undefined) {
      this.missing(i, value);
    } else {
      this.refuse(i, this.parent === undefined ? "ROW_TYPE" : "VALUE_TYPE", value);
    }
  }

  /** Of the rows' own column: appends rows from `from` on. */
  encodeRows(rows: ArrayLike<unknown>, from: number, count: number): void {
    const chunk = copyOf(rows, from, count);
    this.objects = chunk as object[];
    this.admitElements(count);
    this.reserve(this.length + count);
    const checksKeys = this.context.refusesUnknownKeys;
    let i = 0;
    for (;;) {
      try {
        for (; i < count; i++) {
          const row = chunk[i];
          const isKnown = typeof row === "object" && row !== null && getPrototypeOf(row) === this.#prototype;
          if (!isKnown || this.#prototype === null || (checksKeys && !this.#hasExpectedKeys(row)))
            this.put(i, row);
        }
        break;
      } catch (thrown) {
        this.threw(i++, thrown);
      }
    }
    this.end(count);
    this.length += count;
  }

  /** Most objects have the keys of the one before, in its order: then no key is looked up. */
  #hasExpectedKeys(object: object): boolean {
    const expected = this.#expected;
    let at = 0;
    for (const key in object) if (key !== expected[at++]) return false;
    return true;
  }

  #isRecord(value: object): boolean {
    if (value === ABSENT) return false;
    const prototype: unknown = getPrototypeOf(value);
    // Objects of one class are of one kind. Those without one say nothing about each other.
    if (prototype !== null && prototype === this.#prototype) return true;
    if (!isRecord(value)) return false;
    if (isOpaque(value) && !this.names.some((name) => name in value)) return false;
    this.#prototype = prototype;
    return true;
  }

  #checkKeys(i: number, object: object): void {
    if (this.#hasExpectedKeys(object)) return;
    const keys = Object.keys(object);
    for (const key of keys) {
      if (this.#known.has(key)) continue;
      const descriptor = Object.getOwnPropertyDescriptor(object, key);
      this.zero(i);
      this.context.failures++;
      const path = member(this.pathOf(i), key);
      this.context.refuse(
        this.rowOf(i),
        path,
        "KEY_UNKNOWN",
        "the schema has no such key",
        descriptor?.value,
      );
      return;
    }
    this.#expected = keys;
  }

  override zero(i: number): void {
    this.objects[i] = ABSENT;
  }

  protected override begin(count: number): void {
    this.objects = new Array<object>(count);
  }

  protected override end(count: number): void {
    for (const child of this.children) child.encode(this.objects, count);
  }

  override wanted(why: string): string {
    return this.parent === undefined ? "a row is an object with the columns as its keys" : super.wanted(why);
  }

  protected override grow(capacity: number): void {
    for (const child of this.children) child.reserve(capacity);
  }

  // Its elements are those of its children.
  protected override move(): void {}

  override compact(keep: Uint8Array, count: number): void {
    // Before `super` cuts off, of them too, what is taken out.
    for (const child of this.children) child.compact(keep, count);
    super.compact(keep, count);
  }

  override truncate(length: number): void {
    super.truncate(length);
    for (const child of this.children) child.truncate(length);
  }

  override get elementBytes(): number {
    return this.children.reduce((sum, child) => sum + child.elementBytes, 0);
  }

  override get size(): number {
    return this.children.reduce((sum, child) => sum + child.size, 0);
  }

  override release(): void {
    super.release();
    this.objects = [];
    for (const child of this.children) child.release();
  }

  override finish(): Data {
    const { length } = this;
    const { bits, nullCount } = this.takeValidity();
    const children = this.children.map((child) => child.finish());
    this.reset();
    return new Data(this.type, 0, length, nullCount, [undefined, undefined, bits] as never, children);
  }

  rowOfChild(i: number): number {
    return this.rowOf(i);
  }

  pathOfChild(child: Column, i: number): string {
    return member(this.pathOf(i), this.names[this.children.indexOf(child)]!);
  }
}

/** The same name in the one copy that the engine has of keys: those are compared by address, others letter by letter. */
const asKey = (name: string): string => Object.keys({ [name]: 0 })[0]!;

/** Some of the rows: what becomes of their array from then on does not matter. */
function copyOf(rows: ArrayLike<unknown>, from: number, count: number): unknown[] {
  // Many times as fast. Not of an array that says of what class its slices are, and by no `slice` of its own.
  if (
    getPrototypeOf(rows) === Array.prototype &&
    !types.isProxy(rows) &&
    !Object.hasOwn(rows, "constructor")
  ) {
    const copy = slice.call(rows as unknown[], from, from + count);
    if (copy.length === count) return copy;
  }
  const copy = new Array<unknown>(count);
  for (let i = 0; i < count; i++) copy[i] = rows[from + i];
  return copy;
}
