// Symptom: an async `onEvent` of an emulator that rejected ended the process with an unhandled rejection.
import { expect, test } from "vitest";
import { startEmulator } from "../../dist/index.js";
import { unhandled } from "../ts/support/unhandled.js";

test("R-04 a listener of an emulator that rejects ends nothing", async () => {
  let told = 0;
  const reasons = await unhandled(async () => {
    await using emulator = await startEmulator({
      onEvent: async () => {
        told++;
        throw new Error("a log that is full");
      },
    });
    await emulator.close();
  });
  expect(told).toBeGreaterThan(0);
  expect(reasons).toEqual([]);
});
