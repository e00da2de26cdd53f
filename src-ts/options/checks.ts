// What is checked of options before they cross to Rust, and how they cross.
//
// Invariants:
// - What Rust reads is checked by Rust (`src-rs/config.rs`), which also has the defaults.
// - What Rust cannot see (functions, signals, schemas) is taken off by `splitOptions`; the rest crosses as
//   JSON, written so that a value which JSON does not know is complained about by its own name.

import { AsyncLocalStorage } from "node:async_hooks";
import { type ConfigIssue, ingestError } from "../errors.js";
import { didYouMean, nearest } from "../nearest.js";
import type {
  ConnectOptions,
  EventsOptions,
  HandoffMode,
  HeadersProvider,
  Logger,
  ResultListeners,
  RetryOptions,
  RetryPredicate,
  SendOptions,
  TelemetryMeter,
  TelemetryOptions,
  TelemetryTracer,
} from "../options.js";

/** Options as given, parted into what only JavaScript can hold and what Rust reads. */
export interface SplitOptions {
  readonly json: string;
  readonly mode: HandoffMode;
  readonly retry: RetryOptions;
  readonly schema: unknown;
  readonly listeners: ResultListeners | undefined;
  readonly telemetry: TelemetryOptions;
  readonly logger: Logger | undefined;
  readonly headers: HeadersProvider | undefined;
  readonly signal: AbortSignal | undefined;
  /** There is to be a spool. */
  readonly spooled: boolean;
  /** Mistakes in what Rust does not see; Rust's own are added to them. */
  readonly issues: readonly ConfigIssue[];
}

/** Options that Rust does not read. */
export const OURS: readonly string[] = [
  "schema",
  "listeners",
  "telemetry",
  "logger",
  "signal",
  "environment",
];
const LISTENERS = ["onAcknowledged", "onFailed"];

export function splitOptions(options: unknown): SplitOptions {
  const issues: ConfigIssue[] = [];
  const given = isObject(options) ? options : {};
  if (options !== undefined && options !== null && !isObject(options))
    issues.push({ path: "options", message: `must be an object, not ${describe(options)}` });
  const rest: Record<string, unknown> = {};
  for (const key of Object.keys(given)) if (!OURS.includes(key)) rest[key] = given[key];

  const { schema, listeners, telemetry, logger, signal } = given;
  if (listeners !== undefined && listeners !== null) {
    if (!isObject(listeners))
      issues.push({ path: "listeners", message: `must be an object, not ${describe(listeners)}` });
    else
      for (const [key, value] of Object.entries(listeners)) {
        const path = `listeners.${key}`;
        // A listener that is never called for its name would be missed by nobody until it matters.
        if (!LISTENERS.includes(key)) issues.push({ path, message: NOT_AN_OPTION, ...near(key, LISTENERS) });
        else if (value !== undefined && typeof value !== "function")
          issues.push({ path, message: `must be a function, not ${describe(value)}` });
      }
  }
  if (logger !== undefined && logger !== null) {
    if (!isObject(logger))
      issues.push({ path: "logger", message: `must be an object with methods, not ${describe(logger)}` });
    else
      for (const level of LEVELS) {
        const method = logger[level];
        if (method !== undefined && typeof method !== "function")
          issues.push({ path: `logger.${level}`, message: `must be a function, not ${describe(method)}` });
      }
  }
  if (signal !== undefined && signal !== null && !isSignal(signal))
    issues.push({ path: "signal", message: `must be an AbortSignal, not ${describe(signal)}` });

  // Native code calls back in no context at all: what `AsyncLocalStorage` holds for the caller is kept here.
  const inContext = AsyncLocalStorage.snapshot();
  const headers = headersProvider(rest, issues);
  const retry = retryOptions(rest, issues, inContext);
  const { handoff } = rest;
  const mode = isObject(handoff) ? handoff.mode : handoff;
  return {
    json: toJson(rest),
    // Rust refuses the others before anything is handed over.
    mode: isMode(mode) ? mode : "auto",
    retry,
    schema: schema ?? undefined,
    listeners: (listeners ?? undefined) as ResultListeners | undefined,
    telemetry: telemetryOptions(telemetry, issues),
    logger: isObject(logger) ? fitted(logger, inContext) : undefined,
    headers: headers && ((request) => inContext(headers, request)),
    signal: (signal ?? undefined) as AbortSignal | undefined,
    spooled: rest.spool !== undefined && rest.spool !== null,
    issues,
  };
}

const TRACER = ["startSpan"];
const METER = [
  "createHistogram",
  "createObservableCounter",
  "createObservableGauge",
  "addBatchObservableCallback",
];

/** The group, read once. */
function telemetryOptions(telemetry: unknown, issues: ConfigIssue[]): TelemetryOptions {
  const read: { enabled?: boolean; tracer?: TelemetryTracer; meter?: TelemetryMeter } = {};
  if (telemetry === undefined || telemetry === null) return read;
  if (!isObject(telemetry)) {
    issues.push({ path: "telemetry", message: `must be an object, not ${describe(telemetry)}` });
    return read;
  }
  for (const [key, value] of Object.entries(telemetry)) {
    const path = `telemetry.${key}`;
    if (value === undefined) continue;
    if (key === "enabled") {
      if (typeof value === "boolean") read.enabled = value;
      else issues.push({ path, message: `must be true or false, not ${describe(value)}` });
    } else if (key === "tracer" || key === "meter") {
      const missing = lacks(value, key === "tracer" ? TRACER : METER);
      if (missing === undefined) Object.assign(read, { [key]: value });
      else issues.push({ path, message: `must be a ${key} with ${missing}, not ${describe(value)}` });
    } else {
      issues.push({ path, message: NOT_AN_OPTION, ...near(key, ["enabled", "tracer", "meter"]) });
    }
  }
  return read;
}

/** The first method that a value does not have. */
function lacks(value: unknown, methods: readonly string[]): string | undefined {
  return methods.find((method) => !isObject(value) || typeof value[method] !== "function");
}

/** The function in `headers`, if there is one; what crosses in its place says that there is. */
function headersProvider(rest: Record<string, unknown>, issues: ConfigIssue[]): HeadersProvider | undefined {
  const { headers } = rest;
  const group = typeof headers === "function" ? { provider: headers } : headers;
  if (!isObject(group)) return undefined;
  // A string is the value of a header whose name is "provider".
  if (group.provider === undefined || typeof group.provider === "string") {
    // It would cross as words in brackets, and be sent as them.
    for (const [name, value] of Object.entries(group))
      if (typeof value === "function")
        issues.push({ path: `headers.${name}`, message: "must be a string, not a function" });
    return undefined;
  }
  const { provider } = group;
  // Rust reads the rest of the group, whatever this is.
  rest.headers = { ...group, provider: true };
  if (typeof provider === "function") return provider as HeadersProvider;
  issues.push({ path: "headers.provider", message: `must be a function, not ${describe(provider)}` });
  return undefined;
}

/** The group as given; what crosses in place of its function says that there is one. */
function retryOptions(
  rest: Record<string, unknown>,
  issues: ConfigIssue[],
  inContext: InContext,
): RetryOptions {
  const { retry } = rest;
  if (!isObject(retry)) return {};
  const { when, ...others } = retry;
  if (when === undefined || when === null) return others;
  rest.retry = { ...retry, when: true };
  if (typeof when === "function")
    return { ...others, when: (error, attempt) => inContext(when as RetryPredicate, error, attempt) };
  issues.push({ path: "retry.when", message: `must be a function, not ${describe(when)}` });
  return others;
}

type InContext = ReturnType<typeof AsyncLocalStorage.snapshot>;

/** The methods of a logger as the client calls them, in the caller's context. */
function fitted(logger: Record<string, unknown>, inContext: InContext): Logger {
  const objectFirst = takesObjectFirst(logger);
  const made: Logger = {};
  // Looked up with each line: loggers replace their methods when their level is changed.
  for (const level of LEVELS)
    made[level] = (message: string, fields: Record<string, unknown>): unknown => {
      const method = logger[level];
      if (typeof method !== "function") return undefined;
      const args = objectFirst ? [fields, message] : [message, fields];
      return inContext(() => Reflect.apply(method, logger, args));
    };
  return made;
}

/** pino and bunyan drop an object behind a line. By shape: both make children, and know what those are bound to. */
function takesObjectFirst(logger: Record<string, unknown>): boolean {
  const pino = typeof logger.bindings === "function" && typeof logger.isLevelEnabled === "function";
  const bunyan = typeof logger.addStream === "function" && typeof logger.addSerializers === "function";
  return typeof logger.child === "function" && (pino || bunyan);
}

export const LEVELS = ["debug", "info", "warn", "error"] as const;

/** Adds the names that only TypeScript knows to what Rust says about unknown ones. */
export function withOurNames(issues: readonly ConfigIssue[]): ConfigIssue[] {
  return issues.map((issue) =>
    issue.suggestion === undefined && issue.message === NOT_AN_OPTION && !issue.path.includes(".")
      ? { ...issue, ...near(issue.path, OURS) }
      : issue,
  );
}

export function isMode(value: unknown): value is HandoffMode {
  return value === "auto" || value === "pin" || value === "copy" || value === "ipc";
}

/** By shape, so that signals of another realm count. */
export function isSignal(value: unknown): value is AbortSignal {
  return (
    isObject(value) &&
    typeof value.aborted === "boolean" &&
    typeof value.throwIfAborted === "function" &&
    typeof value.addEventListener === "function" &&
    typeof value.removeEventListener === "function"
  );
}

/** What one `send`, `enqueue` or `sendAll` may ask for, checked. */
export function checkSendOptions(options: SendOptions | undefined, operation: string): void {
  if (options == null) return;
  const issues = unknownOptions(options, ["handoff", "signal", "context", ...ROW_READING]);
  const { handoff, signal, context } = options;
  if (handoff !== undefined && !isMode(handoff))
    issues.push({
      path: "handoff",
      message: `must be one of auto, pin, copy, ipc, not ${describe(handoff)}`,
    });
  if (signal !== undefined && !isSignal(signal))
    issues.push({ path: "signal", message: `must be an AbortSignal, not ${describe(signal)}` });
  if (context !== undefined && lacks(context, ["getValue"]) !== undefined)
    issues.push({ path: "context", message: `must be a context of OpenTelemetry, not ${describe(context)}` });
  for (const [name, words] of CHOICES) {
    const value = options[name];
    if (value === undefined || words.includes(value)) continue;
    issues.push({ path: name, message: `must be one of ${words.join(", ")}, not ${describe(value)}` });
  }
  if (issues.length > 0) throw configInvalid(issues, operation);
}

/** The names of {@link RowReadingOptions}. */
export const ROW_READING = ["schema", "unknownKeys", "onInvalid"] as const;

const CHOICES: readonly (readonly ["unknownKeys" | "onInvalid", readonly string[]])[] = [
  ["unknownKeys", ["reject", "drop"]],
  ["onInvalid", ["reject-row", "reject-delivery"]],
];

/** What reading events may ask for, checked. */
export function checkEventsOptions(options: EventsOptions | undefined): void {
  if (options == null) return;
  const issues = unknownOptions(options, ["signal"]);
  const { signal } = options;
  if (signal !== undefined && !isSignal(signal))
    issues.push({ path: "signal", message: `must be an AbortSignal, not ${describe(signal)}` });
  if (issues.length > 0) throw configInvalid(issues, "events");
}

/** Checks the names alone. */
export function checkNames(options: object | undefined, names: readonly string[], operation: string): void {
  const issues = options == null ? [] : unknownOptions(options, names);
  if (issues.length > 0) throw configInvalid(issues, operation);
}

/** An option that is passed over silently would be missed by nobody until it matters. */
function unknownOptions(options: unknown, names: readonly string[]): ConfigIssue[] {
  if (!isObject(options))
    return [{ path: "options", message: `must be an object, not ${describe(options)}` }];
  const unknown = Object.keys(options).filter((name) => !names.includes(name));
  return unknown.map((path) => ({ path, message: NOT_AN_OPTION, ...near(path, names) }));
}

/** Rust's words, too. */
const NOT_AN_OPTION = "is not an option";

/** Groups that only one destination reads, and the schemes of its targets. */
const GROUPS: readonly (readonly [string, RegExp])[] = [
  ["delta", /^delta:/i],
  ["flight", /^(grpc|flightsql)[+:]/i],
  ["zerobus", /^zerobus[+:]/i],
];

/** The groups that were given and are another destination's; of `discard:`, which stands for any, none. */
export function groupsOfOthers(target: string, options: ConnectOptions | undefined): string[] {
  if (!GROUPS.some(([, schemes]) => schemes.test(target))) return [];
  const given = options as Record<string, unknown> | null | undefined;
  return GROUPS.filter(([name, schemes]) => given?.[name] != null && !schemes.test(target)).map(
    ([name]) => name,
  );
}

export function configInvalid(issues: readonly ConfigIssue[], operation: string): Error {
  const lines = issues.map(
    ({ path, message, suggestion, source }) =>
      `${path} ${message}${didYouMean(suggestion)}${source === undefined ? "" : ` (${source})`}`,
  );
  return ingestError({ code: "CONFIG_INVALID", message: lines.join("; "), operation, issues });
}

export function toJson(options: Record<string, unknown>): string {
  const above: object[] = [];
  return JSON.stringify(options, function (this: object, _key, value: unknown) {
    // A value that JSON drops or turns into null would be read as "not given", and nobody would be told.
    switch (typeof value) {
      case "number":
        return Number.isFinite(value) ? value : String(value);
      case "bigint":
        return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
      case "function":
        return `[function ${value.name || "anonymous"}]`;
      case "symbol":
        return `[${String(value)}]`;
      case "object": {
        if (value === null) return value;
        // JSON.stringify throws on a cycle, with a message that names none of the options.
        while (above.length > 0 && above.at(-1) !== this) above.pop();
        if (above.includes(value)) return "[circular]";
        above.push(value);
        if (value instanceof Map || value instanceof Set) return `[${value.constructor.name}]`;
        return value;
      }
      default:
        return value;
    }
  });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}…` : value);
  if (typeof value === "function") return "a function";
  if (typeof value !== "object" || value === null) return String(value);
  if (Array.isArray(value)) return "an array";
  const name = Object.getPrototypeOf(value)?.constructor?.name;
  return typeof name === "string" && name !== "Object" && name !== "" ? `a ${name}` : "an object";
}

function near(given: string, names: readonly string[]): { suggestion?: string } {
  const suggestion = nearest(given, names);
  return suggestion === undefined ? {} : { suggestion };
}
