// what only IPC bytes can carry (run ends, list views, narrow and wide decimals, delta dictionaries,
// compressed bodies, …) crosses as bytes, as pyarrow wrote it, and is what it was.
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect } from "../../dist/index.js";
import { Echo, MODES, PAYLOADS } from "../ts/support/echo.js";
import { base64, describeWith, Peer, PYTHON } from "./support/peer.js";

const echo = new Echo();
let peer: Peer;
let streams: { name: string; bytes: Uint8Array<ArrayBuffer> }[];

describeWith(PYTHON, "R-02 R-03 what only bytes carry", () => {
  beforeAll(async () => {
    peer = await Peer.start();
    const made = await peer.ask<{ name: string; bytes: string }[]>("exotic_streams", {});
    // Not Buffers: small ones lie in Node's pool, which cannot be pinned.
    streams = made.map(({ name, bytes }) => ({ name, bytes: Uint8Array.from(Buffer.from(bytes, "base64")) }));
  });
  afterAll(async () => {
    await peer[Symbol.asyncDispose]();
    echo[Symbol.dispose]();
  });

  test("by every way, equal to what pyarrow wrote, metadata included", async () => {
    expect(streams.length).toBeGreaterThan(60);
    const wrong: string[] = [];
    const pairs: { name: string; left: string; right: string[] }[] = [];
    for (const { name, bytes } of streams)
      for (const mode of MODES)
        for (const computed of PAYLOADS)
          try {
            const right = echo.echo(bytes, mode, computed).streams.map(base64);
            pairs.push({ name: `${name} by ${mode}`, left: base64(bytes), right });
          } catch (error) {
            wrong.push(`${name}: ${(error as Error).message}`);
          }
    const answers = await peer.ask<(string | null)[]>("compare", { pairs });
    for (const [index, answer] of answers.entries())
      if (answer !== null) wrong.push(`${pairs[index]!.name}: ${answer}`);
    expect([...new Set(wrong)]).toEqual([]);
  });

  test("sent at once, all are acknowledged, and the result says that they came as bytes", async () => {
    await using client = await connect("discard:", { batching: { linger: "1ms" } });
    const results = await Promise.all(streams.map(({ bytes }) => client.send(bytes)));
    for (const [index, result] of results.entries())
      expect(result, `${streams[index]!.name}: ${result.error?.message}`).toMatchObject({
        status: "acknowledged",
        handoff: "ipc",
        handoffReason: "ipc: the batch was given as Arrow IPC",
      });
  });
});
