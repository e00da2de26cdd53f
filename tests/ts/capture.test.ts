// R-43 R-44: what was handed over is recorded in files: by size and age, within bounds, and nobody else's is touched.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { tableFromArrays, tableFromIPC } from "apache-arrow";
import { afterAll, describe, expect, test, vi } from "vitest";
import { type CaptureOptions, type ConnectOptions, connect } from "../../dist/index.js";
import { refused } from "./support/refused.js";

const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-capture-"));
afterAll(() => fs.rmSync(home, { recursive: true, force: true }));
let made = 0;
const fresh = (): string => path.join(home, `${made++}`);
const numbers = (first: number, rows: number) =>
  tableFromArrays({ n: Int32Array.from({ length: rows }, (_, i) => first + i) });
const upTo = (rows: number): number[] => Array.from({ length: rows }, (_, i) => i);

/** Sends batches of ten rows, and closes. */
async function record(capture: CaptureOptions, batches: number, options: ConnectOptions = {}) {
  const client = await connect("discard:", { ...options, capture });
  for (let i = 0; i < batches; i++) (await client.send(numbers(i * 10, 10))).orThrow();
  await client.close();
  return client.stats().capture;
}

const filesIn = (directory: string): string[] => fs.readdirSync(directory).sort();
function rowsIn(directory: string): number[] {
  return filesIn(directory).flatMap((name) => {
    const bytes = fs.readFileSync(path.join(directory, name));
    if (name.endsWith(".ndjson"))
      return bytes
        .toString()
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line).n as number);
    return [...(tableFromIPC(bytes).getChild("n")! as Iterable<number>)];
  });
}

describe("R-43 capture", () => {
  test.each([
    ["arrow-file", "arrow"],
    ["arrow-stream", "arrows"],
    ["ndjson", "ndjson"],
  ] as const)("%s: every delivery once, in order, its owner's alone", async (format, end) => {
    const directory = path.join(fresh(), "deep");
    const stats = await record({ directory, format }, 5);
    expect(stats).toEqual({ rowsWritten: 50, rowsDropped: 0, rowsFailed: 0, filesRemoved: 0 });
    expect(rowsIn(directory)).toEqual(upTo(50));
    const [name, ...others] = filesIn(directory);
    expect(others).toEqual([]);
    expect(name).toMatch(new RegExp(`^captured-\\d{16}-[0-9a-f]{8}\\.${end}$`));
    if (process.platform !== "win32") {
      expect(fs.statSync(path.join(directory, name!)).mode & 0o777).toBe(0o600);
      expect(fs.statSync(directory).mode & 0o777).toBe(0o700);
    }
  });

  test("a file is closed at its size, the oldest go first, and nobody else's is touched", async () => {
    const directory = fresh();
    fs.mkdirSync(directory);
    const theirs = ["captured-notes.arrow", "captured-0000000000000001-zzzzzzzz.arrow", "other.arrow"];
    for (const name of theirs) fs.writeFileSync(path.join(directory, name), "mine");
    fs.symlinkSync(
      path.join(home, "nowhere"),
      path.join(directory, "captured-0000000000000001-00000000.arrow"),
    );
    const stats = await record({ directory, maxFileBytes: 1, maxFiles: 3 }, 9);
    expect(stats).toMatchObject({ rowsWritten: 90, filesRemoved: 6 });
    const ours = filesIn(directory)
      .filter((name) => /-[0-9a-f]{8}\.arrow$/.test(name))
      .slice(1);
    expect(ours.length).toBe(3);
    const rows = ours.flatMap((name) => [
      ...(tableFromIPC(fs.readFileSync(path.join(directory, name))).getChild("n")! as Iterable<number>),
    ]);
    expect(rows).toEqual(upTo(90).slice(60));
    for (const name of theirs) expect(fs.readFileSync(path.join(directory, name), "utf8")).toBe("mine");
  });

  test("a file is closed at its age, and removed at another", async () => {
    const directory = fresh();
    await using client = await connect("discard:", {
      capture: { directory, rotateAfter: "20ms", format: "ndjson" },
    });
    await client.send(numbers(0, 10));
    await vi.waitFor(() => expect(rowsIn(directory)).toEqual(upTo(10)), { timeout: 30_000 });
    await vi.waitFor(() => expect(filesIn(directory)[0]).toMatch(/\.ndjson$/), { timeout: 30_000 });
    const old = path.join(directory, filesIn(directory)[0]!);
    fs.utimesSync(old, new Date(0), new Date(0));
    const stats = await record({ directory, maxAge: "1h", format: "arrow-stream" }, 1);
    expect(stats.filesRemoved).toBe(1);
    expect(fs.existsSync(old)).toBe(false);
  });

  test("a sample is spread evenly", async () => {
    const directory = fresh();
    expect(await record({ directory, sample: 0.25 }, 40)).toMatchObject({ rowsWritten: 100 });
    const batches = rowsIn(directory).filter((n) => n % 10 === 0);
    expect(new Set(batches.slice(1).map((n, i) => n - batches[i]!))).toEqual(new Set([40]));
  });

  test("small deliveries that are joined, and rows without columns of one schema, are all there", async () => {
    const directory = fresh();
    const client = await connect("discard:", { capture: { directory } });
    const deliveries = upTo(300).map((i) => client.enqueue(numbers(i, 1)));
    await Promise.all(deliveries);
    await client.send(tableFromArrays({ other: ["a", "b"] }));
    // Refused, so not sent.
    expect((await client.send(new Uint8Array([1, 2, 3]))).success).toBe(false);
    await client.close();
    expect(client.stats().capture).toMatchObject({ rowsWritten: 302, rowsFailed: 0 });
    expect(filesIn(directory).length).toBe(2);
  });

  test("a dictionary that is another one begins another file; in a stream it need not", async () => {
    for (const format of ["arrow-file", "arrow-stream"] as const) {
      const directory = fresh();
      const client = await connect("discard:", { capture: { directory, format } });
      for (const words of [
        ["a", "b", "a"],
        ["c", "d"],
      ])
        await client.send(tableFromArrays({ words }));
      await client.close();
      expect(client.stats().capture).toMatchObject({ rowsWritten: 5, rowsFailed: 0 });
      const rows = filesIn(directory).flatMap((name) => [
        ...(tableFromIPC(fs.readFileSync(path.join(directory, name))).getChild("words")! as Iterable<string>),
      ]);
      expect(rows).toEqual(["a", "b", "a", "c", "d"]);
    }
  });

  test("a directory that cannot be used is a line in the log, and no reason to send nothing", async () => {
    const file = fresh();
    fs.writeFileSync(file, "");
    const lines: string[] = [];
    const logger = { warn: (line: string) => lines.push(line) };
    const stats = await record({ directory: path.join(file, "below") }, 2, { logger });
    expect(stats).toMatchObject({ rowsWritten: 0, rowsFailed: 20 });
    expect(lines).toEqual(["the capture directory cannot be used"]);
  });

  test("options that are wrong are told", async () => {
    const capture = { format: "csv", sample: 0, maxFiles: 0, rotate: 1 };
    const { issues } = await refused("discard:", { capture });
    expect(issues.map(({ path }) => path).sort()).toEqual(
      ["capture.directory", "capture.format", "capture.maxFiles", "capture.rotate", "capture.sample"].sort(),
    );
    expect((await refused("discard:", { capture: { directory: "x", sample: "all" } })).message).toContain(
      "must be a number above 0 and at most 1",
    );
  });

  test("R-44 it holds rows, and no option of the client", async () => {
    const secret = "hush-7c1f";
    const directory = fresh();
    await record({ directory }, 1, {
      headers: { authorization: secret },
      delta: { storage: { aws_secret_access_key: secret } },
      zerobus: { clientSecret: secret },
    });
    for (const name of filesIn(directory))
      expect(fs.readFileSync(path.join(directory, name)).includes(secret)).toBe(false);
  });
});
