// Options that text can hold: by path, and by the variable of the environment.
//
// The list itself is written by `scripts/options.mjs` from `options.ts`; no option is named here.

import { OPTIONS, type OptionFacts } from "../options/table.js";

export type { OptionFacts };

export const PREFIX = "ARROW_INGEST_";

/** Variables that are no option. */
export const URL_VARIABLE = `${PREFIX}URL`;
export const FILE_VARIABLE = `${PREFIX}CONFIG`;
/** What other parts of the package, its tests and its tools read. */
export const OTHERS: readonly string[] = [
  `${PREFIX}LOG`,
  `${PREFIX}ADDON`,
  `${PREFIX}HOST`,
  `${PREFIX}SKIPPED`,
];

/** `scripts/options.mjs` has the same rule. */
export const variableOf = (path: string): string =>
  PREFIX +
  path
    .replaceAll(/([a-z0-9])([A-Z])/g, "$1_$2")
    .replaceAll(".", "_")
    .toUpperCase();

export const BY_PATH: ReadonlyMap<string, OptionFacts> = new Map(
  OPTIONS.map((option) => [option.path, option]),
);
export const BY_VARIABLE: ReadonlyMap<string, OptionFacts> = new Map(
  OPTIONS.map((option) => [variableOf(option.path), option]),
);
export const OPTION_LIST: readonly OptionFacts[] = OPTIONS;

/** The option that stands at a path: for a name within a record, the record. */
export function optionAt(path: string): OptionFacts | undefined {
  const option = BY_PATH.get(path);
  if (option !== undefined) return option;
  const record = path.split(".");
  for (record.pop(); record.length > 0; record.pop()) {
    const found = BY_PATH.get(record.join("."));
    if (found?.kind === "record") return found;
  }
  return undefined;
}

/** Whether the value at a path is never shown. What no option is could be a secret that is misspelt. */
export const isSecret = (path: string): boolean => optionAt(path)?.secret ?? !BY_PATH.has(path);

export const pathOf = (above: string, name: string): string => (above === "" ? name : `${above}.${name}`);
