// what a producer was told to be durable survives its being killed, at whatever moment. The long form
// is `npm run torture -- --kills 1000`.
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { makeVector, Table, Utf8, vectorFromArray } from "apache-arrow";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { connect } from "../../dist/index.js";
import { torture } from "../../scripts/kills.mjs";
import { describeWith, PYTHON } from "../interop/support/peer.js";

let folder = "";
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-kills-"));
});
afterEach(() => fs.rmSync(folder, { recursive: true, force: true }));

/** As the producer makes them; `harm` is added to each hash. */
function rows(first: number, end: number, harm = 0n): Table {
  const ids = BigInt64Array.from({ length: end - first }, (_, row) => BigInt(first + row));
  const hash = (id: bigint) => {
    let word = BigInt.asUintN(64, id * 0x9e3779b97f4a7c15n);
    word ^= word >> 29n;
    return BigInt.asIntN(64, word * 0xbf58476d1ce4e5b9n + harm);
  };
  return new Table({
    id: makeVector(ids),
    hash: makeVector(ids.map(hash)),
    text: vectorFromArray(
      Array.from(ids, (id) => String(id).repeat(Number(id % 5n))),
      new Utf8(),
    ),
  });
}

describeWith(PYTHON, "the checker", () => {
  test("finds rows that were lost, doubled or changed, and which of the doubled no kill explains", async () => {
    const table = path.join(folder, "table");
    const acknowledged = path.join(folder, "acknowledged");
    const kills = path.join(folder, "kills");
    const began = Date.now();
    {
      await using client = await connect(`delta:${table}`);
      await client.send(rows(0, 100));
      await client.send(rows(50, 60));
      await client.send(rows(100, 103, 1n));
    }
    fs.writeFileSync(acknowledged, "0 100\n100 110\n");
    const check = (window: number) =>
      JSON.parse(
        execFileSync(
          PYTHON,
          [
            ...["tests/faults/spool_checker.py", "delta", table, acknowledged],
            ...["--kills", kills, "--window-ms", String(window)],
          ],
          { encoding: "utf8" },
        ),
      ) as Record<string, unknown>;
    // Killed before anything was written: that explains nothing.
    fs.writeFileSync(kills, `${began - 1000}\n`);
    expect(check(3_600_000)).toEqual({
      acknowledged: 110,
      rows: 113,
      lost: { count: 7, first: [103, 104, 105, 106, 107] },
      twice: { count: 10, first: [50, 51, 52, 53, 54] },
      changed: { count: 3, first: [100, 101, 102] },
      outside: { count: 10, first: [50, 51, 52, 53, 54] },
      aside: 0,
      both: { count: 0, first: [] },
    });
    // Each millisecond, so that one lies between the two writes.
    const every = Array.from({ length: Date.now() - began + 1 }, (_, at) => `${began + at}\n`);
    fs.writeFileSync(kills, every.join(""));
    expect(check(3_600_000)).toMatchObject({ outside: { count: 0, first: [] } });
  });
});

/** In CI against the addon that is shipped; a few where somebody waits for it, or counts what is covered. */
const KILLS = process.env.CI && !process.env.ARROW_INGEST_ADDON ? 50 : 4;
const PATIENCE_MS = 900_000;
/** No time is held against anything here: a machine may be slow. */
const WHENEVER = 3_600_000;

describeWith(PYTHON, `R-16 R-17 R-73 a producer with a spool, killed ${KILLS} times`, () => {
  test.each(["delta", "flight", "zerobus"] as const)(
    "into %s: nothing lost, and twice only what is stated",
    async (into) => {
      const found = await torture({ into, kills: KILLS, seed: 3, folder, windowMs: WHENEVER });
      expect(found.faults, JSON.stringify(found)).toEqual([]);
      expect(found.acknowledged).toBeGreaterThan(0);
    },
    PATIENCE_MS,
  );

  test(
    "into a Delta table that refuses some rows: each is there, or put aside",
    async () => {
      const found = await torture({
        into: "delta",
        kills: KILLS,
        seed: 4,
        folder,
        windowMs: WHENEVER,
        refusals: true,
      });
      expect(found.faults, JSON.stringify(found)).toEqual([]);
      expect(found.aside).toBeGreaterThan(0);
    },
    PATIENCE_MS,
  );
});

describe("the harness", () => {
  test("knows its destinations", async () => {
    await expect(torture({ into: "nowhere", kills: 1, seed: 1, folder })).rejects.toThrow(TypeError);
  });
});
