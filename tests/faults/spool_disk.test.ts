// R-72 R-74: the spool on a disk that is full, that empties again, that may only be read, or that is somebody else's.
import { fork } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { Worker } from "node:worker_threads";
import { makeVector, Table } from "apache-arrow";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type ConnectOptions,
  connect,
  type Delivery,
  type IngestClient,
  type IngestError,
  inspectSpool,
} from "../../dist/index.js";
import { describeWithDisks, SmallDisk } from "../ts/support/mounted.js";
import { startKeeper } from "./children/flight-keeper.mjs";

const MIB = 1 << 20;
const ROWS = 25_000;
const options = (directory: string, more: object = {}): ConnectOptions => ({
  spool: { directory, ...more },
  batching: { linger: "1ms" },
  flight: { commitInterval: "5ms" },
  retry: { baseDelay: "5ms", maxDelay: "50ms" },
  telemetry: { enabled: false },
});

/** Rows from 0 on, over all that were ever made; the server keeps them. */
class World implements AsyncDisposable {
  readonly #made: number[] = [];
  /** Deliveries that the server has, in its order. */
  readonly there: readonly number[];
  readonly keeper: Awaited<ReturnType<typeof startKeeper>>;

  private constructor(keeper: World["keeper"], there: readonly number[]) {
    this.keeper = keeper;
    this.there = there;
  }

  static async begin(): Promise<World> {
    const there: number[] = [];
    const keeper = await startKeeper((values: Int32Array) => {
      // By their first rows.
      for (const value of values) if (value % ROWS === 0) there.push(value / ROWS);
    });
    return new World(keeper, there);
  }

  /** A hundred thousand bytes. */
  table(): Table {
    const number = this.#made.length;
    this.#made.push(number);
    return new Table({ n: makeVector(Int32Array.from({ length: ROWS }, (_, row) => number * ROWS + row)) });
  }

  get made(): readonly number[] {
    return this.#made;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.keeper.close();
  }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

async function failure(promise: Promise<unknown>): Promise<IngestError> {
  return promise.then(
    () => {
      throw new Error("it did not reject");
    },
    (error) => error,
  );
}

/** Enqueues until it is refused; the numbers of what was taken, and the refusal. */
async function fill(client: IngestClient, world: World): Promise<[number[], IngestError]> {
  const taken: number[] = [];
  for (;;) {
    const number = world.made.length;
    try {
      await client.enqueue(world.table());
    } catch (error) {
      return [taken, error as IngestError];
    }
    taken.push(number);
  }
}

describeWithDisks("a disk that is full", () => {
  test("by the spool's own rows lets those wait that come, and takes them once others are delivered", async () => {
    using disk = new SmallDisk(4 * MIB);
    await using world = await World.begin();
    await using client = await connect(world.keeper.url, options(disk.path));
    for (const _ of [1, 2]) {
      world.keeper.isAway = true;
      let taken = 0;
      const enqueued = Array.from({ length: 80 }, async (): Promise<Delivery> => {
        const delivery = await client.enqueue(world.table());
        taken++;
        return delivery;
      });
      await until(() => disk.free < MIB / 2);
      expect(taken).toBeLessThan(80);
      world.keeper.isAway = false;
      const results = await Promise.all(enqueued.map(async (delivery) => (await delivery).result));
      expect(results.every(({ success }) => success)).toBe(true);
      expect(world.there).toEqual(world.made);
      await client.flush();
    }
    expect(client.stats().spool).toMatchObject({ rows: 0 });
  });

  test("refuses what comes where that was asked for, and takes it again once others are delivered", async () => {
    using disk = new SmallDisk(4 * MIB);
    await using world = await World.begin();
    await using client = await connect(world.keeper.url, options(disk.path, { whenFull: "reject" }));
    const taken: number[] = [];
    for (const _ of [1, 2]) {
      world.keeper.isAway = true;
      const [more, error] = await fill(client, world);
      expect(error).toMatchObject({ code: "SPOOL_FULL", retry: "throttled" });
      expect(more.length).toBeGreaterThan(10);
      expect(disk.free).toBeLessThan(MIB / 2);
      taken.push(...more);
      world.keeper.isAway = false;
      await client.flush();
      expect(world.there).toEqual(taken);
      await until(() => disk.free > 3 * MIB);
    }
  });

  test("by others keeps nothing from being delivered, and what comes waits until they make room", async () => {
    using disk = new SmallDisk(4 * MIB);
    await using world = await World.begin();
    const client = await connect(world.keeper.url, options(disk.path));
    world.keeper.isAway = true;
    for (let i = 0; i < 5; i++) await client.enqueue(world.table());
    disk.fill();
    expect(disk.free).toBe(0);
    world.keeper.isAway = false;
    await client.flush();
    expect(world.there).toEqual([0, 1, 2, 3, 4]);
    const abort = new AbortController();
    const unwanted = client.enqueue(world.table(), { signal: abort.signal });
    const waiting = client.enqueue(world.table());
    await until(() => client.stats().spool?.rows === 2 * ROWS);
    // Nothing of it is on the disk, so nothing has to be written for it to be taken back.
    abort.abort();
    expect(await failure(unwanted)).toMatchObject({ name: "AbortError" });
    disk.empty();
    expect((await (await waiting).result).success).toBe(true);
    expect(world.there).toEqual([0, 1, 2, 3, 4, 6]);
    await client.close();
  });

  test("is no reason not to open a spool that is on it, nor not to deliver what it holds", async () => {
    using disk = new SmallDisk(4 * MIB);
    await using world = await World.begin();
    const leaving = await connect(world.keeper.url, options(disk.path));
    world.keeper.isAway = true;
    for (let i = 0; i < 5; i++) await leaving.enqueue(world.table());
    await leaving.close({ deadline: 0 });
    disk.fill();
    world.keeper.isAway = false;
    await using client = await connect(world.keeper.url, options(disk.path));
    expect(client.recovered).toMatchObject({ rows: 5 * ROWS });
    await client.flush();
    expect(world.there).toEqual([0, 1, 2, 3, 4]);
    disk.empty();
    expect((await client.send(world.table())).success).toBe(true);
  });
});

describeWithDisks("a directory that may only be read", () => {
  test("is no place for a spool, which is said with its name, and can be looked at", async () => {
    using disk = new SmallDisk(4 * MIB);
    const leaving = await connect("grpc://127.0.0.1:1/a", options(disk.path));
    await leaving.enqueue(new Table({ n: makeVector(Int32Array.of(1, 2, 3)) }));
    await leaving.close({ deadline: 0 });
    disk.readOnly();
    for (const name of ["default", "another"]) {
      const error = await failure(connect("grpc://127.0.0.1:1/a", options(disk.path, { name })));
      expect(error).toMatchObject({ code: "PERMISSION_DENIED", retry: "never" });
      expect(error.message).toContain(disk.path);
    }
    expect((await inspectSpool(disk.path)).left).toMatchObject({ deliveries: 1, rows: 3 });
  });
});

describe("a spool that is another's", () => {
  let home = "";
  beforeEach(() => {
    home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-owner-"));
  });
  afterEach(() => fs.rmSync(home, { recursive: true, force: true }));
  const child = path.join(process.cwd(), "tests/faults/children/spool-opener.mjs");

  test("is refused to another process and to another worker, which are told whose it is", async () => {
    const client = await connect("discard:", options(home));
    const asked = fork(child, [home], { stdio: "inherit" });
    const [[byProcess]] = await Promise.all([once(asked, "message"), once(asked, "exit")]);
    const worker = new Worker(child, { argv: [home] });
    const [[byWorker]] = await Promise.all([once(worker, "message"), once(worker, "exit")]);
    for (const error of [byProcess, byWorker]) {
      expect(error).toMatchObject({ code: "SPOOL_LOCKED", retry: "never" });
      expect(error.message).toContain(String(process.pid));
    }
    expect((await client.send(new Table({ n: makeVector(Int32Array.of(1)) }))).success).toBe(true);
    await client.close();
    const second = fork(child, [home], { stdio: "inherit" });
    const [[opened]] = await Promise.all([once(second, "message"), once(second, "exit")]);
    expect(opened).toEqual({ code: null });
  });

  test("and of another target is refused by both names, unless nothing is left in it", async () => {
    const away = "grpc://127.0.0.1:1/a";
    const leaving = await connect(away, options(home));
    await leaving.enqueue(new Table({ n: makeVector(Int32Array.of(1)) }));
    await leaving.close({ deadline: 0 });
    const error = await failure(connect("discard:", options(home)));
    expect(error).toMatchObject({ code: "CONFIG_INVALID", retry: "never" });
    for (const part of ["127.0.0.1:1", "discard:", "arrow-ingest spool retarget"])
      expect(error.message).toContain(part);
    const empty = options(home, { name: "empty" });
    await (await connect(away, empty)).close();
    await using client = await connect("discard:", empty);
    expect((await client.send(new Table({ n: makeVector(Int32Array.of(1)) }))).success).toBe(true);
  });
});
