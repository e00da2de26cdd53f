// and the last bar, "Bad input": Arrow IPC from outside is never trusted. Each malformed input is a
// clear outcome of its own; what was accepted before, between and after is delivered.
import { tableFromIPC } from "apache-arrow";
import { describe, expect, test } from "vitest";
import { connect, type TransmissionResult } from "../../dist/index.js";
import { malformed, messagesOf, wellFormed, wellFormedFile } from "./support/malformed.js";

const good = wellFormed();
const { numRows } = tableFromIPC(good);

const isClear = (result: TransmissionResult, name: string): void => {
  expect(result, name).toMatchObject({ status: "failed", acceptedRows: 0, handoff: "ipc" });
  const { error } = result;
  expect(error!.code, name).toBe("BATCH_INVALID");
  expect(error!.retry, name).toBe("never");
  expect(error!.message.length, name).toBeGreaterThan(15);
  expect(error!.message, name).not.toMatch(/panick|unwrap|src-rs|\.rs:/);
};

describe("R-04 R-14 malformed Arrow IPC", () => {
  const inputs = malformed();

  test("there are at least 200 of them", () => {
    expect(inputs.length).toBeGreaterThanOrEqual(200);
    expect(new Set(inputs.map(({ name }) => name)).size).toBe(inputs.length);
  });

  test("each is a clear outcome, and every good batch among them arrives", async () => {
    await using client = await connect("discard:", { batching: { linger: "1ms" } });
    let arrived = 0;
    for (const [index, { name, bytes }] of inputs.entries()) {
      const before = await client.enqueue(index % 2 === 0 ? good : wellFormedFile());
      const handoff = (["auto", "pin", "copy"] as const)[index % 3]!;
      const result = await client.send(bytes, { handoff });
      isClear(result, name);
      expect(await before.result, name).toMatchObject({ status: "acknowledged", rows: numRows });
      arrived++;
    }
    expect(client.stats().deliveries).toMatchObject({ acknowledged: arrived, failed: inputs.length });
    expect(client.stats().rows).toMatchObject({ accepted: arrived * numRows });
  });

  test("all of them at once, and all is let go", async () => {
    const client = await connect("discard:", { batching: { linger: 0 }, inflight: { maxBytes: "64KiB" } });
    const results = await Promise.all(inputs.map(({ bytes }) => client.send(bytes)));
    for (const [index, result] of results.entries()) isClear(result, inputs[index]!.name);
    await client.close();
    expect(client.stats().pinned).toMatchObject({ bytes: 0, pins: 0 });
    expect(client.stats().pool.inUseBytes).toBe(0);
  });

  test("any byte of the metadata changed: an outcome, never a crash, and never rows that were not sent", async () => {
    await using client = await connect("discard:", { batching: { linger: 0 } });
    const places = messagesOf(good).flatMap(({ start, body }) =>
      Array.from({ length: body - start }, (_, i) => start + i),
    );
    const sent = places.map((at, index) => {
      const bytes = Uint8Array.from(good);
      bytes[at] = bytes[at]! ^ (1 << (index % 8));
      return client.send(bytes);
    });
    const seen = { acknowledged: 0, failed: 0 };
    for (const result of await Promise.all(sent)) {
      expect(["acknowledged", "failed"]).toContain(result.status);
      seen[result.status as keyof typeof seen]++;
      // Some flips only change a name, a flag or padding; a smaller length can cut rows off, as data goes.
      if (result.status === "failed") expect(result.error!.code).not.toBe("INTERNAL");
    }
    expect(seen.failed).toBeGreaterThan(places.length / 4);
    expect(await client.send(good)).toMatchObject({ status: "acknowledged", rows: numRows });
  });
});
