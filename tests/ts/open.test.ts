// Promises of connecting: tried again only where that helps, as the options and the destination say.
import { describe, expect, test } from "vitest";
import { open, raceSignal } from "../../dist/client/open.js";
import { ConfigError, ConnectionError, type IngestError } from "../../dist/index.js";
import type { RetryOptions } from "../../dist/options.js";

const away = (retryAfterMs?: number) =>
  new ConnectionError({ code: "UNAVAILABLE", message: "away", retry: "transient", retryAfterMs, field: "f" });

/** A destination that fails as often as there are errors. */
function destination(errors: unknown[]) {
  const times: number[] = [];
  const operations = {
    async operation(start: (operation: number) => void) {
      start(times.push(performance.now()));
      const error = errors[times.length - 1];
      if (error !== undefined) throw error;
    },
    log: () => {},
  };
  const run = (retry: RetryOptions = {}, signal?: AbortSignal) =>
    open(() => {}, operations, { baseDelay: 1, ...retry }, signal).then(
      () => null,
      (error) => error as IngestError,
    );
  return { times, run };
}

describe("R-12 R-32 connecting", () => {
  test("is tried again until it passes", async () => {
    const { times, run } = destination([away(), away()]);
    expect(await run()).toBe(null);
    expect(times.length).toBe(3);
  });

  test("gives up after retry.attempts, and says how often and how long it tried", async () => {
    const { times, run } = destination([away(), away(), away(), away()]);
    const error = await run({ attempts: 3, baseDelay: "2ms" });
    expect(times.length).toBe(3);
    expect(error).toBeInstanceOf(ConnectionError);
    expect(error).toMatchObject({
      code: "UNAVAILABLE",
      message: "away",
      retry: "transient",
      field: "f",
      attempts: 3,
    });
    expect(error!.elapsedMs).toBeGreaterThanOrEqual(4);
  });

  test("is not tried again where that cannot help", async () => {
    const wrong = new ConfigError({ code: "CONFIG_INVALID", message: "wrong" });
    const { times, run } = destination([wrong, wrong]);
    expect(await run()).toMatchObject({ code: "CONFIG_INVALID", attempts: 1 });
    expect(times.length).toBe(1);
    const bug = new RangeError("not ours");
    expect(await destination([bug]).run()).toBe(bug);
  });

  test("waits as long as the destination asks for, and no longer than the deadline", async () => {
    const asked = destination([away(60)]);
    await asked.run();
    expect(asked.times[1]! - asked.times[0]!).toBeGreaterThanOrEqual(55);
    const late = destination([away(60_000), away(60_000)]);
    const began = performance.now();
    expect(await late.run({ deadline: "50ms" })).toMatchObject({ code: "UNAVAILABLE" });
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(late.times.length).toBe(1);
  });

  test("no wait is longer than retry.maxDelay", async () => {
    const { times, run } = destination([away(), away(), away(), away()]);
    await run({ baseDelay: 5, maxDelay: 6 });
    for (let i = 1; i < times.length; i++) expect(times[i]! - times[i - 1]!).toBeLessThan(100);
  });

  test("an abort ends the wait between tries with its reason", async () => {
    const { times, run } = destination([away(), away()]);
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error("enough")), 20);
    expect(await run({ baseDelay: "1h", maxDelay: "1h" }, controller.signal)).toMatchObject({
      message: "enough",
    });
    expect(times.length).toBe(1);
  });

  test("an abort ends the wait for an attempt, whose failure then is nobody's", async () => {
    const controller = new AbortController();
    const attempt = new Promise<never>((_, reject) => setTimeout(() => reject(new Error("late")), 20));
    setTimeout(() => controller.abort(new Error("enough")), 1);
    await expect(raceSignal(attempt, controller.signal)).rejects.toThrow("enough");
    await new Promise((resolve) => setTimeout(resolve, 30));
  });
});
