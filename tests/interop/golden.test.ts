// the Arrow project's own integration files, as record batches and as bytes, by every way into
// Rust, come out equal: to their JSON (read by code that is nobody else's) and to themselves (read by pyarrow).
import * as fs from "node:fs";
import { tableFromIPC } from "apache-arrow";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect } from "../../dist/index.js";
import { Echo, MODES, PAYLOADS } from "../ts/support/echo.js";
import { type Case, cases, valuesOfBatches, valuesOfJson } from "./support/golden.js";
import { base64, describeWith, goldenRoot, Peer, PYTHON } from "./support/peer.js";

const big = cases((folder) => folder.includes("bigendian"));
const little = cases((folder) => !folder.includes("bigendian"));
/** What npm's apache-arrow has no codec for: given as bytes only. */
const compressed = little.filter(({ name }) => name.includes("compression"));
/** Unions of the format's version 4 have a bitmap that apache-arrow reads as their type ids. */
const unreadable = little.filter(({ name }) => name.startsWith("0.17.1/generated_union"));
const plain = little.filter((one) => !compressed.includes(one) && !unreadable.includes(one));

let peer: Peer | undefined;
const echo = new Echo();
beforeAll(async () => {
  if (fs.existsSync(PYTHON) || process.env.CI) peer = await Peer.start();
  else console.warn("SKIPPED: golden files are not compared by pyarrow: it is not installed");
});
afterAll(async () => {
  await peer?.[Symbol.asyncDispose]();
  echo[Symbol.dispose]();
});

const batchesOf = (streams: readonly Uint8Array[]) =>
  streams.flatMap((stream) => tableFromIPC(stream).batches);

async function sameToPyarrow(one: Case, outputs: readonly (readonly Uint8Array[])[]): Promise<void> {
  if (peer === undefined) return;
  const pairs = outputs.map((streams) => ({ left: base64(one.bytes), right: streams.map(base64) }));
  const answers = await peer.ask<(string | null)[]>("compare", { pairs });
  // pyarrow has no Python type for two of the intervals; the JSON alone speaks for those.
  const mute = one.name.includes("interval") ? /KeyError|interval|NotImplemented/ : undefined;
  for (const answer of answers) if (!(answer !== null && mute?.test(answer))) expect(answer).toBeNull();
}

describeWith(goldenRoot, "R-02 R-03 golden files", () => {
  test("all of them are there", () => {
    expect([big.length, plain.length, compressed.length, unreadable.length]).toEqual([44, 64, 8, 2]);
  });

  for (const one of plain)
    test(`${one.name}: as batches and as bytes, by every way, equal to the JSON and to pyarrow's reading`, async () => {
      const expected = valuesOfJson(one.json());
      const { batches, numRows } = tableFromIPC(one.bytes);
      const outputs: Uint8Array[][] = [];
      for (const computed of PAYLOADS)
        for (const mode of MODES) {
          const asBatches = batches.map((batch) => {
            const { streams, packing } = echo.echo(batch, mode, computed);
            if (mode === "ipc") expect(packing.ipc).toBe(1);
            else if (batch.numRows > 0) expect(packing.ipc, String(packing.reason)).toBe(0);
            return streams;
          });
          outputs.push(asBatches.flat(), echo.echo(one.bytes, mode, computed).streams);
        }
      for (const streams of outputs)
        if (numRows > 0) expect(valuesOfBatches(batchesOf(streams))).toEqual(expected);
        else expect(batchesOf(streams).every((batch) => batch.numRows === 0)).toBe(true);
      await sameToPyarrow(one, outputs);
    });

  for (const one of unreadable)
    test(`${one.name}: what apache-arrow misreads is refused, with the column's name`, () => {
      const { batches } = tableFromIPC(one.bytes);
      for (const batch of batches.filter(({ numRows }) => numRows > 0))
        for (const mode of ["pin", "copy"] as const)
          expect(() => echo.echo(batch, mode, true)).toThrowError(/BATCH_INVALID.*sparse.*type ids/);
    });

  for (const one of [...compressed, ...unreadable])
    test(`${one.name}: what apache-arrow cannot read arrives as bytes`, async () => {
      const outputs = PAYLOADS.flatMap((computed) =>
        MODES.map((mode) => echo.echo(one.bytes, mode, computed).streams),
      );
      const expected = valuesOfJson(one.json());
      for (const streams of outputs) expect(valuesOfBatches(batchesOf(streams))).toEqual(expected);
      await sameToPyarrow(one, outputs);
    });

  test("big-endian ones are refused, each with its reason, and the client goes on", async () => {
    await using client = await connect("discard:", { batching: { linger: 0 } });
    for (const { name, bytes } of big) {
      for (const computed of PAYLOADS)
        expect(() => echo.echo(bytes, "pin", computed), name).toThrowError(/BATCH_INVALID.*endian/i);
      const result = await client.send(bytes);
      expect(result, name).toMatchObject({ status: "failed", error: { code: "BATCH_INVALID" } });
      expect(result.error!.message, name).toMatch(/endian/i);
    }
    const { batches } = tableFromIPC(plain.find(({ name }) => name.includes("primitive.stream"))!.bytes);
    expect(await client.send(batches[0]!)).toMatchObject({ status: "acknowledged" });
  });
});
