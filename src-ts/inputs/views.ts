// Typed arrays as they truly are: their class, their memory, their length.
//
// Invariants:
// - All of it comes from the runtime's own getters. A property that an array or its class has put over one of them
//   does not count, and what is no view of memory is none here, whatever it says.
// - No byte is copied, but of a view that is not aligned for the class that is wanted.

import { bytesOf } from "../rows/attend.js";

const nameOf = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype) as object,
  Symbol.toStringTag,
)!.get as (this: unknown) => string | undefined;

/** `Int32Array` of one; undefined for what is no typed array. */
export const nameOfTyped = (value: unknown): string | undefined => nameOf.call(value);

interface TypedClass {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): ArrayBufferView;
}

/**
 * The elements that a view holds, in an array of `Class`. Undefined if it is no view, or if its memory is gone.
 *
 * @param value Of any class: 64-bit values come in pairs of 32 bits, decimals in words of any width.
 */
export function viewAs<C extends TypedClass>(value: unknown, Class: C): InstanceType<C> | undefined {
  const bytes = ArrayBuffer.isView(value) ? bytesOf(value) : undefined;
  if (bytes === undefined || bytes === "gone") return undefined;
  const size = Class.BYTES_PER_ELEMENT;
  const { buffer, byteOffset, byteLength } = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  return new Class(buffer, byteOffset, Math.floor(byteLength / size)) as InstanceType<C>;
}
