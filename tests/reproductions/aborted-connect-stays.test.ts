// Symptom: memory grew with each call of connect() that was aborted during an attempt: its logger, its options and
// its native client stayed.
import { expect, test } from "vitest";
import { connect, type Logger } from "../../dist/index.js";
import { FlightServer } from "../ts/support/flight-server.js";
import { gc } from "../ts/support/garbage.js";

test("R-18 a connect that is aborted during an attempt leaves nothing behind", async () => {
  // It has a say in DoPut only; a handshake that is never answered is an attempt without an end.
  await using server = await FlightServer.start(() => "silence");
  const loggers: WeakRef<Logger>[] = [];
  async function abortOne(): Promise<void> {
    const controller = new AbortController();
    const logger: Logger = { warn: () => {} };
    loggers.push(new WeakRef(logger));
    const { signal } = controller;
    const flight = { auth: { username: "me", password: "any" } };
    const connecting = connect(server.url, { logger, signal, flight });
    const asked = server.calls.length;
    await expect.poll(() => server.calls.length, { timeout: 20_000 }).toBeGreaterThan(asked);
    controller.abort(new Error("enough"));
    await expect(connecting).rejects.toThrow("enough");
  }
  for (let i = 0; i < 3; i++) await abortOne();
  await expect
    .poll(
      () => {
        gc();
        return loggers.filter((logger) => logger.deref() !== undefined).length;
      },
      { timeout: 20_000 },
    )
    .toBe(0);
});
