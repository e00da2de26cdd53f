// `client.schema()`: what the destination says of the table's schema, and null where nobody can tell.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { Schema, Table, tableToIPC } from "apache-arrow";
import { describe, expect, test } from "vitest";
import { schemaForRows } from "../../dist/client/schemas.js";
import { TableSchema } from "../../dist/client/table-schema.js";
import { ingestError } from "../../dist/errors.js";
import {
  type ConnectOptions,
  connect,
  type RowSchema,
  startEmulator,
  t,
  tableFromRows,
} from "../../dist/index.js";

const columns = {
  id: t.int64(),
  at: t.timestamp("us", "UTC"),
  price: t.decimal(18, 4).nullable(),
  tags: t.list(t.utf8().nullable()),
  place: t.struct({ x: t.float64(), on: t.date().nullable() }).nullable(),
  labels: t.map(t.utf8(), t.int32().nullable()).nullable(),
};
const order = t.schema(columns);
const row = {
  id: 1,
  at: "2026-11-30T00:00:00Z",
  price: "9.95",
  tags: ["a", null],
  place: { x: 1 },
  labels: { a: 1 },
};

const notation = (schema: Schema | null): string | null => schema && String(t.fromArrow(schema));

/** What a client without a spool keeps. */
const nothing = async (): Promise<null> => null;

async function tableOf(schema: RowSchema, ...rows: object[]): Promise<Table> {
  const { table, rejections } = await tableFromRows(rows as never, schema);
  expect(rejections).toEqual([]);
  return table;
}

describe("R-66 client.schema()", () => {
  test("of a Delta table is its newest version's, and fits the rows that made it", async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-schema-"));
    try {
      const target = `delta:${folder}/orders`;
      await using client = await connect(target);
      expect(await client.schema()).toBeNull();
      (await client.send(await tableOf(order, row))).orThrow();
      const schema = await client.schema();
      expect(schema).toBeInstanceOf(Schema);
      expect(notation(schema)).toBe(String(order));
      (await client.send(await tableOf(t.fromArrow(schema!), { ...row, id: 2 }))).orThrow();
      // Somebody else makes it wider.
      await using other = await connect(target, { delta: { schemaEvolution: "merge" } });
      const wider = t.schema({ ...columns, note: t.utf8().nullable() });
      (await other.send(await tableOf(wider, { ...row, id: 3, note: "n" }))).orThrow();
      expect(notation(await client.schema())).toBe(String(wider));
      fs.rmSync(path.join(folder, "orders"), { recursive: true });
      expect(await client.schema()).toBeNull();
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });

  test("of a Delta table that is not to be made is an error once it is gone", async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-schema-"));
    try {
      const target = `delta:${folder}/t`;
      await using maker = await connect(target, { schema: order });
      expect(notation(await maker.schema())).toBe(String(order));
      await using client = await connect(target, { createIfMissing: false });
      fs.rmSync(path.join(folder, "t"), { recursive: true });
      await expect(client.schema()).rejects.toMatchObject({ code: "NOT_FOUND" });
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });

  test("of a Zerobus table is Unity Catalog's, and null where the catalog does not know it", async () => {
    const name = "main.default.events";
    const declared = [
      { name: "id", type: "BIGINT", nullable: false },
      { name: "note", type: "STRING" },
      { name: "at", type: "TIMESTAMP" },
    ];
    await using emulator = await startEmulator({ tables: { [name]: declared } });
    await using client = await connect(emulator.url(name), emulator.options);
    const schema = await client.schema();
    expect(schema?.fields.map((field) => [field.name, field.nullable])).toEqual([
      ["id", false],
      ["note", true],
      ["at", true],
    ]);
    (await client.send(await tableOf(t.fromArrow(schema!), { id: 1, at: row.at }))).orThrow();
    await using other = await connect(emulator.url("main.default.others"), emulator.options);
    expect(await other.schema()).toBeNull();
  });

  test("of discard: is null; with an argument it is a mistake, and after close it is CLOSED", async () => {
    const client = await connect("discard:", { schema: order });
    expect(await client.schema()).toBeNull();
    // @ts-expect-error It takes none.
    await expect(client.schema({ fresh: true })).rejects.toMatchObject({ code: "CONFIG_INVALID" });
    const asked = client.schema();
    await client.close();
    expect(await asked.catch((error: { code: string }) => error.code)).toSatisfy(
      (said) => said === null || said === "CLOSED",
    );
    await expect(client.schema()).rejects.toMatchObject({ code: "CLOSED" });
  });
});

describe("R-61 by which schema rows are read", () => {
  const said = (schema: RowSchema | null) => {
    const message = schema && tableToIPC(new Table(schema.toArrow()), "stream");
    return { given: undefined as unknown, table: new TableSchema(async () => message, nothing) };
  };
  const rows = [{ id: 1, tags: ["new"] }];

  test("the call's, else the client's, else the table's, which is asked for once", async () => {
    const schemas = said(order);
    const own = t.schema({ own: t.int8() });
    expect(schemaForRows(own, schemas, rows, "send")).toBe(own.toArrow());
    expect(schemaForRows(undefined, { ...schemas, given: own }, rows, "send")).toBe(own.toArrow());
    const asked = schemaForRows(undefined, schemas, rows, "send");
    expect(asked).toBeInstanceOf(Promise);
    expect(notation(await asked)).toBe(String(order));
    expect(schemaForRows(undefined, schemas, rows, "send")).toBe(await asked);
    expect(() => schemaForRows(5, schemas, rows, "send")).toThrow("must be t.schema");
  });

  test("nobody's is SCHEMA_REQUIRED, with one to paste that fits the rows", async () => {
    const error = await Promise.resolve(schemaForRows(undefined, said(null), rows, "send")).catch((e) => e);
    expect(error).toMatchObject({ code: "SCHEMA_REQUIRED", operation: "send", retry: "never" });
    const [notation] = /t\.schema\(.*\)$/s.exec(error.message) ?? [];
    const pasted = new Function("t", `return ${notation}`)(t) as RowSchema;
    expect((await tableFromRows(rows as never, pasted)).rejections).toEqual([]);
    const mixed = [{ id: 1 }, { id: "x" }];
    const other = await Promise.resolve(schemaForRows(undefined, said(null), mixed, "send")).catch((e) => e);
    expect(other.message).toContain("id is a number in row 0 and text in row 1");
  });
});

describe("R-66 what is kept of it", () => {
  const message = tableToIPC(new Table(order.toArrow()), "stream");

  test("is what was said last, until it is contradicted; silence and failures are asked again", async () => {
    const answers: (Uint8Array | null | Error)[] = [null, new Error("away"), message, message, message];
    let asked = 0;
    const table = new TableSchema(() => {
      const answer = answers[asked++]!;
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    }, nothing);
    expect(await table.get()).toBeNull();
    await expect(table.get()).rejects.toThrow("away");
    const [one, two] = await Promise.all([table.get(), table.get()]);
    expect(two).toBe(one);
    expect(String(one?.fields[0]?.type)).toBe("Int64");
    expect(await table.get()).toBe(one);
    expect(asked).toBe(3);
    table.forget();
    expect(await table.get()).not.toBe(one);
    const now = await table.anew();
    expect(await table.get()).toBe(now);
    expect(asked).toBe(5);
  });

  test("is doubted by rows with unknown keys, once it is not new any more", async () => {
    let now = 0;
    let asked = 0;
    const ask = async () => {
      asked++;
      return message;
    };
    const table = new TableSchema(ask, nothing, () => now);
    table.doubt();
    const one = await table.get();
    now += 9_999;
    table.doubt();
    expect(table.known).toBe(one);
    now += 1;
    table.doubt();
    expect(table.known).toBeUndefined();
    await table.get();
    table.doubt();
    await table.get();
    expect(asked).toBe(2);
  });

  test("is nothing where the bytes are not what apache-arrow reads", async () => {
    const table = new TableSchema(async () => Uint8Array.of(1, 2, 3, 4), nothing);
    expect(await table.get()).toBeNull();
  });
});

describe("R-66 what the spool keeps of it", () => {
  const message = tableToIPC(new Table(order.toArrow()), "stream");
  const refusal = (retry: "never" | "transient"): Error =>
    ingestError({ code: retry === "never" ? "PERMISSION_DENIED" : "UNAVAILABLE", retry, message: "away" });

  test("is for rows where the destination does not answer, until it contradicts it", async () => {
    const answers: (Uint8Array | null | Error)[] = [];
    const ask = async (): Promise<Uint8Array | null> => {
      const answer = answers.shift()!;
      if (answer instanceof Error) throw answer;
      return answer;
    };
    let kept: Uint8Array | null = null;
    const table = new TableSchema(ask, async () => kept);
    answers.push(refusal("transient"));
    await expect(table.get()).rejects.toMatchObject({ code: "UNAVAILABLE" });
    kept = message;
    answers.push(refusal("transient"));
    const [one, two] = await Promise.all([table.get(), table.get()]);
    expect(notation(one)).toBe(String(order));
    expect(two).toBe(one);
    // Known from then on, as if it had been said.
    expect(table.known).toBe(one);
    // `client.schema()` has the error.
    answers.push(refusal("transient"));
    await expect(table.anew()).rejects.toMatchObject({ code: "UNAVAILABLE" });

    table.forget();
    answers.push(refusal("transient"));
    await expect(table.get()).rejects.toMatchObject({ code: "UNAVAILABLE" });
    answers.push(message);
    expect(await table.anew()).not.toBeNull();
    expect(table.known).not.toBe(one);
    // Nobody has a schema: there is no table, or it cannot be read. That is an answer.
    const other = new TableSchema(ask, async () => kept);
    answers.push(null);
    expect(await other.get()).toBeNull();
    answers.push(refusal("never"));
    await expect(other.get()).rejects.toMatchObject({ code: "PERMISSION_DENIED" });
  });

  test("lets a later client take rows without a schema while the destination is away", async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-kept-"));
    const name = "main.default.events";
    const tables = {
      [name]: [
        { name: "id", type: "BIGINT", nullable: false },
        { name: "note", type: "STRING" },
      ],
    };
    const spool = { directory: path.join(folder, "spool") };
    const quick: ConnectOptions = { retry: { baseDelay: "5ms", maxDelay: "20ms", attempts: 2 }, spool };
    try {
      const emulator = await startEmulator({ tables });
      const url = emulator.url(name);
      const { port } = new URL(url.replace("zerobus+", ""));
      const options = { ...emulator.options, ...quick };
      {
        await using client = await connect(url, options);
        // Rows ask for it themselves: nobody calls `schema()`.
        expect((await client.send([{ id: 1, note: "before" }])).status).toBe("acknowledged");
      }
      await emulator.close();
      {
        const client = await connect(url, options);
        await expect(client.schema()).rejects.toMatchObject({ code: "UNAVAILABLE" });
        const { rejection } = await client.rows().enqueue({ id: 2, note: "away" });
        expect(rejection).toBeNull();
        const wrong = await client.rows().enqueue({ id: "3" });
        expect(wrong.rejection).toMatchObject({ path: "id", code: "VALUE_TYPE" });
        expect((await wrong.outcome).status).toBe("rejected");
        await client.close({ deadline: "100ms" });
      }
      await using again = await startEmulator({ tables, port: Number(port) });
      {
        await using client = await connect(url, { ...again.options, ...quick });
        await client.flush();
      }
      expect(await again.rows(name)).toBe(1);
      // What cannot be read is as good as none.
      await again.close();
      fs.writeFileSync(path.join(spool.directory, "default", "schema"), "no schema");
      const client = await connect(url, options);
      const refused = client.rows().enqueue({ id: 4 });
      await expect(refused).rejects.toMatchObject({ code: "UNAVAILABLE" });
      await client.close({ deadline: "100ms" });
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });
});
