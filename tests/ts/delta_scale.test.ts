// what of a Delta table must not grow, counted: files by partitions of a commit, threads by clients,
// versions by callers who wait. `bench/cases/delta-scale.mjs` has the same jobs at full size, and times.
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, test } from "vitest";

const root = path.resolve(import.meta.dirname, "../..");
let lake: string;
const children: ChildProcess[] = [];

beforeAll(() => {
  lake = fs.mkdtempSync(path.join(os.tmpdir(), "delta-scale-test-"));
});
afterAll(() => {
  for (const child of children) child.kill();
  fs.rmSync(lake, { recursive: true, force: true });
});

/** The job, done by a process of its own. */
async function job<T>(what: object): Promise<T> {
  const child = spawn(process.execPath, [path.join(root, "bench/cases/delta_scale_client.mjs")], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  children.push(child);
  child.stdin.end(`${JSON.stringify(what)}\n`);
  for await (const line of createInterface({ input: child.stdout })) return JSON.parse(line);
  throw new Error(`no answer to ${JSON.stringify(what)}`);
}

test("rows of a commit over many mixed partitions are one file for each", async () => {
  const target = path.join(lake, "partitions");
  const keys = 300;
  const { versions } = await job<{ versions: number }>({
    ...{ job: "partitions", target: `delta:${target}`, rows: 20_000, keys },
  });
  expect(versions).toBe(1);
  const entries = fs.readdirSync(target, { recursive: true, encoding: "utf8" });
  expect(entries.filter((name) => name.endsWith(".parquet") && !name.includes("_delta_log"))).toHaveLength(
    keys,
  );
  expect(entries.filter((name) => /^key=k\d+$/.test(name))).toHaveLength(keys);
});

test.runIf(process.platform === "linux")(
  "a crowd of clients has no more threads than one, but a few",
  async () => {
    type Crowd = { threads: number; threadsClosed: number };
    const crowd = (name: string, clients: number) => {
      const home = path.join(lake, name);
      fs.mkdirSync(home);
      return job<Crowd>({ job: "crowd", lake: home, clients, rounds: 1 });
    };
    const [one, many] = [await crowd("one", 1), await crowd("many", 100)];
    expect(many.threads - one.threads).toBeLessThanOrEqual(16);
    expect(many.threadsClosed - one.threadsClosed).toBeLessThanOrEqual(16);
  },
);

test("who waits together on a quiet client adds at most two versions", async () => {
  const { mostVersions } = await job<{ mostVersions: number }>({ job: "idle", lake, sends: 50, rounds: 2 });
  expect(mostVersions).toBeLessThanOrEqual(2);
});
