// Promises of src-ts/delivery.ts: a result says how its batch crossed, and there always is one.
import { tableFromArrays } from "apache-arrow";
import { describe, expect, test } from "vitest";
import { Delivery, toResult, UnsettledDelivery, unknownResult } from "../../dist/delivery.js";
import { DeliveryError, InternalError } from "../../dist/index.js";

const content = { batches: tableFromArrays({ n: [1, 2, 3] }).batches as never };
const lost = new InternalError({ code: "INTERNAL", message: "not a word" });

function settled(packing: object | null, outcome: object = {}, mode = "auto") {
  const delivery = new UnsettledDelivery(content, mode as never, undefined, null, false);
  delivery.packing = packing as never;
  const { handoff, handoffReason } = toResult(delivery, {
    ...unknownResult(delivery, lost),
    ...{ buffersCopiedForPinLimit: 0, buffersRealigned: 0 },
    sequence: 1,
    ...outcome,
  } as never);
  return [handoff, handoffReason];
}

describe("R-02 how a batch crossed", () => {
  const way = (pinned: number, copied: number, ipc: number, reason: string | null = null) => ({
    pinned,
    copied,
    ipc,
    reason,
  });

  test("pinned if any buffer was, else copied, else IPC", () => {
    expect(settled(way(3, 1, 0, "copied: x"))).toEqual(["pinned", "copied: x"]);
    expect(settled(way(0, 1, 1))).toEqual(["copied", null]);
    expect(settled(way(0, 0, 1))).toEqual(["ipc", null]);
    expect(settled(way(0, 0, 0))).toEqual(["pinned", null]);
    expect(settled(way(0, 0, 0), {}, "copy")).toEqual(["copied", null]);
    expect(settled(null)).toEqual(["copied", null]);
  });

  test("what Rust copied is said, too", () => {
    const limit = { buffersCopiedForPinLimit: 2 };
    expect(settled(way(2, 0, 0), limit)).toEqual(["copied", "copied: inflight.maxPinnedBytes is reached"]);
    expect(settled(way(2, 0, 0), { buffersRealigned: 1 })).toEqual([
      "pinned",
      "copied by Rust: 1 buffer is misaligned",
    ]);
    expect(settled(way(2, 0, 0, "a"), { buffersRealigned: 2, ...limit })[1]).toBe(
      "a; copied: inflight.maxPinnedBytes is reached; copied by Rust: 2 buffers are misaligned",
    );
  });
});

describe("R-62 rows count as they were given", () => {
  const refused = (row: number) => ({ row, path: "id", code: "VALUE_TYPE", message: "no" }) as never;
  /** Of seven rows 1, 2 and 5 did not fit; the content has the others. */
  const given = { given: 7, rejections: [1, 2, 5].map(refused), missing: [1, 2, 5], firstRow: 10 };
  const outcome = (facts: object, rows: object = {}) => {
    const delivery = new UnsettledDelivery(content, "auto", undefined, null, false);
    delivery.rows = { ...given, refusesAlone: true, ...rows };
    return toResult(delivery, { ...unknownResult(delivery, lost), error: null, ...facts } as never);
  };
  const ofContent = (row: number) => ({ row, code: "BAD", message: "bad" });

  test("what the destination refused is told by the row that was given, among those that did not fit", () => {
    const facts = { status: "partial", rows: 4, acceptedRows: 2, rejectedRows: 2 };
    const result = outcome({ ...facts, rejections: [0, 2].map(ofContent) });
    expect(result).toMatchObject({
      status: "partial",
      rows: 7,
      acceptedRows: 2,
      rejectedRows: 5,
      firstRow: 10,
    });
    expect(result.rejections.map(({ row, code }) => [row, code])).toEqual([
      [0, "BAD"],
      [1, "VALUE_TYPE"],
      [2, "VALUE_TYPE"],
      [4, "BAD"],
      [5, "VALUE_TYPE"],
    ]);
    expect(result.rejectedBatch()!.numRows).toBe(2);
    expect(result.acceptedBatch()!.numRows).toBe(1);
    const last = outcome({ ...facts, rejections: [3].map(ofContent) });
    expect(last.rejections.at(-1)).toMatchObject({ row: 6, code: "BAD" });
  });

  test("the status is the worse one", () => {
    const status = (facts: object, rows: object = {}) =>
      outcome({ rejections: [], rejectedRows: 0, rows: 4, acceptedRows: 0, ...facts }, rows).status;
    expect(status({ status: "acknowledged", acceptedRows: 4 })).toBe("partial");
    expect(status({ status: "acknowledged" })).toBe("failed");
    expect(status({ status: "unknown" })).toBe("unknown");
    expect(status({ status: "failed" })).toBe("failed");
    expect(status({ status: "acknowledged" }, { refusesAlone: false })).toBe("failed");
    const fit = { rejections: [], missing: [] };
    expect(status({ status: "acknowledged", acceptedRows: 4 }, fit)).toBe("acknowledged");
    // Rows that were withdrawn are missing, and refused by nobody.
    expect(status({ status: "acknowledged", acceptedRows: 4 }, { rejections: [] })).toBe("acknowledged");
  });
});

describe("R-14 never silence", () => {
  test("a delivery that nobody can say anything about is unknown, with the rows it had", () => {
    const delivery = new UnsettledDelivery(content, "auto", undefined, null, false);
    delivery.sequence = 4;
    expect(unknownResult(delivery, lost)).toMatchObject({
      status: "unknown",
      rows: 3,
      sequence: 4n,
      error: lost,
    });
    const bytes = new UnsettledDelivery({ bytes: new Uint8Array(1) }, "auto", undefined, null, false);
    expect(unknownResult(bytes, lost).rows).toBe(0);
  });

  test("reading a delivery's result counts as looking at it, once", async () => {
    const unsettled = new UnsettledDelivery(content, "auto", undefined, null, false);
    let looked = 0;
    unsettled.onObserved = () => looked++;
    const delivery = new Delivery(unsettled);
    expect(unsettled.observed).toBe(false);
    const { result } = delivery;
    unsettled.fulfil(unknownResult(unsettled, lost));
    expect(await result).toBe(await delivery.result);
    expect([unsettled.observed, looked]).toEqual([true, 1]);
  });
});

describe("R-70 whether the disk has it", () => {
  const open = (signal?: AbortSignal) => new UnsettledDelivery(content, "auto", signal, null, false);
  const result = (delivery: UnsettledDelivery, facts: object) =>
    toResult(delivery, { ...unknownResult(delivery, lost), ...facts } as never);

  test("is told to who asks before and to who asks after, also where it never will", async () => {
    const there = open();
    const before = there.durable;
    there.spooled();
    await Promise.all([before, there.durable]);
    expect(there.content).toBeNull();

    const never = open();
    const asked = never.durable;
    never.fulfil(result(never, { status: "failed", error: lost }));
    await expect(asked).rejects.toBe(lost);
    expect(never.observed).toBe(true);
    await expect(never.durable).rejects.toBe(lost);

    const late = open();
    late.fulfil(result(late, { status: "failed", error: lost }));
    expect(late.observed).toBe(false);
    await expect(late.durable).rejects.toBe(lost);
    expect(late.observed).toBe(true);

    const empty = open();
    const nothing = empty.durable;
    empty.fulfil(result(empty, { status: "acknowledged", error: null }));
    await Promise.all([nothing, empty.durable]);
  });

  test("an abort rejects with the signal's reason", async () => {
    const reason = new Error("enough");
    const delivery = open(AbortSignal.abort(reason));
    const asked = delivery.durable;
    const aborted = new DeliveryError({ code: "ABORTED", message: "aborted" });
    delivery.fulfil(result(delivery, { status: "failed", error: aborted }));
    await expect(asked).rejects.toBe(reason);
  });
});
