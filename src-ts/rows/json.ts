// A row that is no Arrow values ⇄ JSON that keeps what JSON alone does not have.
//
// Tags: an object whose first key begins with one `$`. Keys of the user's that begin with `$` have one more.
//
// Invariants:
// - Writing never throws and never recurses beyond `MAX_DEPTH`; what a row does while it is read is marked in its place.
// - The text of a row is bounded by about `MAX_TEXT`; what is cut off is marked.
// - What was marked comes back as a symbol, which no column takes: a row that is not whole is never sent as if it were.
//
// It looks at no schema.

/// <reference lib="es2024.string" />

import { types } from "node:util";
import { bytesOf, epochNanos, temporalName, textOfTemporal } from "./attend.js";
import { kindOf } from "./refusal.js";

/** UTF-16 units, about: the last value may go beyond it by its own tags. */
const MAX_TEXT = 1 << 18;
/** Values of one row: each takes time, however short it is. */
const MAX_VALUES = 1 << 14;
const MAX_DEPTH = 64;

/** A row as tagged JSON. */
export function rowToJson(row: unknown): string {
  const writer = new Writer();
  const tagged = writer.value(row);
  return JSON.stringify(tagged);
}

/**
 * What {@link rowToJson} wrote: bigints, dates and bytes as they were, objects as plain ones.
 *
 * @throws {SyntaxError} It is no JSON.
 */
export function rowFromJson(json: string): unknown {
  return JSON.parse(json, (_key, value: unknown) => untagged(value));
}

class Writer {
  readonly #above: object[] = [];
  #text = MAX_TEXT;
  #values = MAX_VALUES;

  value(value: unknown): unknown {
    if (--this.#values < 0 || this.#text <= 0) return { $cut: kindOf(value) };
    switch (typeof value) {
      case "boolean":
        return value;
      case "string":
        return this.#string(value);
      case "number":
        return Number.isFinite(value) && !Object.is(value, -0)
          ? value
          : { $number: Object.is(value, -0) ? "-0" : String(value) };
      case "bigint":
        return this.#bigint(value);
      case "undefined":
        return { $undefined: true };
      case "object":
        return value === null ? null : this.#object(value);
      case "symbol":
        return kept(value.description ?? "") ?? { $unreadable: "a symbol" };
      default:
        return { $unreadable: "a function" };
    }
  }

  #string(text: string): unknown {
    this.#text -= text.length;
    if (this.#text < 0) return { $cut: kindOf(text), begin: text.slice(0, 256).toWellFormed() };
    return text;
  }

  #bigint(value: bigint): unknown {
    // A bigint may have a million digits, and writing them takes more than in proportion.
    if (value > MOST_BIGINT || value < -MOST_BIGINT) return { $cut: kindOf(value) };
    return { $bigint: String(value) };
  }

  #object(object: object): unknown {
    if (this.#above.includes(object)) return { $cycle: this.#above.length - this.#above.indexOf(object) };
    if (this.#above.length >= MAX_DEPTH) return { $cut: kindOf(object) };
    this.#above.push(object);
    try {
      return this.#contents(object);
    } catch {
      return { $threw: kindOf(object) };
    } finally {
      this.#above.pop();
    }
  }

  #contents(object: object): unknown {
    if (types.isDate(object)) {
      const time = getTime.call(object);
      return { $date: Number.isNaN(time) ? null : new Date(time).toISOString() };
    }
    if (types.isTypedArray(object) && !types.isUint8Array(object) && !types.isUint8ClampedArray(object))
      return { $array: this.#items(object as ArrayLike<unknown>), of: object[Symbol.toStringTag] };
    const bytes = bytesOf(object);
    if (bytes !== undefined) return this.#bytes(bytes);
    if (types.isMap(object)) {
      const entries: unknown[] = [];
      for (const [key, value] of mapEntries.call(object) as Iterable<[unknown, unknown]>) {
        if (this.#values <= 0) break;
        entries.push([this.value(key), this.value(value)]);
      }
      return this.#values <= 0 ? { $cut: kindOf(object) } : { $map: entries };
    }
    if (Array.isArray(object)) return this.#items(object);
    const temporal = temporalName(object);
    if (temporal === undefined) return this.#members(object);
    const nanos = epochNanos(object);
    return {
      $temporal: temporal,
      text: textOfTemporal(object).slice(0, 256),
      ...(nanos === undefined ? {} : { nanos: String(nanos) }),
    };
  }

  #bytes(bytes: Uint8Array | "gone"): unknown {
    if (bytes === "gone") return { $unreadable: "bytes that are gone" };
    this.#text -= Math.ceil((bytes.length * 4) / 3);
    if (this.#text < 0) return { $cut: kindOf(bytes) };
    // Of a shared buffer, no decoder takes the bytes as they are.
    return { $bytes: Buffer.from(bytes).toString("base64") };
  }

  #items(items: ArrayLike<unknown>): unknown[] {
    const length = Number(items.length);
    const written: unknown[] = [];
    for (let i = 0; i < length; i++) {
      if (this.#values <= 0) {
        written.push({ $cut: `${length - i} items more` });
        break;
      }
      written.push(this.#read(() => items[i]));
    }
    return written;
  }

  #members(object: object): unknown {
    const written = Object.create(null) as Record<string, unknown>;
    for (const key of Object.keys(object)) {
      if (this.#values <= 0 || this.#text <= 0) return { $partial: written };
      this.#text -= key.length;
      const value = this.#read(() => (object as Record<string, unknown>)[key]);
      written[key.startsWith("$") ? `$${key}` : key] = value;
    }
    return written;
  }

  #read(read: () => unknown): unknown {
    let value: unknown;
    try {
      value = read();
    } catch (thrown) {
      // It counts like any other: a proxy may have as many items as it says, and throw for each.
      this.#values--;
      return { $threw: kindOf(thrown) };
    }
    return this.value(value);
  }
}

const MOST_BIGINT = 10n ** 80n;
const getTime = Date.prototype.getTime;
const mapEntries = Map.prototype.entries;

/** How the description of a symbol begins that stands for what could not be kept; what was written for it follows. */
const MARK = "arrow-ingest: ";

function kept(description: string): unknown {
  if (!description.startsWith(MARK)) return undefined;
  try {
    return JSON.parse(description.slice(MARK.length));
  } catch {
    return undefined;
  }
}

/** Of a value whose members have been through here already. */
function untagged(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const tagged = value as Record<string, unknown>;
  const keys = Object.keys(tagged);
  const tag = keys[0];
  if (tag === undefined || !tag.startsWith("$") || tag.startsWith("$$"))
    return keys.some((key) => key.startsWith("$$")) ? withoutEscapes(tagged, keys) : value;
  const content = tagged[tag];
  switch (tag) {
    case "$number":
      return Number(content);
    case "$bigint":
      return BigInt(content as string);
    case "$undefined":
      // A reviver that gives undefined takes the key away, which is the same to a row.
      return undefined;
    case "$date":
      return content === null ? new Date(Number.NaN) : new Date(content as string);
    case "$bytes":
      return new Uint8Array(Buffer.from(content as string, "base64"));
    case "$array":
      return content;
    case "$map":
      return new Map(content as [unknown, unknown][]);
    case "$temporal":
      return temporal(content as string, tagged);
    default: {
      // What comes out of here is written again as it was.
      const writer = new Writer();
      const again = Object.fromEntries(keys.map((key) => [key, writer.value(tagged[key])]));
      return Symbol(`${MARK}${JSON.stringify(again)}`);
    }
  }
}

function withoutEscapes(object: Record<string, unknown>, keys: readonly string[]): object {
  const names = keys.map((key) => (key.startsWith("$$") ? key.slice(1) : key));
  const made = {};
  // Not by assignment: `__proto__` is a name like any other.
  for (const [index, name] of names.entries())
    Object.defineProperty(made, name, {
      value: object[keys[index]!],
      enumerable: true,
      configurable: true,
      writable: true,
    });
  return made;
}

/** What stands for an object of `Temporal`: its tag, its text and its instant are all that columns look at. */
function temporal(name: string, { text, nanos }: Record<string, unknown>): object {
  return Object.defineProperties(
    {},
    {
      [Symbol.toStringTag]: { value: `Temporal.${name}` },
      toString: { value: () => String(text) },
      epochNanoseconds: { value: typeof nanos === "string" ? BigInt(nanos) : undefined },
    },
  );
}
