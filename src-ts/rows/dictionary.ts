// Columns of numbers of values: each value is stored once.
//
// Invariants:
// - A value is a chunk of its own for the column of the values: one that is refused leaves nothing there.
// - What only refused rows had is taken out again, where values can be.

import { Data, type DataType, type Dictionary, Vector } from "apache-arrow";
import { ABSENT, Column, type Context, type Parent, TOO_MANY } from "./column.js";

/** Numbers of values that are stored once. A value is looked up by itself: text is hashed once in its life. */
export class DictionaryColumn extends Column implements Parent {
  readonly value: Column;
  readonly #most: number;
  readonly #ArrayType: new (
    length: number,
  ) => Keys;
  #keys: Keys;
  #known = new Map<unknown, number>();
  /** The element whose value is being added. */
  #adding = 0;
  /** Elements and values at the beginning of the chunk, and those of its new values that are known. */
  #before = 0;
  #valuesBefore = 0;
  #added: unknown[] = [];

  constructor(context: Context, type: DataType, isNullable: boolean, value: Column) {
    super(context, type, isNullable);
    this.value = value;
    const { indices } = type as Dictionary;
    const { bitWidth, isSigned } = indices;
    // As many as an array can have.
    this.#most = Math.min(2 ** (isSigned ? bitWidth - 1 : bitWidth), 2 ** 31) - 1;
    this.#ArrayType = indices.ArrayType as unknown as new (length: number) => Keys;
    this.#keys = new this.#ArrayType(0);
    value.parent = this;
  }

  override put(i: number, value: unknown): void {
    if (value === null || value === undefined) {
      this.missing(i, value);
      return;
    }
    // To a map, -0 is 0.
    const known = Object.is(value, -0) ? undefined : this.#known.get(value);
    const key = known ?? this.#add(i, value);
    if (key >= 0) this.#write(this.length + i, key);
    else this.zero(i);
  }

  /** The number of a new value; -1: it was refused. */
  #add(i: number, value: unknown): number {
    const { context, value: column } = this;
    if (this.source[i] === ABSENT) {
      this.refuse(i, "VALUE_MISSING", value);
      return -1;
    }
    const key = column.length;
    if (key > this.#most) throw TOO_MANY;
    const { failures } = context;
    this.#adding = i;
    column.encode([value], 1);
    column.release();
    if (context.failures !== failures) {
      column.truncate(key);
      return -1;
    }
    // Objects may be written to.
    if (typeof value !== "object" && !Object.is(value, -0)) {
      this.#known.set(value, key);
      this.#added.push(value);
    }
    return key;
  }

  protected override begin(): void {
    this.#before = this.length;
    this.#valuesBefore = this.value.length;
    this.#added = [];
  }

  override compact(keep: Uint8Array, count: number): void {
    super.compact(keep, count);
    // Of values with items, only those of the chunk can be taken out; here each value was a chunk of its own.
    if ((this.value.type.children ?? []).length === 0) this.#forgetUnused();
  }

  /** Takes out the values that only refused rows had: they would fill the dictionary, and go where no row of theirs does. */
  #forgetUnused(): void {
    const first = this.#valuesBefore;
    const added = this.value.length - first;
    if (added <= 0) return;
    const used = new Uint8Array(added);
    for (let i = this.#before; i < this.length; i++) {
      const key = Number(this.#keys[i]);
      if (key >= first && !this.isNullAt(i)) used[key - first] = 1;
    }
    if (!used.includes(0)) return;
    const moved = new Int32Array(added);
    let to = first;
    for (let i = 0; i < added; i++) if (used[i] === 1) moved[i] = to++;
    this.value.compact(used, added);
    for (let i = this.#before; i < this.length; i++) {
      const key = Number(this.#keys[i]);
      if (key >= first && !this.isNullAt(i)) this.#write(i, moved[key - first]!);
    }
    for (const value of this.#added) {
      const key = this.#known.get(value)! - first;
      if (used[key] === 1) this.#known.set(value, moved[key]!);
      else this.#known.delete(value);
    }
  }

  #write(at: number, key: number): void {
    this.#keys[at] = this.#keys.BYTES_PER_ELEMENT === 8 ? BigInt(key) : key;
  }

  override zero(i: number): void {
    this.#write(this.length + i, 0);
  }

  protected override grow(capacity: number): void {
    const keys = new this.#ArrayType(capacity);
    for (let i = 0; i < this.length; i++) keys[i] = this.#keys[i]!;
    this.#keys = keys;
  }

  protected override move(from: number, to: number): void {
    this.#keys[to] = this.#keys[from]!;
  }

  override get elementBytes(): number {
    return this.#keys.BYTES_PER_ELEMENT;
  }

  override get size(): number {
    return this.length * this.#keys.BYTES_PER_ELEMENT + this.value.size;
  }

  override release(): void {
    super.release();
    this.value.release();
  }

  override truncate(length: number): void {
    super.truncate(length);
    if (length > this.#before) return;
    // All of the chunk. A value that was given up halfway has left something below, too.
    this.value.truncate(length === 0 ? 0 : this.#valuesBefore);
    if (length === 0) this.#known.clear();
    else for (const value of this.#added) this.#known.delete(value);
    this.#added = [];
  }

  override finish(): Data {
    const { length } = this;
    const { bits, nullCount } = this.takeValidity();
    // Null slots have a number, too, and there must be such a value.
    if (length > 0 && this.value.length === 0) this.value.encode([ABSENT], 1);
    const keys = this.#keys.subarray(0, length);
    const dictionary = new Vector([this.value.finish()]);
    this.#known = new Map();
    this.#added = [];
    this.#before = 0;
    this.#valuesBefore = 0;
    this.#keys = new this.#ArrayType(0);
    this.reset();
    return new Data(this.type, 0, length, nullCount, [undefined, keys, bits] as never, [], dictionary);
  }

  rowOfChild(): number {
    return this.rowOf(this.#adding);
  }

  pathOfChild(): string {
    return this.pathOf(this.#adding);
  }
}

interface Keys {
  [index: number]: number | bigint;
  readonly BYTES_PER_ELEMENT: number;
  subarray(from: number, to: number): Keys;
}
