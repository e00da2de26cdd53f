// Deliveries in the spool whose outcome nobody has asked for.
//
// Invariants:
// - Their number is bounded. In an outage each takes memory and its part of the budget until its outcome is there: as
//   many as fit would keep the next call waiting, however much room there is on the disk.
// - One whose outcome somebody waits for is never given up.
//
// It ends no delivery: the client leaves what it names, and the spool delivers it all the same.

/** What the spool charges for a delivery with a caller: `CALLER_BYTES` in src-rs/transmitter/spooling.rs. More there, and
 * calls would wait again, which tests/ts/spool.test.ts sees. */
const CALLER_BYTES = 2_048;

export class Unasked {
  readonly #most: number;
  readonly #isUnasked: (sequence: number) => boolean;
  /** In order, from `#head` on; those that are settled or awaited by now among them. */
  #sequences: number[] = [];
  #head = 0;

  /** @param isUnasked Whether a delivery has no outcome, and nobody waits for it. */
  constructor(budgetBytes: number, isUnasked: (sequence: number) => boolean) {
    // Half of what the budget has for callers.
    this.#most = Math.max(1, Math.floor(budgetBytes / 4 / CALLER_BYTES));
    this.#isUnasked = isUnasked;
  }

  /** Takes one that is in the spool now. Gives the oldest, where there are too many. */
  add(sequence: number): number | undefined {
    this.#sequences.push(sequence);
    const oldest = this.#oldest();
    if (oldest === undefined || this.#sequences.length - this.#head <= this.#most) return undefined;
    this.#head++;
    return oldest;
  }

  /** The first that is unasked still. Those before it are forgotten. */
  #oldest(): number | undefined {
    const sequences = this.#sequences;
    while (this.#head < sequences.length && !this.#isUnasked(sequences[this.#head]!)) this.#head++;
    if (this.#head >= 1_024 && this.#head * 2 >= sequences.length) {
      this.#sequences = sequences.slice(this.#head);
      this.#head = 0;
    }
    return this.#sequences[this.#head];
  }
}
