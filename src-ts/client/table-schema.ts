// What the destination says of the table's schema.
//
// Invariants:
// - What was said is kept until it is contradicted (`forget`), or rows have keys that it does not know and it is not
//   new (`doubt`); that nobody can tell, and that asking failed, is not kept: a table may be made at any time.
// - Many that ask at once are one question.
// - Where the destination does not answer, rows have what it said last, to this client or an earlier one of the same
//   spool, unless it has refused a batch for its columns since. `client.schema()` has the error.
//
// It does not decide whose schema rows have: schemas.ts does.

import { RecordBatchReader, type Schema } from "apache-arrow";
import { IngestError } from "../errors.js";

/** Milliseconds in which rows with unknown keys cause one question at most: a producer may have nothing else. */
const NEW_MS = 10_000;

export class TableSchema {
  readonly #ask: () => Promise<Uint8Array | null>;
  readonly #read: () => Promise<Uint8Array | null>;
  /** What was said last and not contradicted. */
  known: Schema | undefined;
  #kept: Promise<Schema | null> | undefined;
  readonly #now: () => number;
  #saidAt = 0;
  /** A batch was refused for its columns, and the destination has said nothing since. */
  #isContradicted = false;

  /**
   * @param ask Gives an IPC stream that holds just the schema; null where nobody can tell.
   * @param kept What the spool keeps of what was said; null where it keeps nothing.
   */
  constructor(
    ask: () => Promise<Uint8Array | null>,
    kept: () => Promise<Uint8Array | null>,
    now = () => performance.now(),
  ) {
    this.#ask = ask;
    this.#read = kept;
    this.#now = now;
  }

  /** The schema that was said last, asked for if there is none. */
  get(): Promise<Schema | null> {
    return (this.#kept ?? this.anew()).catch((error: unknown) => this.#saidBefore(error));
  }

  /** The schema as it is now. */
  anew(): Promise<Schema | null> {
    const asked = this.#ask().then(toSchema);
    this.#kept = asked;
    const forget = (): void => {
      if (this.#kept === asked) this.#forget();
    };
    asked.then((schema) => {
      if (schema === null) forget();
      else if (this.#kept === asked) {
        this.#isContradicted = false;
        this.#know(schema);
      }
    }, forget);
    return asked;
  }

  async #saidBefore(error: unknown): Promise<Schema> {
    // A refusal for good is the destination's word, too.
    if (!(error instanceof IngestError) || error.retry === "never") throw error;
    const schema = toSchema(await this.#read());
    if (schema === null || this.#isContradicted) throw error;
    if (this.known === undefined) this.#know(schema);
    return this.known ?? schema;
  }

  #know(schema: Schema): void {
    this.known = schema;
    this.#saidAt = this.#now();
  }

  /** Rows have keys that no column has: another writer may have widened the table. */
  doubt(): void {
    if (this.known !== undefined && this.#now() - this.#saidAt >= NEW_MS) this.#forget();
  }

  /** The destination has refused a batch for its columns: they may be others by now. */
  forget(): void {
    this.#isContradicted = true;
    this.#forget();
  }

  #forget(): void {
    this.#kept = undefined;
    this.known = undefined;
  }
}

/** Null, too, for a schema with a type that `apache-arrow` does not know. */
function toSchema(message: Uint8Array | null): Schema | null {
  if (message === null) return null;
  try {
    return RecordBatchReader.from(message).open().schema ?? null;
  } catch {
    return null;
  }
}
