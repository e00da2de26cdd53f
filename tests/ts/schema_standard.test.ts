// Standard JSON Schemas (Zod, ArkType, Valibot) as schemas of rows: by rules that are written down, with overrides
// for what JSON Schema cannot say, and with every mistake named.
import { toStandardJsonSchema } from "@valibot/to-json-schema";
import { type } from "arktype";
import * as v from "valibot";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import {
  type ConfigError,
  connect,
  type RowOf,
  type StandardSchema,
  t,
  tableFromRows,
} from "../../dist/index.js";

const refused = (make: () => unknown): ConfigError => {
  try {
    make();
  } catch (error) {
    expect((error as ConfigError).code).toBe("CONFIG_INVALID");
    return error as ConfigError;
  }
  expect.fail("it was taken");
};
const paths = (error: ConfigError): string[] => error.issues.map(({ path }) => path);

/** What a library would say. */
const said = (json: unknown, vendor = "mine"): StandardSchema => ({
  "~standard": { version: 1, vendor, jsonSchema: { output: () => json as Record<string, unknown> } },
});
const object = (properties: object, required = Object.keys(properties)) => ({
  type: "object",
  properties,
  required,
});
const notationOf = (property: unknown): string =>
  /c: (.*),\n\}\)$/s.exec(String(t.fromStandard(said(object({ c: property })))))![1]!;

const EXPECTED = `t.schema({
  id: t.int64(),
  price: t.decimal(18, 4),
  at: t.timestamp("us", "UTC"),
  size: t.float64(),
  tags: t.list(t.utf8()),
  place: t.struct({
    lat: t.float64(),
    seen: t.date().nullable(),
  }),
  counts: t.map(t.utf8(), t.int32()),
  kind: t.utf8(),
  done: t.bool(),
  note: t.utf8().nullable(),
})`;

describe("R-61 of libraries", () => {
  const overrides = {
    price: t.decimal(18, 4),
    at: t.timestamp("us", "UTC"),
    "place.seen": t.date(),
    "counts[].value": t.int32(),
  };
  const zod = z.object({
    id: z.int(),
    price: z.string(),
    at: z.date(),
    size: z.number(),
    tags: z.array(z.string()),
    place: z.object({ lat: z.number(), seen: z.date().nullable() }),
    counts: z.record(z.string(), z.int()),
    kind: z.enum(["a", "b"]),
    done: z.boolean(),
    note: z.string().nullish(),
  });
  const valibot = v.object({
    id: v.pipe(v.number(), v.integer()),
    price: v.string(),
    at: v.date(),
    size: v.number(),
    tags: v.array(v.string()),
    place: v.object({ lat: v.number(), seen: v.nullable(v.date()) }),
    counts: v.record(v.string(), v.pipe(v.number(), v.integer())),
    kind: v.picklist(["a", "b"]),
    done: v.boolean(),
    note: v.nullish(v.string()),
  });
  const arktype = type({
    id: "number.integer",
    price: "string",
    at: "Date",
    size: "number",
    tags: "string[]",
    place: { lat: "number", seen: "Date | null" },
    counts: { "[string]": "number.integer" },
    kind: "'a' | 'b'",
    done: "boolean",
    "note?": "string | null",
  });
  const sorted = (notation: string): string[] => notation.split("\n").sort();

  test("Zod's, Valibot's and ArkType's make the same columns", () => {
    expect(String(t.fromStandard(zod, overrides))).toBe(EXPECTED);
    expect(String(t.fromStandard(toStandardJsonSchema(valibot), overrides))).toBe(EXPECTED);
    // It puts keys in an order of its own.
    expect(sorted(String(t.fromStandard(arktype, overrides)))).toEqual(sorted(EXPECTED));
  });

  test("rows that a library has parsed fit, typed as its own", async () => {
    const row: z.output<typeof zod> = zod.parse({
      id: 1,
      price: "9.95",
      at: new Date(0),
      size: 1.5,
      tags: ["x"],
      place: { lat: 1, seen: null },
      counts: { a: 1 },
      kind: "a",
      done: true,
    });
    const schema = t.fromStandard(zod, overrides);
    const typed: RowOf<typeof schema> = row;
    // An override says what is taken.
    const other: RowOf<typeof schema> = { ...row, price: 12n, at: "2026-11-30T00:00:00Z", note: undefined };
    // @ts-expect-error A required key.
    const missing: RowOf<typeof schema> = { ...row, id: undefined };
    const { table, rejections } = await tableFromRows([typed, other, missing], schema);
    expect(table.numRows).toBe(2);
    expect(rejections).toMatchObject([{ row: 2, path: "id", code: "VALUE_MISSING" }]);
  });

  test("they are schemas wherever one is taken, by themselves where JSON Schema says all", async () => {
    const plain = z.object({ id: z.int(), iso: z.iso.datetime(), day: z.iso.date() });
    await using client = await connect("discard:", { schema: plain });
    const rows = [{ id: 1, iso: "2026-11-30T00:00:00Z", day: "2026-11-30" }];
    const { table } = await tableFromRows(rows, plain);
    expect((await client.send(table)).rows).toBe(1);
    expect(String(t.fromArrow(table.schema))).toBe(String(t.fromStandard(plain)));
    const again = await tableFromRows(rows, plain);
    expect(again.table.schema).toBe(table.schema);
    const callable = type({ id: "number.integer" });
    expect((await tableFromRows([{ id: 1 }], callable)).table.numRows).toBe(1);
  });

  test("what they leave open is a mistake of connect, with all its places", async () => {
    const failed = connect("discard:", { schema: zod, batching: { maxRows: -1 } });
    const error = await failed.then(
      () => expect.fail("it was taken"),
      (error: ConfigError) => error,
    );
    expect(paths(error)).toEqual(
      expect.arrayContaining(["schema.at", "schema.place.seen", "batching.maxRows"]),
    );
    const noObject = connect("discard:", { schema: z.string() });
    await expect(noObject).rejects.toMatchObject({ issues: [{ path: "schema" }] });
    const nothing = connect("discard:", { schema: 5 as never });
    await expect(nothing).rejects.toMatchObject({ issues: [{ path: "schema" }] });
    await expect(tableFromRows([], 5 as never)).rejects.toMatchObject({ code: "CONFIG_INVALID" });
  });

  test("a type that holds itself has no end, but for an override", () => {
    const node = z.object({
      v: z.number(),
      get next() {
        return node.nullable();
      },
    });
    expect(paths(refused(() => t.fromStandard(node)))).toEqual(["next"]);
    const cut = t.fromStandard(node, { next: t.struct({ v: t.float64() }) } as never);
    expect(String(cut)).toContain("next: t.struct({\n    v: t.float64(),\n  }).nullable()");
  });
});

describe("R-61 the rules", () => {
  test.each([
    [{ type: "boolean" }, "t.bool()"],
    [{ type: "integer" }, "t.int64()"],
    [{ type: "integer", minimum: 0, maximum: 9 }, "t.int64()"],
    [{ type: "integer", format: "int32" }, "t.int32()"],
    [{ type: "integer", format: "uint8" }, "t.uint8()"],
    [{ type: "number" }, "t.float64()"],
    [{ type: "number", format: "float" }, "t.float32()"],
    [{ type: "string" }, "t.utf8()"],
    [{ type: "string", format: "uuid" }, "t.utf8()"],
    [{ type: "string", format: "constructor" }, "t.utf8()"],
    [{ type: "string", format: "date-time" }, 't.timestamp("us", "UTC")'],
    [{ type: "string", format: "date" }, "t.date()"],
    [{ type: "string", nullable: true }, "t.utf8().nullable()"],
    [{ type: ["integer", "null"] }, "t.int64().nullable()"],
    [{ type: ["integer", "number"] }, "t.float64()"],
    [{ anyOf: [{ type: "string" }, { type: "null" }] }, "t.utf8().nullable()"],
    [{ oneOf: [{ const: "a" }, { const: "b" }] }, "t.utf8()"],
    [
      { anyOf: [{ type: "integer" }, { anyOf: [{ type: "integer" }, { type: "null" }] }] },
      "t.int64().nullable()",
    ],
    [{ enum: ["a", null] }, "t.utf8().nullable()"],
    [{ enum: [1, 2] }, "t.int64()"],
    [{ enum: [1, 2.5] }, "t.float64()"],
    [{ const: true }, "t.bool()"],
    [{ type: "array", items: { type: ["string", "null"] } }, "t.list(t.utf8().nullable())"],
    [{ items: { type: "string" } }, "t.list(t.utf8())"],
    [{ additionalProperties: { type: "number" } }, "t.map(t.utf8(), t.float64())"],
    [
      { type: "object", patternProperties: { "^x": { type: ["number", "null"] } } },
      "t.map(t.utf8(), t.float64().nullable())",
    ],
    [{ allOf: [{ type: "string" }] }, "t.utf8()"],
    [
      { allOf: [object({ a: { type: "string" } }), object({ b: { type: "string" } }, [])] },
      "t.struct({\n    a: t.utf8(),\n    b: t.utf8().nullable(),\n  })",
    ],
  ])("%j is %s", (property, notation) => {
    expect(notationOf(property)).toBe(notation);
  });

  test.each([
    ["nothing", {}],
    ["true", true],
    ["nothing but null", { type: "null" }],
    ["several types", { type: ["string", "number"] }],
    ["text and an instant", { anyOf: [{ type: "string" }, { type: "string", format: "date-time" }] }],
    ["several objects", { anyOf: [object({ a: {} }), object({ b: {} })] }],
    ["a tuple", { type: "array", prefixItems: [{ type: "string" }], items: false }],
    ["an array of anything", { type: "array" }],
    ["an object of anything", { type: "object", additionalProperties: true }],
    ["several patterns", { type: "object", patternProperties: { a: {}, b: {} } }],
    ["a type that is none", { type: "tensor" }],
    ["all of two texts", { allOf: [{ type: "string" }, { type: "string" }] }],
    ["all of two with one key", { allOf: [object({ a: {} }), object({ a: {} })] }],
    ["a reference to nothing", { $ref: "#/$defs/none" }],
    ["a reference elsewhere", { $ref: "https://example.com/schema" }],
  ])("%s has no type, and takes that of an override", (_what, property) => {
    const schema = said(object({ a: { type: "string" }, c: property }));
    const error = refused(() => t.fromStandard(schema));
    expect(paths(error)).toEqual(["c"]);
    expect(error.message).toContain('{ "c": t.… }');
    expect(String(t.fromStandard(schema, { c: t.int8() }))).toContain("c: t.int8()");
  });

  test("references are followed, with their names escaped as in a JSON Pointer", () => {
    const schema = {
      ...object({
        c: { $ref: "#/$defs/a~1b%20~0" },
        d: { $ref: "#/$defs/a~1b%20~0" },
        e: { $ref: "#/$defs/%" },
      }),
      $defs: { "a/b ~": { type: "boolean" }, "%": { type: ["integer", "null"] } },
    };
    expect(String(t.fromStandard(said(schema)))).toBe(
      "t.schema({\n  c: t.bool(),\n  d: t.bool(),\n  e: t.int64().nullable(),\n})",
    );
  });

  test("a column stays nullable where the schema says so, and may be made so", () => {
    const schema = said(object({ a: { type: "string" }, b: {} }, ["b"]));
    expect(String(t.fromStandard(schema, { a: t.utf8View(), b: t.int8().nullable() }))).toBe(
      "t.schema({\n  a: t.utf8View().nullable(),\n  b: t.int8().nullable(),\n})",
    );
  });

  test("an override without a place is a mistake, and so is one that is no type", () => {
    const schema = said(object({ price: { type: "string" } }));
    expect(refused(() => t.fromStandard(schema, { prize: t.int8() })).issues).toEqual([
      { path: 'overrides["prize"]', message: "the schema has no such place", suggestion: "price" },
    ]);
    expect(refused(() => t.fromStandard(schema, { other: t.int8() })).issues[0]).not.toHaveProperty(
      "suggestion",
    );
    refused(() => t.fromStandard(schema, { price: "utf8" as never }));
    refused(() => t.fromStandard(schema, [] as never));
    refused(() => t.fromStandard(schema, 5 as never));
  });

  test("a field's metadata comes with its override", () => {
    const schema = said(object({ a: { type: "string" } }));
    const { fields } = t.fromStandard(schema, { a: t.utf8().withMetadata({ unit: "m" }) });
    expect(fields[0]?.metadata.get("unit")).toBe("m");
  });
});

describe("R-61 what is no schema, or too much of one", () => {
  test.each([
    ["no object", { type: "string" }],
    ["an object that may be null", { ...object({ a: { type: "string" } }), type: ["object", "null"] }],
    ["a map", { type: "object", additionalProperties: { type: "string" } }],
    ["nothing", undefined],
    ["null", null],
    ["itself", { $ref: "#" }],
  ])("%s", (_what, json) => {
    expect(paths(refused(() => t.fromStandard(said(json))))).toEqual(["schema"]);
  });

  test("a library that throws, a getter that throws, no Standard JSON Schema at all", () => {
    const throwing: StandardSchema = {
      "~standard": {
        version: 1,
        vendor: "mine",
        jsonSchema: {
          output: () => {
            throw new Error("no such type");
          },
        },
      },
    };
    expect(refused(() => t.fromStandard(throwing)).cause).toMatchObject({ message: "no such type" });
    const getter = Object.defineProperty({}, "~standard", {
      get: () => {
        throw new Error("hostile");
      },
    });
    for (const none of [getter, {}, null, 5, { "~standard": { version: 1, vendor: "v", validate() {} } }])
      refused(() => t.fromStandard(none as never));
  });

  test("nesting without end, alternatives without end, and more places than there is memory for", () => {
    let deep: object = { type: "string" };
    let either: object = { type: "string" };
    for (let level = 0; level < 100; level++) {
      deep = { type: "array", items: deep };
      either = { anyOf: [either] };
    }
    for (const json of [deep, either]) refused(() => t.fromStandard(said(object({ c: json }))));
    // Each level holds the one below twice: a hundred lines, and 2^30 places.
    const $defs: Record<string, object> = { d0: { type: "string" } };
    for (let level = 1; level <= 30; level++)
      $defs[`d${level}`] = object({
        a: { $ref: `#/$defs/d${level - 1}` },
        b: { $ref: `#/$defs/d${level - 1}` },
      });
    refused(() => t.fromStandard(said({ ...object({ c: { $ref: "#/$defs/d14" } }), $defs })));
    // Depth is that of references as well.
    refused(() => t.fromStandard(said({ ...object({ c: { $ref: "#/$defs/d30" } }), $defs })));
  });

  test("names that rows cannot have", () => {
    refused(() => t.fromStandard(said(object({ "\ud800": { type: "string" } }))));
    const proto = JSON.parse('{"type":"object","properties":{"__proto__":{"type":"string"}}}') as object;
    expect(String(t.fromStandard(said(proto)))).toContain('["__proto__", t.utf8().nullable()]');
  });
});
