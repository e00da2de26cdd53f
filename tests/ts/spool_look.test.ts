// spools seen from outside. The kept spool is one of format 1: 60 rows in deliveries of ten, of which those of 0
// to 7 and of 20 to 25 are settled.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { RecordBatch, tableFromArrays, tableFromIPC } from "apache-arrow";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  connect,
  exportSpool,
  inspectSpool,
  listSpools,
  readDeadLetter,
  retargetSpool,
  verifySpool,
} from "../../dist/index.js";
import { run, start } from "./support/cli.js";
import { letters } from "./support/letters.js";

let home = "";
const at = (...parts: string[]): string => path.join(home, ...parts);
const KEPT = path.resolve(import.meta.dirname, "../rs/spool/kept/1/default");
const LEFT = [...range(7, 20), ...range(25, 60)];

function range(first: number, end: number): number[] {
  return Array.from({ length: end - first }, (_, at) => first + at);
}

beforeEach(() => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-spool-"));
  fs.cpSync(KEPT, at("spool/default"), { recursive: true });
});
afterEach(() => {
  fs.rmSync(home, { recursive: true, force: true });
});

const segments = (name = "default"): string[] =>
  fs
    .readdirSync(at("spool", name))
    .filter((file) => file.endsWith(".segment"))
    .sort()
    .map((file) => at("spool", name, file));

function harm(file: string, change: (bytes: Buffer) => void): void {
  const bytes = fs.readFileSync(file);
  change(bytes);
  fs.writeFileSync(file, bytes);
}

/** A byte of the payload of the first delivery of a file. */
const inPayload = (bytes: Buffer): void => {
  for (let record = 128; record < bytes.length; record += 64)
    if (bytes.toString("latin1", record, record + 4) === "ASRC" && bytes[record + 4] === 3) {
      bytes[record + 100]! ^= 1;
      return;
    }
  throw new Error("no delivery");
};

/** Names, bytes and times of all files. */
function everything(folder: string): unknown {
  return fs
    .readdirSync(folder, { recursive: true, withFileTypes: true })
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort()
    .map((file) => {
      const { mtimeMs, size } = fs.statSync(file);
      return [file, mtimeMs, size, fs.statSync(file).isFile() ? fs.readFileSync(file, "hex") : ""];
    });
}

function owner(facts: object | string): void {
  fs.writeFileSync(at("spool/default/owner"), typeof facts === "string" ? facts : JSON.stringify(facts));
}

const json = (text: string): Record<string, unknown>[] =>
  text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe("R-76 looking at a spool", () => {
  test("names what is left, to the row, and touches nothing", async () => {
    letters(at("spool/default/failed"), [1n, 2n]);
    letters(at("spool/default/dead-letters"), [3n]);
    owner({ pid: process.pid, host: os.hostname(), owner: "flights", sinceMs: 1_700_000_000_000 });
    const before = everything(home);
    const [listed, ...others] = await listSpools(at("spool"));
    expect(others).toEqual([]);
    expect(listed).toMatchObject({ name: "default", error: null });
    const state = await inspectSpool(at("spool"));
    expect(state).toMatchObject({
      name: "default",
      directory: at("spool/default"),
      target: "discard:",
      settledThrough: 7n,
      end: 60n,
      left: { deliveries: 6, rows: 48, oldest: expect.any(Date) },
      cursorDamaged: false,
      setAside: [],
      foreign: [],
      unknown: [],
      damage: [],
      unfinished: [],
      owner: { pid: process.pid, owner: "flights", since: new Date(1_700_000_000_000), running: true },
    });
    expect(state.id).toMatch(/^[0-9a-f]{32}$/);
    expect(state.segments.map(({ first }) => first)).toEqual([0n, 20n, 40n]);
    expect(state.bytes).toBe(segments().reduce((sum, file) => sum + fs.statSync(file).size, 0));
    expect(
      state.deliveries.map(({ position, rows, rowsLeft, identity }) => [position, rows, rowsLeft, identity]),
    ).toEqual(
      [0n, 10n, 20n, 30n, 40n, 50n].map((position) => [
        position,
        10,
        position === 0n ? 3 : position === 20n ? 5 : 10,
        position / 10n + 1n,
      ]),
    );
    expect(state.failed).toHaveLength(1);
    expect((await readDeadLetter(state.deadLetters[0]!)).rejections).toHaveLength(1);
    expect((await inspectSpool(at("spool"), { limit: 2 })).deliveries).toHaveLength(2);
    expect(await verifySpool(at("spool"))).toMatchObject({
      ok: true,
      deliveries: 6,
      rows: 60,
      left: { rows: 48 },
      unreadable: [],
      refusedRecords: 0,
    });
    expect(everything(home)).toEqual(before);
  });

  test("says who had it open last, as far as that can be told", async () => {
    const told = async () => (await inspectSpool(at("spool"))).owner;
    expect(await told()).toBeNull();
    owner({ pid: 1, host: "another machine", owner: "", sinceMs: 1 });
    expect(await told()).toMatchObject({ running: null });
    // No process has so high a number.
    owner({ pid: 2 ** 22 + 1, host: os.hostname(), owner: "", sinceMs: 1 });
    expect(await told()).toMatchObject({ running: false });
    for (const torn of ["{", '{"pid":"x"}', "null"]) {
      owner(torn);
      expect(await told()).toBeNull();
    }
  });

  test("what is damaged is counted and stays, and the rest is there", async () => {
    harm(segments()[1]!, inPayload);
    fs.mkdirSync(at("spool/default/dead-letters"));
    const letter = at("spool/default/dead-letters/rejected-1700000000000000-aa.arrow");
    fs.writeFileSync(letter, "no Arrow");
    fs.writeFileSync(at("spool/default", "00000000000000000060-0000000004.segment"), "torn");
    const before = everything(home);
    const found = await verifySpool(at("spool"));
    expect(found).toMatchObject({
      ok: false,
      deliveries: 5,
      damage: [{ segment: segments()[1], bytes: expect.any(Number), setAside: null, reason: "no record" }],
      // Its maker was killed.
      unfinished: [{ segment: segments()[3], offset: 0, bytes: 4 }],
      unreadable: [{ path: letter, error: { code: "BATCH_INVALID" } }],
    });
    expect(found.left.rows).toBe(43);
    const { code, stdout } = await run(["spool", "verify", at("spool")]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^DAMAGED {5}.*segment at \d+: .*no record$/m);
    expect(stdout).toMatch(/^unreadable {2}.*rejected-.*is no Arrow file$/m);
    expect(stdout).toMatch(/DAMAGED, and stays/);
    const told = await run(["spool", "verify", "--json", at("spool")]);
    expect(json(told.stdout)[0]).toMatchObject({
      ok: false,
      settledThrough: "7",
      unreadable: [{ path: letter, error: { code: "BATCH_INVALID" } }],
    });
    expect(everything(home)).toEqual(before);
  });

  test("arguments that are none are refused by name, and what is not there is not found", async () => {
    const wrong = [
      () => listSpools(7 as never),
      () => inspectSpool(at("spool"), { limit: -1 }),
      () => inspectSpool(at("spool"), { limit: Number.NaN }),
      () => verifySpool(at("spool"), { name: "" }),
      () => exportSpool(at("spool"), undefined as never),
      () => retargetSpool(at("spool"), null as never),
      () => inspectSpool(at("spool"), { name: "a/b" }),
      () => retargetSpool(at("spool"), "nowhere:"),
      () => retargetSpool(at("spool"), "grpc://[half"),
    ];
    for (const call of wrong) await expect(call()).rejects.toMatchObject({ code: "CONFIG_INVALID" });
    await expect(listSpools(at("none"))).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(inspectSpool(at("spool"), { name: "other" })).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(await listSpools(home)).toEqual([]);
    // What a getter throws is what is thrown.
    const hostile = Object.defineProperty({}, "name", {
      get() {
        throw new RangeError("mine");
      },
    });
    await expect(verifySpool(at("spool"), hostile)).rejects.toThrow("mine");
  });
});

describe("R-76 out of a spool", () => {
  test("export writes what is left as Arrow files with positions, and copies refused rows", async () => {
    letters(at("spool/default/failed"), [1n, 2n]);
    letters(at("spool/default/dead-letters"), [3n]);
    // Its client was killed: nobody may ever finish it.
    fs.writeFileSync(at("spool/default/failed/rejected-1700000000000001-bb.arrow.part"), "half");
    fs.writeFileSync(at("spool/default/failed/else"), "not ours");
    const done = await exportSpool(at("spool"), at("out"));
    expect(done).toMatchObject({ name: "default", deliveries: 6, rows: 48, damage: [] });
    const ids: number[] = [];
    for (const { file, batch, position, rows } of json(fs.readFileSync(done.list, "utf8"))) {
      const found = tableFromIPC(fs.readFileSync(at("out", file as string))).batches[batch as number];
      expect(found).toBeInstanceOf(RecordBatch);
      const values = [...(found!.getChildAt(0) as Iterable<bigint>)].map(Number);
      expect(values).toHaveLength(rows as number);
      expect(values[0]).toBe(Number(position));
      ids.push(...values);
    }
    expect(ids).toEqual(LEFT);
    expect(done.failed.map((file) => path.relative(home, file))).toEqual([
      "out/failed/rejected-1700000000000000-aa.arrow",
      "out/failed/rejected-1700000000000001-bb.arrow.part",
    ]);
    expect((await readDeadLetter(done.failed[0]!)).rejections).toHaveLength(2);
    expect((await readDeadLetter(done.deadLetters[0]!)).rejections).toHaveLength(1);
    expect(fs.statSync(at("out")).mode & 0o777).toBe(0o700);
    await expect(exportSpool(at("spool"), at("out"))).rejects.toMatchObject({ code: "CONFIG_INVALID" });
  });

  test("retarget sends what is left elsewhere, positions as they were", async () => {
    const done = await retargetSpool(at("spool"), "delta:/lake/table");
    expect(done).toMatchObject({ from: "discard:", to: "delta:/lake/table", left: { rows: 48 } });
    expect(await inspectSpool(at("spool"))).toMatchObject({
      target: "delta:/lake/table",
      left: { rows: 48 },
      owner: { owner: "arrow-ingest spool retarget" },
    });
  });
});

describe("R-38 the command line", () => {
  test("ls lists every spool, and says which cannot be read", async () => {
    fs.cpSync(KEPT, at("spool/newer"), { recursive: true });
    fs.mkdirSync(at("spool/no spool"));
    harm(at("spool/newer/cursor"), (bytes) => bytes.fill(0));
    owner({ pid: process.pid, host: os.hostname(), owner: "flights", sinceMs: Date.now() });
    letters(at("spool/default/failed"), [1n]);
    fs.mkdirSync(at("spool/default/damaged"));
    fs.writeFileSync(at("spool/default/damaged/some.bytes"), "12345");
    const listed = await run(["spool", "ls", at("spool")], { terminal: { columns: 300 } });
    expect(listed.code).toBe(0);
    const [head, first, second] = listed.stdout.split("\n").map((line) => line.split(/ {2,}/));
    expect(head).toEqual([
      ...[
        "spool",
        "target",
        "deliveries",
        "rows",
        "size",
        "oldest",
        "failed",
        "refused",
        "damaged",
        "opened by",
      ],
    ]);
    expect(first!.slice(0, 3)).toEqual(["default", "discard:", "6"]);
    expect(first).toContain("5 bytes");
    expect(first!.at(-1)).toMatch(/^flights, process \d+ on .* \(runs\)/);
    expect(second![0]).toBe("newer");
    harm(segments("newer")[0]!, (bytes) => {
      // The version, and the checksum of the beginning, as a newer release would write it.
      bytes[8] = 2;
      bytes.writeUInt32LE(NEWER, 12);
    });
    const failing = await run(["spool", "ls", "--json", at("spool")]);
    expect(failing.code).toBe(1);
    expect(json(failing.stdout)).toMatchObject([
      { name: "default", error: null, end: "60", left: { deliveries: 6 }, setAside: [{ bytes: 5 }] },
      { name: "newer", error: { code: "SPOOL_FORMAT" } },
    ]);
    const shown = await run(["spool", "ls", at("spool")]);
    expect(shown.stdout).toMatch(/^newer +SPOOL_FORMAT +\? /m);
    expect(shown.stderr).toMatch(/^arrow-ingest: SPOOL_FORMAT: the spool .* is of format 2/);
    expect(await run(["spool", "ls", home])).toMatchObject({ code: 0, stdout: "no spools\n" });
  });

  test("show tells of one spool and its first deliveries", async () => {
    const { code, stdout } = await run(["spool", "show", "-n", "2", at("spool")]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^target {6}discard:$/m);
    expect(stdout).toMatch(/^left {8}48 rows in 6 deliveries, .* old$/m);
    expect(stdout).toMatch(/^0 +10 +3 +\d+ bytes/m);
    expect(stdout).toMatch(/^and 4 more deliveries: --limit shows more$/m);
    const told = await run(["spool", "show", "--json", "--name", "default", at("spool")]);
    expect(json(told.stdout)[0]).toMatchObject({
      end: "60",
      deliveries: [{ position: "0" }, {}, {}, {}, {}, {}],
    });
    // A cursor that cannot be read, a segment of nobody, one of another spool.
    harm(at("spool/default/cursor"), (bytes) => bytes.fill(7));
    fs.copyFileSync(segments()[0]!, at("spool/default", "00000000000000000000-0000000009.segment"));
    const harmed = await run(["spool", "show", at("spool")]);
    expect(harmed.code).toBe(1);
    expect(harmed.stdout).toMatch(/^DAMAGED {5}the cursor/m);
    expect(harmed.stdout).toMatch(/^foreign .*left alone$/m);
    fs.rmSync(at("spool/default"), { recursive: true });
    fs.mkdirSync(at("spool/default"));
    fs.writeFileSync(at("spool/default", "00000000000000000000-0000000001.segment"), "x");
    const lost = await run(["spool", "show", at("spool")]);
    expect(lost.code).toBe(1);
    expect(lost.stdout).toMatch(/^target {6}it cannot be read$/m);
    expect(lost.stdout).toMatch(/^left {8}nothing$/m);
    expect(lost.stdout).toMatch(/^DAMAGED .*no record of it can be read$/m);
    expect((await run(["spool", "ls", at("spool")])).stdout).toMatch(/0 bytes and 1 segment/);
  });

  test("verify, export and retarget say what they did", async () => {
    const whole = await run(["spool", "verify", at("spool")]);
    expect(whole).toMatchObject({ code: 0, stdout: expect.stringMatching(/all of it can be read\n$/) });
    expect(whole.stdout).toMatch(/^read {8}\d+ records: 60 rows in 6 deliveries$/m);
    const done = await run(["spool", "export", "--to", at("out"), at("spool")]);
    expect(done.code).toBe(0);
    expect(done.stdout).toMatch(/^exported {4}48 rows in 6 deliveries in 1 file$/m);
    const again = await run(["spool", "export", "--to", at("out"), at("spool")]);
    expect(again).toMatchObject({ code: 2, stderr: expect.stringMatching(/not empty/) });
    const sent = await run(["send", "--json", "discard:", ...globbed(at("out"))]);
    expect(json(sent.stdout)[0]).toMatchObject({ success: true, rows: { acknowledged: 48 } });
    harm(segments()[1]!, inPayload);
    const partly = await run(["spool", "export", "--json", "--to", at("partly"), at("spool")]);
    expect(partly.code).toBe(1);
    expect(json(partly.stdout)[0]).toMatchObject({ rows: 43, damage: [{ reason: "no record" }] });
    const turned = await run(["spool", "retarget", "--to", "delta:/a", at("spool")]);
    expect(turned).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^from {8}discard:\nto {10}delta:\/a\nleft/),
    });
    const told = await run(["spool", "retarget", "--json", "--to", "discard:", at("spool")]);
    expect(json(told.stdout)[0]).toMatchObject({ from: "delta:/a", to: "discard:" });
  });

  test("drain delivers what is left, and says what became of it", async () => {
    const table = `delta:${at("table")}`;
    await retargetSpool(at("spool"), table);
    const other = await run(["spool", "drain", "--to", `delta:${at("other")}`, at("spool")]);
    expect(other).toMatchObject({ code: 2, stdout: "", stderr: expect.stringMatching(/retarget/) });
    const done = await run(["spool", "drain", "--json", "--set", "delta.commitInterval=20", at("spool")]);
    expect(done.code, done.stderr).toBe(0);
    expect(json(done.stdout)[0]).toMatchObject({
      success: true,
      deliveries: { acknowledged: 6 },
      rows: { acknowledged: 48 },
      left: { deliveries: 0 },
    });
    const again = await run(["spool", "drain", at("spool")]);
    expect(again.code, again.stderr).toBe(0);
    expect(again.stdout).toMatch(/^ {2}left {10}nothing$/m);
  });

  test("drain leaves what cannot be delivered, and a signal ends it", async () => {
    // Nobody listens there.
    await retargetSpool(at("spool"), "grpc://127.0.0.1:1/rows");
    const running = start(["spool", "drain", "--verbose", at("spool")], { patienceMs: 200 });
    await running.says(/UNAVAILABLE/);
    running.signal("SIGTERM");
    expect(await running.code).toBe(143);
    expect(running.stdout()).toMatch(/^ {2}left {10}48 rows in 6 deliveries/m);
    expect((await inspectSpool(at("spool"))).left.rows).toBe(48);
    // One of another name, whose target cannot be read.
    fs.mkdirSync(at("spool/blank"));
    fs.writeFileSync(at("spool/blank/lock"), "");
    const blank = await run(["spool", "drain", "--name", "blank", at("spool")]);
    expect(blank).toMatchObject({ code: 2, stderr: expect.stringMatching(/--to says it/) });
  });

  test("a spool that a client has open is looked at, and is neither drained nor retargeted", async () => {
    fs.rmSync(at("spool"), { recursive: true });
    const client = await connect("grpc://127.0.0.1:1/rows", { spool: { directory: at("spool") } });
    await client.enqueue(tableFromArrays({ n: Int32Array.of(1, 2, 3) }));
    expect(await inspectSpool(at("spool"))).toMatchObject({ left: { rows: 3 }, owner: { running: true } });
    expect(await verifySpool(at("spool"))).toMatchObject({ ok: true, rows: 3 });
    expect(await exportSpool(at("spool"), at("out"))).toMatchObject({ rows: 3 });
    await expect(retargetSpool(at("spool"), "discard:")).rejects.toMatchObject({ code: "SPOOL_LOCKED" });
    const drained = await run(["spool", "drain", at("spool")]);
    expect(drained).toMatchObject({ code: 1, stderr: expect.stringMatching(/SPOOL_LOCKED/) });
    await client.close({ deadline: 0 });
  });

  test("what is misspelt, missing or too much is 2", async () => {
    for (const [args, says] of [
      [[], /spool does ls, show, verify, export/],
      [["lst"], /did you mean "?ls/],
      [["ls"], /exactly one directory/],
      [["show", "a", "b"], /exactly one directory/],
      [["show", "--limit", "x", home], /--limit takes/],
      [["export", at("spool")], /needs --to/],
      [["retarget", at("spool")], /needs --to/],
      [["drain", "--name", "none", at("spool")], /there is no spool/],
      [["verify", "--nam", "x", home], /nam/],
      [["verify", home], /there is no spool/],
      [["ls", at("none")], /there is no directory/],
      [["retarget", "--to", "nowhere:", at("spool")], /no destination answers/],
    ] as const) {
      const { code, stderr, stdout } = await run(["spool", ...args]);
      expect([code, stdout], stderr).toEqual([2, ""]);
      expect(stderr).toMatch(says);
    }
    expect((await run(["help", "spool"])).stdout).toMatch(/spool retarget/);
  });
});

/** CRC-32C of the beginning of a segment of version 2. */
const NEWER = 0xaf769986;

const globbed = (folder: string): string[] =>
  fs
    .readdirSync(folder)
    .filter((name) => name.endsWith(".arrow"))
    .map((name) => path.join(folder, name));
