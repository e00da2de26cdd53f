// Promises of src-ts/client/ledger.ts: it says what a map would say, and keeps no more than there is.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Ledger } from "../../dist/client/ledger.js";
import type { UnsettledDelivery } from "../../dist/delivery.js";

const delivery = (sequence: number) => ({ sequence }) as UnsettledDelivery;

describe("R-14 what is unsettled", () => {
  test("is what a map would hold, in whatever order outcomes come", () => {
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ add: fc.integer({ min: 1, max: 3_000 }) }) },
      // Some of the oldest, or any, or ones that never were.
      { weight: 3, arbitrary: fc.record({ takeFirst: fc.integer({ min: 1, max: 4_000 }) }) },
      { weight: 2, arbitrary: fc.record({ takeAny: fc.array(fc.nat(20_000), { maxLength: 50 }) }) },
      { weight: 1, arbitrary: fc.record({ takeAllBut: fc.integer({ min: 1, max: 9 }) }) },
      { weight: 1, arbitrary: fc.constant({ end: true as const }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const [ours, model] = [new Ledger(), new Map<number, UnsettledDelivery>()];
        let last = 0;
        const take = (sequence: number) => {
          expect(ours.has(sequence)).toBe(model.has(sequence));
          expect(ours.take(sequence)).toBe(model.get(sequence));
          model.delete(sequence);
          expect(ours.has(sequence)).toBe(false);
        };
        for (const step of steps) {
          if ("add" in step)
            for (let i = 0; i < step.add; i++) {
              const one = delivery(++last);
              ours.add(one);
              model.set(last, one);
            }
          else if ("takeFirst" in step)
            for (const one of [...model.keys()].slice(0, step.takeFirst)) take(one);
          else if ("takeAny" in step) for (const one of step.takeAny) take(one);
          else if ("takeAllBut" in step)
            for (const [index, one] of [...model.keys()].entries())
              index % 1_000 >= step.takeAllBut && take(one);
          else {
            expect(ours.takeAll()).toEqual([...model.values()]);
            model.clear();
          }
        }
        expect(ours.takeAll().map(({ sequence }) => sequence)).toEqual([...model.keys()]);
        expect(ours.takeAll()).toEqual([]);
      }),
      { numRuns: 100 },
    );
  });

  test("R-05 takes no memory for those that were settled behind one that is late", () => {
    const ledger = new Ledger();
    for (let sequence = 1; sequence <= 100; sequence++) ledger.add(delivery(sequence));
    for (let sequence = 101; sequence <= 1_000_000; sequence++) {
      ledger.add(delivery(sequence));
      if (ledger.take(sequence) === undefined) throw new Error(`${sequence} is gone`);
    }
    expect(ledger.places).toBeLessThan(5_000);
    expect(ledger.takeAll().map(({ sequence }) => sequence)).toEqual(
      Array.from({ length: 100 }, (_, index) => index + 1),
    );
  });

  test("one that is late is there until it is taken, and then it is not", () => {
    const ledger = new Ledger();
    for (let sequence = 1; sequence <= 10_000; sequence++) {
      ledger.add(delivery(sequence));
      if (sequence > 1) ledger.take(sequence);
    }
    expect([ledger.has(1), ledger.has(2), ledger.has(10_001)]).toEqual([true, false, false]);
    expect(ledger.take(1)).toEqual({ sequence: 1 });
    expect([ledger.has(1), ledger.take(1)]).toEqual([false, undefined]);
  });

  test("R-05 gives back what a crowd took, once all of it is settled", () => {
    const ledger = new Ledger();
    for (let sequence = 1; sequence <= 100_000; sequence++) ledger.add(delivery(sequence));
    expect(ledger.places).toBeGreaterThanOrEqual(100_000);
    for (let sequence = 1; sequence <= 100_000; sequence++) ledger.take(sequence);
    expect(ledger.places).toBeLessThan(100);
  });
});
