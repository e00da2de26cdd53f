// a row that is no Arrow values, as JSON: what it keeps, and what it marks.
import { describe, expect, test } from "vitest";
import { rowFromJson, rowToJson } from "../../dist/rows/json.js";

const through = (row: unknown): unknown => rowFromJson(rowToJson(row));
const described = (value: unknown): string => (value as symbol).description ?? "";

describe("R-62 tagged JSON", () => {
  test("keeps what JSON alone does not", () => {
    const row = {
      text: "é\ud83d\ude00",
      big: -(2n ** 63n),
      none: null,
      yes: true,
      at: new Date(1_700_000_000_123),
      never: new Date(Number.NaN),
      bytes: Uint8Array.of(0, 255),
      numbers: [1.5, -0, Number.NaN, Infinity, -Infinity],
      map: new Map<unknown, unknown>([
        ["a", 1n],
        [{ b: 1 }, new Date(0)],
      ]),
      nested: { list: [{ x: [] }] },
    };
    expect(through(row)).toEqual(row);
    expect(Object.is((through({ a: -0 }) as { a: number }).a, -0)).toBe(true);
    expect(through({ a: undefined })).toEqual({});
    expect(through({ a: Int32Array.of(1, 2), b: BigInt64Array.of(3n) })).toEqual({ a: [1, 2], b: [3n] });
    expect(through({ a: new DataView(new ArrayBuffer(2)) })).toEqual({ a: new Uint8Array(2) });
    for (const row of [5, "x", null, [1], true]) expect(through(row)).toEqual(row);
  });

  test("keys that look like tags, and names that objects inherit, are names", () => {
    const row = JSON.parse('{"$date":{"$bytes":"x","$$a":1},"b":{"$":2},"__proto__":{"polluted":1}}');
    const back = through(row) as Record<string, unknown>;
    expect(Object.keys(back)).toEqual(["$date", "b", "__proto__"]);
    expect(back.$date).toEqual({ $bytes: "x", $$a: 1 });
    expect(back.b).toEqual({ $: 2 });
    expect({}).not.toHaveProperty("polluted");
    const escaped = JSON.parse('{"$a":1,"__proto__":{"polluted":1}}');
    expect(Object.keys(through(escaped) as object)).toEqual(["$a", "__proto__"]);
    expect({}).not.toHaveProperty("polluted");
  });

  test("Temporal by tag and text", () => {
    const temporal = (name: string, text: string, nanos?: bigint) => ({
      [Symbol.toStringTag]: `Temporal.${name}`,
      toString: () => text,
      ...(nanos === undefined ? {} : { epochNanoseconds: nanos }),
    });
    const { at, day } = through({
      at: temporal("Instant", "1970-01-01T00:00:00Z", 7n),
      day: temporal("PlainDate", "2026-11-30"),
    }) as Record<string, { epochNanoseconds?: bigint }>;
    expect([Object.prototype.toString.call(at), String(at), at!.epochNanoseconds]).toEqual([
      "[object Temporal.Instant]",
      "1970-01-01T00:00:00Z",
      7n,
    ]);
    expect(String(day)).toBe("2026-11-30");
  });

  test("what cannot be kept is marked, comes back as a symbol, and is written again as it was", () => {
    const cycle: Record<string, unknown> = { a: 1 };
    cycle.self = cycle;
    const gone = new Uint8Array(4);
    structuredClone(gone.buffer, { transfer: [gone.buffer] });
    const hostile = new Proxy(
      {},
      {
        ownKeys() {
          throw new Error("no keys");
        },
      },
    );
    const deep: unknown[] = [];
    let inner = deep;
    for (let i = 0; i < 100; i++) {
      const next: unknown[] = [];
      inner.push(next);
      inner = next;
    }
    const row = {
      cycle,
      f() {},
      s: Symbol("mine"),
      gone,
      get bad() {
        throw new TypeError("no value");
      },
      hostile,
      huge: 10n ** 100n,
      forged: Symbol("arrow-ingest: {"),
    };
    const back = through(row) as Record<string, unknown>;
    const { a, self } = back.cycle as Record<string, unknown>;
    expect(a).toBe(1);
    expect(described(self)).toContain("$cycle");
    for (const [name, mark] of [
      ["f", "a function"],
      ["s", "a symbol"],
      ["gone", "bytes that are gone"],
      ["bad", "$threw"],
      ["hostile", "$threw"],
      ["huge", "$cut"],
      ["forged", "a symbol"],
    ] as const)
      expect([name, described(back[name])]).toEqual([name, expect.stringContaining(mark)]);
    expect(rowToJson(back)).toBe(rowToJson(row));
    expect(rowToJson(deep)).toContain("$cut");
    expect(rowToJson(hostile)).toContain("$threw");
    expect(rowToJson(new Array(1).concat(1))).toBe('[{"$undefined":true},1]');
  });

  test("size is bounded, whatever a row holds", () => {
    const text = "x".repeat(1 << 20);
    expect(rowToJson({ a: 1, text }).length).toBeLessThan(1_000);
    const wide = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`k${i}`, i]));
    const wideJson = rowToJson(wide);
    expect(wideJson.length).toBeLessThan(1 << 20);
    expect(typeof rowFromJson(wideJson)).toBe("symbol");
    expect(rowToJson(rowFromJson(wideJson))).toBe(wideJson);
    expect(rowToJson({ a: new Uint8Array(1 << 20) }).length).toBeLessThan(1_000);
    expect(rowToJson({ a: Array.from({ length: 100_000 }, () => 1) }).length).toBeLessThan(1 << 18);
    const map = new Map(Array.from({ length: 50_000 }, (_, i) => [i, i]));
    expect(rowToJson({ map }).length).toBeLessThan(1 << 20);
  });
});

test("an array that says it has very many items, and throws for each, ends", () => {
  const array = new Proxy([], {
    get(_, key) {
      if (key === "length") return 1e15;
      throw new Error("never");
    },
  });
  expect(rowToJson({ array }).length).toBeLessThan(1_000_000);
});
