// Promises of src-ts/binding.ts: events are told one by one whatever happens, errors become ours once.
import { describe, expect, test } from "vitest";
import { fromNative, type Listener, tell } from "../../dist/binding.js";

function listener(overrides: Partial<Listener> = {}) {
  const told: unknown[][] = [];
  const note =
    (name: string) =>
    (...facts: unknown[]): void => {
      told.push([name, ...facts]);
    };
  const made: Listener = {
    settled: (outcome) => told.push(["settled", outcome]),
    spooled: note("spooled"),
    recovered: note("recovered"),
    granted: note("granted"),
    answered: note("answered"),
    described: note("described"),
    log: note("log"),
    told: note("told"),
    headersWanted: note("headersWanted"),
    retryAsked: note("retryAsked"),
    broken: note("broken"),
    ...overrides,
  };
  return { made, told };
}

const resume = (): void => {};

const settled = (detail: number, position = [0, 0]) => [
  ...[1, 24, 5, 1, 10, 9, 1, 2, 100, 0, 3],
  ...position,
  ...[0.5, 1, 2, 3, 4, 12, detail, 1, 2, 1, 0],
];

describe("R-32 native errors", () => {
  test("carry JSON, and become ours", () => {
    expect(fromNative(new Error('{"code":"CLOSED","message":"closed"}'))).toMatchObject({
      code: "CLOSED",
      name: "ClosedError",
    });
  });
  test("that carry none are INTERNAL, with their text and cause", () => {
    const cause = new Error("panicked at …");
    expect(fromNative(cause)).toMatchObject({
      code: "INTERNAL",
      cause,
      message: expect.stringContaining("panicked"),
    });
    expect(fromNative("text").message).toContain("text");
  });
});

describe("R-14 events", () => {
  test("R-40 facts are told with errors of ours", () => {
    const { made, told } = listener();
    const facts = [
      { fact: "opening", atMs: 1, again: false },
      { fact: "broke", atMs: 2, error: { code: "UNAVAILABLE", message: "away" }, delayMs: 3 },
    ];
    tell(made, Float64Array.of(20, 3, 0, 20, 3, 1), JSON.stringify(facts), resume);
    expect(told[0]).toEqual(["told", facts[0]]);
    expect(told[1]).toMatchObject([
      "told",
      { fact: "broke", delayMs: 3, error: { name: "ConnectionError" } },
    ]);
  });
  test("of a hop are told in order, with their details", () => {
    const { made, told } = listener();
    const details = [
      { error: { code: "UNAVAILABLE", message: "away" }, rejections: [{ row: 1, code: "A", message: "m" }] },
      { code: "CONFLICT", message: "other" },
      { level: "warn", message: "slow", fields: { a: 1 } },
      { level: "info", message: "bare" },
      "AQID",
    ];
    const numbers = [
      ...settled(0, [1, 7]),
      2,
      3,
      44,
      3,
      4,
      8,
      -1,
      3,
      4,
      9,
      1,
      4,
      3,
      2,
      4,
      3,
      3,
      ...[5, 4, 12, 0, 5, 4, 13, 1],
      ...[8, 4, 14, 1],
      ...[12, 4, 15, 4, 12, 4, 16, -1],
      77,
      3,
      0,
      ...settled(-1, [2, 9]),
    ];
    tell(made, Float64Array.from(numbers), JSON.stringify(details), resume);
    expect(told.map(([kind]) => kind)).toEqual([
      "settled",
      "granted",
      "answered",
      "answered",
      "log",
      "log",
      "headersWanted",
      "headersWanted",
      "retryAsked",
      "described",
      "described",
      "settled",
    ]);
    expect(told.slice(9, 11)).toEqual([
      ["described", 15, Buffer.from([1, 2, 3])],
      ["described", 16, null],
    ]);
    expect(told[0]![1]).toMatchObject({
      sequence: 5,
      status: "partial",
      rows: 10,
      acceptedRows: 9,
      rejectedRows: 1,
      attempts: 2,
      batchBytes: 100,
      buffersRealigned: 3,
      position: { kind: "version", value: 7n },
      latencyMs: 12,
      retries: 1,
      writes: 2,
      payloadChanged: true,
      error: { code: "UNAVAILABLE" },
      rejections: [{ row: 1, code: "A", message: "m" }],
    });
    expect(told[1]).toEqual(["granted", 44]);
    expect(told[2]).toEqual(["answered", 8, null]);
    expect(told[3]).toMatchObject(["answered", 9, { code: "CONFLICT" }]);
    expect(told[4]).toEqual(["log", "warn", "slow", { a: 1 }]);
    expect(told[5]).toEqual(["log", "info", "bare", {}]);
    expect(told.slice(6, 8)).toEqual([
      ["headersWanted", 12, "connect"],
      ["headersWanted", 13, "unauthenticated"],
    ]);
    expect(told[8]).toMatchObject(["retryAsked", 14, { code: "CONFLICT" }]);
    expect(told[11]![1]).toMatchObject({
      position: { kind: "offset", value: 9n },
      error: null,
      rejections: [],
    });
  });

  test("R-36 of which there are more are asked for in a later turn of the event loop", async () => {
    const { made, told } = listener();
    let asked = 0;
    const resume = (): void => {
      asked++;
    };
    tell(made, Float64Array.of(2, 3, 1, 9, 2), "", resume);
    expect([told.length, asked]).toEqual([1, 0]);
    await new Promise(setImmediate);
    expect(asked).toBe(1);
  });

  test("that end for one reason share it", () => {
    const { made, told } = listener();
    const details = JSON.stringify([{ error: { code: "UNAVAILABLE", message: "away" } }]);
    tell(made, Float64Array.from([...settled(0), ...settled(0)]), details, resume);
    const [first, second] = told.map(([, outcome]) => (outcome as { error: unknown }).error);
    expect(first).toMatchObject({ code: "UNAVAILABLE" });
    expect(second).toBe(first);
  });

  test("one listener that fails does not keep the others from being told", () => {
    const failing = () => {
      throw new Error("mine");
    };
    const { made, told } = listener({ granted: failing });
    tell(made, Float64Array.of(2, 3, 1, 3, 4, 2, -1), "", resume);
    expect(told).toMatchObject([
      ["broken", { message: "mine" }],
      ["answered", 2, null],
    ]);
  });

  test("nonsense is reported, and ends", () => {
    for (const numbers of [[1, 0], [1, Number.NaN], [2]]) {
      const { made, told } = listener();
      tell(made, Float64Array.from(numbers), "", resume);
      expect(told[0]![0]).toBe("broken");
    }
    const { made, told } = listener();
    tell(made, Float64Array.of(2, 3, 1), "{", resume);
    expect(told[0]![0]).toBe("broken");
  });
});
