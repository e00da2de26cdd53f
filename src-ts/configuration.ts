// Options from the call, the environment and a file → what `connect` is to be given, and where each value came from.
//
// Invariants:
// - The call goes before the environment, the environment before the file, and each before Rust's defaults: option by
//   option.
// - Without a variable and a file nothing is read, and nothing is waited for.
// - Values of secrets, and text that came by a reference, are part of no complaint and no report.
//
// It does not check options: `options/checks.ts` and Rust do, and `placed` adds to what they say where it stands.

import { explainOptions, type OptionInForce } from "./binding.js";
import { type Environment, readEnvironment } from "./configuration/environment.js";
import { type FileLayer, readFile } from "./configuration/file.js";
import { isSecret, OPTION_LIST, type OptionFacts, PREFIX, pathOf } from "./configuration/names.js";
import { expanded, isGiven, isTree, overlaid, type Place } from "./configuration/trees.js";
import { ConfigError, type ConfigIssue } from "./errors.js";
import { describe, splitOptions, withOurNames } from "./options/checks.js";
import type { ConnectOptions } from "./options.js";

/** What is asked for in the call. */
export interface Call {
  readonly url?: unknown;
  readonly options?: unknown;
  /** Instead of the file that `ARROW_INGEST_CONFIG` names. */
  readonly file?: string | URL | undefined;
}

/** Everything as one. */
export interface Configured {
  readonly url: unknown;
  readonly options: unknown;
  /** Mistakes in how the environment and the file are written. */
  readonly issues: readonly ConfigIssue[];
  /** Of what is in force from the environment and the file, by path; `url` too. */
  readonly places: ReadonlyMap<string, Place>;
  /** Variables that begin as ours and are no option. */
  readonly ignored: readonly string[];
  readonly call: Call;
}

/** Gives a promise only where there is something to be read. */
export function configure(call: Call): Configured | Promise<Configured> {
  const options = isTree(call.options) ? { ...call.options } : call.options;
  const given = { ...call, options };
  const chosen = isTree(options) ? options.environment : undefined;
  const issues: ConfigIssue[] = [];
  if (chosen !== undefined && chosen !== null && typeof chosen !== "boolean" && !isTree(chosen))
    issues.push({
      path: "environment",
      message: `must be true, false or an object of strings, not ${describe(chosen)}`,
    });
  const environment = chosen === false ? {} : isTree(chosen) ? (chosen as Environment) : process.env;
  const isNamed = Object.keys(environment).some((name) => name.toUpperCase().startsWith(PREFIX));
  if (isNamed || call.file !== undefined) return layered(given, environment, issues);
  return { url: call.url, options, issues, places: new Map(), ignored: [], call: given };
}

async function layered(call: Call, environment: Environment, issues: ConfigIssue[]): Promise<Configured> {
  const variables = await readEnvironment(environment, process.cwd());
  const name = call.file ?? variables?.file;
  let file: FileLayer | undefined;
  try {
    if (name !== undefined) file = await readFile(name, environment);
  } catch (error) {
    // All mistakes at once: those of the environment and of the call are to be said beside it.
    if (!(error instanceof ConfigError)) throw error;
    issues.push(...error.issues);
  }
  issues.push(...(variables?.issues ?? []), ...(file?.issues ?? []));
  const below = overlaid(variables?.tree, file?.tree);
  const places = new Map<string, Place>();
  for (const layer of [file, variables])
    for (const [path, place] of layer?.places ?? [])
      if (layer !== file || !isGiven(variables?.tree, path)) places.set(path, place);
  for (const path of places.keys()) if (isGiven(call.options, path)) places.delete(path);
  const url = call.url ?? variables?.url ?? file?.url ?? call.url;
  if (call.url != null) places.delete("url");
  else if (variables?.url !== undefined)
    places.set("url", { kind: "environment", where: `${PREFIX}URL`, referenced: false });
  const ignored = variables?.ignored ?? [];
  return { url, options: overlaid(call.options, below), issues, places, ignored, call };
}

/** Issues with the place of what they are about, where that is not the call. */
export function placed(issues: readonly ConfigIssue[], { places, call }: Configured): ConfigIssue[] {
  return issues.map((issue) => {
    if (issue.source !== undefined) return issue;
    const place = placeOf(issue.path, places, call);
    if (place === undefined) return issue;
    // Text that a reference stood for may be a secret, wherever it was put.
    const message = place.referenced ? issue.message.replace(/, not .*$/su, "") : issue.message;
    return { ...issue, message, source: place.where };
  });
}

function placeOf(path: string, places: ReadonlyMap<string, Place>, call: Call): Place | undefined {
  const exact = places.get(path);
  if (exact !== undefined || isGiven(call.options, path)) return exact;
  // What is missing in a group is missing where the group stands.
  for (let at = path; at !== ""; at = at.slice(0, Math.max(at.lastIndexOf("."), 0))) {
    const near = places.get(at) ?? [...places].find(([other]) => other.startsWith(`${at}.`))?.[1];
    if (near !== undefined) return near;
  }
  return undefined;
}

/** What {@link inspectConfig} looks at. */
export interface InspectConfigOptions {
  /** A configuration file, as {@link connectFrom} takes one. Default: the one that `ARROW_INGEST_CONFIG` names. */
  readonly file?: string | URL;
  /** As in a call of {@link connect}. */
  readonly url?: string | URL;
  /** As in a call of {@link connect}. */
  readonly options?: ConnectOptions;
}

/** One option as it is in force. */
export interface ConfigValue {
  /** Dotted, as in `batching.maxRows`. */
  readonly path: string;
  /** Bytes, milliseconds, a count, a flag, text or names. Null where there is none, and of a secret. */
  readonly value: string | number | boolean | readonly string[] | null;
  readonly kind: "bytes" | "duration" | "number" | "boolean" | "choice" | "string" | "strings" | "record";
  /** Given, and not shown. */
  readonly hidden: boolean;
  readonly from: "call" | "environment" | "file" | "default";
  /** The variable, or the file and its line; null of calls and defaults. */
  readonly where: string | null;
}

/** What {@link inspectConfig} gives. It holds no secret. */
export interface ConfigReport {
  /** The target, without credentials; null if none is given. */
  readonly url: ConfigValue | null;
  /** Groups that are off unless they are given are there only if they are. */
  readonly options: readonly ConfigValue[];
  /** All mistakes at once. */
  readonly issues: readonly ConfigIssue[];
  /** Variables that begin with `ARROW_INGEST_` and are no option. */
  readonly ignored: readonly string[];
}

/**
 * Which options are in force, where each came from, and what is wrong with them. It connects to nothing.
 *
 * @throws {IngestError} `NATIVE_UNAVAILABLE`. Mistakes in the configuration are in the report.
 *
 * @example
 * ```ts
 * const { options, issues } = await inspectConfig({ file: "ingest.yaml" });
 * for (const { path, value, from, where } of options) console.log(path, value, from, where);
 * for (const { path, message, source } of issues) console.error(source, path, message);
 * ```
 */
export async function inspectConfig(options: InspectConfigOptions = {}): Promise<ConfigReport> {
  const configured = await configure(options);
  const split = splitOptions(configured.options);
  const { url } = configured;
  const isTarget = typeof url === "string" || url instanceof URL;
  const told = await explainOptions(
    isTarget ? String(url) : null,
    JSON.stringify(normal(JSON.parse(split.json))),
  );
  const issues = [...configured.issues, ...split.issues, ...withOurNames(told.issues)];
  if (told.fault !== null)
    issues.push(
      ...(told.fault.issues.length > 0 ? told.fault.issues : [{ path: "url", message: told.fault.message }]),
    );
  if (url !== undefined && url !== null && !isTarget)
    issues.push({ path: "url", message: `must be a string or a URL, not ${describe(url)}` });
  const facts = new Map(told.options.map((fact) => [fact.path, fact]));
  const values = OPTION_LIST.flatMap((option) => valuesOf(option, facts.get(option.path), configured, split));
  return {
    url: isTarget
      ? { ...shown("url", configured), value: withoutSecrets(String(url)), kind: "string", hidden: false }
      : null,
    options: values,
    issues: placed(issues, configured),
    ignored: configured.ignored,
  };
}

/** User names and passwords do not belong in a target, nor does what stands behind a question mark. */
const withoutSecrets = (url: string): string =>
  url.replace(/\/\/[^/@\s]*@/u, "//\u2026@").replace(/\?.*$/su, "?\u2026");

function shown(path: string, { places, call }: Configured): Pick<ConfigValue, "path" | "from" | "where"> {
  const place = places.get(path);
  if (place !== undefined) return { path, from: place.kind, where: place.where };
  const given = path === "url" ? call.url != null : isGiven(call.options, path);
  return { path, from: given ? "call" : "default", where: null };
}

function valuesOf(
  { path, kind }: OptionFacts,
  fact: OptionInForce | undefined,
  configured: Configured,
  split: { readonly telemetry: { readonly enabled?: boolean } },
): ConfigValue[] {
  if (kind === "group") return [];
  if (kind === "record") {
    const names = (fact?.value ?? []) as readonly string[];
    return names.map((name) => ({
      ...shown(pathOf(path, name), configured),
      value: null,
      kind,
      hidden: true,
    }));
  }
  // TypeScript alone has this one.
  if (path === "telemetry.enabled")
    return [{ ...shown(path, configured), value: split.telemetry.enabled !== false, kind, hidden: false }];
  if (fact === undefined) return [];
  const hidden =
    fact.given && (isSecret(path) || (kind === "string" && configured.places.get(path)?.referenced === true));
  const value = hidden ? null : (fact.value as ConfigValue["value"]);
  return [{ ...shown(path, configured), value, kind, hidden }];
}

/** Every group as a group, also where a value stands for it. */
function normal(tree: unknown, path = ""): unknown {
  const group = expanded(path, tree);
  if (!isTree(group)) return group;
  return Object.fromEntries(
    Object.entries(group).map(([name, value]) => [name, normal(value, pathOf(path, name))]),
  );
}
