// Promises of src-ts/client/unread.ts: failures that nobody reads are counted, and take no memory for it.
import { expect, test } from "vitest";
import { type Unread, UnreadOutcomes } from "../../dist/client/unread.js";
import { ingestError } from "../../dist/errors.js";

const failed = (sequence: number): Unread => ({
  sequence: BigInt(sequence),
  status: "failed",
  error: ingestError({ code: "UNAVAILABLE", message: `no ${sequence}`, operation: "write" }),
});

test("R-05 R-30 however many there are, all are counted and few are kept", async () => {
  const unread = new UnreadOutcomes();
  const weak: WeakRef<Unread>[] = [];
  const all = Array.from({ length: 1_000 }, (_, i) => failed(i + 1));
  for (const one of all) {
    unread.add(one);
    weak.push(new WeakRef(one));
  }
  expect(unread.size).toBe(1_000);
  expect(unread.toError()?.message).toMatch(/^1000 deliveries .*#1 failed .*; and 990 more$/);
  // Those that are kept are read; the others are still counted, and read once at most.
  for (const one of [...all.slice(0, 150), all[0]!, all[999]!]) unread.delete(one);
  expect(unread.size).toBe(849);
  expect(unread.toError()?.message).toMatch(
    /^849 deliveries were not acknowledged, and nobody read the outcome/,
  );
  for (const one of all) unread.delete(one);
  expect([unread.size, unread.toError()]).toEqual([0, null]);
});
