// Refused rows that are no Arrow values → dead letters.
//
// Invariants:
// - A piece goes when the one before is on the disk: what crosses at a time is bounded.
// - The event loop has its turn between pieces.
//
// Rust writes the file, with all others of the directory; `src-ts/dead-letter.ts` reads it back.

import type { RefusedRows } from "../binding.js";
import type { UnfitMetadata } from "../dead-letter.js";
import { planOf } from "../handoff/plan.js";
import type { EncodedRows } from "../rows/encoded.js";
import { isDue, turn } from "../turn.js";

/** UTF-16 units of a piece, and its rows. */
const PIECE_UNITS = 1 << 18;
const PIECE_ROWS = 4_096;

/** Calls `keep` with one piece after the other. */
export async function keepRows(
  { schema, unknownKeys, rejections, json }: EncodedRows,
  keep: (rows: RefusedRows) => Promise<void>,
): Promise<void> {
  const metadata: Record<string, string> & UnfitMetadata = {
    "arrow-ingest.dead-letter.rows": "json",
    "arrow-ingest.dead-letter.schema": Buffer.from(planOf(schema).message).toString("base64"),
    "arrow-ingest.dead-letter.unknown-keys": unknownKeys,
  };
  for (let at = 0; at < json.length; ) {
    const rows: RefusedRows["rows"][number][] = [];
    for (let units = 0; at < json.length && units < PIECE_UNITS && rows.length < PIECE_ROWS; at++) {
      const { row, code, message } = rejections[at]!;
      const text = json[at]!;
      rows.push({ row, code, message: message.toWellFormed(), json: text });
      units += text.length + message.length;
    }
    await keep({ metadata, rows });
    if (isDue()) await turn();
  }
}
