// Promises of src-ts/errors.ts: one class for each code, nothing lost on the way from Rust.
import * as fs from "node:fs";
import * as vm from "node:vm";
import { describe, expect, test } from "vitest";
import { fromNative } from "../../dist/binding.js";
import { messages } from "../../dist/callbacks.js";
import { errorFromNative } from "../../dist/errors.js";
import * as api from "../../dist/index.js";

describe("R-32 errors", () => {
  test("every code of Rust has a class, and TypeScript has three codes more", () => {
    const rust = fs.readFileSync("src-rs/error.rs", "utf8");
    const codes = [...rust.matchAll(/Code::\w+ => "([A-Z_]+)"/g)].map(([, code]) => code!);
    expect(codes.length).toBeGreaterThan(15);
    expect([...api.ERROR_CODES].sort()).toEqual(
      [...codes, "NATIVE_UNAVAILABLE", "SCHEMA_REQUIRED", "SPOOLED"].sort(),
    );
    for (const code of api.ERROR_CODES) {
      const error = errorFromNative({ code, message: "m" });
      expect(error).toBeInstanceOf(api.IngestError);
      expect(error.constructor).not.toBe(api.IngestError);
      expect(error.name).toBe(error.constructor.name);
    }
  });

  test("causes of another realm, such as a test runner's or node:vm's, are told as ours are", () => {
    const cause = vm.runInNewContext(
      'new TypeError("outer", { cause: new Error("inner", { cause: "text" }) })',
    );
    expect(cause instanceof Error).toBe(false);
    const error = new api.IngestError({ code: "UNAVAILABLE", message: "m", cause });
    expect(error.toJSON().causes).toEqual(["outer", "inner", "text"]);
    expect(messages(cause)).toEqual(["TypeError: outer", "Error: inner", "text"]);
    expect(fromNative(cause).message).toBe("the addon failed: outer");
  });

  test("every fact crosses, and causes become a chain", () => {
    const error = errorFromNative({
      code: "UNAVAILABLE",
      message: "the store is away",
      retry: "transient",
      causes: ["connect failed", "refused"],
      operation: "open",
      field: "a.b",
      row: 3,
      attempts: 2,
      elapsedMs: 12.5,
      retryAfterMs: 100,
      issues: [],
    });
    expect(error).toBeInstanceOf(api.ConnectionError);
    expect((error.cause as Error).message).toBe("connect failed");
    expect(((error.cause as Error).cause as Error).message).toBe("refused");
    expect(JSON.parse(JSON.stringify(error))).toEqual({
      name: "ConnectionError",
      code: "UNAVAILABLE",
      message: "the store is away",
      retry: "transient",
      operation: "open",
      field: "a.b",
      row: 3,
      attempts: 2,
      elapsedMs: 12.5,
      retryAfterMs: 100,
      issues: [],
      causes: ["connect failed", "refused"],
    });
  });

  test("what is left out is null, 0 or empty, and has no cause", () => {
    const error = errorFromNative({ code: "CLOSED", message: "closed", causes: [] });
    expect(error.toJSON()).toMatchObject({ retry: "never", field: null, row: null, attempts: 0, causes: [] });
    expect(Object.hasOwn(error, "cause")).toBe(false);
  });

  test("a code from a newer addon, and words that are no error at all, are INTERNAL with everything said", () => {
    expect(errorFromNative({ code: "NEW_CODE", message: "m" })).toMatchObject({
      code: "INTERNAL",
      message: "NEW_CODE: m",
    });
    expect(errorFromNative({ code: "toString", message: "m" }).code).toBe("INTERNAL");
    expect(errorFromNative("boom")).toMatchObject({
      code: "INTERNAL",
      message: expect.stringContaining("boom"),
    });
    expect(errorFromNative(null).code).toBe("INTERNAL");
  });

  test("somebody else's error that is its own cause ends", () => {
    const loop: Error = new Error("loop");
    loop.cause = loop;
    const error = new api.InternalError({ code: "INTERNAL", message: "m", cause: loop });
    expect(error.toJSON().causes.length).toBe(16);
    expect(new api.InternalError({ code: "INTERNAL", message: "m", cause: "text" }).toJSON().causes).toEqual([
      "text",
    ]);
  });
});
