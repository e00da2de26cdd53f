// What kind of value an object is (bytes, a `Temporal`, a row), found out without trusting the object.
//
// Invariants:
// - Bytes are read by the runtime's own getters: properties that a view or its class has put over them do not count.
// - Objects of `Temporal` are known by their tag, of the runtime or of a polyfill; what is read of them is checked
//   like any other value, so an object with a false tag is refused or read as text.
//
// It writes no column.

import { types } from "node:util";

const getter = (prototype: object, name: string): ((this: unknown) => never) =>
  Object.getOwnPropertyDescriptor(prototype, name)!.get as (this: unknown) => never;

const typedArray = Object.getPrototypeOf(Uint8Array.prototype) as object;
const OF_TYPED = ["buffer", "byteOffset", "byteLength"].map((name) => getter(typedArray, name));
const OF_DATA_VIEW = ["buffer", "byteOffset", "byteLength"].map((name) => getter(DataView.prototype, name));
const detached = getter(ArrayBuffer.prototype, "detached");
const itemsOf = getter(typedArray, "length");
/** Throws where the memory of a typed array is not there any more; its length is 0 then, as of one without items. */
const at = Uint8Array.prototype.at;

/** The bytes of a view or buffer; `gone` where they were transferred or cut away; undefined if it is neither. */
export function bytesOf(value: unknown): Uint8Array | "gone" | undefined {
  if (!ArrayBuffer.isView(value) && !types.isAnyArrayBuffer(value)) return undefined;
  try {
    if (!ArrayBuffer.isView(value)) return isDetached(value) ? "gone" : new Uint8Array(value);
    const isTyped = !types.isDataView(value);
    const [bufferOf, offsetOf, lengthOf] = isTyped ? OF_TYPED : OF_DATA_VIEW;
    const length = lengthOf!.call(value);
    if (isTyped && length === 0) at.call(value as Uint8Array, 0);
    return new Uint8Array(bufferOf!.call(value), offsetOf!.call(value), length);
  } catch {
    // The runtime's own getters throw for nothing else.
    return "gone";
  }
}

/** The number of items of a typed array; -1 where its memory is gone. */
export function lengthOfTyped(value: object): number {
  return bytesOf(value) === "gone" ? -1 : itemsOf.call(value);
}

const isDetached = (buffer: ArrayBufferLike): boolean =>
  types.isArrayBuffer(buffer) && (detached.call(buffer) as boolean);

/** `Instant` of an object whose tag is `Temporal.Instant`; else undefined. */
export function temporalName(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const tag: unknown = (value as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag];
  return typeof tag === "string" && tag.startsWith("Temporal.") ? tag.slice(9) : undefined;
}

/** Its ISO text, without the names of calendars and zones; empty if it has none. */
export function textOfTemporal(value: unknown): string {
  const text: unknown = (value as { toString(): unknown }).toString();
  if (typeof text !== "string") return "";
  const annotations = text.indexOf("[");
  return annotations < 0 ? text : text.slice(0, annotations);
}

/** Of an instant; undefined if it has none. */
export function epochNanos(value: unknown): bigint | undefined {
  const nanos: unknown = (value as { epochNanoseconds?: unknown }).epochNanoseconds;
  return typeof nanos === "bigint" ? nanos : undefined;
}

/**
 * Whether an object has no keys of its own and names a kind whose contents are elsewhere: `Headers`, a `URL`, a proxy of a
 * `Map`. A `Row` of `apache-arrow` shows what it holds as its keys.
 */
export function isOpaque(value: object): boolean {
  if (Object.keys(value).length > 0) return false;
  const tag: unknown = (value as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag];
  return tag !== undefined && tag !== "Object" && tag !== "Row";
}

/** Whether an object can have the keys of a row: not one of a kind whose contents are elsewhere. */
export function isRecord(value: unknown): value is object {
  return (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    !ArrayBuffer.isView(value) &&
    !types.isDate(value) &&
    !types.isMap(value) &&
    !types.isSet(value) &&
    !types.isWeakMap(value) &&
    !types.isWeakSet(value) &&
    !types.isPromise(value) &&
    !types.isRegExp(value) &&
    !types.isBoxedPrimitive(value) &&
    !types.isAnyArrayBuffer(value) &&
    !types.isNativeError(value) &&
    !types.isGeneratorObject(value)
  );
}
