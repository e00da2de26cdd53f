// what a writer tells of rows whose deliveries end badly, or are not let in.
import { describe, expect, test } from "vitest";
import { Line } from "../../dist/client/line.js";
import { type RowSender, RowWriter } from "../../dist/client/row-writer.js";
import { UnsettledDelivery, unknownResult } from "../../dist/delivery.js";
import { InternalError, TransmissionResult, t } from "../../dist/index.js";

const schema = t.schema({ id: t.int32() });
const error = new InternalError({ code: "INTERNAL", message: "broken" });

/** Its constructor is not public. */
const Writer = RowWriter as unknown as new (...args: unknown[]) => RowWriter<{ id: number }>;

/** A client of which the test decides what becomes of deliveries. */
function rig(
  admit: () => Promise<void> | undefined = () => undefined,
  durable?: (delivery: UnsettledDelivery) => Promise<void>,
) {
  const deliveries: UnsettledDelivery[] = [];
  const lost: unknown[][] = [];
  const core: RowSender = {
    gathering: { maxRows: 100, maxBytes: 1 << 20, lingerMs: 3_600_000, deadLetters: false },
    budgetBytes: 1 << 20,
    isTight: false,
    gatherers: new Set(),
    closing: undefined,
    isSpooled: durable !== undefined,
    durable: durable ?? (() => Promise.resolve()),
    gathered() {},
    schemaOfRow: () => schema.toArrow(),
    deliveryOfRows(rows, _options, firstRow, isUrgent) {
      const content = { batches: rows.batches as never };
      const delivery = new UnsettledDelivery(content, "auto", undefined, null, isUrgent);
      delivery.rows = { ...rows, firstRow, refusesAlone: true };
      deliveries.push(delivery);
      return delivery;
    },
    inLine: admit,
    flush: async () => {},
    refuseIfClosed() {},
    lost: (...args) => void lost.push(args),
  };
  return { writer: new Writer(core, schema, undefined), deliveries, lost, core };
}

function result(delivery: UnsettledDelivery, facts: object) {
  return new TransmissionResult({ ...unknownResult(delivery, error), sequence: 1n, ...facts } as never);
}

describe("R-60 outcomes of rows", () => {
  test.each([
    [{ status: "unknown" }, "unknown"],
    [{ status: "spooled", error: null }, "spooled"],
    [{ status: "failed", acceptedRows: 0 }, "failed"],
    // Some are there, and nobody says which.
    [{ status: "failed", acceptedRows: 1 }, "unknown"],
    [{ status: "partial", error: null, rejections: [{ row: 0, code: "BAD", message: "bad" }] }, "rejected"],
    [
      { status: "partial", error: null, rejections: [{ row: 1, code: "BAD", message: "bad" }] },
      "acknowledged",
    ],
  ])("%o: %s", async (facts, status) => {
    const { writer, deliveries } = rig();
    const sent = writer.send({ id: 1 });
    await writer.close();
    const [delivery] = deliveries;
    expect(delivery!.observed).toBe(true);
    delivery!.fulfil(result(delivery!, facts));
    const outcome = await sent;
    expect(outcome).toMatchObject({ status, row: 0, sequence: 1n });
    expect(outcome.error === null).toBe(["acknowledged", "spooled"].includes(status));
    if (status === "rejected")
      expect(outcome.error).toMatchObject({ code: "ROWS_REJECTED", row: 0, field: null });
  });

  test("a delivery has been looked at when all of its rows have", async () => {
    const { writer, deliveries } = rig();
    const sent = writer.send({ id: 1 });
    const enqueued = [writer.enqueue({ id: 2 }), writer.enqueue({ id: 3 })];
    await writer.close();
    const [one, two] = await Promise.all(enqueued);
    const [delivery] = deliveries;
    void one!.outcome;
    void one!.outcome;
    expect(delivery!.observed).toBe(false);
    const outcome = two!.outcome;
    expect(delivery!.observed).toBe(true);
    delivery!.fulfil(result(delivery!, { status: "acknowledged", error: null }));
    expect(await outcome).toMatchObject({ status: "acknowledged", row: 2 });
    expect(await sent).toMatchObject({ status: "acknowledged", row: 0 });
  });

  test.each([
    [
      "at once",
      () => {
        throw error;
      },
    ],
    ["later", () => Promise.reject(error)],
  ])(
    "rows that are not let in, %s: who waits is told, and the next call for all others",
    async (_, admit) => {
      const { writer, lost } = rig(admit);
      void writer.write({ id: 1 });
      const waiting = [writer.send({ id: 2 }), writer.enqueue({ id: 3 })];
      for (const call of waiting) await expect(call).rejects.toBe(error);
      expect(lost).toEqual([[1, error]]);
      await expect(writer.write({ id: 4 })).rejects.toBe(error);
      await writer.write({ id: 5 });
      await expect(writer.flush()).rejects.toBe(error);
      const sent = writer.send({ id: 6 });
      await expect(sent).rejects.toBe(error);
      await writer.close();
      expect(lost.length).toBe(2);
    },
  );

  test("with a spool, enqueue waits for the disk; what the disk refuses is told to who enqueued", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const kept = rig(undefined, () => promise);
    const enqueued = kept.writer.enqueue({ id: 1 });
    await kept.writer.close();
    expect(await Promise.race([enqueued, Promise.resolve("waits")])).toBe("waits");
    resolve();
    expect(await enqueued).toMatchObject({ row: 0, rejection: null });

    const full = rig(undefined, () => Promise.reject(error));
    const { writer, deliveries, lost } = full;
    writer.write({ id: 1 });
    const refused = writer.enqueue({ id: 2 });
    const sent = writer.send({ id: 3 });
    await expect(refused).rejects.toBe(error);
    // Who sent has the outcome of the delivery.
    deliveries[0]!.fulfil(result(deliveries[0]!, { status: "failed" }));
    expect(await sent).toMatchObject({ status: "failed", row: 2 });
    expect(lost).toEqual([[1, error]]);
    await expect(writer.close()).rejects.toBe(error);
  });

  test("many who wait for one delivery are told in turns", async () => {
    const { writer, deliveries } = rig();
    const sent = Array.from({ length: 90 }, (_, id) => writer.send({ id }));
    await writer.close();
    const [delivery] = deliveries;
    delivery!.fulfil(result(delivery!, { status: "acknowledged", error: null }));
    expect((await Promise.all(sent)).map(({ row }) => row)).toEqual(
      Array.from({ length: 90 }, (_, row) => row),
    );
  });
});

describe("R-60 a line of calls", () => {
  test("work is done in order, whatever fails; an abort before it begins rejects at once", async () => {
    const line = new Line();
    const done: string[] = [];
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    const work =
      (name: string, fails = false) =>
      async () => {
        if (name === "first") await gate;
        done.push(name);
        if (fails) throw new Error(name);
        return name;
      };
    const controller = new AbortController();
    const begun = new AbortController();
    const first = line.enter(work("first"), begun.signal);
    const second = line.enter(work("second", true));
    const third = line.enter(work("third"), controller.signal);
    const fourth = line.enter(work("fourth"));
    controller.abort(new Error("mine"));
    begun.abort();
    await expect(third).rejects.toThrow("mine");
    expect(done).toEqual([]);
    open();
    expect(await first).toBe("first");
    await expect(second).rejects.toThrow("second");
    expect(await fourth).toBe("fourth");
    expect(done).toEqual(["first", "second", "fourth"]);
    await undefined;
    expect(line.isEmpty).toBe(true);
  });
});
