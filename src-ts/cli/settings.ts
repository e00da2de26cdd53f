// `--options`, `--set` and `--header` → the options of `connect`.
//
// Invariants:
// - A secret on the command line is refused, since every user of the machine can read it there. It comes
//   from the environment (`@env:NAME`) or a file (`@file:PATH`).
// - No value is ever part of a message.
// - Flags go before the environment, and that before the file of `--config`: these are the options of a call.
//
// Whether options are valid is not known here: `connect` says that, about all of them at once.

import * as fs from "node:fs";
import { type ConnectOptions, connect, connectFrom, type IngestClient } from "../index.js";
import { type Io, Misuse } from "./io.js";
import { messageOf } from "./text.js";

/** What `parseArgs` is told, by every command that connects. */
export const SETTING_FLAGS = {
  set: { type: "string", multiple: true, default: [] as string[] },
  options: { type: "string" },
  config: { type: "string" },
  header: { type: "string", multiple: true, default: [] as string[] },
} as const;

export interface SettingFlags {
  readonly set: readonly string[];
  readonly options?: string | undefined;
  readonly config?: string | undefined;
  readonly header: readonly string[];
}

/** @throws {Misuse} naming the option that is wrong. */
export function settings(flags: SettingFlags, io: Io): ConnectOptions {
  const options = flags.options === undefined ? {} : optionsFile(flags.options);
  for (const given of flags.set) assign(options, given, io);
  for (const name of OBJECTS)
    if (Object.hasOwn(options, name))
      throw new Misuse(
        `${name} is an object of JavaScript, and cannot be given on a command line or in a file`,
      );
  for (const given of flags.header) addHeader(options, given, io);
  return { ...options, environment: io.env } as ConnectOptions;
}

/** A client for a target, with a file of options below those that are given. */
export function open(
  config: string | undefined,
  target: string | undefined,
  options: ConnectOptions,
): Promise<IngestClient> {
  if (config === undefined) return connect(target, options);
  return connectFrom(config, target === undefined ? options : { ...options, url: target });
}

/** Options of `connect` that no text stands for. Some of them are the program's own, and would be put aside silently. */
const OBJECTS = ["logger", "signal", "listeners", "schema", "environment"] as const;

/** A value, or what `@env:NAME` or `@file:PATH` stands for. @throws {Misuse} if that is not there. */
export function resolve(what: string, value: string, io: Io): string {
  const [, source, name] = /^@(env|file):(.+)$/su.exec(value) ?? [];
  if (name === undefined) return value;
  if (source === "env") {
    const found = io.env[name];
    if (found === undefined) throw new Misuse(`${what}: the environment variable ${name} is not set`);
    return found;
  }
  try {
    // Editors end files with a line feed, and no secret, header or certificate minds its absence.
    return fs.readFileSync(name, "utf8").replace(/\r?\n$/u, "");
  } catch (error) {
    throw new Misuse(`${what}: ${name} cannot be read: ${messageOf(error)}`);
  }
}

const isReference = (value: string): boolean => /^@(env|file):./su.test(value);

/** @throws {Misuse} if a secret is given as it is. */
export function refuseSecret(what: string, value: string): void {
  if (isReference(value)) return;
  throw new Misuse(
    `${what} is a secret, and everybody on this machine can read a command line: ` +
      "give it as @env:NAME (an environment variable) or @file:PATH",
  );
}

/** @throws {Misuse} that quotes nothing of the file. */
export function jsonFile(what: string, path: string): unknown {
  try {
    return JSON.parse(fs.readFileSync(path, "utf8"));
  } catch (error) {
    // What JSON.parse says quotes the text, and the text may hold secrets.
    throw new Misuse(
      `${what} ${path}: ${error instanceof SyntaxError ? "it is not JSON" : messageOf(error)}`,
    );
  }
}

/** An object of options. @throws {Misuse} */
export function optionsFile(path: string): Record<string, unknown> {
  const options = jsonFile("--options", path);
  if (!isObject(options)) throw new Misuse(`--options ${path}: it must hold a JSON object`);
  return options;
}

function assign(options: Record<string, unknown>, given: string, io: Io): void {
  const [, path, value] = /^([^=]+)=(.*)$/su.exec(given) ?? [];
  if (path === undefined || value === undefined)
    throw new Misuse("--set takes path=value, such as --set batching.maxRows=1000");
  const what = `--set ${path}`;
  const steps = path.split(".");
  const last = steps.pop()!;
  if ([...steps, last].some((step) => step === "" || step === "__proto__"))
    throw new Misuse(`${what}: this is not a path such as batching.maxRows`);
  const meant = isReference(value) ? undefined : parsed(value);
  if (isSecret([...steps, last])) refuseSecret(what, value);
  refuseSecretsWithin(what, [...steps, last], meant);
  let group = options;
  for (const step of steps) {
    group[step] ??= {};
    const inner = group[step];
    if (!isObject(inner)) throw new Misuse(`${what}: ${step} already has a value, and is no group`);
    group = inner;
  }
  group[last] = isReference(value) ? resolve(what, value, io) : meant;
}

/** Whether what stands at this path of the options is a secret. */
function isSecret(path: readonly string[]): boolean {
  const name = path.at(-1) ?? "";
  return path[0]?.toLowerCase() === "headers" && path.length > 1
    ? SECRET_HEADER.test(name)
    : SECRET_OPTION.test(name);
}

/** @throws {Misuse} if an object that was given as JSON holds a secret. */
function refuseSecretsWithin(what: string, path: readonly string[], value: unknown): void {
  if (typeof value !== "object" || value === null) return;
  for (const [name, inner] of Object.entries(value)) {
    const there = [...path, name];
    // No reference is looked up within JSON, so none makes it right.
    if (isSecret(there)) refuseSecret(`${what}: ${name}`, "");
    refuseSecretsWithin(what, there, inner);
  }
}

/**
 * Of options and of object stores: `clientSecret`, `password`, `tls.key`, `aws_secret_access_key`, … Stores take
 * their names in upper case, too, as they are in the environment.
 */
const SECRET_OPTION = /secret|passw|passphrase|token$|key$|customer_key|(?:^|_)sas(?:_|$)|credential/iu;

/** JSON where it is some: numbers, flags, lists. All else is text, such as 8MiB. */
function parsed(value: string): unknown {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

function addHeader(options: Record<string, unknown>, given: string, io: Io): void {
  const [, name, value] = /^([^:\s]+):\s*(.*)$/su.exec(given) ?? [];
  if (name === undefined || value === undefined)
    throw new Misuse('--header takes "name: value", such as --header "x-tenant: blue"');
  const what = `--header ${name}`;
  if (SECRET_HEADER.test(name)) refuseSecret(what, value);
  options.headers ??= {};
  if (!isObject(options.headers)) throw new Misuse(`${what}: headers already has a value, and is no group`);
  options.headers[name.toLowerCase()] = resolve(what, value, io);
}

const SECRET_HEADER = /auth|token|secret|passw|cookie|key$|credential|session|signature|jwt|bearer/iu;

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
