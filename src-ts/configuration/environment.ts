// The variables `ARROW_INGEST_*` → a tree of options.
//
// Invariants:
// - A variable that is set and empty is not given: that is how shells and containers take one back.
// - A name that is nearly that of an option is a mistake, and so is an unknown name within a group. Other names are
//   left alone, and told: Kubernetes makes some of the names of services.

import type { ConfigIssue } from "../errors.js";
import { nearest } from "../nearest.js";
import {
  BY_VARIABLE,
  FILE_VARIABLE,
  OPTION_LIST,
  type OptionFacts,
  OTHERS,
  PREFIX,
  pathOf,
  URL_VARIABLE,
  variableOf,
} from "./names.js";
import { mayRefer, type References, resolved } from "./references.js";
import { expanded, isTree, overlaid, type Place, pathsIn, type Tree } from "./trees.js";
import { readValue } from "./values.js";

export type Environment = Readonly<Record<string, string | undefined>>;

/** What one place has to say. */
export interface Layer {
  readonly tree: Tree;
  readonly places: ReadonlyMap<string, Place>;
  readonly issues: readonly ConfigIssue[];
}

export interface EnvironmentLayer extends Layer {
  readonly url: string | undefined;
  readonly file: string | undefined;
  /** Names that begin as ours and are no option. */
  readonly ignored: readonly string[];
}

export async function readEnvironment(
  environment: Environment,
  base: string,
): Promise<EnvironmentLayer | undefined> {
  // On Windows names are of any case.
  const given = Object.entries(environment).filter(
    ([name, value]) => name.toUpperCase().startsWith(PREFIX) && value !== undefined && value !== "",
  ) as [string, string][];
  if (given.length === 0) return undefined;
  const issues: ConfigIssue[] = [];
  const ignored: string[] = [];
  const places = new Map<string, Place>();
  const special = new Map<string, string>();
  let tree: Tree = {};
  // The longer names last: a member goes over its group.
  for (const [name, text] of given.sort(([a], [b]) => a.length - b.length || (a < b ? -1 : 1))) {
    const variable = name.toUpperCase();
    if (OTHERS.includes(variable)) continue;
    const found = await looked(variable, text, { environment, base });
    if (found === undefined) {
      const meant = nearest(variable, ALL_NAMES);
      if (meant === undefined && !isWithin(variable)) ignored.push(name);
      else
        issues.push({
          path: name,
          message: "is not the variable of an option",
          ...(meant !== undefined && { suggestion: meant }),
        });
      continue;
    }
    if ("fault" in found) {
      issues.push({ path: found.path, message: found.fault, source: name });
      continue;
    }
    if (variable === URL_VARIABLE || variable === FILE_VARIABLE) {
      special.set(variable, String(found.value));
      continue;
    }
    const place: Place = { kind: "environment", where: name, referenced: found.referenced };
    const branch = branchOf(found.path, found.value);
    for (const path of pathsIn(branch)) places.set(path, place);
    tree = overlaid(branch, tree) as Tree;
  }
  return { tree, places, issues, ignored, url: special.get(URL_VARIABLE), file: special.get(FILE_VARIABLE) };
}

const ALL_NAMES: readonly string[] = [URL_VARIABLE, FILE_VARIABLE, ...BY_VARIABLE.keys()];
const GROUPS: readonly string[] = OPTION_LIST.filter(({ kind }) => kind === "group").map(
  ({ path }) => `${variableOf(path)}_`,
);
const isWithin = (variable: string): boolean => GROUPS.some((group) => variable.startsWith(group));
const RECORDS: readonly OptionFacts[] = OPTION_LIST.filter(({ kind }) => kind === "record");

type Looked =
  | { readonly path: string; readonly value: unknown; readonly referenced: boolean }
  | { readonly path: string; readonly fault: string };

async function looked(variable: string, text: string, references: References): Promise<Looked | undefined> {
  const option = BY_VARIABLE.get(variable);
  const inner = option === undefined ? nameWithin(variable) : undefined;
  const path = option?.path ?? inner ?? SPECIAL.get(variable);
  if (path === undefined) return undefined;
  const found = mayRefer(text) ? await resolved(text, references) : { text, referenced: false };
  if ("fault" in found) return { path, fault: found.fault };
  const read = readValue(option, found.text);
  return "fault" in read
    ? { path, fault: read.fault }
    : { path, value: read.value, referenced: found.referenced };
}

const SPECIAL: ReadonlyMap<string, string> = new Map([
  [URL_VARIABLE, "url"],
  [FILE_VARIABLE, "config"],
]);

/** Of records each name has a variable: `ARROW_INGEST_HEADERS_X_TENANT`, `ARROW_INGEST_DELTA_STORAGE_AWS_REGION`. */
function nameWithin(variable: string): string | undefined {
  for (const { path } of RECORDS) {
    const begin = `${variableOf(path)}_`;
    if (!variable.startsWith(begin) || variable.length === begin.length) continue;
    const name = variable.slice(begin.length).toLowerCase();
    // Headers have dashes where variables cannot; the options of object stores have underscores.
    return pathOf(path, path === "headers" ? name.replaceAll("_", "-") : name);
  }
  return undefined;
}

function branchOf(path: string, value: unknown): Tree {
  // The names of records have no dot in a variable.
  const steps = path.split(".");
  const group = expanded(path, value);
  const leaf: unknown = isTree(group) ? group : value;
  return steps.reduceRight<unknown>((inner, step) => ({ [step]: inner }), leaf) as Tree;
}
