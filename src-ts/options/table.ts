// Written by scripts/options.mjs from options.ts: the options that text can hold, in their order.

export type OptionKind =
  | "group"
  | "number"
  | "string"
  | "boolean"
  | "choice"
  | "duration"
  | "bytes"
  | "strings"
  | "record";

export interface OptionFacts {
  readonly path: string;
  readonly kind: OptionKind;
  /** Of a choice. */
  readonly words?: readonly string[];
  /** Its value is never shown. */
  readonly secret?: boolean;
  /** Of a group: its members exclude each other, so that a group is taken from one place as a whole. */
  readonly exclusive?: boolean;
  /** Of a group: the member that a value in its place stands for. */
  readonly short?: string;
}

export const OPTIONS: readonly OptionFacts[] = [
  { path: "batching", kind: "group" },
  { path: "batching.maxRows", kind: "number" },
  { path: "batching.maxBytes", kind: "bytes" },
  { path: "batching.linger", kind: "duration" },
  { path: "inflight", kind: "group" },
  { path: "inflight.maxBytes", kind: "bytes" },
  { path: "inflight.maxPinnedBytes", kind: "bytes" },
  { path: "inflight.maxWrites", kind: "number" },
  { path: "retry", kind: "group" },
  { path: "retry.attempts", kind: "number" },
  { path: "retry.baseDelay", kind: "duration" },
  { path: "retry.maxDelay", kind: "duration" },
  { path: "retry.deadline", kind: "duration" },
  { path: "retry.onExhausted", kind: "choice", words: ["continue","stop"] },
  { path: "retry.whenTimeout", kind: "duration" },
  { path: "quarantine", kind: "group", short: "enabled" },
  { path: "quarantine.enabled", kind: "boolean" },
  { path: "quarantine.maxAttempts", kind: "number" },
  { path: "quarantine.deadline", kind: "duration" },
  { path: "deadLetter", kind: "group" },
  { path: "deadLetter.directory", kind: "string" },
  { path: "deadLetter.maxFileBytes", kind: "bytes" },
  { path: "deadLetter.maxBytes", kind: "bytes" },
  { path: "deadLetter.maxFiles", kind: "number" },
  { path: "deadLetter.maxAge", kind: "duration" },
  { path: "spool", kind: "group" },
  { path: "spool.directory", kind: "string" },
  { path: "spool.name", kind: "string" },
  { path: "spool.durability", kind: "choice", words: ["synced","written"] },
  { path: "spool.maxBytes", kind: "bytes" },
  { path: "spool.minFreeBytes", kind: "bytes" },
  { path: "spool.segmentBytes", kind: "bytes" },
  { path: "spool.whenFull", kind: "choice", words: ["wait","reject"] },
  { path: "spool.compression", kind: "choice", words: ["none","lz4","zstd"] },
  { path: "capture", kind: "group" },
  { path: "capture.directory", kind: "string" },
  { path: "capture.format", kind: "choice", words: ["arrow-file","arrow-stream","ndjson"] },
  { path: "capture.maxFileBytes", kind: "bytes" },
  { path: "capture.rotateAfter", kind: "duration" },
  { path: "capture.maxFiles", kind: "number" },
  { path: "capture.maxAge", kind: "duration" },
  { path: "capture.sample", kind: "number" },
  { path: "handoff", kind: "group", short: "mode" },
  { path: "handoff.mode", kind: "choice", words: ["auto","pin","copy","ipc"] },
  { path: "handoff.verifyPayload", kind: "boolean" },
  { path: "delta", kind: "group" },
  { path: "delta.partitionBy", kind: "strings" },
  { path: "delta.compression", kind: "choice", words: ["none","snappy","zstd","lz4"] },
  { path: "delta.targetFileSize", kind: "bytes" },
  { path: "delta.commitInterval", kind: "duration" },
  { path: "delta.schemaEvolution", kind: "choice", words: ["none","merge"] },
  { path: "delta.storage", kind: "record", secret: true },
  { path: "flight", kind: "group" },
  { path: "flight.acknowledgement", kind: "choice", words: ["stream","part","cumulative"] },
  { path: "flight.streams", kind: "number" },
  { path: "flight.compression", kind: "choice", words: ["none","lz4","zstd"] },
  { path: "flight.maxMessageSize", kind: "bytes" },
  { path: "flight.descriptor", kind: "group", exclusive: true },
  { path: "flight.descriptor.path", kind: "strings" },
  { path: "flight.descriptor.command", kind: "string" },
  { path: "flight.descriptor.commandBase64", kind: "string" },
  { path: "flight.commitInterval", kind: "duration" },
  { path: "flight.atomicRefusals", kind: "boolean" },
  { path: "flight.keepAlive", kind: "duration" },
  { path: "flight.connectTimeout", kind: "duration" },
  { path: "flight.acknowledgementTimeout", kind: "duration" },
  { path: "flight.dictionaries", kind: "choice", words: ["hydrate","keep"] },
  { path: "flight.auth", kind: "group", secret: true },
  { path: "flight.auth.username", kind: "string", secret: true },
  { path: "flight.auth.password", kind: "string", secret: true },
  { path: "headers", kind: "record", secret: true },
  { path: "zerobus", kind: "group" },
  { path: "zerobus.unityCatalogUrl", kind: "string" },
  { path: "zerobus.clientId", kind: "string" },
  { path: "zerobus.clientSecret", kind: "string", secret: true },
  { path: "zerobus.compression", kind: "choice", words: ["none","lz4","zstd"] },
  { path: "zerobus.maxInflightBatches", kind: "number" },
  { path: "zerobus.connectTimeout", kind: "duration" },
  { path: "zerobus.acknowledgementTimeout", kind: "duration" },
  { path: "zerobus.pause", kind: "duration" },
  { path: "zerobus.atomicRefusals", kind: "boolean" },
  { path: "tls", kind: "group" },
  { path: "tls.ca", kind: "string" },
  { path: "tls.cert", kind: "string" },
  { path: "tls.key", kind: "string", secret: true },
  { path: "tls.serverName", kind: "string" },
  { path: "createIfMissing", kind: "boolean" },
  { path: "telemetry", kind: "group" },
  { path: "telemetry.enabled", kind: "boolean" },
];
