// R-22 R-25 R-32 R-33 R-34 R-44: what the target `zerobus:` refuses before the wire, and how it says so; credentials
// by option, environment and callback, and no secret in anything that is shown. What arrives: tests/interop/zerobus.
import { execFile } from "node:child_process";
import { inspect, promisify } from "node:util";
import {
  type DataType,
  Field,
  Float64,
  Int32,
  Int64,
  LargeUtf8,
  RecordBatch,
  Schema,
  Struct,
  Table,
  Utf8,
  Vector,
  vectorFromArray,
} from "apache-arrow";
import { describe, expect, test } from "vitest";
import {
  ConfigError,
  type ConnectOptions,
  connect,
  type Emulator,
  type EmulatorEvent,
  type HeadersRequest,
  type IngestError,
  SchemaError,
  startEmulator,
} from "../../dist/index.js";
import { tableOf } from "./support/table.js";

const NAME = "main.sales.orders";
const quick = { batching: { linger: 0 }, retry: { attempts: 3, baseDelay: 1 } } as const;
const open = (emulator: Emulator, options: ConnectOptions = {}) =>
  connect(emulator.url(NAME), { ...quick, ...emulator.options, ...options });
const rows = tableOf({ id: Int32Array.of(1, 2, 3) });
const columns = (names: readonly string[]): RecordBatch => {
  const one = vectorFromArray([1], new Int32()).data[0]!;
  const fields = names.map((name) => new Field(name, new Int32(), true));
  const struct = new Struct(fields);
  return new RecordBatch(
    new Schema(fields),
    new Vector([
      new (one.constructor as never as new (...of: unknown[]) => typeof one)(
        struct,
        0,
        1,
        0,
        [],
        names.map(() => one),
      ),
    ]).data[0] as never,
  );
};

/** What becomes of one batch; the emulator must have taken no row of it. */
async function refused(emulator: Emulator, batch: RecordBatch | Table): Promise<IngestError> {
  await using client = await open(emulator);
  const result = await client.send(batch);
  expect(result).toMatchObject({ status: "failed", acceptedRows: 0 });
  expect((await emulator.summary()).tables[NAME]?.rowsReceived ?? 0).toBe(0);
  return result.error!;
}

describe("R-22 a batch that the table does not fit", () => {
  test("is refused whole, naming each column, the type given and the type wanted", async () => {
    const tables = {
      [NAME]: [
        { name: "id", type: "BIGINT", nullable: false },
        { name: "price", type: "DOUBLE" },
        { name: "place", type: "STRUCT<city: STRING, zip: INT>" },
      ],
    };
    await using emulator = await startEmulator({ tables });
    const place = new Struct([new Field("city", new Float64(), true), new Field("zip", new Int32(), true)]);
    const error = await refused(
      emulator,
      new Table({
        price: vectorFromArray(["1", "2"], new Utf8()),
        place: vectorFromArray([{ city: 1, zip: 2 }, null], place),
        colour: vectorFromArray([1n, 2n], new Int64()),
      }),
    );
    expect(error).toBeInstanceOf(SchemaError);
    expect(error).toMatchObject({ code: "SCHEMA_MISMATCH", retry: "never", operation: "open" });
    for (const said of [
      "price: given as Utf8, wanted as Float64",
      "place.city: given as Float64, wanted as LargeUtf8",
      "colour: given as Int64, and the table has no such column",
      "id: not given, and the table requires it as Int64",
    ])
      expect(error.message).toContain(said);
    expect(error.field).toBe("colour");
  });

  test("R-32 what the service says of a schema has a code, and names the column", async () => {
    await using emulator = await startEmulator({
      faults: ["refuse-schema:causes=FIELD_NOT_IN_TABLE+TYPE_INCOMPATIBLE,times=always"],
    });
    const error = await refused(emulator, rows);
    expect(error).toMatchObject({ code: "SCHEMA_MISMATCH", retry: "never" });
    expect(error.message).toContain("a field is not in the table; a type does not fit");
  });
});

describe("R-25 the limits of the service are met here first", () => {
  test("2,000 columns", async () => {
    await using emulator = await startEmulator();
    const many = Array.from({ length: 2_001 }, (_, index) => `c${index}`);
    const error = await refused(emulator, columns(many));
    expect(error).toMatchObject({ code: "SCHEMA_MISMATCH", field: "c2000" });
    expect(error.message).toContain("one of 2001 columns, and the service takes 2000");
    await using client = await open(emulator);
    expect((await client.send(columns(many.slice(1)))).status).toBe("acknowledged");
  });

  test("letters, digits and underscores in names", async () => {
    await using emulator = await startEmulator();
    for (const name of ["a b", "é", "a-b", "a.b", ""]) {
      const error = await refused(emulator, columns(["ok_1", name]));
      expect(error, name).toMatchObject({ code: "SCHEMA_MISMATCH", field: name });
      expect(error.message).toContain("letters, digits and underscores");
    }
  });

  test("10 levels of nesting", async () => {
    const nested = (levels: number): DataType =>
      levels === 1 ? new Int32() : new Struct([new Field("f", nested(levels - 1), true)]);
    const value = (levels: number): unknown => (levels === 1 ? 7 : { f: value(levels - 1) });
    const batch = (levels: number) =>
      new Table({
        ok: vectorFromArray([1], new Int32()),
        deep: vectorFromArray([value(levels)], nested(levels)),
      });
    await using emulator = await startEmulator();
    const error = await refused(emulator, batch(11));
    expect(error).toMatchObject({ code: "SCHEMA_MISMATCH", field: "deep" });
    expect(error.message).toContain("nested 11 deep, and the service takes 10");
    await using client = await open(emulator);
    expect((await client.send(batch(10))).status).toBe("acknowledged");
  });

  test("4,194,285 bytes of a row: refused by itself, the others go", async () => {
    await using emulator = await startEmulator({ maxMessageSize: "16MiB" });
    await using client = await open(emulator);
    const large = "x".repeat(4_194_285);
    const text = vectorFromArray(["a", large, "b", large.slice(100)], new LargeUtf8());
    const result = await client.send(new Table({ id: vectorFromArray([0, 1, 2, 3], new Int32()), text }));
    expect(result).toMatchObject({ status: "partial", acceptedRows: 3, rejectedRows: 1 });
    expect(result.rejections[0]).toMatchObject({ row: 1, code: "BATCH_INVALID" });
    expect(result.rejections[0]!.message).toMatch(
      /the row takes 41943\d\d bytes, and the service takes 4194285/,
    );
    expect([...result.rejectedBatch()!.getChild("id")!]).toEqual([1]);
  });

  test("tables of three parts, and nothing else in a target", async () => {
    for (const [target, said] of [
      ["zerobus+http://127.0.0.1:1/sales.orders", "three parts"],
      ["zerobus+http://127.0.0.1:1/a.b.c.d", "three parts"],
      ["zerobus+http://127.0.0.1:1/main.sales.my-orders", '"my-orders"'],
      ["zerobus+http://1.zerobus.eu.example.com/a.b.c", "plain text"],
      ["zerobus://me:hunter22@127.0.0.1:1/a.b.c", "credentials"],
    ] as const) {
      const error = await connect(target, { zerobus: { clientSecret: "hunter22" } }).then(
        () => null,
        (error: IngestError) => error,
      );
      expect(error, target).toBeInstanceOf(ConfigError);
      expect(error!.message).toContain(said);
      expect(inspect(error, { depth: null })).not.toContain("hunter22");
    }
  });
});

describe("R-22 R-34 credentials", () => {
  test("R-44 a secret is in nothing that can be shown", async () => {
    const secret = "hunter22-secret";
    const seen: unknown[] = [];
    const note = (...said: unknown[]) => seen.push(said);
    const events: EmulatorEvent[] = [];
    const emulatorOptions = {
      clientId: "me",
      clientSecret: secret,
      tokens: ["hunter22-token"],
      onEvent: (event: EmulatorEvent) => events.push(event),
      faults: ["refuse:status=PERMISSION_DENIED,message=not with hunter22-secret,times=2"],
    };
    await using emulator = await startEmulator(emulatorOptions);
    const logger = { debug: note, info: note, warn: note, error: note };
    await using client = await open(emulator, { logger });
    const result = await client.send(rows);
    expect(result.error!.code).toBe("PERMISSION_DENIED");
    expect((await client.send(rows)).status).toBe("acknowledged");
    seen.push(
      client,
      result,
      result.toJSON(),
      result.error!.toJSON(),
      String(result.error),
      result.error!.stack,
    );
    // A refused stream is told with what its fault was given to say.
    seen.push(
      client.stats(),
      await emulator.summary(),
      events.filter(({ event }) => event !== "streamRefused"),
    );
    const wrong = { ...emulator.options.zerobus, clientSecret: "hunter22-wrong" };
    const error = await open(emulator, { logger, zerobus: wrong }).catch((error: IngestError) => error);
    expect(error).toMatchObject({ code: "UNAUTHENTICATED", retry: "reauthenticate" });
    const none = await open(emulator, { headers: { authorization: "Bearer hunter22-none" }, logger });
    const unknown = (await none.send(rows)).error!;
    expect(unknown).toMatchObject({ code: "UNAUTHENTICATED" });
    await none.close();
    seen.push(error, unknown, unknown.toJSON());
    const shown = seen.map((each) => inspect(each, { depth: null, showHidden: true })).join("\n");
    expect(shown.split("\n").filter((line) => line.includes("hunter22"))).toEqual([]);
    expect(shown).toContain("PERMISSION_DENIED");
  });

  test("headers by callback instead of a secret; a token that is refused is asked for anew", async () => {
    await using emulator = await startEmulator({ tokens: ["second"] });
    const asked: HeadersRequest[] = [];
    const headers = async (request: HeadersRequest) => {
      asked.push(request);
      return { authorization: `Bearer ${request.reason === "connect" ? "first" : "second"}` };
    };
    await using client = await connect(emulator.url(NAME), { ...quick, headers });
    expect((await client.send(rows)).status).toBe("acknowledged");
    expect(asked.map(({ reason }) => reason)).toContain("unauthenticated");
    expect((await emulator.summary()).tokensIssued).toBe(0);
  });

  test("a callback that throws fails the connection with what it threw as the cause", async () => {
    await using emulator = await startEmulator();
    const headers = () => {
      throw new Error("the vault is closed");
    };
    const error = await connect(emulator.url(NAME), { ...quick, headers }).catch((error) => error);
    expect(error).toMatchObject({ code: "UNAUTHENTICATED", operation: "headers" });
    expect(inspect(error, { depth: null })).toContain("the vault is closed");
  });

  test("R-33 what no option gives comes from the environment, and what nobody gives is missed by name", async () => {
    await using emulator = await startEmulator({ clientId: "me", clientSecret: "hunter22" });
    // Rust reads the environment of the process, which no test may change under running threads.
    const child = async (env: Record<string, string>): Promise<string> => {
      const code = `
        import { connect } from ${JSON.stringify(new URL("../../dist/index.js", import.meta.url).href)};
        try {
          await using client = await connect(process.argv[1], { retry: { attempts: 1 } });
          await client.check();
          console.log("good");
        } catch (error) {
          console.log(error.code, error.message);
        }`;
      const args = ["--input-type=module", "--eval", code, emulator.url(NAME)];
      const { PATH = "" } = process.env;
      return (await promisify(execFile)(process.execPath, args, { env: { PATH, ...env } })).stdout.trim();
    };
    const url = emulator.options.zerobus.unityCatalogUrl;
    const [ours, theirs, mixed, wrong, none] = await Promise.all([
      child({ ZEROBUS_UNITY_CATALOG_URL: url, ZEROBUS_CLIENT_ID: "me", ZEROBUS_CLIENT_SECRET: "hunter22" }),
      child({ DATABRICKS_HOST: url, DATABRICKS_CLIENT_ID: "me", DATABRICKS_CLIENT_SECRET: "hunter22" }),
      child({
        DATABRICKS_WORKSPACE_URL: url,
        DATABRICKS_CLIENT_ID: "somebody",
        ZEROBUS_CLIENT_ID: "me",
        ZEROBUS_CLIENT_SECRET: "hunter22",
        DATABRICKS_CLIENT_SECRET: "not this one",
      }),
      child({ DATABRICKS_HOST: url, DATABRICKS_CLIENT_ID: "me", DATABRICKS_CLIENT_SECRET: "hunter23" }),
      child({ DATABRICKS_HOST: url, ZEROBUS_CLIENT_ID: "me" }),
    ]);
    expect([ours, theirs, mixed]).toEqual(["good", "good", "good"]);
    expect(wrong).toMatch(/^UNAUTHENTICATED /);
    expect(wrong).not.toContain("hunter2");
    expect(none).toMatch(/^CONFIG_INVALID .*clientSecret.*ZEROBUS_CLIENT_SECRET/);
  });
});

describe("R-32 failures of the service", () => {
  test.each([
    ["refuse:status=NOT_FOUND", "NOT_FOUND"],
    ["refuse:status=PERMISSION_DENIED", "PERMISSION_DENIED"],
    ["refuse:status=INVALID_ARGUMENT", "CONFIG_INVALID"],
    ["refuse:status=UNAVAILABLE", "UNAVAILABLE"],
    ["refuse:status=RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED"],
    ["pause:for=1ms", "RESOURCE_EXHAUSTED"],
    ["limit:streams=0", "RESOURCE_EXHAUSTED"],
    ["close:status=INTERNAL", "UNAVAILABLE"],
  ])("%s is %s when there are no more tries", async (fault, code) => {
    await using emulator = await startEmulator({ faults: [`${fault},times=always`] });
    await using client = await open(emulator, { retry: { attempts: 2, baseDelay: 1 } });
    const { error, status } = await client.send(rows);
    expect(error).toMatchObject({ code, operation: expect.stringMatching(/open|write/) });
    // Only what was sent may have been kept.
    expect(status).toBe(fault.startsWith("close") ? "unknown" : "failed");
  });
});
