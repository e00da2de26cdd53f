// the system's clock may be set, by hours and by years, while a spool is in use and between two uses.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { inspectSpool, type SpoolStats, startEmulator } from "../../dist/index.js";

const DAY = 86_400;
const MINUTE_MS = 60_000;
const children = path.join(process.cwd(), "tests/faults/children");
const TABLE = "c.s.t";
const tables = { [TABLE]: [{ name: "n", type: "INT" }] };

let home = "";
let running: ChildProcess | undefined;
beforeAll(() => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-clock-"));
});
afterAll(() => {
  running?.kill("SIGKILL");
  fs.rmSync(home, { recursive: true, force: true });
});

/** A clock for one process, which stands before libc's. */
function clock(): string {
  const library = path.join(home, "clock.so");
  const source = path.join(children, "clock.rs");
  const flags = ["--edition", "2024", "--crate-type", "cdylib", "-O", "-o", library];
  const made = spawnSync("rustc", [...flags, source], { encoding: "utf8" });
  expect(made.status, made.stderr).toBe(0);
  return library;
}

// The clock is libc's, and preloaded: Linux has both.
const testOnLinux = test.runIf(process.platform === "linux");
testOnLinux("a clock that jumps changes nothing but what records say", async () => {
  const emulator = await startEmulator({ tables });
  const url = emulator.url(TABLE);
  const port = Number(new URL(url.replace("zerobus+", "")).port);
  // From here on nobody is there.
  await emulator.close();
  const spool = path.join(home, "spool");
  const file = path.join(home, "ahead");
  fs.writeFileSync(file, Buffer.alloc(8));
  const options = { ...emulator.options, batching: { linger: 1 }, retry: { baseDelay: 5, maxDelay: 20 } };
  const child = spawn(
    process.execPath,
    [path.join(children, "clock.mjs"), url, JSON.stringify(options), spool],
    {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      env: { ...process.env, LD_PRELOAD: clock(), CLOCK_FILE: file },
    },
  );
  running = child;
  const ask = <T>(what: string, value?: number): Promise<T> =>
    new Promise((resolve, reject) => {
      const ended = () => reject(new Error(`it ended during ${what}`));
      child.once("exit", ended);
      child.once("message", ({ answer }: { answer: T }) => {
        child.off("exit", ended);
        resolve(answer);
      });
      child.send([what, value]);
    });
  const look = () => ask<{ spool: SpoolStats; now: number }>("look");

  await ask("jump", DAY);
  await ask("open");
  await ask("enqueue", 0);
  // The clock is set for JavaScript and for Rust.
  const isAhead = (at: number, seconds: number) =>
    expect(Math.abs(at - Date.now() - seconds * 1_000)).toBeLessThan(MINUTE_MS);
  isAhead((await look()).now, DAY);
  isAhead((await inspectSpool(spool)).left.oldest!.getTime(), DAY);

  let last = 0;
  let rows = 2;
  for (const seconds of [0, 2 * DAY, -DAY, 3_650 * DAY, 60, 61]) {
    await ask("jump", seconds);
    await ask("enqueue", rows);
    rows += 2;
    await new Promise((resolve) => setTimeout(resolve, 20));
    const { oldestMs } = (await look()).spool;
    expect(oldestMs, `${seconds} seconds ahead`).toBeGreaterThan(last);
    expect(oldestMs, `${seconds} seconds ahead`).toBeLessThan(MINUTE_MS);
    last = oldestMs!;
  }
  const back = await startEmulator({ tables, port });
  const outcomes = ask<string[]>("outcomes");
  expect(new Set(await outcomes)).toEqual(new Set(["acknowledged"]));
  expect(await back.rows(TABLE)).toBe(rows);
  // Set while connections and tokens are in use.
  for (const seconds of [DAY, -DAY, 0]) {
    await ask("jump", seconds);
    await ask("enqueue", rows);
    rows += 2;
    expect(await ask("outcomes")).toEqual(["acknowledged"]);
  }
  expect(await back.rows(TABLE)).toBe(rows);
  await ask("close", 10_000);
  await back.close();

  // Between two uses: what was left is as old as the clock says, and never less than nothing.
  for (const [before, after, least, most] of [
    [DAY, 0, 0, 0],
    [0, DAY, 1_000 * DAY, 1_000 * DAY + MINUTE_MS],
  ] as const) {
    await ask("jump", before);
    await ask("open");
    await ask("enqueue", 0);
    await ask("close", 0);
    expect(await ask("outcomes")).toEqual(["spooled"]);
    await ask("jump", after);
    const recovered = await ask<{ rows: number; oldestMs: number }>("open");
    expect(recovered.rows).toBe(2);
    expect(recovered.oldestMs).toBeGreaterThanOrEqual(least);
    expect(recovered.oldestMs).toBeLessThanOrEqual(most);
    const again = await startEmulator({ tables, port });
    while ((await look()).spool.rows > 0) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(await again.rows(TABLE)).toBe(2);
    await ask("close", 10_000);
    await again.close();
  }
});
