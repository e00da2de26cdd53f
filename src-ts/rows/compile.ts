// The loops that give columns their values: one function for each column of a schema, compiled where the runtime allows
// it, closures elsewhere.
//
// Invariants:
// - Of what users name, nothing enters a program but as a JSON string literal.
// - Both kinds of loops take the same values and refuse the same: a compiled one writes the most common values of its
//   type itself and gives all others to the column's `put`, to which a closure gives every value.
// - Compiled functions are bounded: `MAX_OF_SCHEMA` for a schema, `MAX_COMPILED` for those that are remembered. What is
//   not remembered goes with the encoders that use it.
// - A loop never ends early: what throws is refused, and the loop goes on behind it.

import type { Column, Loop } from "./column.js";

const MAX_OF_SCHEMA = 1_024;
const MAX_COMPILED = 4_096;

/** Whether the runtime compiles text: a policy or a flag may forbid it. */
export const CAN_COMPILE: boolean = canCompile();

function canCompile(): boolean {
  try {
    return new Function("return true")() === true;
  } catch {
    return false;
  }
}

/** What every object inherits: such a name is looked for among an object's own keys alone. */
const isInherited = (name: string): boolean => name in Object.prototype;

const own = (object: object, name: string): unknown =>
  Object.hasOwn(object, name) ? (object as Record<string, unknown>)[name] : undefined;

/** NaN for what only looks like a `Date`. */
function timeOf(value: Date): number {
  try {
    return getTime.call(value);
  } catch {
    return Number.NaN;
  }
}

const getTime = Date.prototype.getTime;

/** The loops of one schema, in the order in which its columns are made. */
export class Loops {
  readonly #compiles: boolean;
  readonly #made: Loop[] = [];
  #next = 0;

  constructor(compiles: boolean) {
    this.#compiles = compiles;
  }

  /** How many functions were compiled. */
  get compiled(): number {
    return this.#compiles ? Math.min(this.#made.length, MAX_OF_SCHEMA) : 0;
  }

  /** For another tree of columns of the same schema. */
  begin(): void {
    this.#next = 0;
  }

  /** @param key Undefined: the source holds the values themselves. */
  next(column: Column, key: string | undefined): Loop {
    const index = this.#next++;
    let loop = this.#made[index];
    if (loop === undefined) {
      loop = this.#compiles && index < MAX_OF_SCHEMA ? compile(column, key) : closure(key);
      this.#made.push(loop);
    }
    return loop;
  }
}

const remembered = new Map<string, Loops>();

/** The loops of the schema that is known by `key`: those that were made for it before, if they are remembered. */
export function loopsOf(key: string, compiles: boolean): Loops {
  const name = `${compiles ? "c" : "n"}${key}`;
  const loops = remembered.get(name) ?? new Loops(compiles);
  // Those that were not used for longest come first.
  remembered.delete(name);
  remembered.set(name, loops);
  loops.begin();
  return loops;
}

/** Forgets what was not used for longest, until the rest is few enough. */
export function forgetLoops(): void {
  let sum = 0;
  for (const loops of remembered.values()) sum += loops.compiled + 1;
  for (const [name, loops] of remembered) {
    if (sum <= MAX_COMPILED) return;
    remembered.delete(name);
    sum -= loops.compiled + 1;
  }
}

/** Functions that are compiled and remembered. */
export function compiledLoops(): number {
  let sum = 0;
  for (const loops of remembered.values()) sum += loops.compiled;
  return sum;
}

function compile(column: Column, key: string | undefined): Loop {
  const name = JSON.stringify(key);
  const value =
    key === undefined ? "source[i]" : isInherited(key) ? `own(source[i], ${name})` : `source[i][${name}]`;
  const body = `"use strict";
return function (column, source, count) {
  const { values, words, parts, length: at } = column;
  let i = 0;
  for (;;) {
    try {
      for (; i < count; i++) {
        const value = ${value};
        ${column.fast} column.put(i, value);
      }
      return;
    } catch (thrown) {
      column.threw(i++, thrown);
    }
  }
};`;
  return new Function("own", "timeOf", body)(own, timeOf) as Loop;
}

function closure(key: string | undefined): Loop {
  const read =
    key === undefined
      ? (source: ArrayLike<unknown>, i: number): unknown => source[i]
      : isInherited(key)
        ? (source: ArrayLike<unknown>, i: number): unknown => own(source[i] as object, key)
        : (source: ArrayLike<unknown>, i: number): unknown => (source[i] as Record<string, unknown>)[key];
  return (column, source, count) => {
    let i = 0;
    for (;;) {
      try {
        for (; i < count; i++) column.put(i, read(source, i));
        return;
      } catch (thrown) {
        column.threw(i++, thrown);
      }
    }
  };
}
