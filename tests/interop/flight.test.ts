// what is sent to an Arrow Flight server that nobody here wrote arrives equal, row for row (pyarrow).
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { RecordBatchStreamWriter, type Table, tableFromArrays } from "apache-arrow";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect } from "../../dist/index.js";
import { cases } from "./support/golden.js";
import { describeWith, goldenRoot, Peer, PYTHON, testWith } from "./support/peer.js";

const script = path.join(import.meta.dirname, "flight_server.py");

describeWith(PYTHON, "R-21 a pyarrow Flight server", () => {
  let server: ChildProcess;
  let peer: Peer;
  let port: string;
  let folder: string;

  beforeAll(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-flight-"));
    server = spawn(PYTHON, [script, "--answers", "part"], { stdio: ["ignore", "pipe", "inherit"] });
    const lines = createInterface({ input: server.stdout! });
    port = await new Promise((resolve) => lines.once("line", resolve));
    peer = await Peer.start();
  });

  afterAll(async () => {
    server.kill();
    await peer[Symbol.asyncDispose]();
    fs.rmSync(folder, { recursive: true });
  });

  /** Asks the server whether what it has under `name` equals the stream in `file`. */
  async function compare(name: string, file: string): Promise<string> {
    const request = { location: `grpc://127.0.0.1:${port}`, action: "compare", body: `${name}\n${file}` };
    const [answer] = await peer.ask<[string]>("flight_act", request);
    return answer;
  }

  function stream(name: string, table: Table): string {
    const file = path.join(folder, name);
    fs.writeFileSync(file, RecordBatchStreamWriter.writeAll(table).toUint8Array(true));
    return file;
  }

  test.each(["stream", "part"] as const)(
    "R-14 acknowledged by %s: every row arrives, once",
    async (acknowledgement) => {
      const table = tableFromArrays({
        id: Int32Array.from({ length: 100_000 }, (_, row) => row),
        price: Float64Array.from({ length: 100_000 }, (_, row) => row / 7),
      });
      // The library's own writer says of these columns that they cannot be null, so they cross as they are.
      const name = `sums/${acknowledgement}`;
      {
        await using client = await connect(`grpc://127.0.0.1:${port}/${name}`, {
          flight: { acknowledgement },
        });
        await client.check();
        const half = table.numRows / 2;
        const deliveries = [
          await client.enqueue(table.slice(0, half)),
          await client.enqueue(table.slice(half, table.numRows)),
        ];
        await client.flush();
        for (const delivery of deliveries) {
          const result = await delivery.result;
          expect(result).toMatchObject({ status: "acknowledged", rows: half, handoff: "pinned" });
        }
      }
      expect(await compare(name, stream("sums", table))).toBe("equal");
    },
  );

  test("R-66 what the server has under a path is what client.schema() says", async () => {
    const table = tableFromArrays({ id: Int32Array.of(1), price: Float64Array.of(0.5) });
    await using client = await connect(`grpc://127.0.0.1:${port}/described`);
    expect(await client.schema()).toBeNull();
    await client.send(table);
    await client.flush();
    const schema = await client.schema();
    expect(schema?.fields.map(({ name, type }) => `${name} ${type}`)).toEqual(["id Int32", "price Float64"]);
  });

  testWith(goldenRoot, "R-03 golden IPC streams arrive equal", async () => {
    const streams = cases((folder) => folder.includes("littleendian")).filter(({ name }) =>
      name.endsWith(".stream"),
    );
    expect(streams.length).toBeGreaterThan(10);
    let sent = 0;
    for (const { name, bytes } of streams) {
      const target = `golden/${path.basename(name, ".stream")}`;
      await using client = await connect(`grpc://127.0.0.1:${port}/${target}`, {
        batching: { linger: 0 },
        flight: { dictionaries: "keep", commitInterval: "20ms" },
      });
      const result = await client.send(bytes);
      expect(result.status, `${name}: ${result.error?.message}`).toBe("acknowledged");
      // Nothing is sent of a stream without rows, so the server has nothing to compare.
      if (result.rows === 0) continue;
      await client.flush();
      const file = path.join(folder, "golden.stream");
      fs.writeFileSync(file, bytes);
      expect(await compare(target, file), name).toBe("equal");
      sent++;
    }
    expect(sent).toBeGreaterThan(10);
  });

  test("R-32 a server that is not there is UNAVAILABLE, after as many tries as asked for", async () => {
    const failed = connect("grpc://127.0.0.1:1/x", { retry: { attempts: 2, baseDelay: 1 } });
    await expect(failed).rejects.toMatchObject({ code: "UNAVAILABLE", attempts: 2 });
  });
});
