// The names, units and buckets of all metrics: what `specs/telemetry.md` lists.
//
// Invariants:
// - Every number of `stats()` is in `FROM_STATS` or in `COUNTED_OTHERWISE`.
// - A counter never falls while its SDK lives, however many clients are closed.

/** Numbers by group and name, as `stats()` gives them. What there is none of is null; a group may have groups. */
export interface StatNumbers {
  readonly [name: string]: StatNumbers | number | boolean | null;
}

export interface StatMetric {
  /** Where it is in `stats()`. */
  readonly at: readonly string[];
  /** Without the prefix. */
  readonly name: string;
  readonly kind: "counter" | "gauge";
  readonly unit: string;
  readonly words: string;
  /** What one of the number is in the unit. Default: 1. */
  readonly scale?: number;
}

const counter = (path: string, name: string, unit: string, words: string): StatMetric => ({
  at: path.split("."),
  name,
  kind: "counter",
  unit,
  words,
});
const gauge = (path: string, name: string, unit: string, words: string, scale = 1): StatMetric => ({
  at: path.split("."),
  name,
  kind: "gauge",
  unit,
  words,
  scale,
});

/** Read from `stats()` when the SDK collects: sums over the clients of a destination. */
export const FROM_STATS: readonly StatMetric[] = [
  counter("deliveries.admitted", "deliveries.admitted", "{delivery}", "Deliveries admitted."),
  gauge("deliveries.unsettled", "deliveries.unsettled", "{delivery}", "Deliveries admitted and not settled."),
  gauge("deliveries.waiting", "deliveries.waiting", "{call}", "Calls that wait for room in the budget."),
  counter("rows.admitted", "rows.admitted", "{row}", "Rows admitted."),
  counter("bytes.admitted", "bytes.admitted", "By", "Bytes admitted."),
  counter("bytes.accepted", "bytes.accepted", "By", "Bytes of deliveries that are acknowledged."),
  gauge("bytes.inFlight", "bytes.in_flight", "By", "Bytes admitted and not settled."),
  gauge("bytes.budget", "bytes.budget", "By", "The most that may be in flight."),
  counter("writes.sent", "writes.sent", "{write}", "Writes handed to the destination, tries included."),
  counter("writes.acknowledged", "writes.acknowledged", "{write}", "Writes acknowledged."),
  counter("writes.refused", "writes.refused", "{write}", "Writes refused for rows that were looked for."),
  gauge("writes.inWindow", "writes.in_window", "{write}", "Writes not acknowledged."),
  counter("deadLetters.kept", "dead_letters.kept", "{row}", "Refused rows put on the disk."),
  counter("deadLetters.failed", "dead_letters.failed", "{row}", "Refused rows that could not be put there."),
  counter("deadLetters.filesRemoved", "dead_letters.files_removed", "{file}", "Files removed to make room."),
  counter("deadLetters.filesDamaged", "dead_letters.files_damaged", "{file}", "Files set aside as damaged."),
  counter("capture.rowsWritten", "capture.rows_written", "{row}", "Rows recorded."),
  counter(
    "capture.rowsDropped",
    "capture.rows_dropped",
    "{row}",
    "Rows that were not recorded: the disk was too slow.",
  ),
  counter("capture.rowsFailed", "capture.rows_failed", "{row}", "Rows that could not be recorded."),
  counter("capture.filesRemoved", "capture.files_removed", "{file}", "Recorded files removed to make room."),
  counter("sessions.opened", "sessions.opened", "{session}", "Sessions opened."),
  counter("sessions.broken", "sessions.broken", "{session}", "Sessions that ended without being closed."),
  counter("sessions.rotated", "sessions.rotated", "{session}", "Of these, at the destination's wish."),
  gauge("spool.bytes", "spool.bytes", "By", "Bytes of the spool on the disk."),
  gauge("spool.rows", "spool.rows", "{row}", "Rows in the spool that are not delivered."),
  gauge("spool.oldestMs", "spool.age", "s", "Time since the oldest of them came.", 1e-3),
  gauge(
    "spool.paused",
    "spool.paused",
    "{client}",
    "Clients that deliver nothing, as the destination fails.",
  ),
  counter("spool.damagedBytes", "spool.damaged", "By", "Bytes of the spool that could not be read."),
  counter(
    "spool.recovered.deliveries",
    "spool.recovered.deliveries",
    "{delivery}",
    "Deliveries found in it.",
  ),
  counter("spool.recovered.rows", "spool.recovered.rows", "{row}", "Rows found in it when it was opened."),
  counter("spool.recovered.bytes", "spool.recovered.bytes", "By", "Bytes found in it when it was opened."),
  gauge("spool.recovered.oldestMs", "spool.recovered.age", "s", "Age of the oldest of them, then.", 1e-3),
  gauge("pinned.bytes", "memory.pinned", "By", "JavaScript memory held."),
  gauge("pinned.peakBytes", "memory.pinned.peak", "By", "The most that was held at once."),
  gauge("pinned.limitBytes", "memory.pinned.limit", "By", "Past it batches are copied."),
  gauge("pinned.pins", "memory.pins", "{buffer}", "Pieces of memory held."),
  gauge("pool.allocatedBytes", "memory.pool", "By", "Memory that copies are made into, in use or kept."),
  gauge("pool.inUseBytes", "memory.pool.in_use", "By", "Of this, in use."),
  gauge("pool.peakBytes", "memory.pool.peak", "By", "The most that was in use at once."),
  counter("pool.reused", "memory.pool.reused", "{buffer}", "Pieces of the pool used again."),
  counter("handoff.buffersRealigned", "handoff.realigned", "{buffer}", "Buffers copied as misaligned."),
  counter(
    "handoff.buffersCopiedForPinLimit",
    "handoff.copied_for_limit",
    "{buffer}",
    "Buffers copied because too much memory was held.",
  ),
  gauge("retry.strikes", "retry.strikes", "{failure}", "Failures that still slow the pace down."),
  gauge("retry.delayMs", "retry.delay", "s", "The wait before the next try, until a session is open.", 1e-3),
  counter(
    "retry.tries",
    "retry.tries",
    "{failure}",
    "Failures of a session after which all was tried again.",
  ),
  counter("retry.pauses", "retry.pauses", "{failure}", "Of these, at the destination's wish for patience."),
];

/** Numbers of `stats()` that the outcomes bring, with more attributes: by which metric. */
export const COUNTED_OTHERWISE: Readonly<Record<string, string>> = {
  "deliveries.acknowledged": "deliveries",
  "deliveries.partial": "deliveries",
  "deliveries.failed": "deliveries",
  "deliveries.unknown": "deliveries",
  "deliveries.spooled": "deliveries",
  "rows.accepted": "rows.accepted",
  "rows.rejected": "rows.rejected",
};

/** Counted when a delivery is settled or a failure told, and read when the SDK collects. */
export const TALLIED = {
  deliveries: ["deliveries", "{delivery}", "Deliveries settled."],
  bytes: ["bytes", "By", "Bytes of deliveries settled."],
  accepted: ["rows.accepted", "{row}", "Rows known to be durable."],
  rejected: ["rows.rejected", "{row}", "Rows that the destination refused."],
  retries: ["retries", "{retry}", "Tries after the first, of each delivery."],
  failures: ["failures", "{failure}", "Failures of sessions and of connecting."],
  handoffTime: ["handoff.time", "s", "Time of the JavaScript thread spent on handing over."],
} as const;

/** Of the JavaScript thread's time since the metric was last read. */
export const SHARE = [
  "handoff.share",
  "1",
  "Share of the JavaScript thread's time spent on handing over.",
] as const;

/** From a tenth of a millisecond to a minute: a local table and a service far away. */
const SECONDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
];
const HANDOFF_SECONDS = [1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1];
const ROWS = [1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];
const BYTES = Array.from({ length: 10 }, (_, power) => 256 * 4 ** power);

export const HISTOGRAMS = {
  duration: ["delivery.duration", "s", "From admission to the outcome.", SECONDS],
  handoff: ["handoff.duration", "s", "On the JavaScript thread.", HANDOFF_SECONDS],
  queue: ["queue.duration", "s", "From admission to the first hand-over to the destination.", SECONDS],
  encode: ["encode.duration", "s", "Inside the destination's write.", SECONDS],
  transmit: ["transmit.duration", "s", "From the first hand-over to the last.", SECONDS],
  acknowledge: ["acknowledge.duration", "s", "From the last hand-over to the outcome.", SECONDS],
  connect: ["connect.duration", "s", "Of opening a session, or of connecting in vain.", SECONDS],
  news: ["event_loop.delay", "s", "How long an acknowledgement waited for the JavaScript thread.", SECONDS],
  writeRows: ["write.rows", "{row}", "Rows of a write.", ROWS],
  writeBytes: ["write.bytes", "By", "Bytes of a write.", BYTES],
} as const;
