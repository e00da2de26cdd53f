// R-34 R-40: the caller's functions run in the context in which `connect` was called.
import { AsyncLocalStorage } from "node:async_hooks";
import { tableFromArrays } from "apache-arrow";
import { expect, test } from "vitest";
import { connect, startEmulator } from "../../dist/index.js";

const storage = new AsyncLocalStorage<string>();
const TABLE = "main.test.events";
const rows = () => tableFromArrays({ id: BigInt64Array.of(1n, 2n, 3n) });

test("R-34 listeners, the header provider, retry.when and the logger see what the caller's AsyncLocalStorage held", async () => {
  await using emulator = await startEmulator({
    tokens: ["good"],
    faults: [
      "close:status=INTERNAL,after=1rows",
      { kind: "reject", column: "id", equals: 9, times: "always" },
    ],
  });
  const seen: Record<string, Set<string | undefined>> = {};
  const note = (what: string): void => {
    seen[what] ??= new Set();
    seen[what].add(storage.getStore());
  };
  const client = await storage.run("caller", () =>
    connect(emulator.url(TABLE), {
      zerobus: { unityCatalogUrl: emulator.options.zerobus.unityCatalogUrl },
      batching: { linger: 0 },
      quarantine: false,
      headers: async () => {
        note("headers");
        await new Promise(setImmediate);
        note("headers, later");
        return { authorization: "Bearer good" };
      },
      retry: {
        baseDelay: 1,
        when: () => {
          note("when");
          throw new Error("no verdict");
        },
      },
      listeners: { onAcknowledged: () => note("onAcknowledged"), onFailed: () => note("onFailed") },
      logger: { warn: () => note("logger") },
    }),
  );
  await storage.run("sender", async () => {
    expect((await client.send(rows())).status).toBe("acknowledged");
    expect((await client.send(tableFromArrays({ id: BigInt64Array.of(9n) }))).status).toBe("failed");
  });
  await client.close();
  const caller = new Set(["caller"]);
  expect(seen).toEqual({
    headers: caller,
    "headers, later": caller,
    when: caller,
    logger: caller,
    onAcknowledged: caller,
    onFailed: caller,
  });
});
