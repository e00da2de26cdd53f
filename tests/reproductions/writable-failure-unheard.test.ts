// Symptom: a stream of writable() was aborted, or broke, and deliveries of it that failed afterwards were told to
// nobody: close() of the client settled as if all had arrived.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { tableFromArrays } from "apache-arrow";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type ConnectOptions, connect } from "../../dist/index.js";
import { FlightServer, UNAVAILABLE } from "../ts/support/flight-server.js";

let home = "";
beforeEach(() => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-"));
});
afterEach(() => fs.rmSync(home, { recursive: true, force: true }));

const patient: ConnectOptions = { batching: { linger: "1h" }, delta: { commitInterval: "1h" } };
const good = () => tableFromArrays({ n: Int32Array.of(1) });
const wrong = () => tableFromArrays({ n: ["no number"] });

/** A client whose table holds numbers, and nothing of it is written before it is flushed or closed. */
async function open(options: ConnectOptions = {}) {
  const client = await connect(`delta:${home}/table`, { ...patient, ...options });
  (await client.send(good())).orThrow();
  return client;
}

test("R-30 a delivery that fails after its stream was aborted makes close reject", async () => {
  const client = await open();
  const writer = client.writable().getWriter();
  await writer.write(wrong());
  await writer.abort(new Error("enough"));
  await expect(client.close()).rejects.toMatchObject({ code: "UNDELIVERED" });
});

test("R-30 a delivery that fails after its stream broke makes close reject", async () => {
  const client = await open();
  const writer = client.writable().getWriter();
  writer.closed.catch(() => {});
  await writer.write(wrong());
  await expect(writer.write(42 as never)).rejects.toMatchObject({ code: "BATCH_INVALID" });
  await expect(client.close()).rejects.toMatchObject({ code: "UNDELIVERED" });
});

test("R-30 what a stream that lives failed with has been told", async () => {
  const client = await open();
  const writer = client.writable().getWriter();
  writer.closed.catch(() => {});
  await writer.write(wrong());
  await client.flush();
  await expect(writer.write(good())).rejects.toMatchObject({ code: "SCHEMA_MISMATCH" });
  await client.close();
});

test("R-18 aborting a stream takes back what waits for room", async () => {
  // A server that is away: what was admitted stays, and so the other one waits for as long as it likes.
  await using server = await FlightServer.start(({ method }) =>
    method === "DoPut" ? [UNAVAILABLE, "away"] : undefined,
  );
  const retry = { attempts: 1_000_000, baseDelay: "10s", maxDelay: "10s", deadline: "1h" } as const;
  const client = await connect(server.url, { retry, inflight: { maxBytes: 1 } });
  const writer = client.writable().getWriter();
  writer.closed.catch(() => {});
  await writer.write(good());
  const waits = writer.write(good());
  await expect.poll(() => client.stats().deliveries.waiting, { timeout: 20_000 }).toBe(1);
  const aborted = writer.abort(new Error("enough"));
  await expect(waits).rejects.toThrow("enough");
  await aborted;
  expect(client.stats().deliveries).toMatchObject({ admitted: 1, waiting: 0, unsettled: 1 });
  await expect(client.close({ deadline: 100 })).rejects.toMatchObject({ code: "UNDELIVERED" });
});
