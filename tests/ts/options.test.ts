// Promises about options: all optional, every mistake at once, none of them lost on the way to Rust.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { Schema, tableFromArrays } from "apache-arrow";
import { describe, expect, test } from "vitest";
import { milliseconds } from "../../dist/duration.js";
import { connect, type IngestError } from "../../dist/index.js";
import { describe as name, splitOptions } from "../../dist/options/checks.js";
import { refused } from "./support/refused.js";

describe("R-33 options", () => {
  test("a name that is only begun is known, too", async () => {
    const error = await refused("discard:", { batch: {}, ret: {}, x: {}, batching: { max: 1 } });
    expect(error.issues.map(({ path, suggestion }) => [path, suggestion])).toEqual([
      ["batching.max", "maxRows"],
      ["batch", "batching"],
      ["ret", "retry"],
      ["x", undefined],
    ]);
  });

  test("every mistake is reported at once, with its path and the nearest name", async () => {
    const error = await refused("discard:", {
      batchng: {},
      telemetri: {},
      batching: { maxRows: Number.NaN, linger: () => 1, maxBytes: 10n ** 30n },
      inflight: { maxBytes: Number.POSITIVE_INFINITY, maxWrites: Symbol("many") },
      handoff: "pinned",
      telemetry: { enabld: true, enabled: "yes" },
      logger: { info: 3 },
      signal: {},
      schema: [],
    });
    expect(error.code).toBe("CONFIG_INVALID");
    expect(error.name).toBe("ConfigError");
    expect(Object.fromEntries(error.issues.map((issue) => [issue.path, issue.suggestion ?? ""]))).toEqual({
      batchng: "batching",
      telemetri: "telemetry",
      "batching.maxRows": "",
      "batching.linger": "",
      "batching.maxBytes": "",
      "inflight.maxBytes": "",
      "inflight.maxWrites": "",
      handoff: "",
      "telemetry.enabld": "enabled",
      "telemetry.enabled": "",
      "logger.info": "",
      signal: "",
      schema: "",
    });
    expect(error.message).toContain('batching.maxRows must be a whole number of at least 1, not "NaN"');
    expect(error.message).toContain("linger");
    expect(error.message).toContain("did you mean batching?");
  });

  test("mistakes that only TypeScript sees are reported without a mistake of Rust's", async () => {
    for (const [options, path] of [
      [{ telemetry: 1 }, "telemetry"],
      [{ logger: "console" }, "logger"],
      [{ signal: "now" }, "signal"],
      ["fast", "options"],
      [[], "options"],
    ] as const)
      expect((await refused("discard:", options)).issues.map((issue) => issue.path)).toEqual([path]);
  });

  test("a wrong target is one more issue, or the whole error", async () => {
    expect(await refused("dlta:/x")).toMatchObject({
      code: "CONFIG_INVALID",
      message: expect.stringContaining("dlta"),
    });
    const both = await refused("dlta:/x", { logger: 1 });
    expect(both.issues.map((issue) => issue.path).sort()).toEqual(["logger", "url"]);
    // One mistake, and no guess at a target that nobody wrote.
    expect((await refused(42)).issues).toEqual([
      expect.objectContaining({ path: "url", message: "must be a string or a URL, not 42" }),
    ]);
  });

  test("null, undefined and nothing are no mistakes", async () => {
    const options = {
      batching: null,
      retry: undefined,
      telemetry: null,
      logger: null,
      signal: null,
      schema: null,
    };
    for (const given of [undefined, null, {}, options]) {
      const client = await connect(new URL("discard:") as never, given as never);
      await client.close();
    }
  });

  test("bigints that fit are numbers, values without JSON are named, cycles end", () => {
    const loop: Record<string, unknown> = {};
    loop.self = loop;
    const twice = { a: 1 };
    const { json } = splitOptions({
      a: 5n,
      b: 2n ** 60n,
      c: -0,
      loop,
      first: twice,
      second: twice,
      map: new Map(),
      set: new Set(),
      none: null,
      list: [undefined, () => {}],
      logger: {},
    });
    expect(JSON.parse(json)).toEqual({
      a: 5,
      b: "1152921504606846976",
      c: 0,
      loop: { self: "[circular]" },
      first: { a: 1 },
      second: { a: 1 },
      map: "[Map]",
      set: "[Set]",
      none: null,
      list: [null, "[function anonymous]"],
    });
  });

  test("options of one call are checked as well", async () => {
    await using client = await connect("discard:");
    for (const options of [{ handoff: "fast" }, { signal: 1 }])
      await expect(client.send(new Uint8Array(1), options as never)).rejects.toMatchObject({
        code: "CONFIG_INVALID",
      });
    await expect(client.close({ deadline: "soon" as never })).rejects.toMatchObject({
      code: "CONFIG_INVALID",
      issues: [{ path: "deadline" }],
    });
  });

  test("an option that a call does not have is refused with the one that was meant, in every call", async () => {
    await using client = await connect("discard:");
    const batch = tableFromArrays({ n: Int32Array.of(1) });
    const calls: [string, (options: never) => unknown, object, string | undefined][] = [
      ["send", (options) => client.send(batch, options), { handof: "copy" }, "handoff"],
      ["enqueue", (options) => client.enqueue(batch, options), { signl: undefined }, "signal"],
      ["sendAll", (options) => client.sendAll([], options).next(), { timeout: 5 }, undefined],
      ["writable", (options) => client.writable(options), { signal: undefined }, undefined],
      ["flush", (options) => Reflect.apply(client.flush, client, [options]), { deadline: 5 }, undefined],
      ["check", (options) => Reflect.apply(client.check, client, [options]), { deadline: 5 }, undefined],
      ["close", (options) => client.close(options), { deadLine: 5 }, "deadline"],
    ];
    for (const [operation, call, options, suggestion] of calls) {
      const [path] = Object.keys(options);
      const error = await Promise.resolve()
        .then(() => call(options as never))
        .then(
          () => null,
          (error: unknown) => error,
        );
      expect(error, operation).toMatchObject({ code: "CONFIG_INVALID", operation });
      const issue = { path, message: "is not an option", ...(suggestion && { suggestion }) };
      expect((error as IngestError).issues, operation).toEqual([issue]);
    }
    await expect(client.send(batch, "copy" as never)).rejects.toMatchObject({
      issues: [{ path: "options" }],
    });
    expect((await client.send(batch, null as never)).status).toBe("acknowledged");
    expect(client.stats().deliveries.admitted).toBe(1);
  });

  test("an option in the wrong place is told its place, where there is one", async () => {
    const options = { delta: { createIfMissing: false }, partitionBy: ["a"], linger: 5, commitInterval: 5 };
    const { issues } = await refused("discard:", options);
    const suggestions = Object.fromEntries(issues.map(({ path, suggestion }) => [path, suggestion]));
    expect(suggestions).toEqual({
      "delta.createIfMissing": "createIfMissing",
      partitionBy: "delta.partitionBy",
      linger: "batching.linger",
      // Two destinations have it.
      commitInterval: undefined,
    });
  });

  test("options of another destination have no effect, and a warning says so", async () => {
    const lines: unknown[] = [];
    const logger = { warn: (message: string, fields: unknown) => lines.push([message, fields]) };
    const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-"));
    const given = { zerobus: { clientId: "me" }, flight: {}, delta: {} };
    await (await connect(`delta:${home}/table`, { logger, ...given })).close();
    expect(lines).toEqual([
      ["options of another destination have no effect", { options: ["flight", "zerobus"] }],
    ]);
    await (await connect("discard:", { logger, ...given })).close();
    await (await connect(`delta:${home}/table`, { logger, delta: {} })).close();
    expect(lines.length).toBe(1);
    fs.rmSync(home, { recursive: true });
  });

  test("a scheme alone is no target, and the one that was meant is named", async () => {
    expect((await refused("discard")).message).toContain('did you mean "discard:"?');
    for (const scheme of ["delta", "grpc", "zerobus"])
      expect((await refused(scheme)).message).toContain(`no destination answers to "${scheme}": use delta:<`);
    expect((await refused("lake/flights")).message).toContain('did you mean "delta:lake/flights"?');
  });

  test("durations read as Rust reads them", async () => {
    const cases: [unknown, number | undefined][] = [
      [5, 5],
      [0.5, 0.5],
      ["50ms", 50],
      ["1h 30m", 5_400_000],
      ["1h30m", 5_400_000],
      ["2 days", 172_800_000],
      ["10us", 0.01],
      ["10µs", 0.01],
      ["3sec", 3000],
      ["2.5s", 2_500],
      [" 1 0.5 minutes\u00852 ms ", 630_002],
      ["1.5h", 5_400_000],
      ["1w", 604_800_000],
      ["2wks", 1_209_600_000],
      ["1M", 2_630_016_000],
      ["0.5yr", 15_778_800_000],
      ["1.000001ms", 1.000001],
      ["1ns", 1e-6],
      ["0s", 0],
      ["1.0ns", undefined],
      ["1.0000001ms", undefined],
      ["0.001h", undefined],
      ["1.s", undefined],
      [".5s", undefined],
      ["1.5.5s", undefined],
      ["1s.5ms", undefined],
      ["1S", undefined],
      ["10\u03bcs", undefined],
      ["1\ufeffs", undefined],
      ["m sec", undefined],
      ["2 hours min", undefined],
      ["1e3ms", undefined],
      ["0", 0],
      [" 0", undefined],
      [-1, undefined],
      [Number.NaN, undefined],
      ["", undefined],
      ["5", undefined],
      ["5 parsecs", undefined],
      ["fast", undefined],
      [null, undefined],
    ];
    for (const [given, expected] of cases) {
      expect([given, milliseconds(given)]).toEqual([given, expected]);
      if (typeof given !== "string") continue;
      // Rust itself, on what it takes, and close, which asks this side.
      const deadline = given as `${number}s`;
      const taken = await connect("discard:", { retry: { deadline } }).then(
        async (client) => client.close({ deadline }).then(() => true),
        () => false,
      );
      expect([given, taken]).toEqual([given, expected !== undefined]);
    }
  });

  test("what was given is named", () => {
    expect(
      ["x", "y".repeat(80), () => {}, null, undefined, 3, [], {}, new Date(0), Object.create(null)].map(name),
    ).toEqual([
      '"x"',
      `"${"y".repeat(57)}…"`,
      "a function",
      "null",
      "undefined",
      "3",
      "an array",
      "an object",
      "a Date",
      "an object",
    ]);
  });
});

test("R-39 versions and what the runtime allows can be asked for", async () => {
  await using client = await connect("discard:", { schema: new Schema([]) });
  expect(client.version()).toMatchObject({
    version: expect.stringMatching(/^\d+\.\d+\.\d+/),
    native: { arrow: expect.stringMatching(/^59\./), target: expect.any(String) },
    runtime: { node: process.versions.node, pinning: true },
  });
});
