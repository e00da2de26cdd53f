// What a client tells of itself: types alone. `specs/telemetry.md` has the promises.

import type { IngestError } from "./errors.js";

interface EventFacts {
  /** When it happened: milliseconds since 1970, by the clock of the machine. */
  readonly atMs: number;
  /** Number of the client in this thread, from 1. */
  readonly client: number;
}

/**
 * Something that happened to a client, as {@link IngestClient.events} gives it and as the channel
 * `arrow-ingest:<type>` of `node:diagnostics_channel` publishes it. New types may be added.
 */
export type ClientEvent = EventFacts &
  (
    | {
        /** The first session is open (`connected`), or another one after it (`reconnect`). */
        readonly type: "connected" | "reconnect";
        /** Milliseconds from the beginning of the try that succeeded. */
        readonly tookMs: number;
      }
    | {
        /** Something failed and is tried again: `paused` if the destination asked for patience. */
        readonly type: "retry" | "paused";
        readonly operation: "connect" | "write";
        readonly error: IngestError;
        /** Milliseconds until the next try. */
        readonly delayMs: number;
        /** Writes that are not acknowledged. */
        readonly writes: number;
      }
    | {
        /** The destination asked for another session in time: no write has failed. */
        readonly type: "rotated";
        readonly code: string;
        readonly writes: number;
      }
    | {
        /** Rows of a delivery were refused; without a number, a write or a session was, for good. */
        readonly type: "refused";
        readonly sequence: bigint | null;
        readonly rows: number | null;
        /** Of the first row, or of the error. */
        readonly code: string;
      }
    | {
        /** A delivery is in the spool, durable to the degree that was asked for. */
        readonly type: "spooled";
        readonly sequence: bigint;
      }
    | {
        /** A session was closed in good order. */
        readonly type: "closed";
      }
    | {
        /** Only where events are read: so many before this one were dropped, because they were read too late. */
        readonly type: "missed";
        readonly count: number;
      }
  );

/** Times of one stage, over the deliveries of a {@link Profile}, in milliseconds. */
export interface ProfileStage {
  readonly meanMs: number;
  readonly maxMs: number;
  /** Deliveries overlap: this may be more than the operation took. */
  readonly totalMs: number;
}

/** What {@link IngestClient.profile} gives. */
export interface Profile<T> {
  /** Of the operation. */
  readonly result: T;
  /** Milliseconds until the operation was done. */
  readonly operationMs: number;
  /** Milliseconds until its last delivery was settled, too. */
  readonly elapsedMs: number;
  /** From 0 to 1: how much of that time this thread's event loop was busy, with whatever it was. */
  readonly eventLoopShare: number;
  /** Handed over within the operation and settled. */
  readonly deliveries: number;
  readonly rows: number;
  readonly bytes: number;
  /** As {@link Timings} has them. */
  readonly stages: {
    readonly handoff: ProfileStage;
    readonly queue: ProfileStage;
    readonly encode: ProfileStage;
    readonly transmit: ProfileStage;
    readonly acknowledge: ProfileStage;
  };
}
