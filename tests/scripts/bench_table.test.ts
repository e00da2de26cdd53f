// bench/table.mjs: a bar that is failed stands in the table that people read.
import { expect, test } from "vitest";
import { failures } from "../../bench/growth.mjs";
import { table } from "../../bench/table.mjs";

const machine = { cpu: "any", cores: 2, memoryGiB: 4, system: "any", node: "v24" };
const rows = (over: number) => [
  { count: 1_000, us: 10, over: null },
  { count: 10_000, us: 10 * over, over },
];

test("an item that costs more among more of them is named with its ratio", () => {
  const results = { "new schemas": rows(1.51), aborts: rows(1.5), closes: rows(0.2) };
  const failed = failures(results, 1.5);
  expect(failed).toEqual(["new schemas, 10,000 items: 1.51 × the row before, at most 1.5 ×"]);
  const growth = { results, failed };
  const text = table({ date: "2026-11-29", machine, cases: { growth } });
  expect(text).toContain(`\nFailed: ${failed[0]}.\n`);
  const good = table({ date: "2026-11-29", machine, cases: { growth: { results, failed: [] } } });
  expect(good).toContain("\nNo bar is failed.\n");
});
