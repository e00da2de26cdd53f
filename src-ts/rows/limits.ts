// How much of rows is read at a time, and how large what they become may be.
//
// Invariant: whoever reads values by the rules of rows takes these, so that no way of giving them holds the event loop
// for longer, or makes larger batches, than another.

/** Rows and bytes that end a batch. */
export const MAX_ROWS = 65_536;
export const MAX_BYTES = 1 << 24;

/** Rows of a chunk: the first one's, and the most. */
export const FIRST_CHUNK = 64;
export const MAX_CHUNK = 1_024;
/** Milliseconds: what takes less may be longer the next time, what takes more is cut. */
export const SHORT_MS = 0.5;
export const LONG_MS = 1.5;

/** Items and text of a chunk in one column, and of a row, which cannot be parted. */
export const CHUNK_ITEMS = 1 << 15;
export const ROW_ITEMS = 1 << 22;
export const CHUNK_UNITS = 1 << 20;
export const ROW_UNITS = 1 << 29;
/** Memory that the elements of a column take in a row whatever they hold. */
export const ROW_BYTES = 2 ** 31;
