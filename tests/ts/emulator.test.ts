// an emulator from TypeScript: it listens, tells what happens, fails on request, and ends well.
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as https from "node:https";
import * as os from "node:os";
import * as path from "node:path";
import { Worker } from "node:worker_threads";
import { tableFromArrays } from "apache-arrow";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  ConfigError,
  connect,
  type EmulatorEvent,
  type EmulatorOptions,
  IngestError,
  startEmulator,
} from "../../dist/index.js";

const TABLE = "main.default.events";
const COLUMNS = [{ name: "id", type: "BIGINT", nullable: false }];

let home = "";
beforeEach(() => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-emulator-"));
});
afterEach(() => {
  fs.rmSync(home, { recursive: true, force: true });
});

/** A token for the table API, as `curl` would ask for it. */
function token(url: string, user = "me:secret"): Promise<Response> {
  return fetch(`${url}/oidc/v1/token`, {
    method: "POST",
    headers: { authorization: `Basic ${Buffer.from(user).toString("base64")}` },
    body: new URLSearchParams({ grant_type: "client_credentials", scope: "all-apis" }),
  });
}

const failure = (promise: Promise<unknown>): Promise<IngestError> =>
  promise.then(
    () => expect.fail("it did not fail"),
    (error: IngestError) => error,
  );

describe("R-23 startEmulator", () => {
  test("serves tokens and tables on a free port, and tells of each as an event and a line", async () => {
    const events: EmulatorEvent[] = [];
    const onEvent = (event: EmulatorEvent) => void events.push(event);
    await using emulator = await startEmulator({ lake: home, tables: { [TABLE]: COLUMNS }, onEvent });
    const { unityCatalogUrl, clientId, clientSecret } = emulator.options.zerobus;
    expect(emulator.options).toEqual({ zerobus: { unityCatalogUrl, clientId, clientSecret } });
    expect(emulator.url(TABLE)).toBe(`${unityCatalogUrl.replace("http", "zerobus+http")}/${TABLE}`);
    expect(fs.existsSync(path.join(home, "main/default/events/_delta_log"))).toBe(true);

    const reply = await token(unityCatalogUrl, `${clientId}:${clientSecret}`);
    const { access_token } = (await reply.json()) as { access_token: string };
    const described = await fetch(`${unityCatalogUrl}/api/2.1/unity-catalog/tables/${TABLE}`, {
      headers: { authorization: `Bearer ${access_token}` },
    });
    expect(await described.json()).toMatchObject({ columns: [{ name: "id" }] });
    expect(await emulator.summary()).toMatchObject({ streams: 0, tokensIssued: 1, faultsFired: 0 });

    await emulator.close();
    expect(events.map(({ event }) => event)).toEqual([
      "tableCreated",
      "listening",
      "tokenIssued",
      "tableRead",
      "stopped",
    ]);
    expect(events[1]).toMatchObject({
      tls: false,
      line: expect.stringMatching(/^listening on 127\.0\.0\.1:\d+/),
    });
    expect(JSON.stringify(events)).not.toContain(access_token);
  });

  test("takes streams, and counts what became of them", async () => {
    const events: string[] = [];
    const onEvent = ({ event }: EmulatorEvent) => void events.push(event);
    await using emulator = await startEmulator({ tokens: ["given"], onEvent });
    const headers = { authorization: "Bearer given", "x-databricks-zerobus-table-name": TABLE };
    const target = emulator.options.zerobus.unityCatalogUrl.replace("http", "grpc");
    // A plain Flight client does not number its batches, which Zerobus wants: opened, and then refused.
    await using client = await connect(`${target}/x`, { headers, retry: { attempts: 1 } });
    const result = await client.send(tableFromArrays({ id: BigInt64Array.of(1n, 2n) }));
    expect(result.success).toBe(false);
    await client.close();
    await emulator.close();
    expect(events).toContain("streamOpened");
    expect(events).toContain("streamClosed");
    const summary = await emulator.summary();
    expect(summary.streams).toBeGreaterThan(0);
    expect(summary.tables[TABLE]).toMatchObject({ rowsDurable: 0, rowsAcknowledged: 0, commits: 0 });
    expect(await emulator.rows(TABLE)).toBe(0);
    expect(await emulator.rows("no.such.table")).toBe(0);
  });

  test.each([false, true])("R-22 is reached by connect with its url and options, tls %s", async (tls) => {
    await using emulator = await startEmulator({ lake: home, tls, faults: ["rotate:after=10rows,grace=1m"] });
    await using client = await connect(emulator.url(TABLE), emulator.options);
    for (let turn = 0; turn < 5; turn++) {
      const result = await client.send(tableFromArrays({ id: BigInt64Array.from([1n, 2n, 3n, 4n]) }));
      expect(result.orThrow().rows).toBe(4);
    }
    expect(await emulator.rows(TABLE)).toBe(20);
    expect(await emulator.summary()).toMatchObject({ faultsFired: 1 });
  });

  test("fails on request, from the start and later", async () => {
    await using emulator = await startEmulator({ faults: ["token:status=503"] });
    const url = emulator.options.zerobus.unityCatalogUrl;
    expect((await token(url)).status).toBe(503);
    expect((await token(url)).status).toBe(200);
    emulator.addFault("token:status=502");
    emulator.addFault({ kind: "token", status: 500 });
    expect([(await token(url)).status, (await token(url)).status].sort()).toEqual([500, 502]);
    expect((await emulator.summary()).faultsFired).toBe(3);
    const wrong: unknown[] = ["rotat:after=1", { kind: "token", statu: 500 }];
    for (const fault of wrong) expect(() => emulator.addFault(fault as string)).toThrow(ConfigError);
  });

  test("knows only the client that it was told of", async () => {
    await using emulator = await startEmulator({ clientId: "me", clientSecret: "hush" });
    const { unityCatalogUrl, ...credentials } = emulator.options.zerobus;
    expect(credentials).toEqual({ clientId: "me", clientSecret: "hush" });
    expect((await token(unityCatalogUrl, "me:hush")).status).toBe(200);
    expect((await token(unityCatalogUrl, "me:else")).status).toBe(401);
  });

  test("with TLS its authority comes with the options", async () => {
    await using emulator = await startEmulator({ tls: true });
    const { tls, zerobus } = emulator.options;
    expect(emulator.url(TABLE)).toMatch(/^zerobus:\/\/localhost:\d+\/main\.default\.events$/);
    const status = await new Promise((resolve, reject) => {
      const address = `${zerobus.unityCatalogUrl}/api/2.1/unity-catalog/tables/${TABLE}`;
      https.get(address, { ca: tls!.ca }, ({ statusCode }) => resolve(statusCode)).on("error", reject);
    });
    expect(status).toBe(401);
  });

  test.each([
    ["::1", true],
    ["::1", false],
    ["::", true],
    ["0.0.0.0", true],
    ["127.0.0.2", true],
  ])("R-22 on %s, TLS %s, its URLs are ones that it answers to", async (host, tls) => {
    await using emulator = await startEmulator({ host, tls });
    await using client = await connect(emulator.url(TABLE), { ...emulator.options, retry: { attempts: 1 } });
    const result = await client.send(tableFromArrays({ id: BigInt64Array.of(1n, 2n) }));
    expect(result.orThrow()).toMatchObject({ status: "acknowledged", rows: 2 });
  });

  test("R-23 where tables are declared, a name that is misspelt is NOT_FOUND and no table", async () => {
    const rows = tableFromArrays({ id: BigInt64Array.of(1n, 2n) });
    const tables = { [TABLE]: [{ name: "id", type: "BIGINT" }] };
    for (const autoCreate of [undefined, true]) {
      await using emulator = await startEmulator({
        tables,
        ...(autoCreate === undefined ? {} : { autoCreate }),
      });
      const given = { ...emulator.options, retry: { attempts: 1 } };
      await using client = await connect(emulator.url(`${TABLE}_`), given);
      const result = await client.send(rows);
      expect(result.errorCode).toBe(autoCreate === true ? null : "NOT_FOUND");
      await using other = await connect(emulator.url(TABLE), given);
      expect((await other.send(rows)).status).toBe("acknowledged");
      expect(Object.keys((await emulator.summary()).tables)).toEqual(
        autoCreate === true ? [TABLE, `${TABLE}_`] : [TABLE],
      );
    }
  });

  test("R-33 all mistakes are told at once, and nothing is left behind", async () => {
    const options = { port: 70_000, lak: "x", faults: ["nonsense"], clientSecret: "hush" };
    const error = await failure(startEmulator(options as EmulatorOptions));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.issues.map(({ path }) => path).sort()).toEqual([
      "clientSecret",
      "faults[0].kind",
      "lak",
      "port",
    ]);
    expect(error.message).not.toContain("hush");
    const deaf = await failure(startEmulator({ onEvent: "loud" } as unknown as EmulatorOptions));
    expect(deaf.issues).toMatchObject([{ path: "onEvent" }]);
  });

  test("a port that is taken is UNAVAILABLE", async () => {
    await using first = await startEmulator();
    const port = Number(new URL(first.options.zerobus.unityCatalogUrl).port);
    expect(await failure(startEmulator({ port }))).toMatchObject({ code: "UNAVAILABLE" });
  });

  test("closing gives the port back; what it did can still be asked, and nothing else", async () => {
    const emulator = await startEmulator();
    const url = emulator.options.zerobus.unityCatalogUrl;
    await token(url);
    const closes = [emulator.close(), emulator.close()];
    // Asked in the midst of it.
    expect(await emulator.summary()).toMatchObject({ tokensIssued: 1 });
    await Promise.all(closes);
    await emulator[Symbol.asyncDispose]();
    expect(await emulator.summary()).toMatchObject({ tokensIssued: 1 });
    expect(() => emulator.addFault("token")).toThrow(IngestError);
    await expect(fetch(url)).rejects.toThrow();
    await using again = await startEmulator({ port: Number(new URL(url).port) });
    expect(again.options.zerobus.unityCatalogUrl).toBe(url);
  });

  test("a listener that throws ends nothing", async () => {
    let told = 0;
    await using emulator = await startEmulator({
      onEvent() {
        told++;
        throw new Error("a log that is full");
      },
    });
    expect((await token(emulator.options.zerobus.unityCatalogUrl)).status).toBe(200);
    await emulator.close();
    expect(told).toBe(3);
  });
});

describe("R-04 R-18 an emulator and the end", () => {
  const index = new URL("../../dist/index.js", import.meta.url).href;
  const child = (code: string) => {
    const source = `import { startEmulator } from ${JSON.stringify(index)};\n${code}`;
    const { status, signal, stderr, stdout } = spawnSync(
      process.execPath,
      ["--input-type=module", "-e", source],
      { encoding: "utf8", timeout: 50_000 },
    );
    expect({ status, signal }, stderr).toEqual({ status: 0, signal: null });
    return stdout.trim();
  };

  test("a forgotten one keeps no process", () => {
    const code = `const emulator = await startEmulator({ onEvent() {} }); console.log(emulator.url(""));`;
    expect(child(code)).toMatch(/^zerobus\+http/);
  });

  test("one that is asked something is waited for", () => {
    const code = `const emulator = await startEmulator(); emulator.close().then(() => console.log("closed"));`;
    expect(child(code)).toBe("closed");
  });

  test("process.exit with some that run, start and close is an end like any other", () => {
    child(`
      const running = await Promise.all([1, 2, 3].map(() => startEmulator({ onEvent() {} })));
      running[0].close();
      startEmulator({ onEvent() {} });
      process.exit(0);
    `);
  });

  test("a worker that is terminated takes its emulators along", async () => {
    const ports = new Set<string>();
    for (let turn = 0; turn < 5; turn++) {
      const code = `
        import { parentPort } from "node:worker_threads";
        const { startEmulator } = await import(${JSON.stringify(index)});
        startEmulator({ onEvent() {} });
        const emulator = await startEmulator({ onEvent() {} });
        parentPort.postMessage(emulator.options.zerobus.unityCatalogUrl);
        setInterval(() => {}, 1000);
      `;
      const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`));
      const url = await new Promise<string>((resolve, reject) => {
        worker.once("message", resolve);
        worker.once("error", reject);
      });
      // Events come in while it ends.
      const asked = Array.from({ length: 20 }, () => token(url).catch(() => null));
      await worker.terminate();
      await Promise.all(asked);
      ports.add(url);
    }
    for (const url of ports)
      await expect.poll(() => fetch(url).catch(() => "gone"), { timeout: 20_000 }).toBe("gone");
  });
});
