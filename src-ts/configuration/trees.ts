// Options as trees, and several of them as one.
//
// Invariants:
// - What is above hides what is below, option by option. `null` and `undefined` hide nothing.
// - A group whose members exclude each other comes from one place as a whole.
// - No name of a tree, `__proto__` included, is more than a name.

import { BY_PATH, optionAt, pathOf } from "./names.js";

export type Tree = Readonly<Record<string, unknown>>;

/** Where a value of the environment or of a file stands. */
export interface Place {
  readonly kind: "environment" | "file";
  /** The variable, or the file and perhaps the line: `app.yaml:12`. */
  readonly where: string;
  /** It came by `${env:…}` or `${file:…}`, so it may be a secret wherever it stands. */
  readonly referenced: boolean;
}

export const isTree = (value: unknown): value is Tree =>
  typeof value === "object" &&
  value !== null &&
  !Array.isArray(value) &&
  !(value instanceof Map) &&
  !(value instanceof Date);

/** A value in the place of a group that it is short for → the group. */
export function expanded(path: string, value: unknown): unknown {
  const short = BY_PATH.get(path)?.short;
  return short === undefined || isTree(value) || value == null ? value : { [short]: value };
}

/** `upper` over `lower`. */
export function overlaid(upper: unknown, lower: unknown, path = ""): unknown {
  if (upper === undefined || upper === null) return lower;
  if (lower === undefined || lower === null) return upper;
  const [above, below] = [expanded(path, upper), expanded(path, lower)];
  if (!isTree(above) || !isTree(below)) return upper;
  const option = BY_PATH.get(path);
  if (option?.exclusive === true) return upper;
  const names = new Map(Object.entries(above));
  if (option?.kind === "record") {
    // A function that gives headers gives all of them.
    if ([...names.values()].some((value) => typeof value === "function")) return upper;
    const given = new Set([...names.keys()].map((name) => name.toLowerCase()));
    for (const [name, value] of Object.entries(below))
      if (!given.has(name.toLowerCase())) names.set(name, value);
  } else
    for (const [name, value] of Object.entries(below))
      names.set(name, overlaid(names.get(name), value, pathOf(path, name)));
  return Object.fromEntries(names);
}

/** The paths in a tree: of groups, of options, and of names within a record. */
export function* pathsIn(tree: unknown, path = ""): Generator<string, void, undefined> {
  const option = path === "" ? undefined : optionAt(path);
  if (isTree(tree) && (option === undefined || option.kind === "group" || option.path === path)) {
    if (path !== "") yield path;
    for (const [name, value] of Object.entries(tree)) yield* pathsIn(value, pathOf(path, name));
  } else if (tree !== undefined && tree !== null) yield path;
}

/** Whether something is given at a path, or in place of a group that it is in. */
export function isGiven(options: unknown, path: string): boolean {
  let value = options;
  let above = "";
  const steps = path.split(".");
  for (const [index, step] of steps.entries()) {
    const group = expanded(above, value);
    if (!isTree(group)) return group !== undefined && group !== null;
    if (BY_PATH.get(above)?.exclusive === true && Object.keys(group).length > 0) return true;
    if (BY_PATH.get(above)?.kind === "record") {
      const rest = steps.slice(index).join(".").toLowerCase();
      return Object.entries(group).some(
        ([name, inner]) => typeof inner === "function" || (inner != null && name.toLowerCase() === rest),
      );
    }
    value = Object.hasOwn(group, step) ? group[step] : undefined;
    above = pathOf(above, step);
  }
  return value !== undefined && value !== null;
}
