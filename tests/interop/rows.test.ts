// R-60 R-62: rows of generated schemas, of all types that the notation names, are what pyarrow makes of the same values:
// as they are encoded, and after a client has sent them to a Delta table and to a Flight server. `GENERATED_RUNS` says how
// many schemas there are; a twentieth of them for each destination.
import * as path from "node:path";
import {
  type Dictionary,
  type Field,
  type FixedSizeList,
  type Struct,
  Table,
  tableToIPC,
} from "apache-arrow";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  type AnyColumn,
  type ColumnType,
  connect,
  type IngestClient,
  IngestError,
  type RowSchema,
  t,
  tableFromRows,
} from "../../dist/index.js";
import { member } from "../../dist/schema/path.js";
import { Echo } from "../ts/support/echo.js";
import { encode } from "../ts/support/rows.js";
import {
  COLUMNS_ALONE,
  type Generated,
  generated,
  generatedForDelta,
  generatedOf,
  type Kind,
  LEAVES,
  SEED,
  wordsOf,
} from "./support/generated_rows.js";
import { base64, describeWith, folderOfFile, Peer, PYTHON } from "./support/peer.js";
import { FlightServer } from "./support/servers.js";

const RUNS = Number(process.env.GENERATED_RUNS ?? 300);

test("R-62 compiled loops and closures make the same of generated rows, and take all of them", () => {
  const property = fc.property(generated, ({ schema, rows }) => {
    const [compiled, closures] = [true, false].map((compile) => encode(schema, rows, { compile }));
    expect(compiled!.rejections).toEqual([]);
    expect(compiled!.rows.length).toBe(rows.length);
    expect([closures!.rejections, closures!.rows]).toEqual([[], compiled!.rows]);
  });
  fc.assert(property, { numRuns: RUNS, seed: SEED });
}, 120_000);

test("R-62 wrong rows among generated ones are refused by their path, and change no other", () => {
  const wrong = fc.tuple(generated, fc.infiniteStream(fc.nat(3)), fc.boolean());
  const property = fc.property(wrong, ([{ schema, rows, names }, dice, compile]) => {
    const mixed: object[] = [];
    const places: [number, string][] = [];
    for (const row of rows) {
      // A value that no type takes.
      if (dice.next().value === 0) {
        places.push([mixed.length, names[names.length - 1]!]);
        mixed.push({ ...row, [names[names.length - 1]!]: Symbol("wrong") });
      }
      mixed.push(row);
    }
    // In the last column, so that all others have read the row before it is refused.
    const found = encode(schema, mixed, { compile });
    const only = encode(schema, rows, { compile });
    expect(found.rejections.map(({ row, code }) => [row, code])).toEqual(
      places.map(([row]) => [row, "VALUE_TYPE"]),
    );
    for (const [index, [, name]] of places.entries())
      expect(found.rejections[index]!.path).toBe(
        /^[\p{L}_]+$/u.test(name) ? name : `[${JSON.stringify(name)}]`,
      );
    expect(found.rows).toEqual(only.rows);
  });
  fc.assert(property, { numRuns: RUNS, seed: SEED });
}, 120_000);

/** What no value of that type is, whatever its width or unit. */
const WRONG: Readonly<Record<number, readonly unknown[]>> = {
  1: [0, "", false],
  2: [0.5, Number.NaN, "1", true, 2n ** 70n, -(2n ** 70n), {}],
  3: ["1.5", true, new Date(0), []],
  4: ["text", 5, [1, 2]],
  5: [5, "\ud800", {}, true],
  6: [0, "true", 1n],
  7: ["1,5", "", Number.NaN, 10n ** 80n, true],
  8: ["2026-02-30", "today", new Date(Number.NaN), 0.5],
  9: ["24:00:00", "noon", -1, 0.5],
  10: ["2026-13-01T00:00:00Z", "now", new Date(Number.NaN), 0.5],
  11: ["P", "1 day", 0.5],
  12: [5, "items", { 0: 1 }, new Set()],
  13: [5, "members", [], new Map()],
  15: [new Uint8Array(15), "no uuid", 5],
  16: [5, "items", new Set()],
  17: [5, [["key"]], new Set()],
  18: ["PT", "1s", 0.5],
};

interface Dice {
  next(most: number): number;
}

/** A value with something wrong in it, and the path of that. */
function spoiled(field: Field, value: unknown, path: string, dice: Dice): { value: unknown; path: string } {
  const type = field.type.typeId === -1 ? (field.type as Dictionary).dictionary : field.type;
  const { children } = type;
  const deeper = value !== null && value !== undefined && dice.next(3) > 0;
  if (deeper && type.typeId !== 17 && Array.isArray(value) && value.length > 0) {
    const at = dice.next(value.length - 1);
    const item = spoiled(children[0]!, value[at], `${path}[${at}]`, dice);
    return { ...item, value: value.with(at, item.value) };
  }
  if (deeper && type.typeId === 17 && value instanceof Map && value.size > 0) {
    const at = dice.next(value.size - 1);
    const entries = [...value] as [unknown, unknown][];
    const [keyField, valueField] = (children[0] as Field<Struct>).type.children as [Field, Field];
    const [key, one] = entries[at]!;
    const isKey = dice.next(1) === 0;
    const inner = isKey
      ? spoiled(keyField, key, `${path}[${at}].key`, dice)
      : spoiled(valueField, one, `${path}[${at}].value`, dice);
    entries[at] = isKey ? [inner.value, one] : [key, inner.value];
    // A Map would lose one of two wrong keys.
    return { ...inner, value: entries };
  }
  if (deeper && type.typeId === 13) {
    const part = children[dice.next(children.length - 1)] as Field;
    const own = Object.getOwnPropertyDescriptor(value, part.name)?.value as unknown;
    const inner = spoiled(part, own, member(path, part.name), dice);
    const entries = Object.entries(value as object).filter(([name]) => name !== part.name);
    return { ...inner, value: Object.fromEntries([...entries, [part.name, inner.value]]) };
  }
  const same = { 19: 4, 20: 5, 21: 12, 23: 4, 24: 5 } as Record<number, number>;
  const wrong = [Symbol("wrong"), () => 1, new WeakMap(), ...(WRONG[same[type.typeId] ?? type.typeId] ?? [])];
  // One more than there are to be.
  if (type.typeId === 16) wrong.push(new Array((type as FixedSizeList).listSize + 1).fill(null));
  if (!field.nullable) wrong.push(null, undefined);
  return { value: wrong[dice.next(wrong.length - 1)], path };
}

const diceOf = (numbers: Iterator<number>): Dice => ({
  next: (most) => (numbers.next().value as number) % (most + 1),
});

/** The same row with something wrong in it, and the path of that. */
function wrongRow(row: object, schema: RowSchema, dice: Dice, least = 0): { row: object; path: string } {
  const field = schema.fields[least + dice.next(schema.fields.length - 1 - least)]!;
  const own = Object.getOwnPropertyDescriptor(row, field.name)?.value as unknown;
  const { value, path } = spoiled(field, own, member("", field.name), dice);
  const entries = Object.entries(row).filter(([name]) => name !== field.name);
  return { row: Object.fromEntries([...entries, [field.name, value]]), path };
}

test("R-62 ten thousand rows of wrong values are refused, each by the path of what is wrong in it", async () => {
  await using client = await connect("discard:");
  const counts = { encoder: 0, client: 0 };
  const property = fc.asyncProperty(generated, fc.infiniteStream(fc.nat()), async (given, numbers) => {
    const { schema, rows } = given;
    const dice = diceOf(numbers);
    const wrong = rows.flatMap((row) => Array.from({ length: 24 }, () => wrongRow(row, schema, dice)));
    const places = wrong.map(({ path }, row) => [row, path]);
    const all = wrong.map(({ row }) => row);
    const way = dice.next(3);
    if (way < 2) {
      const { rejections, rows: left } = encode(schema, all, { compile: way === 0 });
      expect(rejections.map(({ row, path }) => [row, path])).toEqual(places);
      expect(left).toEqual([]);
      counts.encoder += all.length;
    } else if (all.length > 0) {
      const result = await client.send(all, { schema });
      expect(result).toMatchObject({ status: "failed", rows: all.length, acceptedRows: 0 });
      expect(result.rejections.map(({ row, path }) => [row, path])).toEqual(places);
      counts.client += all.length;
    }
  });
  await fc.assert(property, { numRuns: RUNS, seed: SEED });
  if (RUNS >= 300) {
    expect(counts.encoder).toBeGreaterThan(10_000);
    expect(counts.client).toBeGreaterThan(10_000);
  }
}, 120_000);

const schemaOf = ({ schema }: Generated): string => base64(tableToIPC(new Table(schema.toArrow()), "stream"));

/** Rows with their number, and wrong ones between them. */
function mixed({ names, types, rows, tags }: Generated, numbers: Iterator<number>) {
  const columns = names.map((name, at) => [name, types[at]!] as const);
  const schema = t.schema([["row", t.int64()], ...columns]);
  const dice = diceOf(numbers);
  const all: object[] = [];
  const places: [number, string][] = [];
  const right: object[] = [];
  for (const [index, row] of rows.entries()) {
    const numbered = (number: number): object =>
      Object.defineProperty({ ...row }, "row", { value: number, enumerable: true });
    if (dice.next(2) === 0) {
      const wrong = wrongRow(numbered(all.length), schema, dice, 1);
      places.push([all.length, wrong.path]);
      all.push(wrong.row);
    }
    right.push({ ...tags[index]!, row: String(all.length) });
    all.push(numbered(all.length));
  }
  return { given: { schema, types, names, rows: all, tags: right }, places };
}

/** Sends rows by one of the ways that there are; which were refused, and where. */
async function sent(
  client: IngestClient,
  { schema, rows }: Generated,
  way: number,
): Promise<[number, string][]> {
  if (way === 0) {
    const result = await client.send(rows, { schema });
    expect(result.acceptedRows).toBe(rows.length - result.rejections.length);
    return result.rejections.map(({ row, path }) => [row, path!]);
  }
  if (way === 1) {
    const refused: [number, string][] = [];
    let accepted = 0;
    for await (const result of client.sendAll(rows, { schema })) {
      for (const { row, path } of result.rejections) refused.push([result.firstRow! + row, path!]);
      accepted += result.acceptedRows;
    }
    expect(accepted).toBe(rows.length - refused.length);
    return refused;
  }
  await using writer = client.rows(schema);
  const told = await Promise.all(rows.map((row) => writer.enqueue(row as never)));
  const outcomes = await Promise.all(told.map(({ outcome }) => outcome));
  for (const [index, { rejection }] of told.entries())
    expect(outcomes[index]!.status).toBe(rejection === null ? "acknowledged" : "rejected");
  return told.flatMap(({ row, rejection }) => (rejection === null ? [] : [[row, rejection.path]]));
}

const SENT = Math.ceil(RUNS / 20);
const samples = (of: fc.Arbitrary<Generated>, all: fc.Arbitrary<Generated>) => {
  const some = (value: Generated): boolean => value.rows.length > 0;
  const pair = (of: fc.Arbitrary<Generated>) => fc.tuple(of.filter(some), fc.infiniteStream(fc.nat()));
  // All types at once, by each of the ways; then the generated ones.
  return [
    ...fc.sample(pair(all), { numRuns: 3, seed: SEED }),
    ...fc.sample(pair(of), { numRuns: SENT, seed: SEED }),
  ].map(([given, numbers]) => mixed(given, numbers));
};

const WORDS = Object.keys(t).filter((word) => !/^(schema|from)/.test(word));
const HELD = LEAVES.filter(({ delta }) => delta);
/** Words of types that a Delta table has no like of, whatever their values. */
const NOT_HELD = ["null", "uint8", "uint16", "uint32", "uint64", "float16", "time", "duration", "interval"];

test("R-62 the schemas that are tried have every type that the notation names", () => {
  const all = fc.sample(generated, { numRuns: RUNS, seed: SEED }).map(({ schema }) => schema);
  const held = fc.sample(generatedForDelta, { numRuns: RUNS, seed: SEED }).map(({ schema }) => schema);
  expect([...wordsOf(all)].sort()).toEqual([...WORDS, "schema"].sort());
  const expected = WORDS.filter((word) => !NOT_HELD.includes(word));
  const keys = /^uint/; // Numbers of a dictionary's values are not stored.
  expect([...wordsOf(held)].filter((word) => !keys.test(word)).sort()).toEqual(
    [...expected, "schema"].sort(),
  );
});

/** Columns of nothing but null, of these types and of types that hold them: there dictionaries have no value. */
function nothingOf(kinds: readonly Kind[]): Generated {
  const types = kinds
    .filter(({ type }) => !type.isNullable)
    .flatMap(({ type }) => {
      const dictionary = t.dictionary(type as ColumnType<unknown>);
      const within = [t.list(type), t.fixedSizeList(2, type), t.struct({ m: type }), t.map(t.utf8(), type)];
      return [type, ...within, dictionary, t.list(dictionary), t.struct({ m: dictionary })];
    })
    .map((type: AnyColumn) => type.nullable());
  const names = types.map((_, index) => `c${index}`);
  const schema = t.schema([["row", t.int64()], ...names.map((name, at) => [name, types[at]!] as const)]);
  const rows = [0, 1, 2].map((row) => ({ row }));
  return { schema, types, names, rows, tags: rows.map(({ row }) => ({ row: String(row) })) };
}

describeWith(PYTHON, "R-60 R-62 as pyarrow makes the same rows", () => {
  const folder = folderOfFile("rows");

  test("every value is equal", async () => {
    await using peer = await Peer.start();
    using echo = new Echo();
    const cases: { streams: string[]; rows: object[]; schema: string }[] = [];
    for (const { schema, rows, tags } of fc.sample(generated, { numRuns: RUNS, seed: SEED })) {
      const { table, rejections } = await tableFromRows(rows as never, schema);
      expect(rejections).toEqual([]);
      // As the native side has them.
      const { streams } = echo.echo(table, "pin", false);
      cases.push({ streams: streams.map(base64), rows: tags, schema: String(schema) });
    }
    const answers = await peer.ask<(string | null)[]>("rows_compare", { cases });
    expect(
      answers.flatMap((answer, index) => (answer === null ? [] : [`${cases[index]!.schema}: ${answer}`])),
    ).toEqual([]);
  }, 120_000);

  test("through a client into a Delta table, and wrong rows between them are refused by their paths", async () => {
    await using peer = await Peer.start();
    for (const [index, { given, places }] of samples(generatedForDelta, generatedOf(HELD)).entries()) {
      const target = path.join(folder, `delta-${index}`);
      await using client = await connect(`delta:${target}`, { schema: given.schema });
      expect(await sent(client, given, index % 3), String(given.schema)).toEqual(places);
      const request = { path: target, schema: schemaOf(given), rows: given.tags };
      expect(await peer.ask("rows_delta", request), String(given.schema)).toBe(null);
    }
  }, 120_000);

  test("columns of nothing but null, of every type, go into a Delta table and to a Flight server", async () => {
    await using server = await FlightServer.start("pyarrow, keeps", ["--answers", "part"]);
    await using peer = await Peer.start();
    const held = nothingOf(HELD);
    const target = path.join(folder, "nothing");
    await using delta = await connect(`delta:${target}`);
    expect(await sent(delta, held, 0)).toEqual([]);
    const request = { path: target, schema: schemaOf(held), rows: held.tags };
    expect(await peer.ask("rows_delta", request)).toBe(null);
    for (const dictionaries of ["hydrate", "keep"] as const) {
      const all = nothingOf(LEAVES);
      await using client = await connect(`${server.location}/${dictionaries}`, { flight: { dictionaries } });
      expect(await sent(client, all, 0), dictionaries).toEqual([]);
      const { location } = server;
      const asked = { location, ticket: dictionaries, schema: schemaOf(all), rows: all.tags };
      expect(await peer.ask("rows_flight", asked), dictionaries).toBe(null);
    }
  }, 120_000);

  test("through a client to a Flight server, and wrong rows between them are refused by their paths", async () => {
    await using server = await FlightServer.start("pyarrow, keeps", ["--answers", "part"]);
    await using peer = await Peer.start();
    const all = generatedOf([...LEAVES, ...COLUMNS_ALONE]);
    for (const [index, { given, places }] of samples(generated, all).entries()) {
      const ticket = `rows/${index}`;
      await using client = await connect(`${server.location}/${ticket}`, {
        flight: { acknowledgement: "stream", dictionaries: index % 2 === 0 ? "hydrate" : "keep" },
      });
      expect(await sent(client, given, index % 3), String(given.schema)).toEqual(places);
      const request = { location: server.location, ticket, schema: schemaOf(given), rows: given.tags };
      expect(await peer.ask("rows_flight", request), String(given.schema)).toBe(null);
    }
  }, 120_000);
});

const folderOfTypes = folderOfFile("rows-types");

test("R-62 rows of a type that Delta has no like of are refused by the name of their column", async () => {
  const others = [...LEAVES, ...COLUMNS_ALONE].filter(({ delta }) => !delta);
  const refused = new Set<string>();
  for (const { type, values } of others) {
    // Nanoseconds go as long as they are whole microseconds.
    if (/^t\.timestamp/.test(String(type))) continue;
    const schema = t.schema({ id: t.int32(), odd: type });
    const target = `delta:${path.join(folderOfTypes, String(refused.size))}`;
    const send = async (): Promise<unknown> => {
      await using client = await connect(target);
      const [value] = fc.sample(values, { numRuns: 1, seed: SEED });
      const { error } = await client.send([{ id: 1, odd: value!.js }], { schema });
      return error;
    };
    const error = await send().catch((error: unknown) => error);
    expect(error, String(type)).toBeInstanceOf(IngestError);
    expect(error, String(type)).toMatchObject({ code: "SCHEMA_MISMATCH", field: "odd" });
    refused.add(/^t\.(\w+)/.exec(String(type))![1]!);
  }
  expect([...refused].sort()).toEqual([...NOT_HELD, "decimal"].sort());
});
