// Bytes of other formats, as deliveries.
//
// Invariants:
// - Results come in the order of the input, with the lines that were left out before and among their rows.
// - Refused lines that nobody has asked for are bounded; past that, no more is decoded.
//
// It decodes nothing (decode.ts does) and delivers nothing (send-all.ts does).

import {
  type BytesSource,
  type DecodedBytes,
  type DecodeOptions,
  decodeSettings,
  Parts,
  schemaSaid,
} from "../decode.js";
import type { SendAllOptions } from "../options.js";
import type { TransmissionResult } from "../result.js";
import type { Schemas } from "./schemas.js";
import { type Sender, sendAll } from "./send-all.js";

/** Options of {@link IngestClient.sendBytes}. */
export interface SendBytesOptions extends DecodeOptions, Pick<SendAllOptions, "handoff"> {
  /** As of {@link IngestClient.sendAll}. */
  readonly signal?: AbortSignal;
}

/** What became of some consecutive rows of an input. Made by {@link IngestClient.sendBytes}. */
export interface BytesResult extends Omit<DecodedBytes, "batch" | "rows"> {
  /**
   * Of the rows that could be read. There may be none, where only refused lines were found. The destination's own
   * refusals are in its `rejections`; `lineOf(row)` says where such a row stood.
   */
  readonly result: TransmissionResult;
}

/** Refused lines that nobody has asked for yet. */
const REFUSED_AHEAD = 10_000;

export async function* sendBytes(
  core: Sender & { readonly schemas: Schemas },
  source: BytesSource,
  options: SendBytesOptions | undefined,
): AsyncGenerator<BytesResult, void, undefined> {
  const { signal, handoff } = options ?? {};
  const settings = decodeSettings(options, ["handoff"], core.budgetBytes, "sendBytes");
  // The signal is that of the deliveries; it ends the reading through them.
  const parts = new Parts(
    source,
    { ...settings, signal: undefined },
    () => schemaOf(core.schemas),
    "sendBytes",
  );
  const waiting: DecodedBytes[] = [];
  let refusedAhead = 0;
  let wake: (() => void) | undefined;
  const batches = {
    async next(): Promise<IteratorResult<Uint8Array, undefined>> {
      while (refusedAhead >= REFUSED_AHEAD)
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      const { done, value } = await parts.next();
      if (done === true) return { done, value: undefined };
      waiting.push(value);
      refusedAhead += value.rejections.length;
      return { done: false, value: value.batch };
    },
    async return(): Promise<IteratorResult<Uint8Array, undefined>> {
      await parts.return();
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
  const passed: SendAllOptions = { ...(signal && { signal }), ...(handoff && { handoff }) };
  for await (const result of sendAll(core, batches, passed)) {
    const { firstRow, rejections, bytesRead, lineOf } = waiting.shift()!;
    refusedAhead -= rejections.length;
    wake?.();
    yield Object.freeze({ result, firstRow, rejections, bytesRead, lineOf });
  }
}

async function schemaOf({ given, table }: Schemas): Promise<Uint8Array> {
  const schema = given ?? table.known ?? (await table.get());
  return schemaSaid(schema, "sendBytes");
}
