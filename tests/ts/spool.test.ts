// The spool, through the door that users use.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { Worker } from "node:worker_threads";
import {
  Field,
  Int32,
  type RecordBatch,
  Schema,
  Table,
  tableFromArrays,
  vectorFromArray,
} from "apache-arrow";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type ConnectOptions,
  connect,
  type IngestClient,
  type IngestError,
  type TransmissionResult,
} from "../../dist/index.js";
import {
  type Call,
  FlightServer,
  UNAUTHENTICATED,
  UNAVAILABLE,
  type Verdict,
} from "./support/flight-server.js";

let home = "";
beforeEach(() => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-spool-"));
});
afterEach(() => {
  fs.rmSync(home, { recursive: true, force: true });
});

const numbers = (rows: number, from = 0): Table =>
  tableFromArrays({ n: Int32Array.from({ length: rows }, (_, i) => from + i) });
const batch = (rows: number, from = 0): RecordBatch => numbers(rows, from).batches[0]!;
const spool = (more: object = {}): ConnectOptions => ({
  spool: { directory: path.join(home, "spool"), ...more },
  batching: { linger: "1ms" },
  delta: { commitInterval: "20ms" },
  retry: { baseDelay: "5ms", maxDelay: "20ms" },
  telemetry: { enabled: false },
});

describe("a destination that is there", () => {
  test("what is sent is acknowledged, and leaves the spool", async () => {
    await using client = await connect(`delta:${path.join(home, "table")}`, spool());
    const result = await client.send(batch(3));
    expect(result).toMatchObject({
      status: "acknowledged",
      success: true,
      rows: 3,
      acceptedRows: 3,
      sequence: 1n,
    });
    expect(result.position?.kind).toBe("version");
    const delivery = await client.enqueue(batch(2));
    expect(await delivery.result).toMatchObject({ status: "acknowledged", sequence: 2n, recovered: false });
    await client.flush();
    expect(client.stats().spool).toMatchObject({ rows: 0, paused: false, damagedBytes: 0 });
    expect(client.recovered).toEqual({ deliveries: 0, rows: 0, bytes: 0, oldestMs: null });
    expect(client.ready).toBe(true);
  });

  test("many that are sent at once keep their order and their results", async () => {
    await using client = await connect("discard:", spool());
    const results = await Promise.all(Array.from({ length: 200 }, (_, i) => client.send(batch(1 + (i % 5)))));
    expect(results.map((result) => result.rows)).toEqual(Array.from({ length: 200 }, (_, i) => 1 + (i % 5)));
    expect(results.every((result) => result.success)).toBe(true);
  });

  test("a delivery without rows is acknowledged", async () => {
    await using client = await connect("discard:", spool());
    expect(await client.send(batch(0))).toMatchObject({ status: "acknowledged", rows: 0 });
    const delivery = await client.enqueue(batch(0));
    expect((await delivery.result).status).toBe("acknowledged");
  });
});

describe("a destination that is away", () => {
  test("connect settles, enqueue too, and what is on the disk is delivered once it is back", async () => {
    let isAway = true;
    const { server, stats } = await flight(() => (isAway ? [UNAVAILABLE, "away"] : undefined));
    await using _ = server;
    await using client = await connect(server.url, spool());
    expect(client.ready).toBe(true);
    const deliveries = [];
    for (let i = 0; i < 20; i++) deliveries.push(await client.enqueue(batch(10, i * 10)));
    await until(() => !client.ready);
    expect(client.stats().spool).toMatchObject({ rows: 200, paused: true });
    expect(client.stats().bytes.inFlight).toBeLessThan(client.stats().bytes.budget);
    isAway = false;
    const results = await Promise.all(deliveries.map((delivery) => delivery.result));
    expect(results.every((result) => result.success)).toBe(true);
    await until(() => client.ready);
    expect(stats.puts).toBeGreaterThan(0);
  });

  test("a signal ends the wait of send, and not the delivery", async () => {
    let isAway = true;
    const { server } = await flight(() => (isAway ? [UNAVAILABLE, "away"] : undefined));
    await using _ = server;
    const heard: TransmissionResult[] = [];
    await using client = await connect(server.url, {
      ...spool(),
      listeners: { onAcknowledged: (result) => void heard.push(result) },
    });
    const result = await client.send(batch(7), { signal: AbortSignal.timeout(50) });
    expect(result).toMatchObject({ status: "spooled", success: false, error: null, rows: 7 });
    expect(() => result.orThrow()).toThrow(expect.objectContaining({ code: "SPOOLED" }));
    isAway = false;
    await client.flush();
    await until(() => heard.length > 0);
    expect(heard).toEqual([expect.objectContaining({ recovered: true, rows: 7, status: "acknowledged" })]);
  });

  test("what was enqueued and is aborted is taken back, and nothing of it is delivered later", async () => {
    let isAway = true;
    const { server, stats } = await flight(() => (isAway ? [UNAVAILABLE, "away"] : undefined));
    await using _ = server;
    // The server refuses the handshake, so that no row is sent: rows that may have been are `unknown` when aborted.
    const auth = { username: "a", password: "b" };
    await using client = await connect(server.url, { ...spool(), flight: { auth } });
    const kept = await client.enqueue(batch(1));
    const abort = new AbortController();
    const delivery = await client.enqueue(batch(5), { signal: abort.signal });
    abort.abort();
    expect(await delivery.result).toMatchObject({ status: "failed", errorCode: "ABORTED" });
    expect(server.calls.filter(({ method }) => method === "DoPut")).toEqual([]);
    isAway = false;
    expect((await kept.result).success).toBe(true);
    await client.flush();
    expect(client.stats().rows.accepted).toBe(1);
    expect(stats.puts).toBeGreaterThan(0);
  });

  test("what is aborted while it is sent is unknown", async () => {
    const { server } = await flight(({ method }) => (method === "DoPut" ? "silence" : undefined));
    await using _ = server;
    await using client = await connect(server.url, spool());
    const abort = new AbortController();
    const delivery = await client.enqueue(batch(5), { signal: abort.signal });
    await until(() => server.calls.some(({ method }) => method === "DoPut"));
    abort.abort();
    expect(await delivery.result).toMatchObject({ status: "unknown", errorCode: "ABORTED" });
    await client.close({ deadline: 0 });
  });

  test("what close leaves is spooled, no failure, and the next client delivers it in order", async () => {
    const table = path.join(home, "table");
    {
      const client = await connect("grpc://127.0.0.1:1/a", spool({ name: "left" }));
      const delivery = await client.enqueue(batch(3));
      const sent = client.send(batch(4, 3));
      await until(() => client.stats().spool?.rows === 7);
      await client.close({ deadline: 0 });
      expect(await delivery.result).toMatchObject({ status: "spooled", success: false, error: null });
      expect((await sent).status).toBe("spooled");
    }
    const wrong = await failure(connect(`delta:${table}`, spool({ name: "left" })));
    expect(wrong.code).toBe("CONFIG_INVALID");
    expect(wrong.message).toContain("127.0.0.1:1");
    expect(wrong.message).toContain(table);
  });

  test("outcomes that nobody has asked for keep no call waiting while there is room on the disk", async () => {
    let isAway = true;
    const { server } = await flight(() => (isAway ? [UNAVAILABLE, "away"] : undefined));
    await using _ = server;
    const heard: TransmissionResult[] = [];
    await using client = await connect(server.url, {
      ...spool(),
      // Room for 16 callers who wait.
      inflight: { maxBytes: "64KiB" },
      listeners: { onAcknowledged: (result) => void heard.push(result) },
    });
    const first = await client.enqueue(batch(1));
    const asked = (await client.enqueue(batch(1, 1))).result;
    for (let i = 2; i < 500; i++) await client.enqueue(batch(1, i));
    // By a stream as well, whose chunks are a delivery each.
    const writer = client.writable().getWriter();
    for (let i = 500; i < 600; i++) await writer.write(batch(1, i));
    await writer.close();
    expect(await first.result).toMatchObject({ status: "spooled", success: false, error: null });
    await until(() => !client.ready);
    expect(client.stats().spool).toMatchObject({ rows: 600, paused: true });
    isAway = false;
    expect(await asked).toMatchObject({ status: "acknowledged", sequence: 2n, recovered: false });
    await client.flush();
    await until(() => heard.length === 600);
    expect(heard.filter(({ recovered }) => recovered).length).toBeGreaterThan(500);
    expect(client.stats().rows.accepted).toBe(600);
  });

  test("a revoked grant pauses the spool and burns nothing of it", async () => {
    let isRevoked = false;
    const { server } = await flight(() => (isRevoked ? [UNAUTHENTICATED, "revoked"] : undefined));
    await using _ = server;
    await using client = await connect(server.url, spool());
    expect((await client.send(batch(1))).success).toBe(true);
    isRevoked = true;
    const delivery = await client.enqueue(batch(2));
    await until(() => !client.ready);
    isRevoked = false;
    expect((await delivery.result).success).toBe(true);
  });

  test("credentials that are wrong are said at once", async () => {
    const { server } = await flight(() => [UNAUTHENTICATED, "who are you"]);
    await using _ = server;
    const error = await failure(connect(server.url, { ...spool(), retry: { attempts: 1 } }));
    expect(error.code).toBe("UNAUTHENTICATED");
    // The spool is open to the next one.
    await using client = await connect("discard:", spool());
    expect(client.ready).toBe(true);
  });
});

describe("rows that the destination refuses", () => {
  test("a delivery that fails for its data is put aside whole, and the others go on", async () => {
    const heard: TransmissionResult[] = [];
    await using client = await connect(`delta:${path.join(home, "table")}`, {
      ...spool(),
      schema: new Schema([new Field("n", new Int32(), false)]),
      listeners: { onFailed: (result) => void heard.push(result) },
    });
    const good = await client.enqueue(batch(3));
    const bad = await client.enqueue(nullable());
    const later = await client.enqueue(batch(4));
    expect((await good.result).success).toBe(true);
    expect((await later.result).success).toBe(true);
    const result = await bad.result;
    expect(result.success).toBe(false);
    await client.flush();
    await client.close();
    const aside = path.join(
      home,
      "spool",
      "default",
      result.status === "partial" ? "dead-letters" : "failed",
    );
    expect(fs.readdirSync(aside).filter((name) => name.endsWith(".arrow"))).toHaveLength(1);
    expect(heard).toHaveLength(1);
  });
});

describe("a disk that fails", () => {
  test("refused rows that cannot be put aside stay in the log until they can, and nobody is told before", async () => {
    const folder = path.join(home, "spool", "default");
    fs.mkdirSync(folder, { recursive: true });
    // A file where the folder of failed deliveries should be.
    fs.writeFileSync(path.join(folder, "failed"), "");
    const lines: string[] = [];
    await using client = await connect(`delta:${path.join(home, "table")}`, {
      ...spool(),
      schema: new Schema([new Field("n", new Int32(), false)]),
      logger: { warn: (message) => void lines.push(message) },
    });
    const bad = await client.enqueue(nullable());
    let isTold = false;
    const told = bad.result.then((result) => {
      isTold = true;
      return result;
    });
    await until(() => lines.some((line) => line.includes("cannot be put aside")));
    expect(isTold).toBe(false);
    fs.rmSync(path.join(folder, "failed"));
    expect((await told).status).toBe("failed");
    // Each try that fails counts them.
    const { kept, failed } = client.stats().deadLetters;
    expect([kept, failed > 0, failed % 3]).toEqual([3, true, 0]);
  });

  test("bytes that cannot be read are set aside and counted, and what is behind them is delivered", async () => {
    const away = spool();
    {
      const client = await connect("grpc://127.0.0.1:1/a", away);
      for (let i = 0; i < 3; i++) await client.enqueue(batch(1_000, 1_000 * i));
      await client.close({ deadline: 0 });
    }
    const folder = path.join(home, "spool", "default");
    const [segment] = fs.readdirSync(folder).filter((name) => name.endsWith(".segment"));
    const bytes = fs.readFileSync(path.join(folder, segment!));
    const rows = Buffer.from(new Int32Array([1_500, 1_501]).buffer);
    const at = bytes.indexOf(rows);
    expect(at).toBeGreaterThan(0);
    bytes[at] = bytes[at]! ^ 1;
    fs.writeFileSync(path.join(folder, segment!), bytes);
    const lines: string[] = [];
    const client = await connect("grpc://127.0.0.1:1/a", {
      ...away,
      logger: { warn: (message) => void lines.push(message) },
    });
    await until(() => (client.stats().spool?.damagedBytes ?? 0) > 0);
    // The line comes by a later turn of the event loop than the count.
    await until(() => lines.some((line) => line.includes("cannot be read, and was set aside")));
    await until(() => client.stats().spool?.rows === 2_000);
    await client.close({ deadline: 0 });
  });
});

describe("one spool, one owner", () => {
  test("a second client is told who has it", async () => {
    await using _ = await connect("discard:", spool());
    const error = await failure(connect("discard:", spool()));
    expect(error).toMatchObject({ code: "SPOOL_LOCKED", retry: "never" });
    expect(error.message).toContain(String(process.pid));
    await using other = await connect("discard:", spool({ name: "other" }));
    expect((await other.send(batch(1))).success).toBe(true);
  });

  // The program that is being started has the lock's file open until it runs.
  test("a spool that was closed is free, however many programs the process starts meanwhile", async () => {
    const starts = `
      const { spawn } = require("node:child_process");
      const { parentPort } = require("node:worker_threads");
      const start = () => {
        const program = spawn(process.execPath, ["--version"], { stdio: "ignore" });
        // Too many processes, for a moment.
        program.on("error", () => setTimeout(start, 10));
        program.on("exit", () => (parentPort.postMessage("ended"), start()));
      };
      start(), start();
    `;
    const starting = new Worker(starts, { eval: true });
    let programs = 0;
    starting.on("message", () => programs++);
    const broken = new Promise<never>((_, reject) => starting.on("error", reject));
    broken.catch(() => {});
    let turns = 0;
    try {
      for (; programs < 50; turns++) {
        const client = await Promise.race([connect("discard:", spool()), broken]);
        await client.close();
      }
      expect(turns).toBeGreaterThan(5);
    } finally {
      await starting.terminate();
    }
  });

  test("options that have no effect on spooled deliveries are warned about, and wrong ones are refused", async () => {
    const lines: unknown[][] = [];
    await using _ = await connect("discard:", {
      ...spool(),
      retry: { attempts: 2, onExhausted: "stop", deadline: "1s" },
      logger: { warn: (...line) => void lines.push(line) },
    });
    const options = ["retry.attempts", "retry.deadline", "retry.onExhausted"];
    expect(lines).toContainEqual([expect.stringContaining("with a spool"), { options }]);
    const wrong = { directory: "", name: "../x", durability: "soon", maxBytes: "1KiB", dir: "x" } as object;
    const error = await failure(connect("discard:", { spool: wrong as { directory: string } }));
    const paths = error.issues.map((issue) => issue.path);
    expect(paths.sort()).toEqual(
      ["dir", "directory", "durability", "maxBytes", "name"].map((name) => `spool.${name}`),
    );
  });

  test("a full spool refuses what it has no room for, or lets it wait", async () => {
    const { server } = await flight(() => [UNAVAILABLE, "away"]);
    await using _ = server;
    {
      await using client = await connect(
        server.url,
        spool({ maxBytes: "256KiB", whenFull: "reject", name: "a" }),
      );
      const error = await fill(client);
      expect(error).toMatchObject({ code: "SPOOL_FULL", retry: "throttled" });
      const result = await client.send(batch(20_000));
      expect(result).toMatchObject({ status: "failed", errorCode: "SPOOL_FULL" });
      await client.close({ deadline: 0 });
    }
    await using client = await connect(server.url, spool({ maxBytes: "256KiB", name: "b" }));
    const waits = await Promise.race([
      fill(client),
      new Promise((resolve) => setTimeout(resolve, 500, "waits")),
    ]);
    expect(waits).toBe("waits");
    await client.close({ deadline: 0 });
  });

  test("a signal ends a send that waits for room in a full spool", async () => {
    const { server, stats } = await flight(() => (isAway ? [UNAVAILABLE, "away"] : undefined));
    let isAway = true;
    await using _ = server;
    await using client = await connect(server.url, spool({ maxBytes: "256KiB" }));
    await client.enqueue(batch(20_000));
    await client.enqueue(batch(20_000));
    const [first, second] = [new AbortController(), new AbortController()];
    const sent = client.send(batch(40_000), { signal: first.signal });
    const behind = client.send(batch(10), { signal: second.signal });
    second.abort();
    expect(await behind).toMatchObject({ status: "failed", errorCode: "ABORTED", acceptedRows: 0 });
    first.abort();
    expect(await sent).toMatchObject({ status: "failed", errorCode: "ABORTED", acceptedRows: 0 });
    isAway = false;
    expect(await client.send(batch(10))).toMatchObject({ status: "acknowledged" });
    expect(stats.puts).toBeGreaterThan(0);
  });
});

async function fill(client: IngestClient): Promise<unknown> {
  for (;;) {
    try {
      await client.enqueue(batch(5_000));
    } catch (error) {
      return error;
    }
  }
}

function nullable(): RecordBatch {
  return new Table({ n: vectorFromArray([1, null, 3], new Int32()) }).batches[0]!;
}

async function flight(judge: (call: Call) => Verdict) {
  const stats = { puts: 0 };
  const server = await FlightServer.start((call) => {
    if (call.method !== "DoPut") return judge(call);
    const verdict = judge(call);
    if (verdict === undefined) stats.puts++;
    return verdict;
  });
  return { server, stats };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

async function failure(promise: Promise<unknown>): Promise<IngestError> {
  return promise.then(
    () => {
      throw new Error("it did not reject");
    },
    (error) => error,
  );
}
