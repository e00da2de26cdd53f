// Symptom: a batch was refused, and what sendAll() threw was not that but what the source's own `return` threw.
import { tableFromArrays } from "apache-arrow";
import { expect, test } from "vitest";
import { connect } from "../../dist/index.js";

const batch = () => tableFromArrays({ n: Int32Array.of(1) });

/** First these, then batches without end. */
function source(values: unknown[]): Iterable<never> {
  const inner = values.values();
  return {
    [Symbol.iterator]: () => ({
      next: () => ({ done: false, value: (inner.next().value ?? batch()) as never }),
      return: () => {
        throw new Error("of return");
      },
    }),
  };
}

test("R-30 a source whose return throws hides no error", async () => {
  await using client = await connect("discard:");
  const results = client.sendAll(source([batch(), "no batch"]));
  expect((await results.next()).value).toMatchObject({ status: "acknowledged" });
  await expect(results.next()).rejects.toMatchObject({ code: "BATCH_INVALID" });
});

test("R-30 leaving the loop early over such a source is no failure", async () => {
  await using client = await connect("discard:");
  for await (const result of client.sendAll(source([]))) {
    expect(result.status).toBe("acknowledged");
    break;
  }
});
