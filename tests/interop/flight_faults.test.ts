// a server that dies and comes back, refuses, expires, halves and resets. After each every batch
// has an outcome, what is acknowledged is in the server's files, and what is not is said to be so.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { tableFromArrays, tableFromIPC } from "apache-arrow";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type ConnectOptions, connect, type Delivery, type TransmissionResult } from "../../dist/index.js";
import { Line } from "./support/line.js";
import { describeWith } from "./support/peer.js";
import { FlightServer, SERVERS } from "./support/servers.js";

const ROWS = 1_000;
const batch = (index: number) =>
  tableFromArrays({ id: Int32Array.from({ length: ROWS }, (_, row) => index * ROWS + row) });

/** Quick to fail and to try again. */
const quick: ConnectOptions = {
  batching: { linger: 0 },
  retry: { attempts: 1_000, baseDelay: 1, maxDelay: 50 },
  flight: { commitInterval: 5, keepAlive: 300, connectTimeout: "5s" },
};

/** Where what a server says is counted, a machine that stands still for a moment must not count as its silence. */
const patient: ConnectOptions = { ...quick, flight: { ...quick.flight, keepAlive: "20s" } };

describeWith(SERVERS["pyarrow, moods"].there, "R-14 a Flight server with moods", () => {
  let folder: string;
  beforeEach(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-moods-"));
  });
  afterEach(() => fs.rmSync(folder, { recursive: true }));

  const start = (...args: string[]) => FlightServer.start("pyarrow, moods", ["--folder", folder, ...args]);

  /** How often each batch is kept; a batch of which some rows are there more often than others is a failure. */
  function kept(): Map<number, number> {
    const times = new Map<number, number>();
    for (const name of fs.readdirSync(folder).filter((name) => name.endsWith(".arrow"))) {
      const ids = tableFromIPC(fs.readFileSync(path.join(folder, name))).getChild("id")!;
      for (const id of ids) times.set(id, (times.get(id) ?? 0) + 1);
    }
    const batches = new Map<number, number>();
    for (const [id, count] of times) {
      const index = Math.floor(id / ROWS);
      expect(batches.get(index) ?? count, `row ${id}`).toBe(count);
      batches.set(index, count);
    }
    return batches;
  }

  function everyOneAcknowledged(results: readonly TransmissionResult[]): void {
    for (const { status, error } of results) expect(status, error?.message).toBe("acknowledged");
    expect([...kept().keys()].sort((a, b) => a - b)).toEqual(results.map((_, index) => index));
  }

  test("killed and started again on its port, while a client sends: nothing is missing", async () => {
    let server = await start();
    const { port } = server;
    let deaths = 0;
    try {
      await using client = await connect(`grpc://127.0.0.1:${port}/t`, quick);
      const deliveries: Delivery[] = [];
      let back: Promise<unknown> = Promise.resolve();
      for (let index = 0; index < 60; index++) {
        if (index % 20 === 7) {
          await back;
          await server.kill();
          deaths++;
          // While it is not there, the client goes on being given batches.
          back = start("--port", String(port)).then((again) => {
            server = again;
          });
        }
        deliveries.push(await client.enqueue(batch(index)));
        if (index % 20 === 5) await deliveries.at(-1)!.result;
      }
      await back;
      await client.flush();
      const results = await Promise.all(deliveries.map(({ result }) => result));
      expect(deaths).toBe(3);
      everyOneAcknowledged(results);
      expect(Math.max(...results.map(({ attempts }) => attempts))).toBeGreaterThan(1);
    } finally {
      await server.kill();
    }
  });

  test("every tenth write is refused for the moment: it is sent again", async () => {
    await using server = await start("--refuse-every", "10");
    await using client = await connect(`${server.location}/t`, patient);
    const results = [];
    for (let index = 0; index < 35; index++) results.push(await client.send(batch(index)));
    everyOneAcknowledged(results);
    // Each put was a write, and what a server says no to by its own word it does not keep.
    expect([...kept().values()].every((count) => count === 1)).toBe(true);
    expect(results.filter(({ attempts }) => attempts > 1)).toHaveLength(3);
  });

  test("every tenth write is refused for its data: the others arrive, and its own outcome says so", async () => {
    await using server = await start("--refuse-every", "10", "--word", "invalid");
    await using client = await connect(`${server.location}/t`, patient);
    const results = [];
    for (let index = 0; index < 35; index++) results.push(await client.send(batch(index)));
    const refused = results.flatMap(({ status }, index) => (status === "acknowledged" ? [] : [index]));
    expect(refused).toEqual([9, 19, 29]);
    for (const index of refused) {
      // Whether this server keeps something of what it refuses, nobody has said.
      expect(results[index]).toMatchObject({ status: "unknown", error: { code: "ROWS_REJECTED" } });
      expect(results[index]!.error!.message).toContain("not this one");
    }
    const there = results.flatMap((_, index) => (refused.includes(index) ? [] : [[index, 1]]));
    expect([...kept()].sort(([a], [b]) => a - b)).toEqual(there);
  });

  test("R-34 tokens of the handshake expire in the midst of it: another is fetched", async () => {
    await using server = await start("--token-calls", "5");
    const auth = { username: "u", password: "sesame" };
    await using client = await connect(`${server.location}/t`, {
      ...patient,
      flight: { ...patient.flight, auth },
    });
    const results = [];
    for (let index = 0; index < 20; index++) results.push(await client.send(batch(index)));
    everyOneAcknowledged(results);
    expect([...kept().values()].every((count) => count === 1)).toBe(true);
    const wrong = connect(`${server.location}/t`, {
      retry: { attempts: 1 },
      flight: { auth: { ...auth, password: "open" } },
    });
    await expect(wrong).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
  });

  test("R-34 bearers expire: the function is asked, is told why, and the batches go on", async () => {
    await using server = await start("--bearer-puts", "4");
    let bearer = 0;
    const reasons: string[] = [];
    await using client = await connect(`${server.location}/t`, {
      ...patient,
      headers: async ({ reason }) => {
        reasons.push(reason);
        if (reason === "unauthenticated" || bearer === 0) bearer++;
        return { authorization: `Bearer ${bearer}` };
      },
    });
    const results = [];
    for (let index = 0; index < 20; index++) results.push(await client.send(batch(index)));
    everyOneAcknowledged(results);
    expect([...kept().values()].every((count) => count === 1)).toBe(true);
    expect(reasons.filter((reason) => reason === "unauthenticated")).toHaveLength(4);
  });

  test("R-13 halves closed, resets in the handshake, silence: nothing is missing", async () => {
    await using server = await start();
    await using line = await Line.to(server.port);
    await using client = await connect(`grpc://127.0.0.1:${line.port}/t`, quick);
    const faults: (() => Promise<unknown>)[] = [
      async () => {}, // So that there is a session to disturb.
      () => line.cut({ on: "up", after: 1_000, how: "half" }),
      () => line.cut({ on: "down", after: 0, how: "half" }),
      () => line.cut({ on: "up", after: 500, how: "reset" }),
      () => line.cut({ on: "down", after: 20, how: "reset" }),
      () => {
        line.resets = 3;
        return line.cut({ on: "up", after: 0, how: "reset" });
      },
      async () => {
        const before = line.connections;
        line.stall();
        await expect.poll(() => line.connections, { timeout: 20_000 }).toBeGreaterThan(before);
        line.flow();
      },
    ];
    const results: TransmissionResult[] = [];
    for (const fault of [...faults, ...faults]) {
      const happened = fault();
      const [result] = await Promise.all([client.send(batch(results.length)), happened]);
      results.push(result);
    }
    everyOneAcknowledged(results);
    expect(line.resets).toBe(0);
  });
});
