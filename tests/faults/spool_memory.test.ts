// R-11 R-71 R-72: what waits on the disk is not in memory, however much it is and whoever waits for it.
// SPOOL_BATCH_BYTES is the size of the large delivery: 1073741824 is its long form.
import { execFile } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test } from "vitest";

const child = path.join(process.cwd(), "tests/faults/children/spool-memory.mjs");
let home = "";
beforeEach(() => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-memory-"));
});
afterEach(() => fs.rmSync(home, { recursive: true, force: true }));

async function measured(what: string, given: number) {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--expose-gc", child, what, home, String(given)],
    { maxBuffer: 2 ** 24 },
  );
  return JSON.parse(stdout);
}

test("10,000 batches that a destination misses are on the disk, and all come to it in order when it is back", async () => {
  const batches = 10_000;
  const found = await measured("outage", batches);
  const what = JSON.stringify(found);
  // Most of them were on the disk at once, many times the budget.
  expect(found.spooledRows, what).toBe(batches * 8_192);
  expect(found.spooledBytes / 2 ** 20, what).toBeGreaterThan(6 * found.budgetMiB);
  expect(found, what).toMatchObject({ there: found.sent, outOfOrder: 0, left: 0, other: 0 });
  expect(found.acknowledged * 8_192, what).toBe(found.sent);
  expect(found.grownAwayMiB, what).toBeLessThan(found.budgetMiB + 100);
  // Of all this what the server has, which is in the process, too: a stream of half the budget, three times over.
  expect(found.grownMiB, what).toBeLessThan(found.budgetMiB + 200);
}, 600_000);

test("a caller that waits in an outage takes what is stated of the budget, and little more of memory", async () => {
  const found = await measured("callers", 10_000);
  const what = JSON.stringify(found);
  expect(found.statuses, what).toEqual(["spooled"]);
  // CALLER_BYTES in src-rs/transmitter/spooling.rs, and what specs/delivery.md states.
  // Up to 500 of 10,000 are not on the disk yet when it is looked at, and count with their bytes.
  expect(found.budgeted, what).toBeGreaterThan(2_048 - 512);
  expect(found.budgeted, what).toBeLessThan(2_048 + 512);
  // Of the collected heap, and of all that the process has: allocators keep some.
  expect(found.heap, what).toBeLessThan(4_096);
  expect(found.rss, what).toBeLessThan(8_192);
}, 300_000);

test("a delivery of any size goes through a spool, and is in memory three times at most", async () => {
  const bytes = Number(process.env.SPOOL_BATCH_BYTES ?? 2 ** 27);
  const found = await measured("large", bytes);
  const what = JSON.stringify(found);
  expect(found, what).toMatchObject({ status: "acknowledged", rows: bytes / 8, left: 0 });
  // The caller's, what is written, and what is read back.
  expect(found.times, what).toBeLessThan(3.5);
}, 600_000);
