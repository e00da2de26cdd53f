// Columns whose elements hold items: lists of any and of one length, and maps.
//
// Invariants:
// - Items are a column, too: those of a chunk are laid side by side first.
// - An item never looks below a null or a row that was refused.
// - Of an array, the length is read once and each item once.

import { types } from "node:util";
import { Data, type DataType, type Dictionary } from "apache-arrow";
import { bytesOf, isOpaque, isRecord, lengthOfTyped } from "./attend.js";
import { isText, widened } from "./bytes.js";
import { ABSENT, Column, type Context, type Parent, TOO_MANY } from "./column.js";

/** Elements that hold a number of items each, of one column, or of one for keys and one for values. */
abstract class Items extends Column implements Parent {
  /** Of the chunk: what lies side by side, for each column below. */
  protected laid: unknown[][] = [];
  /** Of the chunk: how many items come up to the end of each element. */
  protected ends = new Int32Array(0);
  /** Items of the chunk so far. */
  protected count = 0;
  protected readonly below: readonly Column[];

  constructor(context: Context, type: DataType, isNullable: boolean, below: readonly Column[]) {
    super(context, type, isNullable);
    this.below = below;
    for (const child of below) child.parent = this;
  }

  protected override begin(count: number): void {
    if (this.ends.length < count) this.ends = new Int32Array(count);
    this.count = 0;
    this.laid = this.below.map(() => []);
  }

  protected override end(count: number): void {
    // Beyond the chunk, too, every end is one: looking for an item finds the first that is behind it.
    this.ends.fill(this.count, count);
    for (let i = 0; i < this.below.length; i++) this.below[i]!.encode(this.laid[i]!, this.count);
    this.laid = [];
  }

  /** Whether one more element of so many items fits. */
  protected admit(items: number): void {
    if (this.count + items > this.context.maxItems) throw TOO_MANY;
  }

  /** Element `i` has all that was laid and is no element's yet. */
  protected close(i: number): void {
    this.count = this.laid[0]!.length;
    this.ends[i] = this.count;
  }

  /** Lays the items of an array that is no longer than was admitted. */
  protected lay(i: number, array: ArrayLike<unknown>, length: number): void {
    this.admit(length);
    const items = this.laid[0]!;
    for (let j = 0; j < length; j++) items.push(array[j]);
    this.count += length;
    this.ends[i] = this.count;
  }

  /** What was laid for an element that turns out to be none. */
  protected takeBack(i: number): void {
    const items = i === 0 ? 0 : this.ends[i - 1]!;
    for (const laid of this.laid) laid.length = items;
    this.count = items;
  }

  #elementOf(item: number): number {
    let low = 0;
    let high = this.ends.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ends[middle]! > item) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  rowOfChild(i: number): number {
    return this.rowOf(this.#elementOf(i));
  }

  pathOfChild(_child: Column, i: number): string {
    const element = this.#elementOf(i);
    const index = i - (element === 0 ? 0 : this.ends[element - 1]!);
    return `${this.pathOf(element)}[${index}]`;
  }

  override threw(i: number, thrown: unknown): void {
    // What was read of it before it threw.
    if (thrown !== TOO_MANY) this.takeBack(i);
    super.threw(i, thrown);
  }

  override compact(keep: Uint8Array, count: number): void {
    const items = new Uint8Array(this.count);
    for (let i = 0; i < count; i++)
      if (keep[i] === 1) items.fill(1, i === 0 ? 0 : this.ends[i - 1]!, this.ends[i]!);
    for (const child of this.below) child.compact(items, this.count);
    super.compact(keep, count);
  }

  /** @param length What `itemsIn` says. */
  protected refuseList(i: number, value: unknown, length: number): void {
    if (types.isTypedArray(value) && bytesOf(value) === "gone")
      this.refuse(i, "VALUE_MALFORMED", value, "its memory was transferred away");
    else this.refuse(i, length < 0 ? "VALUE_TYPE" : "VALUE_RANGE", value);
  }

  override release(): void {
    super.release();
    this.laid = [];
    for (const child of this.below) child.release();
  }
}

/** The number of items of an array or typed array; -1 if it is neither, or its memory is gone. */
function itemsIn(value: unknown): number {
  if (!Array.isArray(value)) return types.isTypedArray(value) ? lengthOfTyped(value) : -1;
  const length: unknown = value.length;
  // A proxy of an array says what it likes.
  return Number.isInteger(length) && (length as number) >= 0 ? (length as number) : -1;
}

/** Items of any number, with offsets. */
abstract class OffsetItems extends Items {
  protected offsets = new Int32Array(1);

  protected override grow(capacity: number): void {
    const offsets = new Int32Array(capacity + 1);
    offsets.set(this.offsets.subarray(0, this.length + 1));
    this.offsets = offsets;
  }

  override zero(i: number): void {
    this.ends[i] = this.count;
  }

  protected override end(count: number): void {
    super.end(count);
    const { offsets, ends, length } = this;
    const base = offsets[length]!;
    for (let i = 0; i < count; i++) offsets[length + i + 1] = base + ends[i]!;
  }

  protected override move(from: number, to: number): void {
    this.offsets[to + 1] = this.offsets[to]! + this.offsets[from + 1]! - this.offsets[from]!;
  }

  override truncate(length: number): void {
    super.truncate(length);
    for (const child of this.below) child.truncate(this.offsets[length]!);
  }

  override get elementBytes(): number {
    return 4;
  }

  override get size(): number {
    return this.below.reduce((sum, child) => sum + child.size, 4 * this.length);
  }

  protected finished(children: Data[], wide: boolean): Data {
    const { length } = this;
    const { bits, nullCount } = this.takeValidity();
    const ends = this.offsets.subarray(0, length + 1);
    const offsets = wide ? widened(ends) : ends;
    this.offsets = new Int32Array(1);
    this.reset();
    return new Data(this.type, 0, length, nullCount, [offsets, undefined, bits] as never, children);
  }
}

export class ListColumn extends OffsetItems {
  constructor(context: Context, type: DataType, isNullable: boolean, item: Column) {
    super(context, type, isNullable, [item]);
  }

  override put(i: number, value: unknown): void {
    const length = itemsIn(value);
    if (length >= 0) this.lay(i, value as ArrayLike<unknown>, length);
    else if (value === null || value === undefined) this.missing(i, value);
    else this.refuseList(i, value, length);
  }

  override finish(): Data {
    return this.finished([this.below[0]!.finish()], this.type.typeId === 21);
  }
}

/** Lists of one length, which have no offsets. */
export class FixedListColumn extends Items {
  readonly #size: number;

  constructor(context: Context, type: DataType, isNullable: boolean, item: Column) {
    super(context, type, isNullable, [item]);
    this.#size = (type as unknown as { listSize: number }).listSize;
  }

  override put(i: number, value: unknown): void {
    const length = itemsIn(value);
    if (length === this.#size) this.lay(i, value as ArrayLike<unknown>, length);
    else if (value === null || value === undefined) this.missing(i, value);
    else this.refuseList(i, value, length);
  }

  override zero(i: number): void {
    this.admit(this.#size);
    for (let j = 0; j < this.#size; j++) this.laid[0]!.push(ABSENT);
    this.close(i);
  }

  protected override grow(): void {}
  protected override move(): void {}

  override truncate(length: number): void {
    super.truncate(length);
    this.below[0]!.truncate(length * this.#size);
  }

  // Items are reserved when they come.
  override get elementBytes(): number {
    return 0;
  }

  override get size(): number {
    return this.below[0]!.size;
  }

  override finish(): Data {
    const { length } = this;
    const { bits, nullCount } = this.takeValidity();
    const item = this.below[0]!.finish();
    this.reset();
    return new Data(this.type, 0, length, nullCount, [undefined, undefined, bits] as never, [item]);
  }
}

const forEach = Map.prototype.forEach;
const sizeOf = Object.getOwnPropertyDescriptor(Map.prototype, "size")!.get!;

/** Keys and values. */
export class MapColumn extends OffsetItems {
  readonly #hasTextKeys: boolean;

  constructor(context: Context, type: DataType, isNullable: boolean, key: Column, value: Column) {
    super(context, type, isNullable, [key, value]);
    const { type: keys } = key;
    this.#hasTextKeys = isText(keys.typeId === -1 ? (keys as Dictionary).dictionary : keys);
  }

  override put(i: number, value: unknown): void {
    if (value === null || value === undefined) {
      this.missing(i, value);
    } else if (types.isMap(value)) {
      this.admit(sizeOf.call(value));
      forEach.call(value, (one: unknown, key: unknown) => this.#add(key, one));
      this.close(i);
    } else if (Array.isArray(value)) {
      this.#putPairs(i, value);
    } else if (this.#hasTextKeys && isRecord(value) && value !== ABSENT) {
      this.#putObject(i, value);
    } else {
      this.refuse(i, "VALUE_TYPE", value);
    }
  }

  #putPairs(i: number, value: readonly unknown[]): void {
    const length = itemsIn(value);
    if (length < 0) {
      this.refuse(i, "VALUE_TYPE", value);
      return;
    }
    this.admit(length);
    for (let j = 0; j < length; j++) {
      const pair: unknown = value[j];
      if (!Array.isArray(pair) || pair.length !== 2) {
        this.takeBack(i);
        this.refuse(i, "VALUE_TYPE", value, "its entries are pairs of a key and a value");
        return;
      }
      this.#add(pair[0], pair[1]);
    }
    this.close(i);
  }

  #putObject(i: number, value: object): void {
    const keys = Object.keys(value);
    if (isOpaque(value)) {
      this.refuse(i, "VALUE_TYPE", value);
      return;
    }
    this.admit(keys.length);
    for (const key of keys) this.#add(key, (value as Record<string, unknown>)[key]);
    this.close(i);
  }

  #add(key: unknown, value: unknown): void {
    this.laid[0]!.push(key);
    this.laid[1]!.push(value);
  }

  override pathOfChild(child: Column, i: number): string {
    return `${super.pathOfChild(child, i)}.${child === this.below[0] ? "key" : "value"}`;
  }

  override finish(): Data {
    const { type } = this.type.children[0] as { type: DataType };
    const [key, value] = this.below as [Column, Column];
    const { length } = key;
    const children = [key.finish(), value.finish()];
    return this.finished([new Data(type, 0, length, 0, {}, children)], false);
  }
}
