// Symptom: the process ended with an unhandled rejection, when a signal was aborted before anybody waited for the
// promise that it was raced with: a source of sendAll() that shares the signal, an attempt of connect().
import { tableFromArrays } from "apache-arrow";
import { expect, test } from "vitest";
import { raceSignal } from "../../dist/client/open.js";
import { connect } from "../../dist/index.js";
import { unhandled } from "../ts/support/unhandled.js";

test("R-18 a source of sendAll that fails because of the shared signal leaves no rejection behind", async () => {
  await using client = await connect("discard:");
  const controller = new AbortController();
  const { signal } = controller;
  const stopped = new Error("enough");
  const source = {
    async *[Symbol.asyncIterator]() {
      controller.abort(stopped);
      signal.throwIfAborted();
      yield tableFromArrays({ n: Int32Array.of(1) });
    },
  };
  const reasons = await unhandled(async () => {
    const results = client.sendAll(source, { signal });
    await expect(results.next()).rejects.toBe(stopped);
  });
  expect(reasons).toEqual([]);
});

test("R-18 an attempt that was begun under an aborted signal fails silently", async () => {
  const reasons = await unhandled(() =>
    expect(
      raceSignal(Promise.reject(new Error("away")), AbortSignal.abort(new Error("enough"))),
    ).rejects.toThrow("enough"),
  );
  expect(reasons).toEqual([]);
});
