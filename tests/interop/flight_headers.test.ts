// tokens that a pyarrow Flight server takes for expired are asked for anew, and every row is there once.
import { type ChildProcess, spawn } from "node:child_process";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { inspect } from "node:util";
import { afterEach, expect, test } from "vitest";
import { connect, type HeadersRequest } from "../../dist/index.js";
import { tableOf } from "../ts/support/table.js";
import { describeWith, PYTHON } from "./support/peer.js";

const STREAMS = 3;
const SENT = 20;

describeWith(PYTHON, "R-34 a pyarrow Flight server whose tokens expire", () => {
  let server: ChildProcess | undefined;
  afterEach(() => server?.kill());

  async function start(): Promise<string> {
    const script = path.join(import.meta.dirname, "flight_tokens.py");
    server = spawn(PYTHON, [script, "--streams", String(STREAMS)], { stdio: ["ignore", "pipe", "inherit"] });
    const lines = createInterface({ input: server.stdout! });
    return await new Promise((resolve) => lines.once("line", resolve));
  }

  /** What the server kept. */
  async function state(port: string): Promise<{ ids: number[]; refused: number }> {
    const code = `
import sys, pyarrow.flight as flight
for result in flight.connect("grpc://127.0.0.1:" + sys.argv[1]).do_action(flight.Action("state", b"")):
    print(result.body.to_pybytes().decode())
`;
    const child = spawn(PYTHON, ["-c", code, port], { stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (chunk) => {
      text += chunk;
    });
    await new Promise((resolve) => child.on("close", resolve));
    return JSON.parse(text) as { ids: number[]; refused: number };
  }

  const ids = (from: number, count: number) =>
    tableOf({ id: Int32Array.from({ length: count }, (_, i) => from + i) });
  const options = {
    batching: { linger: 0 },
    flight: { commitInterval: "1h" },
    retry: { attempts: 4, baseDelay: 1 },
  } as const;

  test("R-13 the callback is asked again, and everything is delivered once, in order", async () => {
    const port = await start();
    let token = 0;
    const reasons: string[] = [];
    const headers = async ({ reason }: HeadersRequest) => {
      reasons.push(reason);
      if (reason === "unauthenticated") token++;
      return { authorization: `Bearer token-${token}` };
    };
    {
      await using client = await connect(`grpc://127.0.0.1:${port}/x`, { ...options, headers });
      for (let turn = 0; turn < SENT; turn++) {
        // Each flush ends a stream, and the next one is another call: every third meets a token that is gone.
        const delivery = await client.enqueue(ids(turn * 100, 100));
        await client.flush();
        expect((await delivery.result).orThrow().acceptedRows).toBe(100);
      }
    }
    const kept = await state(port);
    expect(kept.ids).toEqual(Array.from({ length: SENT * 100 }, (_, id) => id));
    expect(kept.refused).toBe(token);
    expect(token).toBe(Math.ceil(SENT / STREAMS) - 1);
    expect(reasons.filter((reason) => reason === "unauthenticated").length).toBe(token);
  });

  test("R-32 a token that stays wrong is UNAUTHENTICATED after all tries, and is not shown", async () => {
    const port = await start();
    let asked = 0;
    const headers = async () => {
      asked++;
      return { authorization: "Bearer f0rged-token" };
    };
    const failed = connect(`grpc://127.0.0.1:${port}/x`, { ...options, headers });
    const error = await failed.then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(error).toMatchObject({ code: "UNAUTHENTICATED", retry: "reauthenticate", attempts: 4 });
    expect(inspect(error, { depth: 9 })).not.toContain("f0rged");
    expect(asked).toBe(4);
    expect(await state(port)).toEqual({ ids: [], refused: 4 });
  });
});
