// What became of everything that was sent, added up.
//
// It keeps counts and a few examples, however many rows were refused.

import type { DecodedBytes, DeliveryStatus, ErrorCode, Position, TransmissionResult } from "../index.js";
import { bytes, count, oneLine, plural, seconds } from "./text.js";

/** Where a delivery came from. */
export interface Origin {
  readonly file: string;
  /** Of the delivery's first row, from 0 within the file. */
  readonly firstRow: number;
  /** What it was decoded from, of JSON, CSV and Parquet. */
  readonly decoded?: Pick<DecodedBytes, "rejections" | "lineOf">;
}

/** The summary of `send` and of `deadletter resend`, as `--json` prints it. */
export interface Summary {
  readonly target: string;
  /** Everything that was read is durable, and everything was read. */
  readonly success: boolean;
  /** SIGINT or SIGTERM came, and not all was read. */
  readonly interrupted: boolean;
  readonly deliveries: Readonly<Record<DeliveryStatus, number>>;
  readonly rows: {
    readonly sent: number;
    readonly acknowledged: number;
    readonly rejected: number;
    readonly failed: number;
    readonly unknown: number;
    readonly spooled: number;
  };
  readonly bytes: number;
  readonly elapsedMs: number;
  readonly position: { readonly kind: string; readonly value: string } | null;
  readonly rejections: readonly RejectedRows[];
  readonly failures: readonly FailedRows[];
  /** Why it ended before its time. */
  readonly error: { readonly code: string | null; readonly message: string } | null;
}

/** Refused rows with one code, and the first of them. */
export interface RejectedRows {
  readonly code: string;
  rows: number;
  /** `line` of inputs that have lines: from 1. */
  readonly first: {
    readonly file: string;
    readonly row: number;
    readonly line?: number;
    readonly message: string;
  };
}

/** Deliveries that failed, or whose outcome is unknown, with one code, and the first of them. */
export interface FailedRows {
  readonly status: DeliveryStatus;
  readonly code: ErrorCode | null;
  deliveries: number;
  rows: number;
  readonly first: { readonly file: string; readonly row: number; readonly message: string };
}

export class Tally {
  readonly #deliveries = { acknowledged: 0, partial: 0, failed: 0, unknown: 0, spooled: 0 };
  readonly #rejections = new Map<string, RejectedRows>();
  readonly #failures = new Map<string, FailedRows>();
  readonly #began = performance.now();
  #sent = 0;
  #accepted = 0;
  #rejected = 0;
  #bytes = 0;
  #position: Position | null = null;

  add(result: TransmissionResult, { file, firstRow, decoded }: Origin): void {
    const refused = decoded?.rejections ?? [];
    this.#sent += refused.length;
    this.#rejected += refused.length;
    for (const { code, row, line, path, message } of refused)
      this.#reject(code, 1, { file, row, line, message: path === "" ? message : `${path}: ${message}` });
    // Nothing but refused lines: no delivery that anybody would count.
    if (decoded !== undefined && result.rows === 0 && refused.length > 0) return;
    this.#deliveries[result.status]++;
    this.#sent += result.rows;
    this.#accepted += result.acceptedRows;
    this.#rejected += result.rejectedRows;
    this.#bytes += result.batchBytes;
    this.#position = result.position ?? this.#position;
    for (const [code, rejections] of result.rejectionsByCode()) {
      const { row, message } = rejections[0]!;
      const line = decoded?.lineOf(row);
      const at = { file, row: firstRow + row };
      this.#reject(code, rejections.length, line == null ? { ...at, message } : { ...at, line, message });
    }
    if (result.status === "acknowledged" || result.status === "partial") return;
    const rows = result.rows - result.acceptedRows - result.rejectedRows;
    // Every row was refused, and is counted as that.
    if (rows === 0 && result.rejectedRows > 0) return;
    const key = `${result.status} ${result.errorCode}`;
    const known = this.#failures.get(key);
    if (known !== undefined) {
      known.deliveries++;
      known.rows += rows;
      return;
    }
    const first = { file, row: firstRow + (result.error?.row ?? 0), message: result.error?.message ?? "" };
    this.#failures.set(key, { status: result.status, code: result.errorCode, deliveries: 1, rows, first });
  }

  #reject(code: string, rows: number, first: RejectedRows["first"]): void {
    const known = this.#rejections.get(code);
    if (known === undefined) this.#rejections.set(code, { code, rows, first });
    else known.rows += rows;
  }

  get accepted(): number {
    return this.#accepted;
  }

  get isGood(): boolean {
    return this.isSafe && this.#deliveries.spooled === 0;
  }

  /** What is not durable at the destination is in the spool. */
  get isSafe(): boolean {
    const { partial, failed, unknown } = this.#deliveries;
    return partial + failed + unknown + this.#rejected === 0;
  }

  summary(target: string, interrupted: boolean, error: Summary["error"]): Summary {
    const failures = [...this.#failures.values()];
    const lost = (status: DeliveryStatus): number =>
      failures.reduce((sum, one) => sum + (one.status === status ? one.rows : 0), 0);
    return {
      target,
      success: this.isGood && !interrupted && error === null,
      interrupted,
      deliveries: { ...this.#deliveries },
      rows: {
        sent: this.#sent,
        acknowledged: this.#accepted,
        rejected: this.#rejected,
        failed: lost("failed"),
        unknown: lost("unknown"),
        spooled: lost("spooled"),
      },
      bytes: this.#bytes,
      elapsedMs: performance.now() - this.#began,
      position: this.#position && { kind: this.#position.kind, value: String(this.#position.value) },
      rejections: [...this.#rejections.values()],
      failures,
      error,
    };
  }
}

/** The summary for people. */
export function describeSummary(summary: Summary): string {
  const { rows, deliveries, elapsedMs, position } = summary;
  const rate = elapsedMs > 0 ? `, ${bytes(summary.bytes / (elapsedMs / 1e3))}/s` : "";
  const where = position === null ? "" : `, ${position.kind} ${position.value}`;
  const total = Object.values(deliveries).reduce((sum, one) => sum + one, 0);
  const lines = [
    `${plural(rows.sent, "row")} (${bytes(summary.bytes)}) in ${plural(total, "delivery", "deliveries")} ` +
      `to ${summary.target} in ${seconds(elapsedMs)}${rate}`,
    `  acknowledged  ${count(rows.acknowledged)}${where}`,
  ];
  if (rows.rejected > 0) lines.push(`  refused       ${count(rows.rejected)}`);
  for (const { code, rows: refused, first } of summary.rejections)
    lines.push(`    ${code} × ${count(refused)}: first ${first.file} ${placeOf(first)}: ${first.message}`);
  if (rows.spooled > 0) lines.push(`  spooled       ${count(rows.spooled)}: they wait on the disk`);
  for (const status of ["failed", "unknown"] as const) {
    const failures = summary.failures.filter((one) => one.status === status);
    if (failures.length > 0) lines.push(`  ${status.padEnd(12)}  ${count(rows[status])}`);
    for (const { code, deliveries: many, first } of failures)
      lines.push(
        `    ${code ?? "no code"} × ${plural(many, "delivery", "deliveries")}: ` +
          `first ${first.file} from row ${first.row}: ${first.message}`,
      );
  }
  if (summary.interrupted) lines.push("  interrupted   what was not read was not sent");
  return lines.map((line) => `${oneLine(line)}\n`).join("");
}

/** Where an editor finds it, if it is in a file with lines. */
const placeOf = ({ row, line }: RejectedRows["first"]): string =>
  line === undefined ? `row ${row}` : `line ${line}`;
