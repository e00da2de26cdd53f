// The deliveries that have no outcome yet, by sequence.
//
// Invariants:
// - Sequences are added in order and without gaps, from 1 on.
// - Nothing of a delivery is kept once it is taken, and what is kept besides grows with the most that were
//   unsettled at once since there last was none; not with how many were settled behind one that is late.
//
// A ring and no Map: outcomes come nearly in order, and a map's filling and rehashing was a twelfth of the
// JavaScript thread's time at the rate of small batches.

import type { UnsettledDelivery } from "../delivery.js";

/** Both powers of two, as all lengths of the ring: a sequence's place is its last bits. */
const SMALL = 64;
const LARGE = 4_096;

export class Ledger {
  #ring = emptyRing(SMALL);
  /** Those before it are settled or late, those from `next` on are not admitted. */
  #oldest = 1;
  #next = 1;
  /** Of the ring. */
  #count = 0;
  /** So far behind the others that the ring would be mostly empty. */
  readonly #late = new Map<number, UnsettledDelivery>();

  /** Places that are kept ready: what this takes besides the deliveries themselves. */
  get places(): number {
    return this.#ring.length + this.#late.size;
  }

  get isEmpty(): boolean {
    return this.#count === 0 && this.#late.size === 0;
  }

  add(delivery: UnsettledDelivery): void {
    if (this.#next - this.#oldest === this.#ring.length) this.#makeRoom();
    this.#ring[this.#next & (this.#ring.length - 1)] = delivery;
    this.#next++;
    this.#count++;
  }

  has(sequence: number): boolean {
    if (sequence < this.#oldest) return this.#late.has(sequence);
    return sequence < this.#next && this.#ring[sequence & (this.#ring.length - 1)] !== undefined;
  }

  get(sequence: number): UnsettledDelivery | undefined {
    if (sequence < this.#oldest) return this.#late.get(sequence);
    return sequence < this.#next ? this.#ring[sequence & (this.#ring.length - 1)] : undefined;
  }

  /** Removes a delivery; undefined if it is none of these. */
  take(sequence: number): UnsettledDelivery | undefined {
    if (sequence < this.#oldest || sequence >= this.#next) return this.#takeLate(sequence);
    const ring = this.#ring;
    const last = ring.length - 1;
    const taken = ring[sequence & last];
    if (taken === undefined) return undefined;
    ring[sequence & last] = undefined;
    while (this.#oldest < this.#next && ring[this.#oldest & last] === undefined) this.#oldest++;
    if (--this.#count === 0 && last >= LARGE) this.#ring = emptyRing(SMALL);
    return taken;
  }

  /** Removes and gives all, in order. */
  takeAll(): UnsettledDelivery[] {
    const all = [...this.#late.values()];
    for (let sequence = this.#oldest; sequence < this.#next; sequence++) {
      const delivery = this.#ring[sequence & (this.#ring.length - 1)];
      if (delivery !== undefined) all.push(delivery);
    }
    this.#late.clear();
    this.#ring = emptyRing(SMALL);
    this.#oldest = this.#next;
    this.#count = 0;
    return all;
  }

  #takeLate(sequence: number): UnsettledDelivery | undefined {
    const taken = this.#late.get(sequence);
    this.#late.delete(sequence);
    return taken;
  }

  #makeRoom(): void {
    const ring = this.#ring;
    const last = ring.length - 1;
    if (ring.length >= LARGE && this.#count * 4 < ring.length) {
      for (; this.#oldest < this.#next; this.#oldest++) {
        const late = ring[this.#oldest & last];
        if (late !== undefined) this.#late.set(this.#oldest, late);
      }
      ring.fill(undefined);
      this.#count = 0;
      return;
    }
    const larger = emptyRing(ring.length * 2);
    for (let sequence = this.#oldest; sequence < this.#next; sequence++)
      larger[sequence & (larger.length - 1)] = ring[sequence & last];
    this.#ring = larger;
  }
}

function emptyRing(length: number): (UnsettledDelivery | undefined)[] {
  return new Array<UnsettledDelivery | undefined>(length).fill(undefined);
}
