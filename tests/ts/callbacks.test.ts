// Promises of retry.when and of the listeners: whatever the user's functions do, deliveries end as they should.
import { execFile } from "node:child_process";
import * as path from "node:path";
import { promisify } from "node:util";
import { describe, expect, test, vi } from "vitest";
import { Binding } from "../../dist/binding.js";
import {
  type ConnectOptions,
  connect,
  type IngestClient,
  type IngestError,
  type TransmissionResult,
} from "../../dist/index.js";
import { FlightServer, INVALID_ARGUMENT, UNAVAILABLE, type Verdict } from "./support/flight-server.js";
import { refused } from "./support/refused.js";
import { tableOf } from "./support/table.js";

const batch = tableOf({ id: Int32Array.of(1, 2, 3) });
const quick = { batching: { linger: 0 } } as const;
const AWAY: Verdict = [UNAVAILABLE, "away"];
const WRONG: Verdict = [INVALID_ARGUMENT, "wrong"];

/** A server that takes streams unless the script has something else for them. */
const server = (...script: Verdict[]) =>
  FlightServer.start(({ method }) => (method === "DoPut" ? script.shift() : undefined));

/** What was logged, by level. */
function logbook() {
  const lines: [level: string, message: string, fields: Record<string, unknown>][] = [];
  const at = (level: string) => (message: string, fields: Record<string, unknown>) =>
    lines.push([level, message, fields]);
  return { lines, logger: { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") } };
}
const verdictless = (lines: ReturnType<typeof logbook>["lines"]) =>
  lines.filter(([level, message]) => level === "warn" && message.includes("no verdict"));

/** Until all is settled that the native side will ever settle: the numbers change no more. */
const nativeEnd = (client: IngestClient) =>
  vi.waitUntil(
    () => {
      const numbers = client.stats();
      return client.stats() === numbers;
    },
    { timeout: 30_000 },
  );

describe("R-12 R-34 retry.when, while delivering", () => {
  test("is asked before each other try, and knows the error and what was tried", async () => {
    await using there = await server(AWAY, AWAY);
    const asked: [string, unknown, boolean][] = [];
    const when: NonNullable<ConnectOptions["retry"]>["when"] = async (error, { attempts, elapsedMs }) => {
      asked.push([error.code, attempts, elapsedMs > 0 && error.elapsedMs === elapsedMs]);
      return true;
    };
    await using client = await connect(there.url, { ...quick, retry: { baseDelay: 1, when } });
    expect((await client.send(batch)).orThrow().attempts).toBe(3);
    expect(asked).toEqual([
      ["UNAVAILABLE", 1, true],
      ["UNAVAILABLE", 2, true],
    ]);
  });

  test.each([
    ["false", () => false],
    ["a promise of it", async () => false],
  ])("%s ends it: the delivery fails with that error, and the next one may pass", async (_, when) => {
    await using there = await server(AWAY);
    await using client = await connect(there.url, { ...quick, retry: { baseDelay: 1, when } });
    const result = await client.send(batch);
    expect(result).toMatchObject({
      success: false,
      attempts: 1,
      error: { code: "UNAVAILABLE", attempts: 1 },
    });
    expect((await client.send(batch)).status).toBe("acknowledged");
  });

  test("is not asked where trying again cannot help", async () => {
    await using there = await server(WRONG);
    const when = vi.fn(() => true);
    await using client = await connect(there.url, { ...quick, retry: { when } });
    expect((await client.send(batch)).success).toBe(false);
    expect(when).not.toHaveBeenCalled();
  });

  const circular = new Error("mine");
  circular.cause = circular;
  test.each<[string, () => unknown, string]>([
    [
      "throws",
      () => {
        throw circular;
      },
      "Error: mine",
    ],
    ["rejects", () => Promise.reject("no verdict today"), "no verdict today"],
    ["gives nothing", () => undefined, "not undefined"],
    ["gives a number", async () => 1, "not a number"],
    ["never answers", () => new Promise(() => {}), "20ms"],
  ])("one that %s changes nothing but for a warning", async (name, when, words) => {
    await using there = await server(AWAY);
    const { lines, logger } = logbook();
    // Those that answer are given the time to, on a machine that is busy.
    const whenTimeout = name === "never answers" ? 20 : 30_000;
    const retry = { baseDelay: 1, when: when as () => boolean, whenTimeout };
    await using client = await connect(there.url, { ...quick, retry, logger });
    expect((await client.send(batch)).orThrow().attempts).toBe(2);
    expect(verdictless(lines)).toHaveLength(1);
    expect(JSON.stringify(verdictless(lines))).toContain(words);
  });

  test("R-36 while it thinks, the event loop and the deliveries of other clients go on", async () => {
    await using there = await server(AWAY);
    const gate = Promise.withResolvers<boolean>();
    const asked = Promise.withResolvers<void>();
    const when = () => {
      asked.resolve();
      return gate.promise;
    };
    await using client = await connect(there.url, { ...quick, retry: { baseDelay: 1, when } });
    await using other = await connect(there.url, quick);
    const sent = client.send(batch);
    await asked.promise;
    expect((await other.send(batch)).status).toBe("acknowledged");
    gate.resolve(true);
    expect((await sent).status).toBe("acknowledged");
  });

  test("an answer that comes too late is no answer to the question that is open by then", async () => {
    await using there = await server(AWAY, AWAY);
    const first = Promise.withResolvers<boolean>();
    const when = vi.fn(async () => {
      if (when.mock.calls.length === 1) return first.promise;
      first.resolve(false);
      // By then the late one has been handed over.
      await new Promise(setImmediate);
      return true;
    });
    const retry = { baseDelay: 1, when, whenTimeout: 50 };
    await using client = await connect(there.url, { ...quick, retry });
    expect((await client.send(batch)).orThrow().attempts).toBe(3);
    expect(when).toHaveBeenCalledTimes(2);
  });

  test("an answer to a question that nobody asked does nothing, and answers no other", async () => {
    await using there = await server(AWAY, AWAY);
    const answers = vi.spyOn(Binding.prototype, "answerRetry");
    const strayed = (binding: Binding, asked: number) => {
      for (const request of [asked, asked + 9, 0, -1, Number.NaN, 2 ** 60])
        binding.answerRetry(request, { retry: false });
    };
    try {
      const when = async () => {
        const binding = answers.mock.contexts[0] as Binding | undefined;
        if (binding !== undefined) strayed(binding, answers.mock.calls[0]![0]);
        return true;
      };
      const client = await connect(there.url, { ...quick, retry: { baseDelay: 1, when } });
      expect((await client.send(batch)).orThrow().attempts).toBe(3);
      expect(answers).toHaveBeenCalledTimes(8);
      await client.close();
      expect(() => strayed(answers.mock.contexts[0] as Binding, 1)).not.toThrow();
    } finally {
      answers.mockRestore();
    }
  });
});

describe("R-12 R-34 retry.when, while connecting", () => {
  const closed = () => FlightServer.start(() => AWAY);

  test("is asked before each other try, and false ends it", async () => {
    await using there = await closed();
    const asked: unknown[] = [];
    const when: NonNullable<ConnectOptions["retry"]>["when"] = (error, { attempts }) => {
      asked.push([error.code, attempts, error.attempts]);
      return attempts < 2;
    };
    const error = await refused(there.url, { retry: { baseDelay: 1, when } });
    expect(error).toMatchObject({ code: "UNAVAILABLE", attempts: 2 });
    expect(asked).toEqual([
      ["UNAVAILABLE", 1, 1],
      ["UNAVAILABLE", 2, 2],
    ]);
  });

  test.each<[string, () => unknown, string]>([
    ["rejects", () => Promise.reject(new TypeError("mine")), "TypeError: mine"],
    ["gives a string", () => "no", "not a string"],
    ["never answers", () => new Promise(() => {}), "20 ms"],
  ])("one that %s changes nothing but for a warning each time", async (_, when, words) => {
    await using there = await closed();
    const { lines, logger } = logbook();
    const retry = { baseDelay: 1, attempts: 3, when, whenTimeout: 20 };
    expect(await refused(there.url, { retry, logger })).toMatchObject({ code: "UNAVAILABLE", attempts: 3 });
    expect(verdictless(lines)).toHaveLength(2);
    expect(JSON.stringify(verdictless(lines))).toContain(words);
  });

  test("is not asked about the last try, nor where trying again cannot help", async () => {
    await using there = await closed();
    const when = vi.fn(() => true);
    expect(await refused(there.url, { retry: { attempts: 1, when } })).toMatchObject({ attempts: 1 });
    expect((await refused("discard:", { retry: { when, atempts: 1 } })).code).toBe("CONFIG_INVALID");
    expect(when).not.toHaveBeenCalled();
  });
});

describe("R-18 R-34 the end, while retry.when owes an answer", () => {
  test("close settles everything at its deadline", async () => {
    await using there = await server(AWAY);
    const asked = Promise.withResolvers<void>();
    const when = () => {
      asked.resolve();
      return new Promise<boolean>(() => {});
    };
    const client = await connect(there.url, { ...quick, retry: { baseDelay: 1, when, whenTimeout: "1h" } });
    const sent = client.send(batch);
    await asked.promise;
    await client.close({ deadline: 10 });
    expect((await sent).success).toBe(false);
  });

  test("close may come from within it", async () => {
    await using there = await server(AWAY);
    const over = Promise.withResolvers<void>();
    const when = async () => {
      await client.close({ deadline: 10 });
      over.resolve();
      return true;
    };
    const client = await connect(there.url, { ...quick, retry: { baseDelay: 1, when } });
    expect((await client.send(batch)).success).toBe(false);
    await over.promise;
  });

  test.each(["connecting", "delivering"])("the process ends: %s", async (what) => {
    await using there = await (what === "connecting" ? FlightServer.start(() => AWAY) : server(AWAY));
    const index = path.join(import.meta.dirname, "../../dist/index.js");
    // What was asked for is given up, so nothing waits but the question; nobody closes the client.
    const script = `
      import { connect } from ${JSON.stringify(index)};
      import { tableFromArrays } from "apache-arrow";
      const abort = new AbortController();
      const when = () => (queueMicrotask(() => abort.abort()), new Promise(() => {}));
      const options = { retry: { when, whenTimeout: "1h" } };
      const { signal } = abort;
      if (${what === "connecting"})
        await connect(${JSON.stringify(there.url)}, { ...options, signal }).catch((error) => console.log(error.name));
      else {
        const client = await connect(${JSON.stringify(there.url)}, options);
        const { error } = await client.send(tableFromArrays({ id: Int32Array.of(1) }), { signal });
        console.log(error.code);
      }
    `;
    const run = promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], {
      timeout: 50_000,
    });
    expect((await run).stdout.trim()).toMatch(/^Abort(Error|ed)$/i);
  });
});

describe("R-34 listeners", () => {
  test("R-14 are told of every delivery once, however it was sent, with the very result", async () => {
    await using there = await server(undefined, WRONG);
    const told: [string, TransmissionResult][] = [];
    await using client = await connect(there.url, {
      ...quick,
      listeners: {
        onAcknowledged: (result) => told.push(["acknowledged", result]),
        onFailed: (result) => told.push(["failed", result]),
      },
    });
    const results = [await client.send(batch), await client.send(batch)];
    results.push(await (await client.enqueue(batch)).result);
    for await (const result of client.sendAll([batch, batch])) results.push(result);
    const writer = client.writable().getWriter();
    await writer.write(batch);
    await writer.close();
    expect(told.map(([which, { sequence }]) => [which, sequence])).toEqual([
      ["acknowledged", 1n],
      ["failed", 2n],
      ["acknowledged", 3n],
      ["acknowledged", 4n],
      ["acknowledged", 5n],
      ["acknowledged", 6n],
    ]);
    for (const [i, result] of results.entries()) expect(told[i]![1]).toBe(result);
  });

  test("a failure that onFailed took has been read; one that only onAcknowledged could see has not", async () => {
    for (const [listeners, undelivered] of [
      [{ onFailed: () => {} }, false],
      [{ onAcknowledged: () => {} }, true],
      [{ onFailed: undefined }, true],
      [undefined, true],
    ] as const) {
      await using there = await server(WRONG);
      const client = await connect(there.url, {
        ...quick,
        ...(listeners && { listeners: listeners as NonNullable<ConnectOptions["listeners"]> }),
      });
      await client.enqueue(batch);
      const closed = await client.close().then(
        () => null,
        (error) => (error as IngestError).code,
      );
      expect(closed).toBe(undelivered ? "UNDELIVERED" : null);
    }
  });

  test.each<[string, () => unknown]>([
    [
      "throws",
      () => {
        throw new Error("pager is down", { cause: "no battery" });
      },
    ],
    ["rejects", () => Promise.reject(new Error("pager is down", { cause: "no battery" }))],
  ])("one that %s is logged, breaks nothing, and has read nothing", async (_, fail) => {
    await using there = await server(WRONG);
    const { lines, logger } = logbook();
    const listeners = { onAcknowledged: fail, onFailed: fail };
    const client = await connect(there.url, { ...quick, listeners, logger });
    await client.enqueue(batch);
    await client.flush();
    expect((await client.send(batch)).status).toBe("acknowledged");
    await expect(client.close()).rejects.toMatchObject({ code: "UNDELIVERED" });
    const failures = lines.filter(([, message]) => message === "a listener failed");
    expect(failures).toMatchObject([
      ["error", "a listener failed", { sequence: 1, causes: ["Error: pager is down", "no battery"] }],
      ["error", "a listener failed", { sequence: 2, status: "acknowledged" }],
    ]);
  });

  test("one that rejects when the client is already closing is logged, and has read nothing", async () => {
    await using there = await server(WRONG);
    const { lines, logger } = logbook();
    const gate = Promise.withResolvers<void>();
    const onFailed = () => gate.promise;
    const client = await connect(there.url, { ...quick, listeners: { onFailed }, logger });
    await client.enqueue(batch);
    await client.flush();
    const closed = client.close();
    await nativeEnd(client);
    gate.reject(new Error("pager is down"));
    await expect(closed).rejects.toMatchObject({ code: "UNDELIVERED" });
    expect(lines.filter(([, message]) => message === "a listener failed")).toHaveLength(1);
  });

  test("close waits for one that takes its time, and no longer than its deadline", async () => {
    for (const finishes of [true, false]) {
      await using there = await server(WRONG);
      const gate = Promise.withResolvers<void>();
      const onFailed = () => gate.promise;
      const client = await connect(there.url, { ...quick, listeners: { onFailed } });
      await client.enqueue(batch);
      await client.flush();
      const closed = client.close(finishes ? {} : { deadline: 10 }).then(
        () => null,
        (error) => (error as IngestError).code,
      );
      await nativeEnd(client);
      if (finishes) gate.resolve();
      expect(await closed).toBe(finishes ? null : "UNDELIVERED");
    }
  });

  test("close does not wait for one whose result was read elsewhere, be it meanwhile", async () => {
    await using there = await server(WRONG, WRONG);
    const onFailed = () => new Promise(() => {});
    const client = await connect(there.url, { ...quick, listeners: { onFailed } });
    expect((await client.send(batch)).success).toBe(false);
    const delivery = await client.enqueue(batch);
    await client.flush();
    const closed = client.close({ deadline: "1h" });
    await nativeEnd(client);
    expect((await delivery.result).success).toBe(false);
    await closed;
  });

  test.each(["first", "again"])("may close, %s, after it waited for something", async (which) => {
    await using there = await server(WRONG);
    const over = Promise.withResolvers<void>();
    const onFailed = async () => {
      await new Promise(setImmediate);
      await client.close({ deadline: "1h" }).then(over.resolve, over.reject);
    };
    const client = await connect(there.url, { ...quick, listeners: { onFailed } });
    await client.enqueue(batch);
    if (which === "again") await client.close({ deadline: "1h" });
    await over.promise;
  });

  test("all are told before close settles", async () => {
    await using there = await FlightServer.start(({ method }) => (method === "DoPut" ? AWAY : undefined));
    const told: string[] = [];
    const onFailed = ({ status }: TransmissionResult) => void told.push(status);
    const retry = { baseDelay: "1h", maxDelay: "1h", deadline: "3h" } as const;
    const client = await connect(there.url, { ...quick, retry, listeners: { onFailed } });
    await client.enqueue(batch);
    await client.enqueue(batch);
    await client.close({ deadline: 10 });
    expect(told).toHaveLength(2);
  });

  test("one that throws at a failure which is read elsewhere is no reason to complain", async () => {
    await using there = await server(WRONG);
    const onFailed = () => {
      throw new Error("mine");
    };
    await using client = await connect(there.url, { ...quick, listeners: { onFailed } });
    expect((await client.send(batch)).success).toBe(false);
  });

  test("may send and close from within", async () => {
    const more: Promise<TransmissionResult>[] = [];
    let closed: Promise<void> | undefined;
    const client = await connect("discard:", {
      ...quick,
      listeners: {
        onAcknowledged: () => {
          if (more.length < 3) more.push(client.send(batch));
          else closed ??= client.close();
        },
      },
    });
    await client.send(batch);
    while (closed === undefined) await new Promise(setImmediate);
    await closed;
    expect((await Promise.all(more)).map(({ status }) => status)).toEqual(new Array(3).fill("acknowledged"));
  });

  test("keep their this, and hear nothing of what was not admitted", async () => {
    const counter = {
      count: 0,
      onAcknowledged() {
        this.count++;
      },
    };
    const { count: _, ...rest } = counter;
    expect((await refused("discard:", { listeners: counter })).issues[0]!.path).toBe("listeners.count");
    const heard: unknown[] = [];
    const listeners = {
      ...rest,
      onAcknowledged(this: unknown) {
        heard.push(this);
      },
    };
    await using client = await connect("discard:", { ...quick, listeners });
    await expect(client.send(batch, { signal: AbortSignal.abort() })).rejects.toThrow();
    await expect(client.send({} as never)).rejects.toMatchObject({ code: "BATCH_INVALID" });
    expect(heard).toEqual([]);
    await client.send(batch);
    expect(heard).toEqual([listeners]);
  });
});

describe("R-33 R-34 callbacks as options", () => {
  const nothing = () => true;
  test.each<[unknown, string, string]>([
    [{ retry: { when: 5 } }, "retry.when", "must be a function, not 5"],
    [{ retry: { when: true } }, "retry.when", "must be a function, not true"],
    [{ retry: { when: nothing, whenTimeout: 0 } }, "retry.whenTimeout", "leaves no time"],
    [{ retry: { wen: nothing } }, "retry.wen", "is not an option"],
    [{ listeners: nothing }, "listeners", "must be an object, not a function"],
    [{ listeners: { onFailed: 1 } }, "listeners.onFailed", "must be a function, not 1"],
    [{ listeners: { onFail: nothing } }, "listeners.onFail", "is not an option"],
    [{ listener: {} }, "listener", "is not an option"],
  ])("%o is a mistake that is named", async (options, at, message) => {
    const error = await refused("discard:", options);
    expect(error.issues.map((issue) => issue.path)).toEqual([at]);
    expect(error.issues[0]!.message).toContain(message);
  });

  test("null and undefined are no functions, and no mistakes", async () => {
    for (const nothing of [null, undefined]) {
      const options = { retry: { when: nothing }, listeners: nothing } as unknown as ConnectOptions;
      await (await connect("discard:", options)).close();
    }
  });
});
