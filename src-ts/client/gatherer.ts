// Single rows on their way to become deliveries.
//
// Invariants:
// - Rows are read in the order in which they come, and no later than the microtask after the one that gave them.
// - What is gathered is handed over when it is as much as `batching` says, when `linger` is over, and as soon as it does
//   not fit into the budget any more beside what is under way.
// - A row that uses the writer while it is read does not see it half-way: it is told so.
//
// Who is told of a row's outcome is no matter of it.

import type { Schema } from "apache-arrow";
import type { GatheringLimits } from "../binding.js";
import { LONGEST_TIMER_MS } from "../duration.js";
import { ingestError } from "../errors.js";
import { selectRows } from "../row-selection.js";
import { type EncodedRows, RowCollector } from "../rows/encoded.js";
import type { EncoderOptions } from "../rows/encoder.js";
import { isDue, turn } from "../turn.js";

/** Rows that are read at once at most. */
const MOST_AT_ONCE = 256;

/** What gatherers share with the client. */
export interface Gatherers {
  readonly gathering: GatheringLimits;
  readonly budgetBytes: number;
  /** Whether what is gathered and what is under way are more than the budget. */
  readonly isTight: boolean;
  /** So many bytes more are gathered, or fewer. */
  gathered(bytes: number): void;
  /** Those with rows. */
  readonly gatherers: Set<Gatherer>;
}

/** Rows of one schema, read in chunks. No timers. */
export class RowBuffer {
  readonly #shared: Gatherers;
  readonly #schemaOf: (row: unknown) => Schema | Promise<Schema>;
  readonly #options: EncoderOptions;
  readonly #maxBytes: number;
  #schema: Schema | undefined;
  #collector: RowCollector | undefined;
  #pending: unknown[] = [];
  #spare: unknown[] = [];
  #given = 0;
  #bytes = 0;
  #isReading = false;
  #withdrawn: Set<number> | undefined;
  #limit = 1;

  /**
   * @param schemaOf The schema for the rows from `row` on; asked before the first row of each delivery.
   */
  constructor(
    shared: Gatherers,
    schemaOf: (row: unknown) => Schema | Promise<Schema>,
    options: EncoderOptions,
  ) {
    this.#shared = shared;
    this.#schemaOf = schemaOf;
    this.#options = options;
    // It is let in as a whole, and must not be what fills the budget.
    this.#maxBytes = Math.min(shared.gathering.maxBytes, shared.budgetBytes / 8);
  }

  /** Rows so far. */
  get given(): number {
    return this.#given;
  }

  get isReading(): boolean {
    return this.#isReading;
  }

  /** Rows that were not read yet. */
  get pending(): number {
    return this.#pending.length;
  }

  /** Enough for a delivery. */
  get isFull(): boolean {
    return this.#given >= this.#shared.gathering.maxRows || this.#bytes >= this.#maxBytes;
  }

  /**
   * To be waited for before a row is pushed, where it is the first and nobody knows the schema yet.
   *
   * @throws {IngestError} `SCHEMA_MISMATCH`: it has a type that no row can fill.
   */
  ask(row: unknown): Promise<void> | undefined {
    if (this.#given > 0) return undefined;
    const schema = this.#schemaOf(row);
    if (schema instanceof Promise) return schema.then((schema) => this.#know(schema));
    this.#know(schema);
    return undefined;
  }

  /** Takes a row, after `ask`. Whether as many wait as are read at once. */
  push(row: unknown): boolean {
    this.#given++;
    this.#pending.push(row);
    return this.#pending.length >= this.#limit;
  }

  #know(schema: Schema): void {
    if (schema !== this.#schema) {
      this.#collector = new RowCollector(schema, this.#options);
      this.#schema = schema;
    }
    this.#look(this.#collector!);
  }

  /** Reads the rows that wait. */
  read(): void {
    const collector = this.#collector;
    if (this.#isReading || this.#pending.length === 0 || collector === undefined) return;
    const rows = this.#pending;
    this.#pending = this.#spare;
    this.#isReading = true;
    try {
      for (let row = 0; row < rows.length; ) row += collector.add(rows, row, rows.length);
    } finally {
      this.#isReading = false;
      rows.length = 0;
      this.#spare = rows;
    }
    this.#count(collector.bytes);
    this.#look(collector);
  }

  /** Takes out a row that was given as the `place`-th since the last `take`. */
  withdraw(place: number): void {
    this.#withdrawn ??= new Set();
    this.#withdrawn.add(place);
  }

  /** All rows that were given, to begin anew; undefined if there are none. */
  take(): EncodedRows | undefined {
    this.read();
    const collector = this.#collector;
    if (collector === undefined || this.#given === 0) return undefined;
    this.#count(0);
    this.#given = 0;
    const withdrawn = this.#withdrawn;
    this.#withdrawn = undefined;
    const rows = collector.take();
    return withdrawn === undefined ? rows : without(rows, withdrawn);
  }

  #count(bytes: number): void {
    this.#shared.gathered(bytes - this.#bytes);
    this.#bytes = bytes;
  }

  #look(collector: RowCollector): void {
    const left = this.#shared.gathering.maxRows - this.#given;
    this.#limit = Math.max(1, Math.min(collector.chunk, MOST_AT_ONCE, left));
  }
}

function without(rows: EncodedRows, withdrawn: ReadonlySet<number>): EncodedRows | undefined {
  const { given, missing } = rows;
  if (withdrawn.size === given) return undefined;
  const refused = new Set(missing);
  // By their numbers among the rows that became Arrow values.
  const out = new Set<number>();
  let inBatches = 0;
  for (let row = 0; row < given; row++) {
    if (refused.has(row)) continue;
    if (withdrawn.has(row)) out.add(inBatches);
    inBatches++;
  }
  const left = out.size === 0 ? rows.batches : selected({ batches: rows.batches }, out);
  const stays = rows.rejections.map(({ row }) => !withdrawn.has(row));
  return {
    ...rows,
    batches: left,
    given: given - withdrawn.size,
    rejections: rows.rejections.filter((_, index) => stays[index]),
    missing: [...new Set([...missing, ...withdrawn])].sort((one, other) => one - other),
    json: rows.json.filter((_, index) => stays[index]),
  };
}

function selected(
  content: { batches: EncodedRows["batches"] },
  out: ReadonlySet<number>,
): EncodedRows["batches"] {
  const batch = selectRows(content as never, out, "others");
  return batch === null ? [] : [batch];
}

/** A buffer that hands over by itself, in time. */
export class Gatherer {
  readonly #shared: Gatherers;
  readonly #buffer: RowBuffer;
  readonly #hand: (rows: EncodedRows | undefined) => Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  #isScheduled = false;
  #waiting: Promise<void> | undefined;
  readonly #readSoon = (): void => {
    this.#isScheduled = false;
    this.#read();
  };
  readonly #handOver = (): void => void this.handOver();

  /**
   * @param hand Called with what was gathered, undefined if all of it was withdrawn; gives the promise that it is let
   * in, if it was not at once. Never throws, and the promise never rejects.
   */
  constructor(
    shared: Gatherers,
    schemaOf: (row: unknown) => Schema | Promise<Schema>,
    options: EncoderOptions,
    hand: (rows: EncodedRows | undefined) => Promise<void> | undefined,
  ) {
    this.#shared = shared;
    this.#buffer = new RowBuffer(shared, schemaOf, options);
    this.#hand = hand;
  }

  /** Until there is room for more; undefined: there is. */
  get waiting(): Promise<void> | undefined {
    return this.#waiting;
  }

  /** As {@link RowBuffer.ask}. */
  ask(row: unknown): Promise<void> | undefined {
    return this.#buffer.ask(row);
  }

  /**
   * Takes a row, after `ask`; the number of it within the delivery to be.
   *
   * @throws {IngestError} `BATCH_INVALID`: out of a getter of a row. Nothing was taken then.
   */
  add(row: unknown): number {
    const buffer = this.#buffer;
    if (buffer.isReading)
      throw ingestError({
        code: "BATCH_INVALID",
        operation: "rows",
        message: "a getter of a row gives another row to the writer that reads it",
      });
    const place = buffer.given;
    const isTime = buffer.push(row);
    if (place === 0) this.#begin();
    if (isTime) this.#read();
    else if (!this.#isScheduled) {
      this.#isScheduled = true;
      queueMicrotask(this.#readSoon);
    }
    return place;
  }

  /** Takes out a row that is not handed over yet. */
  withdraw(place: number): void {
    this.#buffer.withdraw(place);
  }

  /** Somebody waits: hands over at the end of this turn of the event loop, with what else comes in it. */
  soon(): void {
    this.#immediate ??= setImmediate(this.#handOver);
  }

  /** Hands over what was gathered. The promise of what waits for room, if something does. */
  handOver(): Promise<void> | undefined {
    // Out of a getter of a row.
    if (this.#buffer.isReading || this.#buffer.given === 0) return this.#waiting;
    this.#end();
    const waiting = this.#hand(this.#buffer.take());
    if (waiting !== undefined) this.#wait(waiting);
    return this.#waiting;
  }

  /** Gives up what was gathered. */
  discard(): void {
    if (this.#buffer.isReading) return;
    this.#end();
    this.#buffer.take();
  }

  #begin(): void {
    this.#shared.gatherers.add(this);
    const { lingerMs } = this.#shared.gathering;
    if (lingerMs === 0) this.soon();
    else this.#timer = setTimeout(this.#handOver, Math.min(lingerMs, LONGEST_TIMER_MS));
  }

  #end(): void {
    this.#shared.gatherers.delete(this);
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    this.#immediate = undefined;
  }

  #read(): void {
    const buffer = this.#buffer;
    buffer.read();
    if (buffer.isReading) return;
    if (buffer.isFull || (buffer.given > 0 && this.#shared.isTight)) this.handOver();
    else if (this.#waiting === undefined && isDue()) this.#wait(turn());
  }

  #wait(promise: Promise<void>): void {
    const waiting = (this.#waiting === undefined ? promise : Promise.all([this.#waiting, promise])).then(
      () => {
        if (this.#waiting === waiting) this.#waiting = undefined;
      },
    );
    this.#waiting = waiting;
  }
}
