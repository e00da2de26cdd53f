// Symptom: a spool that was sent to another target and back was refused as a copy of itself, SPOOL_FOREIGN, for ever:
// it had forgotten what it had left at the first target.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { tableFromArrays } from "apache-arrow";
import { expect, test } from "vitest";
import { connect, type IngestClient, retargetSpool } from "../../dist/index.js";

test("R-76 a spool that was sent elsewhere and back delivers, and a copy of it does not", async () => {
  const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-back-"));
  const at = (name: string): string => path.join(home, name);
  const codes: (string | undefined)[] = [];
  const open = (table: string, directory = at("spool")): Promise<IngestClient> =>
    connect(`delta:${at(table)}`, {
      spool: { directory },
      batching: { linger: 0 },
      delta: { commitInterval: "20ms" },
      retry: { baseDelay: "5ms", maxDelay: "20ms" },
      logger: { warn: (_, fields) => void codes.push((fields?.error as { code?: string })?.code) },
    });
  const row = (n: number) => tableFromArrays({ n: Int32Array.of(n) });
  const deliver = async (table: string, n: number): Promise<void> => {
    await using client = await open(table);
    expect(await client.send(row(n))).toMatchObject({ status: "acknowledged", success: true });
  };
  const retarget = (table: string, directory = at("spool")) => retargetSpool(directory, `delta:${at(table)}`);
  try {
    await deliver("a", 0);
    // Somebody who goes to and fro without getting as far as the destination forgets nothing either.
    for (const table of ["b", "a", "b"]) await retarget(table);
    await deliver("b", 1);
    fs.cpSync(at("spool"), at("copy"), { recursive: true });
    await retarget("a");
    await deliver("a", 2);
    await retarget("b");
    await deliver("b", 3);
    await deliver("b", 4);
    expect([rows(at("a")), rows(at("b"))]).toEqual([2, 3]);
    expect(codes).not.toContain("SPOOL_FOREIGN");

    await retarget("a", at("copy"));
    const copy = await open("a", at("copy"));
    const kept = await copy.enqueue(row(5));
    await expect.poll(() => codes, { timeout: 20_000 }).toContain("SPOOL_FOREIGN");
    await copy.close({ deadline: 0 });
    expect((await kept.result).status).toBe("spooled");
    expect(rows(at("a"))).toBe(2);
  } finally {
    fs.rmSync(home, { recursive: true, force: true });
  }
});

/** By the log of a Delta table. */
function rows(table: string): number {
  const log = path.join(table, "_delta_log");
  const files = fs.readdirSync(log).filter((name) => name.endsWith(".json"));
  const lines = files.flatMap((name) => fs.readFileSync(path.join(log, name), "utf8").trim().split("\n"));
  const added = lines.map((line) => JSON.parse(line).add).filter((add) => add !== undefined);
  return added.reduce((sum, add) => sum + JSON.parse(add.stats).numRecords, 0);
}
