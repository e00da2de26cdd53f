// Promises of src-ts/result.ts: a result is a value that can be kept, sent, compared and split.
import { inspect } from "node:util";
import { type RecordBatch, Table, tableToIPC } from "apache-arrow";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  BatchError,
  ConnectionError,
  type IngestError,
  type ResultFacts,
  TransmissionResult,
} from "../../dist/index.js";
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
      firstRow: null,
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

describe("R-31 several results as one", () => {
  const failed = (code: "UNAVAILABLE" | "DEADLINE_EXCEEDED", status: "failed" | "unknown" = "failed") =>
    new TransmissionResult({
      ...facts,
      ...{ status, acceptedRows: 0, position: null, handoff: "copied", handoffReason: `for ${code}` },
      error: new ConnectionError({ code, message: `away: ${code}` }),
    });
  const acknowledged = new TransmissionResult(facts);
  const refused = partial([...Array(ROWS).keys()]);
  const allRefused = new TransmissionResult({ ...refused, status: "failed", error: null });

  test("rows count through all of them, counts are sums, the last position stays", () => {
    const later = new TransmissionResult({
      ...facts,
      sequence: 8n,
      position: { kind: "version", value: 13n },
    });
    const all = TransmissionResult.merge([acknowledged, partial([3, 5]), later, partial([0], null, "OTHER")]);
    expect(all).toMatchObject({
      status: "partial",
      success: false,
      sequence: 7n,
      rows: 4 * ROWS,
      acceptedRows: 4 * ROWS - 3,
      rejectedRows: 3,
      rejections: [
        { row: ROWS + 3, code: "BAD" },
        { row: ROWS + 5, code: "BAD" },
        { row: 3 * ROWS, code: "OTHER" },
      ],
      batchBytes: 4000,
      latencyMs: 10,
      position: { kind: "version", value: 12n },
      errorCode: "ROWS_REJECTED",
    });
    expect(all.timings.encodeMs).toBe(8);
    expect(all.error?.message).toContain(`3 of ${4 * ROWS} rows were refused, first row ${ROWS + 3}`);
    expect(TransmissionResult.merge([acknowledged, later]).position?.value).toBe(13n);
  });

  test("the status is what one delivery of all the rows would have", () => {
    const statusOf = (...parts: TransmissionResult[]) => TransmissionResult.merge(parts).status;
    expect(statusOf(acknowledged, acknowledged)).toBe("acknowledged");
    expect(statusOf(acknowledged, allRefused)).toBe("partial");
    expect(statusOf(allRefused, allRefused)).toBe("failed");
    expect(statusOf(acknowledged, partial([1]), failed("UNAVAILABLE"))).toBe("failed");
    expect(statusOf(failed("UNAVAILABLE"), failed("DEADLINE_EXCEEDED", "unknown"))).toBe("unknown");
    const spooled = new TransmissionResult({ ...facts, status: "spooled", acceptedRows: 0, recovered: true });
    expect(statusOf(acknowledged, partial([1]), spooled)).toBe("spooled");
    expect(statusOf(spooled, failed("UNAVAILABLE"))).toBe("failed");
    expect(TransmissionResult.merge([acknowledged, spooled])).toMatchObject({ error: null, recovered: true });
    expect(TransmissionResult.fromJSON(spooled.toJSON())).toMatchObject({
      status: "spooled",
      recovered: true,
    });
    const worst = TransmissionResult.merge([failed("UNAVAILABLE"), failed("DEADLINE_EXCEEDED", "unknown")]);
    expect(worst.errorCode).toBe("DEADLINE_EXCEEDED");
    expect(worst).toMatchObject({
      handoff: "copied",
      handoffReason: "for UNAVAILABLE; for DEADLINE_EXCEEDED",
    });
  });

  test("a change in flight is not forgotten", () => {
    const error = new BatchError({ code: "PAYLOAD_CHANGED", message: "changed" });
    const all = TransmissionResult.merge([acknowledged, new TransmissionResult({ ...facts, error })]);
    expect(all).toMatchObject({ status: "acknowledged", success: true, errorCode: "PAYLOAD_CHANGED" });
  });

  test("none are a success without rows, so that a loop that sent nothing passes", () => {
    const none = TransmissionResult.merge([]);
    expect(none.orThrow()).toBe(none);
    expect(none).toMatchObject({ status: "acknowledged", rows: 0, position: null, sequence: 0n });
    expect(none.rejectedBatch()).toBe(null);
    expect(none.summary().deliveries).toEqual({
      acknowledged: 0,
      partial: 0,
      failed: 0,
      unknown: 0,
      spooled: 0,
    });
  });

  test("a merged result can be merged, and clones count", () => {
    const inner = TransmissionResult.merge([acknowledged, partial([2])]);
    const all = TransmissionResult.merge(new Set([inner, structuredClone(partial([4]))]));
    expect(all.summary().deliveries).toEqual({
      acknowledged: 1,
      partial: 2,
      failed: 0,
      unknown: 0,
      spooled: 0,
    });
    expect(all.rejections.map(({ row }) => row)).toEqual([ROWS + 2, 2 * ROWS + 4]);
    const error = new ConnectionError({ code: "UNAVAILABLE", message: "away" });
    const clone = structuredClone(new TransmissionResult({ ...facts, status: "failed", error }));
    expect(TransmissionResult.merge([clone])).toMatchObject({ status: "failed", errorCode: "UNAVAILABLE" });
  });

  test("what is no result is refused by its place, and nothing is quoted", () => {
    const hostile = {
      ...facts,
      get rows(): number {
        throw new Error("no");
      },
    };
    const given: unknown[] = [acknowledged, 7, { ...facts, status: "great", attempts: -1 }, hostile, null];
    expect(() => TransmissionResult.merge(given as never)).toThrowError(
      expect.objectContaining({
        code: "CONFIG_INVALID",
        issues: [
          { path: "results[1]", message: "must be a result" },
          expect.objectContaining({ path: "results[2].status" }),
          expect.objectContaining({ path: "results[2].attempts" }),
          { path: "results[3].rows", message: "cannot be read" },
          expect.objectContaining({ path: "results[3].rows" }),
          { path: "results[4]", message: "must be a result" },
        ],
      }),
    );
    for (const none of [null, 5, {}, "text"])
      expect(() => TransmissionResult.merge(none as never)).toThrowError(
        /must be an array or another iterable/,
      );
  });

  test("a summary has counts and one example of each kind", () => {
    const all = TransmissionResult.merge([
      acknowledged,
      partial([3, 5]),
      failed("UNAVAILABLE"),
      failed("UNAVAILABLE"),
    ]);
    const summary = all.summary();
    expect(summary).toEqual({
      status: "failed",
      success: false,
      deliveries: { acknowledged: 1, partial: 1, failed: 2, unknown: 0, spooled: 0 },
      rows: 4 * ROWS,
      acceptedRows: 2 * ROWS - 2,
      rejectedRows: 2,
      undecidedRows: 2 * ROWS,
      batchBytes: 4000,
      attempts: 1,
      latencyMs: 10,
      rejections: [{ code: "BAD", rows: 2, firstRow: ROWS + 3, message: "row 3 is bad" }],
      errors: [
        {
          code: "ROWS_REJECTED",
          deliveries: 1,
          message: expect.stringContaining("2 of 23 rows were refused"),
        },
        { code: "UNAVAILABLE", deliveries: 2, message: "away: UNAVAILABLE" },
      ],
    });
    expect(JSON.parse(JSON.stringify(summary))).toEqual(summary);
    expect(partial([1]).summary()).toMatchObject({ deliveries: { partial: 1, acknowledged: 0 } });
  });
});

describe("R-31 a result as JSON and back", () => {
  const error = new ConnectionError({
    ...{ code: "UNAVAILABLE", message: "away", retry: "transient", attempts: 3, operation: "write" },
    cause: new Error("the socket", { cause: new Error("the cable") }),
  });
  const results = [
    new TransmissionResult(facts),
    partial([3, 5]),
    new TransmissionResult({ ...facts, status: "failed", position: null, error, sequence: 2n ** 53n + 1n }),
    new TransmissionResult({ ...facts, handoff: "ipc", handoffReason: "a union" }),
  ];

  test("text and object give an equal result, its error with class, facts and causes", () => {
    for (const result of results) {
      for (const json of [JSON.stringify(result), result.toJSON(), JSON.parse(JSON.stringify(result))]) {
        const back = TransmissionResult.fromJSON(json);
        expect(back.equals(result)).toBe(true);
        expect(back).toBeInstanceOf(TransmissionResult);
        expect(back.toJSON()).toEqual(result.toJSON());
        expect(back.timings).toEqual(result.timings);
        expect(back.rejectedBatch()).toBe(null);
      }
    }
    const back = TransmissionResult.fromJSON(JSON.stringify(results[2]));
    expect(back.error).toBeInstanceOf(ConnectionError);
    expect(((back.error!.cause as Error).cause as Error).message).toBe("the cable");
  });

  test("all that is wrong is said at once, by path, without a value", () => {
    const wrong = {
      ...results[2]!.toJSON(),
      ...{ status: "s3cret", sequence: 7, rows: 1.5, rejections: [{ row: 1, code: 2 }, "s3cret"] },
      ...{
        position: { kind: "place", value: "9".repeat(21) },
        timings: null,
        handoff: null,
        latencyMs: Number.NaN,
      },
      ...{ error: { code: "s3cret", message: "m" }, handoffReason: 4, later: "ignored" },
    };
    expect.assertions(4);
    try {
      TransmissionResult.fromJSON(wrong as never);
    } catch (thrown) {
      const { code, issues, message } = thrown as IngestError;
      expect(code).toBe("CONFIG_INVALID");
      expect(issues.map(({ path }) => path).sort()).toEqual([
        "error.code",
        "handoff",
        "handoffReason",
        "latencyMs",
        "position.kind",
        "position.value",
        "rejections[0].code",
        "rejections[0].message",
        "rejections[1]",
        "rows",
        "sequence",
        "status",
        "timings",
      ]);
      expect(message).not.toContain("s3cret");
    }
    expect(() => TransmissionResult.fromJSON({ ...results[2]!.toJSON(), error: 5 } as never)).toThrowError(
      /^error must be an object/,
    );
  });

  test("text that is no JSON, and JSON that is no result, are refused", () => {
    for (const json of ["", "{", "[]", "null", "7", '"text"'])
      expect(() => TransmissionResult.fromJSON(json)).toThrowError(
        expect.objectContaining({ code: "CONFIG_INVALID" }),
      );
    expect(() =>
      TransmissionResult.fromJSON({ ...results[0]!.toJSON(), rejections: {} } as never),
    ).toThrowError("rejections must be an array");
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

  test("of a merged result: those of its parts, in order, if they are of one schema", () => {
    const halves = [batch.slice(0, 10), batch.slice(10, ROWS)];
    const parts = halves.map((half) => {
      const rows = { rows: half.numRows, acceptedRows: half.numRows - 1, rejectedRows: 1 };
      return new TransmissionResult({ ...facts, ...rows, status: "partial", rejections: [rejection(4)] }, {
        batches: [half],
      } as never);
    });
    const lost = new TransmissionResult({ ...facts, status: "unknown" }, { batches: [batch] } as never);
    const merged = TransmissionResult.merge([...parts, lost]);
    expect(rowsOf(merged.rejectedBatch())).toEqual([all[4], all[14]]);
    expect(rowsOf(merged.acceptedBatch())).toEqual(all.filter((_, row) => row !== 4 && row !== 14));
    expect(rowsOf(TransmissionResult.merge([parts[0]!]).rejectedBatch())).toEqual([all[4]]);

    const other = batchOf({ other: everyType().int32! });
    const mixed = TransmissionResult.merge([
      new TransmissionResult(facts, { batches: [batch as never] }),
      new TransmissionResult(facts, { batches: [other as never] }),
    ]);
    expect(() => mixed.acceptedBatch()).toThrowError(expect.objectContaining({ code: "SCHEMA_MISMATCH" }));
    expect(mixed.rejectedBatch()).toBe(null);
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
