// Promises of connecting: tried again only where that helps, as the options and the destination say.
import { afterEach, describe, expect, test, vi } from "vitest";
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
    connectingAgain: () => {},
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

  describe("with a clock that stands still", () => {
    const asked: number[] = [];
    const thinking = (ms: number, verdict: boolean) => ({
      when: () => {
        asked.push(performance.now());
        return new Promise<boolean>((resolve) => setTimeout(resolve, ms, verdict));
      },
    });
    const stopClock = () => vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    /** How it ended, and when each try was made, in milliseconds since the first. */
    async function course(errors: unknown[], retry: RetryOptions, signal?: AbortSignal) {
      stopClock();
      asked.length = 0;
      const { times, run } = destination(errors);
      const ended = run(retry, signal);
      await vi.runAllTimersAsync();
      return { error: await ended, tries: times.map((time) => time - times[0]!), start: times[0]! };
    }
    afterEach(() => vi.useRealTimers());

    test("a hint of more than half of the deadline is waited out, and then it is tried", async () => {
      const { error, tries } = await course([away(6_000)], { deadline: "10s" });
      expect(error).toBe(null);
      expect(tries).toEqual([0, 6_000]);
    });

    test("what could only come at the deadline is given up at once, and not asked about", async () => {
      const when = vi.fn(() => true);
      for (const retry of [{ baseDelay: "10s", maxDelay: "10s" }, {}] as const) {
        const { error, tries } = await course([away(10_000)], { deadline: "10s", when, ...retry });
        expect(error).toMatchObject({ code: "UNAVAILABLE", attempts: 1, elapsedMs: 0 });
        expect(tries).toEqual([0]);
      }
      const backoff = await course([away()], { deadline: "10s", baseDelay: "10s", when });
      expect(backoff.error).toMatchObject({ attempts: 1, elapsedMs: 0 });
      expect(when).not.toHaveBeenCalled();
    });

    test("the hint and the delay run while retry.when thinks", async () => {
      const hint = await course([away(6_000)], { ...thinking(4_000, true), deadline: "10s" });
      expect(hint.tries).toEqual([0, 6_000]);
      expect(asked).toEqual([hint.start]);
      const options = { ...thinking(4_000, true), baseDelay: "1s", maxDelay: "1s" } as const;
      const backoff = await course([away(), away()], options);
      expect(backoff.error).toBe(null);
      expect(backoff.tries).toEqual([0, 4_000, 8_000]);
    });

    test("false ends it when it comes, whatever the hint", async () => {
      const { error, tries } = await course([away(6_000)], thinking(1_000, false));
      expect(error).toMatchObject({ attempts: 1, elapsedMs: 1_000 });
      expect(tries).toEqual([0]);
    });

    test("no answer is waited for past the deadline, and none that comes by then is too late", async () => {
      const options = { deadline: "3s", whenTimeout: "1h" } as const;
      for (const ms of [3_000, 4_000, 3_600_000]) {
        const { error, tries } = await course([away()], { ...thinking(ms, true), ...options });
        expect(error).toMatchObject({ code: "UNAVAILABLE", attempts: 1, elapsedMs: 3_000 });
        expect(tries).toEqual([0]);
      }
      expect((await course([away()], { ...thinking(2_999, true), ...options })).tries).toEqual([0, 2_999]);
    });

    test("months are waited for, though no timer runs for so long", async () => {
      const month = 30 * 86_400_000;
      const { error, tries } = await course([away(month)], {
        ...thinking(1_000, true),
        deadline: "365d",
        whenTimeout: "31.5d",
      });
      expect(error).toBe(null);
      expect(tries).toEqual([0, month]);
      const when = await course([away()], {
        ...thinking(1_000, false),
        deadline: "30.5d",
        whenTimeout: "31.5d",
      });
      expect(when.error).toMatchObject({ attempts: 1, elapsedMs: 1_000 });
    });

    test("no wait is longer than retry.maxDelay", async () => {
      const { tries } = await course([away(), away(), away(), away()], { baseDelay: 5, maxDelay: 6 });
      expect(tries).toHaveLength(5);
      for (let i = 1; i < tries.length; i++) expect(tries[i]! - tries[i - 1]!).toBeLessThanOrEqual(6);
    });

    test("R-18 an abort ends the wait that a destination asked for, and leaves no timer behind", async () => {
      stopClock();
      const { times, run } = destination([away(6_000)]);
      const controller = new AbortController();
      const ended = run({}, controller.signal);
      await vi.advanceTimersByTimeAsync(1_000);
      controller.abort(new Error("enough"));
      expect(await ended).toMatchObject({ message: "enough" });
      expect(times).toHaveLength(1);
      expect(vi.getTimerCount()).toBe(0);
    });
  });

  test("an abort ends the wait between tries with its reason", async () => {
    const { times, run } = destination([away(), away()]);
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error("enough")), 20);
    expect(await run({ baseDelay: "1h", maxDelay: "1h", deadline: "3h" }, controller.signal)).toMatchObject({
      message: "enough",
    });
    expect(times.length).toBe(1);
  });

  test("an abort rejects with the very reason, also where that is an error of ours", async () => {
    const controller = new AbortController();
    const reason = new ConfigError({ code: "CONFIG_INVALID", message: "mine" });
    const { times, run } = destination([away()]);
    const when = () => {
      controller.abort(reason);
      return true;
    };
    expect(await run({ when }, controller.signal)).toBe(reason);
    expect(times).toHaveLength(1);
    expect(await run({}, AbortSignal.abort(reason))).toBe(reason);
  });

  test("an abort ends the wait for an attempt, whose failure then is nobody's", async () => {
    const controller = new AbortController();
    const attempt = new Promise<never>((_, reject) => setTimeout(() => reject(new Error("late")), 20));
    setTimeout(() => controller.abort(new Error("enough")), 1);
    await expect(raceSignal(attempt, controller.signal)).rejects.toThrow("enough");
    await new Promise((resolve) => setTimeout(resolve, 30));
  });
});
