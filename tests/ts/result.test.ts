// Promises of src-ts/result.ts: a result is a value that can be kept, sent, compared and split.
import { inspect } from "node:util";
import { type RecordBatch, Table, tableToIPC } from "apache-arrow";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ConnectionError, type ResultFacts, TransmissionResult } from "../../dist/index.js";
import { batchOf, everyType, plain, ROWS, valuesOf } from "./support/batches.js";

const facts: ResultFacts = {
  status: "acknowledged",
  sequence: 7n,
  rows: ROWS,
  acceptedRows: ROWS,
  rejectedRows: 0,
  rejections: [],
  attempts: 1,
  batchBytes: 1000,
  handoff: "pinned",
  handoffReason: null,
  timings: { handoffMs: 0.1, queueMs: 1, encodeMs: 2, transmitMs: 3, acknowledgeMs: 4 },
  latencyMs: 10,
  position: { kind: "version", value: 12n },
  error: null,
};
const rejection = (row: number, code = "BAD") => ({ row, code, message: `row ${row} is bad` });
const partial = (rows: readonly number[], content: unknown = null, code?: string) =>
  new TransmissionResult(
    {
      ...facts,
      status: "partial",
      acceptedRows: ROWS - rows.length,
      rejectedRows: rows.length,
      rejections: rows.map((row) => rejection(row, code)),
    },
    content as never,
  );

describe("R-31 TransmissionResult", () => {
  test("survives structuredClone with every field, and its clone equals it", () => {
    const result = partial([3]);
    const clone = structuredClone(result);
    expect(Object.keys(clone).sort()).toEqual(Object.keys(result).sort());
    expect(clone).toMatchObject({
      ...facts,
      status: "partial",
      acceptedRows: ROWS - 1,
      rejectedRows: 1,
      rejections: [rejection(3)],
      error: { message: expect.stringContaining("1 of 23 rows were refused") },
      errorCode: "ROWS_REJECTED",
    });
    expect(result.equals(clone)).toBe(true);
  });

  test("keeps the code of its error through structuredClone, which an Error does not", () => {
    const error = new ConnectionError({ code: "UNAVAILABLE", message: "away" });
    const clone = structuredClone(new TransmissionResult({ ...facts, status: "failed", error }));
    expect(clone).toMatchObject({ status: "failed", errorCode: "UNAVAILABLE" });
    expect(clone.error?.message).toBe("away");
  });

  test("cannot be changed", () => {
    const result = new TransmissionResult(facts);
    expect(() => {
      (result as { rows: number }).rows = 1;
    }).toThrow(TypeError);
  });

  test("becomes JSON with bigints as strings", () => {
    expect(JSON.parse(JSON.stringify(new TransmissionResult(facts)))).toEqual({
      ...facts,
      recovered: false,
      success: true,
      sequence: "7",
      errorCode: null,
      position: { kind: "version", value: "12" },
    });
    const error = new ConnectionError({ code: "UNAVAILABLE", message: "away" });
    const failed = new TransmissionResult({ ...facts, status: "failed", position: null, error });
    expect(failed.toJSON()).toMatchObject({ success: false, position: null, error: { code: "UNAVAILABLE" } });
  });

  test("reads well when it is printed", () => {
    expect(inspect(new TransmissionResult(facts))).toBe(
      `TransmissionResult #7 acknowledged: ${ROWS} rows, pinned, 10.0 ms, version 12`,
    );
    const many = inspect(partial([0, 1, 2, 3, 4, 5, 6]));
    expect(many).toContain("7 refused");
    expect(many).toContain("BAD × 7 (rows 0, 1, 2, 3, 4, …): row 0 is bad");
    expect(inspect({ deep: { deeper: { result: partial([1]) } } }, { depth: 1 })).not.toContain("BAD");
    const error = new ConnectionError({ code: "UNAVAILABLE", message: "away" });
    expect(inspect(new TransmissionResult({ ...facts, status: "failed", attempts: 3, error }))).toContain(
      "3 attempts, pinned, 10.0 ms, version 12, UNAVAILABLE: away",
    );
  });

  test("compares by what happened, not by how long it took", () => {
    const result = new TransmissionResult(facts);
    expect(
      result.equals(
        new TransmissionResult({ ...facts, latencyMs: 99, timings: { ...facts.timings, queueMs: 5 } }),
      ),
    ).toBe(true);
    for (const other of [
      null,
      1,
      {},
      { ...facts, rows: 1 },
      { ...facts, position: null },
      { ...facts, rejections: [rejection(1)] },
    ])
      expect(result.equals(other)).toBe(false);
    expect(partial([3]).equals(partial([4]))).toBe(false);
    expect(partial([3]).equals(partial([3], null, "OTHER"))).toBe(false);
  });

  test("orThrow gives itself back, or throws what went wrong", () => {
    const result = new TransmissionResult(facts);
    expect(result.orThrow()).toBe(result);
    expect(() => partial([3, 5]).orThrow()).toThrowError(
      expect.objectContaining({
        code: "ROWS_REJECTED",
        row: 3,
        message: expect.stringMatching(/2 of 23 rows were refused, first row 3 \(BAD/),
      }),
    );
    const error = new ConnectionError({ code: "UNAVAILABLE", message: "away" });
    expect(() => new TransmissionResult({ ...facts, status: "failed", error }).orThrow()).toThrow(error);
    expect(() => new TransmissionResult({ ...facts, status: "unknown" }).orThrow()).toThrowError(
      expect.objectContaining({ code: "INTERNAL" }),
    );
  });

  test("groups refused rows by code, in order", () => {
    const result = new TransmissionResult({
      ...facts,
      status: "partial",
      rejections: [rejection(1, "B"), rejection(2, "A"), rejection(3, "B")],
    });
    expect(
      [...result.rejectionsByCode()].map(([code, group]) => [code, group.map(({ row }) => row)]),
    ).toEqual([
      ["B", [1, 3]],
      ["A", [2]],
    ]);
  });
});

const rowsOf = (batch: RecordBatch | null): unknown[] =>
  batch === null
    ? []
    : Array.from({ length: batch.numRows }, (_, row) =>
        batch.schema.fields.map((_field, i) => plain(batch.getChildAt(i)!.get(row))),
      );

describe("R-31 R-15 refused and accepted rows come back as batches", () => {
  const batch = batchOf(everyType());
  const table = new Table([batch.slice(0, 7), batch.slice(7, 7), batch.slice(7, ROWS)]);
  const all = rowsOf(batch);

  test("any set of rows of every type, through all batches of a table", () => {
    const property = fc.property(fc.uniqueArray(fc.nat(ROWS - 1)), (rows) => {
      const result = partial(rows, { batches: table.batches });
      const sorted = [...rows].sort((a, b) => a - b);
      expect(rowsOf(result.rejectedBatch())).toEqual(sorted.map((row) => all[row]));
      expect(rowsOf(result.acceptedBatch())).toEqual(all.filter((_, row) => !rows.includes(row)));
    });
    fc.assert(property, { numRuns: 60 });
  });

  test("of IPC bytes, too", () => {
    const bytes = tableToIPC(new Table([batchOf({ a: everyType().int32!, b: everyType().utf8! })]));
    const result = partial([0, 22], { bytes });
    expect(rowsOf(result.rejectedBatch()).length).toBe(2);
    expect(rowsOf(result.acceptedBatch()).length).toBe(21);
  });

  test("a run of rows is a slice, and the whole is the batch itself", () => {
    const result = new TransmissionResult(facts, { batches: [batch as never] });
    expect(result.acceptedBatch()).toBe(batch);
    expect(result.rejectedBatch()).toBe(null);
    const run = partial([4, 5, 6], { batches: [batch] }).rejectedBatch()!;
    expect(valuesOf(run)).toBe(valuesOf(batch.slice(4, 7)));
    expect(run.getChildAt(4)!.data[0]!.values.buffer).toBe(batch.getChildAt(4)!.data[0]!.values.buffer);
  });

  test("there are none where none are known to be durable, or nothing was kept", () => {
    for (const status of ["failed", "unknown"] as const)
      expect(
        new TransmissionResult({ ...facts, status }, { batches: [batch as never] }).acceptedBatch(),
      ).toBe(null);
    expect(new TransmissionResult(facts).acceptedBatch()).toBe(null);
    expect(partial([1]).rejectedBatch()).toBe(null);
    expect(partial([1], { batches: [] }).rejectedBatch()).toBe(null);
  });
});
