// R-03 R-24: every type of apache-arrow is taken by the native side, whole and sliced, in every mode.
import { describe, expect, test } from "vitest";
import { connect } from "../../dist/index.js";
import { batchOf, chunkedDictionary, everyType, ROWS } from "./support/batches.js";

const columns = { ...everyType(), chunked: chunkedDictionary() };
const fast = { batching: { linger: 0 }, telemetry: { enabled: false } } as const;

describe("R-03 every type arrives, all rows of it", () => {
  for (const [name, data] of Object.entries(columns))
    test(name, async () => {
      await using client = await connect("discard:", fast);
      for (const handoff of ["auto", "copy", "ipc"] as const)
        for (const [from, to] of [
          [0, ROWS],
          [3, 20],
          [9, 10],
          [5, 5],
        ] as const) {
          const result = await client.send(batchOf({ [name]: data }).slice(from, to), { handoff });
          expect([result.status, result.rows, result.error?.message]).toEqual([
            "acknowledged",
            to - from,
            undefined,
          ]);
        }
    });

  test("all of them in one batch", async () => {
    await using client = await connect("discard:", { ...fast, handoff: "pin" });
    const result = await client.send(batchOf(everyType()).slice(1, 22));
    expect([result.error?.message, result.rows, result.handoff]).toEqual([undefined, 21, "pinned"]);
  });
});
