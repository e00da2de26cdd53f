// what a clone lacks is skipped, and named at the end of `npm test`.
import { expect, test } from "vitest";
import { whatWasSkipped } from "../../scripts/what_was_skipped.mjs";

const result = (fullName: string, status: string) => ({ fullName, status });

test("R-37 tests of both languages and parts of tests are named once", () => {
  const report = {
    testResults: [
      { assertionResults: [result("a passes", "passed"), result("b fails", "failed")] },
      {
        assertionResults: [
          result("group golden files (x is not there)", "skipped"),
          result("c to come", "todo"),
        ],
      },
    ],
  };
  const log = "SKIPPED: golden files: x is not there\nmore\nSKIPPED: a comparison: no Python\n";
  expect(whatWasSkipped(report, log, "rust_one: no files\nrust_one: no files\n")).toEqual([
    "group golden files (x is not there)",
    "c to come",
    "rust_one: no files",
    "a comparison: no Python",
  ]);
  expect(whatWasSkipped(undefined, "", "")).toEqual([]);
});
