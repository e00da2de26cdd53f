// however a process or a worker ends, what was on the disk is delivered by the next client.
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { connect, type IngestClient, type IngestError } from "../../dist/index.js";

const child = path.join(process.cwd(), "tests/faults/children/spooling.mjs");
let home = "";
beforeEach(() => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-life-"));
});
afterEach(() => {
  fs.rmSync(home, { recursive: true, force: true });
});

describe("what was enqueued outlives", () => {
  test.each([
    ["process.exit", "exit", 0, null],
    ["an uncaught exception", "throw", 1, null],
    ["SIGKILL", "kill", null, "SIGKILL"],
    ["a handler of SIGTERM that closes at once", "sigterm", 0, null],
    ["the end of a worker", "worker", 0, null],
  ] as const)("%s", async (_, way, code, signal) => {
    const ended = await run(way);
    expect(ended.output).toContain("SPOOLED 6");
    expect(ended, ended.output).toMatchObject({ code, signal });
    if (way === "sigterm") expect(ended.output).toContain("CLOSED");
    const client = await reopen();
    const { recovered } = client;
    expect(recovered?.rows).toBeGreaterThanOrEqual(6);
    expect(recovered?.rows).toBeLessThanOrEqual(7);
    expect(recovered?.oldestMs).toBeGreaterThanOrEqual(0);
    await client.close({ deadline: 0 });
  });

  test("a process that has nothing to do but to deliver ends by itself when it is told to close", async () => {
    const client = await reopen();
    const delivery = await client.enqueue({ n: Int32Array.of(1) });
    await client.close({ deadline: 0 });
    expect((await delivery.result).status).toBe("spooled");
  });
});

/** The lock of a worker that was terminated is let go of when its writer has ended. */
async function reopen(): Promise<IngestClient> {
  for (;;) {
    try {
      return await connect("grpc://127.0.0.1:1/a", {
        spool: { directory: home },
        retry: { baseDelay: 5, maxDelay: 20 },
      });
    } catch (error) {
      if ((error as IngestError).code !== "SPOOL_LOCKED") throw error;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

function run(way: string): Promise<{ code: number | null; signal: string | null; output: string }> {
  const running = spawn(process.execPath, [child, way, home], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [running.stdout, running.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  return new Promise((resolve, reject) => {
    running.on("error", reject);
    running.on("close", (code, signal) => resolve({ code, signal, output }));
  });
}
