// a store that stalls, cuts connections and loses answers, seen through the public door:
// nothing is lost, nothing is there twice, nothing hangs, and of everything there is an outcome.
import * as fs from "node:fs";
import type { IncomingMessage } from "node:http";
import { MessageChannel, receiveMessageOnPort } from "node:worker_threads";
import { type Table, Utf8, vectorFromArray } from "apache-arrow";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { type ConnectOptions, connect, type TransmissionResult } from "../../dist/index.js";
import { tableOf } from "../ts/support/table.js";
import { Moto, Road } from "./support/moto.js";
import { describeWith, Peer, PYTHON } from "./support/peer.js";

let peer: Peer;
let moto: Moto;
let road: Road;
beforeAll(async () => {
  if (!fs.existsSync(PYTHON)) return;
  [moto, peer] = await Promise.all([Moto.start(), Peer.start()]);
});
beforeEach(async () => {
  if (moto) road = await Road.to(moto.endpoint);
});
afterEach(() => road?.[Symbol.asyncDispose]());
afterAll(async () => {
  await peer?.[Symbol.asyncDispose]();
  await moto?.[Symbol.asyncDispose]();
});

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);
const storage = (endpoint: string) => ({
  AWS_ENDPOINT_URL: endpoint,
  AWS_ALLOW_HTTP: "true",
  AWS_REGION: "us-east-1",
  AWS_ACCESS_KEY_ID: "someone",
  AWS_SECRET_ACCESS_KEY: "something",
});
const options = (): ConnectOptions => ({
  batching: { linger: 0 },
  delta: { commitInterval: "10ms", storage: storage(road.endpoint) },
  retry: { attempts: 10, baseDelay: "5ms", maxDelay: "50ms" },
});
const rows = (from: number, to: number): Table =>
  tableOf({
    id: BigInt64Array.from(range(from, to), BigInt),
    who: vectorFromArray(new Array(to - from).fill("us"), new Utf8()),
  });
const idsIn = async (target: string): Promise<number[]> => {
  const request = { path: target, column: "id", storage: storage(moto.endpoint) };
  return (await peer.ask<{ values: number[] }>("delta_rows", request)).values;
};
const isWrite = ({ method }: IncomingMessage): boolean => method === "PUT" || method === "POST";
async function until(truth: () => boolean): Promise<void> {
  for (let i = 0; !truth(); i++) {
    if (i > 1_000) throw new Error("waited for too long");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

describeWith(PYTHON, "R-13 R-17 a store that loses answers and cuts connections", () => {
  test("all rows are there once", async () => {
    const target = "s3://lake/lossy";
    let written = 0;
    const fates = new Set<string>();
    {
      await using client = await connect(`delta:${target}`, options());
      expect((await client.send(rows(0, 10))).error).toBeNull();
      road.fate = (request) => {
        if (!isWrite(request)) return "pass";
        written++;
        // Of files and of commits, in turn.
        const fate = written % 3 === 1 ? "lose answer" : written % 5 === 0 ? "refuse" : "pass";
        fates.add(`${fate} ${request.url?.includes("_delta_log") ? "log" : "file"}`);
        return fate;
      };
      for (let turn = 1; turn < 12; turn++) {
        const result = await client.send(rows(turn * 10, turn * 10 + 10));
        expect(result.status, result.error?.message).toBe("acknowledged");
      }
    }
    expect([...fates]).toEqual(
      expect.arrayContaining(["lose answer log", "lose answer file", "refuse file"]),
    );
    expect(await idsIn(target)).toEqual(range(0, 120));
  });
});

describeWith(PYTHON, "R-18 R-14 a store that stalls", () => {
  test("close keeps its deadline; what is left is unknown or failed, and somebody is told", async () => {
    const target = "s3://lake/stalled";
    const client = await connect(`delta:${target}`, options());
    expect((await client.send(rows(0, 1))).status).toBe("acknowledged");
    road.fate = (request) => (isWrite(request) ? "stall" : "pass");
    const read = await client.enqueue(rows(1, 2));
    const unread = await client.enqueue(rows(2, 3));
    await until(() => road.held > 0);
    const start = performance.now();
    const closing = client.close({ deadline: "300ms" });
    const result = await read.result;
    expect(["unknown", "failed"]).toContain(result.status);
    expect(result.error).toMatchObject({ code: "DEADLINE_EXCEEDED" });
    await expect(closing).rejects.toMatchObject({
      code: "UNDELIVERED",
      message: expect.stringContaining(String(unread.sequence)),
    });
    expect(performance.now() - start).toBeLessThan(5_000);
    expect(client.stats().deliveries.unsettled).toBe(0);
    expect(client.stats().pinned.bytes).toBe(0);
  });

  test("the error of the block and that of closing are both seen", async () => {
    const block = async (): Promise<void> => {
      await using client = await connect("delta:s3://lake/both", {
        ...options(),
        retry: { attempts: 1 },
      });
      expect((await client.send(rows(0, 1))).status).toBe("acknowledged");
      road.fate = (request) => (isWrite(request) ? "refuse" : "pass");
      await client.enqueue(rows(1, 2));
      throw new RangeError("of the block");
    };
    const error = (await block().catch((reason: unknown) => reason)) as SuppressedError;
    expect(error).toBeInstanceOf(SuppressedError);
    expect(error.error).toMatchObject({ code: "UNDELIVERED" });
    expect(error.suppressed).toMatchObject({ name: "RangeError", message: "of the block" });
  });

  test("an abort of what was written is unknown at once, while the rows arrive once", async () => {
    const target = "s3://lake/aborted";
    await using client = await connect(`delta:${target}`, options());
    expect((await client.send(rows(0, 1))).status).toBe("acknowledged");
    road.fate = (request) => (isWrite(request) ? "stall" : "pass");
    const abort = new AbortController();
    const sent = client.send(rows(1, 5), { signal: abort.signal });
    await until(() => road.held > 0);
    abort.abort();
    expect(await sent).toMatchObject({ status: "unknown", error: { code: "ABORTED" } });
    road.open();
    await client.flush();
    expect(await idsIn(target)).toEqual(range(0, 5));
  });

  test("R-11 enqueue waits for room in the budget, and goes on in order when there is some", async () => {
    const target = "s3://lake/pressed";
    await using client = await connect(`delta:${target}`, { ...options(), inflight: { maxBytes: "16KiB" } });
    expect((await client.send(rows(0, 1))).status).toBe("acknowledged");
    road.fate = (request) => (isWrite(request) ? "stall" : "pass");
    let admitted = 0;
    const enqueued = range(0, 20).map(async (turn) => {
      const delivery = await client.enqueue(rows(1_000 + turn * 100, 1_100 + turn * 100));
      admitted++;
      return [turn, await delivery.result] as const;
    });
    await until(() => road.held > 0);
    await new Promise((resolve) => setTimeout(resolve, 100));
    const { deliveries, bytes } = client.stats();
    expect(admitted).toBeLessThan(20);
    expect(deliveries.waiting).toBe(20 - admitted);
    expect(bytes.inFlight).toBeLessThanOrEqual(16 * 1024);
    road.open();
    const results = await Promise.all(enqueued);
    const sequences = results.map(([, result]) => result.sequence);
    expect(sequences).toEqual([...sequences].sort((a, b) => Number(a - b)));
    expect(results.every(([, { status }]) => status === "acknowledged")).toBe(true);
    expect((await idsIn(target)).length).toBe(2_001);
  });
});

describeWith(PYTHON, "R-31 results of real deliveries", () => {
  test("good and bad ones survive structuredClone and the way to another thread", async () => {
    await using client = await connect("delta:s3://lake/cloned", options());
    const results: TransmissionResult[] = [
      await client.send(rows(0, 3)),
      await client.send(tableOf({ other: Float32Array.of(1) })),
      await client.send(new Uint8Array(20)),
    ];
    expect(results.map(({ status }) => status)).toEqual(["acknowledged", "failed", "failed"]);
    for (const result of results) {
      const clone = structuredClone(result);
      const { port1, port2 } = new MessageChannel();
      port1.postMessage(result);
      const sent = receiveMessageOnPort(port2)!.message as TransmissionResult;
      port1.close();
      for (const copy of [clone, sent]) {
        for (const key of [
          "status",
          "success",
          "sequence",
          "rows",
          "attempts",
          "position",
          "timings",
        ] as const)
          expect(copy[key], key).toEqual(result[key]);
        expect(copy.error?.message).toBe(result.error?.message);
        expect(result.equals(copy)).toBe(true);
      }
      expect(JSON.parse(JSON.stringify(result))).toMatchObject({ sequence: String(result.sequence) });
    }
  });
});
