// batches of generated types (nested, sliced, with nulls, their dictionaries replaced from one to the next,
// columns of one name, none at all) cross by every way and are on the native side what they were: as
// apache-arrow reads it back, and as pyarrow does.
import * as fs from "node:fs";
import { type DataType, type Field, type RecordBatch, tableFromIPC } from "apache-arrow";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { withColumnTypes } from "../../dist/handoff/column-types.js";
import { rebuildSchema, writeIpc } from "../../dist/handoff/rebuild.js";
import { connect } from "../../dist/index.js";
import { valuesOf } from "../ts/support/batches.js";
import { Echo, MODES, PAYLOADS } from "../ts/support/echo.js";
import { generated } from "../ts/support/generate.js";
import { base64, describeWith, Peer, PYTHON } from "./support/peer.js";

const echo = new Echo();
afterAll(() => echo[Symbol.dispose]());

/** As the library writes it, its known mistakes put right. */
function written(batch: RecordBatch): Uint8Array {
  const right = withColumnTypes(batch as never);
  return writeIpc(right, rebuildSchema(right.schema));
}

/** pyarrow has no Python type for two of the intervals. */
const mute = (type: DataType): boolean =>
  (type.typeId === 11 && (type as unknown as { unit: number }).unit < 2) ||
  (type.typeId === -1 && mute((type as unknown as { dictionary: DataType }).dictionary)) ||
  ((type.children ?? []) as Field[]).some((field) => mute(field.type));

test("R-03 every generated batch arrives equal by every way", () => {
  const property = fc.property(generated, ({ batches }) => {
    for (const batch of batches) {
      const expected = valuesOf(batch);
      for (const mode of MODES)
        for (const computed of PAYLOADS) {
          const { streams } = echo.echo(batch, mode, computed);
          expect(streams.length).toBe(1);
          const [came] = tableFromIPC(streams[0]!).batches;
          expect(came!.numRows).toBe(batch.numRows);
          expect(valuesOf(came!), mode).toBe(expected);
        }
    }
  });
  fc.assert(property, { numRuns: Number(process.env.GENERATED_RUNS ?? 300) });
}, 120_000);

test("R-03 R-19 sent at once, by different ways, all of them are acknowledged with their rows", async () => {
  await using client = await connect("discard:", { batching: { linger: "1ms" } });
  const property = fc.asyncProperty(generated, fc.constantFrom(...MODES), async ({ batches }, handoff) => {
    const results = await Promise.all(batches.map((batch) => client.send(batch, { handoff })));
    for (const [index, result] of results.entries())
      expect(result).toMatchObject({ status: "acknowledged", rows: batches[index]!.numRows });
  });
  await fc.assert(property, { numRuns: 150 });
});

describeWith(PYTHON, "R-03 as pyarrow reads it", () => {
  test("values, types, names and metadata are those of the batch", async () => {
    expect(fs.existsSync(PYTHON)).toBe(true);
    await using peer = await Peer.start();
    const pairs: { left: string; right: string[]; batch: string }[] = [];
    for (const { batches, types } of fc.sample(generated, { numRuns: 150, seed: 20_261_120 })) {
      if (types.some(mute)) continue;
      for (const [index, batch] of batches.entries()) {
        const left = base64(written(batch));
        const { streams } = echo.echo(batch, MODES[index % 3]!, index % 2 === 0);
        pairs.push({ left, right: streams.map(base64), batch: batch.schema.fields.map(String).join() });
      }
    }
    expect(pairs.length).toBeGreaterThan(100);
    const answers = await peer.ask<(string | null)[]>("compare", { pairs });
    const wrong = answers.flatMap((answer, index) =>
      answer === null ? [] : [`${pairs[index]!.batch}: ${answer}`],
    );
    expect(wrong).toEqual([]);
  });
});
