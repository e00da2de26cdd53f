// Columns that hold others: structs, lists, maps, dictionaries; and the rows themselves, which are a struct.
//
// Invariants:
// - Children are encoded column by column, too: a list's items are laid side by side first.
// - A child never looks below a null or a row that was refused.
// - Of an array, the length is read once and each item once.

import { types } from "node:util";
import { Data, type DataType, type Dictionary, Vector } from "apache-arrow";
import { bytesOf, isOpaque, isRecord, lengthOfTyped } from "./attend.js";
import { isText, widened } from "./bytes.js";
import { ABSENT, Column, type Context, type Parent, TOO_MANY } from "./column.js";
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
    this.#known = new Set(names);
    this.#expected = names;
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

/** Elements that hold a number of items each, which children lay side by side. */
abstract class Items extends Column implements Parent {
  /** Of the chunk: how many items come up to the end of each element. */
  protected ends = new Int32Array(0);
  /** Items of the chunk so far. */
  protected count = 0;

  protected abstract readonly below: readonly Column[];

  protected override begin(count: number): void {
    if (this.ends.length < count) this.ends = new Int32Array(count);
    this.count = 0;
  }

  /** Whether one more element of so many items fits. */
  protected admit(items: number): void {
    if (this.count + items > this.context.maxItems) throw TOO_MANY;
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
    if (thrown !== TOO_MANY) this.takeBack(i === 0 ? 0 : this.ends[i - 1]!);
    super.threw(i, thrown);
  }

  protected abstract takeBack(items: number): void;

  /** Beyond the chunk, too, every end is one: looking for an item finds the first that is behind it. */
  protected closeEnds(count: number): void {
    this.ends.fill(this.count, count);
  }

  protected keepItems(keep: Uint8Array, count: number): void {
    const items = new Uint8Array(this.count);
    for (let i = 0; i < count; i++)
      if (keep[i] === 1) items.fill(1, i === 0 ? 0 : this.ends[i - 1]!, this.ends[i]!);
    for (const child of this.below) child.compact(items, this.count);
  }

  /** @param length What `itemsIn` says. */
  protected refuseList(i: number, value: unknown, length: number): void {
    if (types.isTypedArray(value) && bytesOf(value) === "gone")
      this.refuse(i, "VALUE_MALFORMED", value, "its memory was transferred away");
    else this.refuse(i, length < 0 ? "VALUE_TYPE" : "VALUE_RANGE", value);
  }
}

/** Lists with offsets: of one kind of items, or, for maps, of keys and values. */
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

  protected writeOffsets(count: number): void {
    const base = this.offsets[this.length]!;
    for (let i = 0; i < count; i++) this.offsets[this.length + i + 1] = base + this.ends[i]!;
  }

  protected override move(from: number, to: number): void {
    this.offsets[to + 1] = this.offsets[to]! + this.offsets[from + 1]! - this.offsets[from]!;
  }

  override compact(keep: Uint8Array, count: number): void {
    this.keepItems(keep, count);
    super.compact(keep, count);
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

  override release(): void {
    super.release();
    for (const child of this.below) child.release();
  }
}

/** The number of items of an array or typed array; -1 if it is neither, or its memory is gone. */
function itemsIn(value: unknown): number {
  if (types.isTypedArray(value)) return lengthOfTyped(value);
  if (!Array.isArray(value)) return -1;
  const length: unknown = value.length;
  // A proxy of an array says what it likes.
  return Number.isInteger(length) && (length as number) >= 0 ? (length as number) : -1;
}

export class ListColumn extends OffsetItems {
  readonly item: Column;
  protected readonly below: readonly Column[];
  #items: unknown[] = [];

  constructor(context: Context, type: DataType, isNullable: boolean, item: Column) {
    super(context, type, isNullable);
    this.item = item;
    this.below = [item];
    item.parent = this;
  }

  override put(i: number, value: unknown): void {
    const length = itemsIn(value);
    if (length >= 0) {
      this.admit(length);
      const items = this.#items;
      const array = value as ArrayLike<unknown>;
      for (let j = 0; j < length; j++) items.push(array[j]);
      this.count += length;
      this.ends[i] = this.count;
    } else if (value === null || value === undefined) {
      this.missing(i, value);
    } else {
      this.refuseList(i, value, length);
    }
  }

  protected override begin(count: number): void {
    super.begin(count);
    this.#items = [];
  }

  protected override takeBack(items: number): void {
    this.#items.length = items;
    this.count = items;
  }

  protected override end(count: number): void {
    this.closeEnds(count);
    this.item.encode(this.#items, this.count);
    this.writeOffsets(count);
    this.#items = [];
  }

  override finish(): Data {
    return this.finished([this.item.finish()], this.type.typeId === 21);
  }
}

export class FixedListColumn extends Items {
  readonly item: Column;
  protected readonly below: readonly Column[];
  readonly #size: number;
  #items: unknown[] = [];

  constructor(context: Context, type: DataType, isNullable: boolean, item: Column) {
    super(context, type, isNullable);
    this.item = item;
    this.below = [item];
    this.#size = (type as unknown as { listSize: number }).listSize;
    item.parent = this;
  }

  override put(i: number, value: unknown): void {
    const length = itemsIn(value);
    if (length === this.#size) {
      this.admit(length);
      const array = value as ArrayLike<unknown>;
      for (let j = 0; j < length; j++) this.#items.push(array[j]);
      this.count += length;
      this.ends[i] = this.count;
    } else if (value === null || value === undefined) {
      this.missing(i, value);
    } else {
      this.refuseList(i, value, length);
    }
  }

  override zero(i: number): void {
    this.admit(this.#size);
    for (let j = 0; j < this.#size; j++) this.#items.push(ABSENT);
    this.count += this.#size;
    this.ends[i] = this.count;
  }

  protected override begin(count: number): void {
    super.begin(count);
    this.#items = [];
  }

  protected override takeBack(items: number): void {
    this.#items.length = items;
    this.count = items;
  }

  protected override end(count: number): void {
    this.closeEnds(count);
    this.item.encode(this.#items, this.count);
    this.#items = [];
  }

  protected override grow(): void {}
  protected override move(): void {}

  override compact(keep: Uint8Array, count: number): void {
    this.keepItems(keep, count);
    super.compact(keep, count);
  }

  override truncate(length: number): void {
    super.truncate(length);
    this.item.truncate(length * this.#size);
  }

  // Items are reserved when they come.
  override get elementBytes(): number {
    return 0;
  }

  override get size(): number {
    return this.item.size;
  }

  override release(): void {
    super.release();
    this.item.release();
  }

  override finish(): Data {
    const { length } = this;
    const { bits, nullCount } = this.takeValidity();
    const item = this.item.finish();
    this.reset();
    return new Data(this.type, 0, length, nullCount, [undefined, undefined, bits] as never, [item]);
  }
}

const forEach = Map.prototype.forEach;
const sizeOf = Object.getOwnPropertyDescriptor(Map.prototype, "size")!.get!;

/** Keys and values. */
export class MapColumn extends OffsetItems {
  readonly key: Column;
  readonly value: Column;
  protected readonly below: readonly Column[];
  #keys: unknown[] = [];
  #values: unknown[] = [];

  constructor(context: Context, type: DataType, isNullable: boolean, key: Column, value: Column) {
    super(context, type, isNullable);
    this.key = key;
    this.value = value;
    this.below = [key, value];
    key.parent = this;
    value.parent = this;
  }

  override put(i: number, value: unknown): void {
    if (value === null || value === undefined) {
      this.missing(i, value);
    } else if (types.isMap(value)) {
      this.admit(sizeOf.call(value));
      forEach.call(value, (one: unknown, key: unknown) => this.#add(key, one));
      this.#close(i);
    } else if (Array.isArray(value)) {
      const length = itemsIn(value);
      if (length < 0) {
        this.refuse(i, "VALUE_TYPE", value);
        return;
      }
      this.admit(length);
      for (let j = 0; j < length; j++) {
        const pair: unknown = value[j];
        if (!Array.isArray(pair) || pair.length !== 2) {
          this.takeBack(i === 0 ? 0 : this.ends[i - 1]!);
          this.refuse(i, "VALUE_TYPE", value, "its entries are pairs of a key and a value");
          return;
        }
        this.#add(pair[0], pair[1]);
      }
      this.#close(i);
    } else if (isText(keyType(this.key)) && isRecord(value) && value !== ABSENT) {
      const keys = Object.keys(value);
      if (isOpaque(value)) {
        this.refuse(i, "VALUE_TYPE", value);
        return;
      }
      this.admit(keys.length);
      for (const key of keys) this.#add(key, (value as Record<string, unknown>)[key]);
      this.#close(i);
    } else {
      this.refuse(i, "VALUE_TYPE", value);
    }
  }

  #add(key: unknown, value: unknown): void {
    this.#keys.push(key);
    this.#values.push(value);
  }

  #close(i: number): void {
    this.count = this.#keys.length;
    this.ends[i] = this.count;
  }

  protected override begin(count: number): void {
    super.begin(count);
    this.#keys = [];
    this.#values = [];
  }

  protected override takeBack(items: number): void {
    this.#keys.length = items;
    this.#values.length = items;
    this.count = items;
  }

  protected override end(count: number): void {
    this.closeEnds(count);
    this.key.encode(this.#keys, this.count);
    this.value.encode(this.#values, this.count);
    this.writeOffsets(count);
    this.#keys = [];
    this.#values = [];
  }

  override pathOfChild(child: Column, i: number): string {
    return `${super.pathOfChild(child, i)}.${child === this.key ? "key" : "value"}`;
  }

  override finish(): Data {
    const { type } = this.type.children[0] as { type: DataType };
    const { length } = this.key;
    const children = [this.key.finish(), this.value.finish()];
    const entries = new Data(type, 0, length, 0, {}, children);
    return this.finished([entries], false);
  }
}

const keyType = ({ type }: Column): DataType => (type.typeId === -1 ? (type as Dictionary).dictionary : type);

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
