// The bar "Bad input", through the public door: each mistake is one clear error that names what
// is wrong, this process lives on, and what was accepted before is delivered or reported.
import { execFileSync, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { Binary, Field, Int32, Schema, type Table, tableToIPC, Utf8, vectorFromArray } from "apache-arrow";
import { afterAll, describe, expect, test } from "vitest";
import { type ConnectOptions, connect, IngestError, type TransmissionResult } from "../../dist/index.js";
import { tableOf } from "../ts/support/table.js";

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-bad-"));
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));
let count = 0;
const newTable = (): string => path.join(folder, `t${count++}`);

const quick: ConnectOptions = {
  batching: { linger: 0 },
  delta: { commitInterval: "10ms" },
  retry: { attempts: 2, baseDelay: 1 },
};
const rows = (...ids: number[]): Table =>
  tableOf({ id: BigInt64Array.from(ids, BigInt), who: vectorFromArray(ids.map(String), new Utf8()) });

async function refusal(target: string, options: unknown = quick): Promise<IngestError> {
  const error = await connect(target, options as ConnectOptions).then(
    (client) => client.close().then(() => undefined),
    (error: unknown) => error,
  );
  expect(error, target).toBeInstanceOf(IngestError);
  const { message } = error as IngestError;
  expect(message.length).toBeGreaterThan(20);
  // For people who use it, not for those who wrote it.
  expect(message).not.toMatch(/panick|unwrap|\.rs:|Generic \{|undefined|\[object/);
  return error as IngestError;
}

const logOf = (table: string): string => path.join(table, "_delta_log");
const version = (number: number): string => `${String(number).padStart(20, "0")}.json`;

/** Rows that the log says the table holds. */
function rowsIn(table: string): number {
  const files = fs.readdirSync(logOf(table)).filter((name) => /^\d{20}\.json$/.test(name));
  return files
    .flatMap((name) =>
      fs
        .readFileSync(path.join(logOf(table), name), "utf8")
        .trim()
        .split("\n"),
    )
    .map((line) => JSON.parse(line) as { add?: { path: string; stats: string } })
    .filter(({ add }) => add && fs.existsSync(path.join(table, decodeURIComponent(add.path))))
    .reduce((sum, { add }) => sum + JSON.parse(add!.stats).numRecords, 0);
}

async function tableWith(...batches: Table[]): Promise<string> {
  const table = newTable();
  await using client = await connect(`delta:${table}`, quick);
  for (const batch of batches) expect((await client.send(batch)).error).toBeNull();
  return table;
}

describe("R-33 options", () => {
  test("every mistake at once, each with its path, what is wrong and the nearest name", async () => {
    const target = `delta:${newTable()}`;
    const error = await refusal(target, {
      bathcing: {},
      batching: { maxRow: 5, linger: "50 parsecs", maxBytes: "8 MegaBites" },
      inflight: { maxBytes: -1 },
      retry: { attempts: "many", baseDelay: "1h ago" },
      handoff: "teleport",
      delta: { comitInterval: 1, compression: "rar", partitionBy: "day" },
    });
    expect(error).toMatchObject({ code: "CONFIG_INVALID", retry: "never" });
    const issues = Object.fromEntries(error.issues.map(({ path, suggestion }) => [path, suggestion ?? null]));
    expect(issues).toEqual({
      bathcing: "batching",
      "batching.maxRow": expect.stringContaining("maxRows"),
      "batching.linger": null,
      "batching.maxBytes": null,
      "inflight.maxBytes": null,
      "retry.attempts": null,
      "retry.baseDelay": null,
      handoff: null,
      "delta.comitInterval": expect.stringContaining("commitInterval"),
      "delta.compression": null,
      "delta.partitionBy": null,
    });
    for (const { path } of error.issues) expect(error.message).toContain(path);
    expect(error.issues.find(({ path }) => path === "batching.linger")!.message).toContain("50 parsecs");
    expect(error.issues.find(({ path }) => path === "delta.compression")!.message).toContain("zstd");
  });

  test("targets that are none", async () => {
    for (const target of [
      "",
      "delta:",
      "./lake",
      "s3://bucket/t",
      "http://host/",
      "detla:./x",
      "delta:ftp://h/x",
    ])
      expect(await refusal(target), target).toMatchObject({ code: "CONFIG_INVALID" });
    expect((await refusal("detla:./x")).message).toMatch(/delta/);
  });
});

describe("R-20 R-32 places that cannot be written", () => {
  test("a path below a regular file, and one that is a regular file", async () => {
    const file = path.join(folder, "file");
    fs.writeFileSync(file, "not a directory");
    for (const target of [`${file}/table`, file]) {
      const error = await failureOf(`delta:${target}`);
      expect(["PERMISSION_DENIED", "NOT_FOUND", "CONFIG_INVALID", "TABLE_CORRUPT"]).toContain(error.code);
      expect(error.message).toContain(file);
      expect(error.retry).toBe("never");
    }
    expect(fs.readFileSync(file, "utf8")).toBe("not a directory");
  });

  test("a file system that takes no files", async () => {
    const error = await failureOf("delta:/proc/arrow-ingest/table");
    expect(["PERMISSION_DENIED", "NOT_FOUND"]).toContain(error.code);
    expect(error.message).toContain("/proc/arrow-ingest");
  });

  test("createIfMissing: false where nothing is", async () => {
    const table = newTable();
    const error = await refusal(`delta:${table}`, { ...quick, createIfMissing: false });
    expect(error).toMatchObject({ code: "NOT_FOUND", retry: "never" });
    expect(error.message).toContain(table);
    expect(fs.existsSync(table)).toBe(false);
  });

  test("a read-only mount: said so; rows before it stay, and rows after it arrive", async ({ skip }) => {
    const disk = mounted("4m");
    if (disk === undefined) return skip("no right to mount a tmpfs");
    try {
      const table = path.join(disk, "table");
      await using client = await connect(`delta:${table}`, quick);
      expect((await client.send(rows(1, 2))).status).toBe("acknowledged");
      execFileSync("mount", ["-o", "remount,ro", disk]);
      const refused = await client.send(rows(3));
      expect(refused).toMatchObject({ status: "failed", acceptedRows: 0 });
      expect(["PERMISSION_DENIED", "UNAVAILABLE"]).toContain(refused.error!.code);
      expect(refused.error!.message).toMatch(/read-only/i);
      execFileSync("mount", ["-o", "remount,rw", disk]);
      expect((await client.send(rows(4))).error).toBeNull();
      expect(rowsIn(table)).toBe(3);
    } finally {
      unmount(disk);
    }
  });

  test("R-14 a full disk: said so; rows before it stay, and rows after it arrive", async ({ skip }) => {
    const disk = mounted("3m");
    if (disk === undefined) return skip("no right to mount a tmpfs");
    try {
      const table = path.join(disk, "table");
      const noise = (bytes: number): Table =>
        tableOf({ noise: vectorFromArray([new Uint8Array(randomBytes(bytes))], new Binary()) });
      await using client = await connect(`delta:${table}`, quick);
      expect((await client.send(noise(1_000_000))).status).toBe("acknowledged");
      const results: TransmissionResult[] = [];
      for (let i = 0; i < 3; i++) results.push(await client.send(noise(4_000_000)));
      for (const result of results) {
        expect(result).toMatchObject({ status: "failed", acceptedRows: 0, attempts: 2 });
        expect(result.error!.code).toBe("RESOURCE_EXHAUSTED");
        expect(result.error!.message).toMatch(/no space|disk|full/i);
      }
      // Nothing of the failures is left behind, so what is small still fits.
      expect((await client.send(noise(500_000))).error).toBeNull();
      execFileSync("mount", ["-o", "remount,size=32m", disk]);
      expect((await client.send(noise(4_000_000))).error).toBeNull();
      expect(rowsIn(table)).toBe(3);
      const parquet = fs.readdirSync(table).filter((name) => name.endsWith(".parquet"));
      expect(parquet.length).toBe(3);
    } finally {
      unmount(disk);
    }
  });
});

describe("R-20 R-32 tables that cannot be written to", () => {
  test("of another schema: every column is named, and rows that fit go on", async () => {
    const table = await tableWith(rows(1, 2));
    const other = tableOf({
      id: vectorFromArray(["x"], new Utf8()),
      who: Int32Array.of(1),
      when: Float32Array.of(1),
    });
    {
      await using client = await connect(`delta:${table}`, quick);
      const results = await Promise.all([client.send(rows(3)), client.send(other), client.send(rows(4))]);
      expect(results.map(({ status }) => status)).toEqual(["acknowledged", "failed", "acknowledged"]);
      const { error } = results[1]!;
      expect(error).toMatchObject({ code: "SCHEMA_MISMATCH", retry: "never" });
      for (const name of ["id", "who", "when"]) expect(error!.message).toContain(name);
    }
    expect(rowsIn(table)).toBe(4);
    const known = await refusal(`delta:${table}`, {
      ...quick,
      schema: new Schema([new Field("id", new Int32(), true)]),
    });
    expect(known).toMatchObject({ code: "SCHEMA_MISMATCH" });
    expect(known.message).toContain("id");
  });

  const corruptions: Record<string, (log: string) => void> = {
    "half a line": (log) => fs.truncateSync(path.join(log, version(1)), 40),
    "no JSON": (log) => fs.writeFileSync(path.join(log, version(1)), "\0\0\0\0 not json \n"),
    "a version is missing": (log) => fs.rmSync(path.join(log, version(1))),
    "the first version is missing": (log) => fs.rmSync(path.join(log, version(0))),
    "no metadata": (log) =>
      fs.writeFileSync(
        path.join(log, version(0)),
        '{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}\n',
      ),
    "a schema that is none": (log) => {
      const first = path.join(log, version(0));
      const text = fs
        .readFileSync(first, "utf8")
        .replace(/"schemaString":"[^\n]*?[^\\]"/, '"schemaString":"{"');
      fs.writeFileSync(first, text);
    },
    "a file instead of a log": (log) => {
      fs.rmSync(log, { recursive: true });
      fs.writeFileSync(log, "");
    },
  };
  for (const [name, corrupt] of Object.entries(corruptions))
    test(`a corrupt log (${name}) is TABLE_CORRUPT, at connect or at the first write`, async () => {
      const table = await tableWith(rows(1), rows(2), rows(3));
      corrupt(logOf(table));
      const error = await failureOf(`delta:${table}`);
      expect(error, error.message).toMatchObject({ code: "TABLE_CORRUPT", retry: "never" });
    });

  test("a log that becomes corrupt under an open client: rows before it were acknowledged, those after are reported", async () => {
    const table = newTable();
    const client = await connect(`delta:${table}`, quick);
    const before = await client.send(rows(1, 2));
    expect(before.status).toBe("acknowledged");
    // Somebody else's commit, broken.
    fs.writeFileSync(path.join(logOf(table), version(Number(before.position!.value) + 1)), "{ broken");
    const after = await client.send(rows(3));
    expect(["failed", "unknown"]).toContain(after.status);
    expect(after.error).toBeInstanceOf(IngestError);
    expect(after.error!.code).toBe("TABLE_CORRUPT");
    await client.close();
  });

  const features: Record<string, [Record<string, string>, object | undefined, RegExp]> = {
    "column mapping": [{ "delta.columnMapping.mode": "name" }, undefined, /column ?mapping/i],
    "change data feed": [{ "delta.enableChangeDataFeed": "true" }, undefined, /change ?data ?feed/i],
    "a check constraint": [{ "delta.constraints.positive": "id > 0" }, undefined, /constraint/i],
    "an unknown writer feature": [
      {},
      { minReaderVersion: 1, minWriterVersion: 7, writerFeatures: ["timeTravelPaste"] },
      /timeTravelPaste/,
    ],
    "a writer version from the future": [{}, { minReaderVersion: 1, minWriterVersion: 99 }, /99|version/i],
  };
  for (const [name, [configuration, protocol, words]] of Object.entries(features))
    test(`${name} is refused by name, at connect`, async () => {
      const table = await tableWith(rows(1));
      const first = path.join(logOf(table), version(0));
      const lines = fs.readFileSync(first, "utf8").trim().split("\n");
      const changed = lines.map((line) => {
        const action = JSON.parse(line) as Record<string, Record<string, unknown>>;
        if (action.metaData) action.metaData.configuration = configuration;
        if (action.protocol && protocol) action.protocol = protocol as never;
        return JSON.stringify(action);
      });
      fs.writeFileSync(first, `${changed.join("\n")}\n`);
      const error = await refusal(`delta:${table}`);
      expect(error).toMatchObject({ code: "UNSUPPORTED", retry: "never" });
      expect(error.message).toMatch(words);
    });
});

test("R-14 all of these in one client's life: what was accepted is delivered, what was not is reported", async () => {
  const table = newTable();
  const client = await connect(`delta:${table}`, { ...quick, batching: { linger: "5ms" } });
  const inputs: [unknown, "acknowledged" | "failed" | "BATCH_INVALID"][] = [];
  for (let i = 0; i < 40; i++) {
    inputs.push([rows(i), "acknowledged"]);
    inputs.push([tableToIPC(rows(i), "file").subarray(0, 100 + i), "failed"]);
    inputs.push([tableOf({ id: Float32Array.of(1) }), "failed"]);
    inputs.push([{ not: "a batch" }, "BATCH_INVALID"]);
  }
  const outcomes = await Promise.all(
    inputs.map(([input]) =>
      client.send(input as Table).then(
        ({ status }) => status,
        (error: IngestError) => error.code,
      ),
    ),
  );
  expect(outcomes).toEqual(inputs.map(([, outcome]) => outcome));
  await client.close();
  expect(rowsIn(table)).toBe(40);
});

/** The error of connecting, or of the first write: whichever notices. */
async function failureOf(target: string): Promise<IngestError> {
  try {
    await using client = await connect(target, quick);
    const { status, error } = await client.send(rows(1));
    expect(status).toBe("failed");
    return error!;
  } catch (error) {
    expect(error).toBeInstanceOf(IngestError);
    return error as IngestError;
  }
}

/** A small disk of its own; none without the right to mount one, which CI has to have. */
function mounted(size: string): string | undefined {
  const at = fs.mkdtempSync(path.join(folder, "disk-"));
  const done = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", at]);
  if (done.status === 0) return at;
  if (process.env.CI) throw new Error(`a tmpfs cannot be mounted: ${done.stderr ?? done.error}`);
  console.warn(`SKIPPED: no right to mount a tmpfs: ${done.stderr ?? done.error}`);
  return undefined;
}

function unmount(at: string): void {
  execFileSync("umount", ["-l", at]);
}
