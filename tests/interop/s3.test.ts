// several of our clients and a Python writer at one table in S3 (as moto plays it), all rows once;
// and what the store is told in confidence is told to nobody else.
import * as fs from "node:fs";
import { inspect } from "node:util";
import { type Table, Utf8, vectorFromArray } from "apache-arrow";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect, type DeltaOptions, IngestError } from "../../dist/index.js";
import { tableOf } from "../ts/support/table.js";
import { freePort, Moto } from "./support/moto.js";
import { describeWith, Peer, PYTHON } from "./support/peer.js";

const SECRET = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY";
const TOKEN = "a-session-token-that-nobody-may-see";
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

let peer: Peer;
let moto: Moto;
let endpoint: string;

beforeAll(async () => {
  if (!fs.existsSync(PYTHON)) return;
  [moto, peer] = await Promise.all([Moto.start(), Peer.start()]);
  endpoint = moto.endpoint;
});
afterAll(async () => {
  await peer?.[Symbol.asyncDispose]();
  await moto?.[Symbol.asyncDispose]();
});

const storage = () => ({
  AWS_ENDPOINT_URL: endpoint,
  AWS_ALLOW_HTTP: true,
  AWS_REGION: "us-east-1",
  AWS_ACCESS_KEY_ID: "AKIAIOSFODNN7EXAMPLE",
  AWS_SECRET_ACCESS_KEY: SECRET,
  AWS_SESSION_TOKEN: TOKEN,
});
const asPython = () => ({
  ...Object.fromEntries(Object.entries(storage()).map(([name, value]) => [name, String(value)])),
  AWS_CONDITIONAL_PUT: "etag",
});
const options = (delta: DeltaOptions = {}) => ({
  batching: { linger: 0 },
  delta: { commitInterval: "20ms", storage: storage(), ...delta } as DeltaOptions,
});

function rows(from: number, to: number): Table {
  const ids = BigInt64Array.from(range(from, to), BigInt);
  return tableOf({ id: ids, who: vectorFromArray(new Array(to - from).fill("us"), new Utf8()) });
}

describeWith(PYTHON, "R-20 a table in S3", () => {
  test("four of our clients and Python at once: all rows once", async () => {
    const target = "s3://lake/crowd";
    const clients = await Promise.all(range(0, 4).map(() => connect(`delta:${target}`, options())));
    // Python's writer cannot lose a race for the creation of a table.
    expect((await clients[0]!.send(rows(60_000, 60_001))).error).toBeNull();
    const ours = clients.map(async (client, which) => {
      for (let turn = 0; turn < 6; turn++) {
        const start = which * 1_000 + turn * 10;
        const result = await client.send(rows(start, start + 10));
        expect(result.error).toBeNull();
        expect(result).toMatchObject({ status: "acknowledged", position: { kind: "version" } });
      }
    });
    const theirs = peer.ask("delta_append", {
      path: target,
      start: 50_000,
      count: 5,
      times: 5,
      storage: asPython(),
    });
    await Promise.all([...ours, theirs]);
    await Promise.all(clients.map((client) => client.close()));
    const read = await peer.ask<{ values: number[]; polars: number[] }>("delta_rows", {
      path: target,
      column: "id",
      storage: asPython(),
    });
    const expected = [
      ...range(0, 4).flatMap((which) => range(which * 1_000, which * 1_000 + 60)),
      ...range(50_000, 50_025),
      60_000,
    ];
    expect(read.values).toEqual(expected);
    expect(read.polars).toEqual(expected);
  });

  test("partitions and checkpoints in the store are read by others", async () => {
    const target = "s3://lake/deep/er/table";
    await using client = await connect(`delta:${target}`, options({ partitionBy: ["who"] }));
    for (let turn = 0; turn < 12; turn++) expect((await client.send(rows(turn, turn + 1))).error).toBeNull();
    await client.check();
    await client.close();
    const read = await peer.ask("delta_rows", { path: target, column: "id", storage: asPython() });
    expect(read).toMatchObject({ values: range(0, 12), polars: range(0, 12), partitions: ["who"] });
  });
});

describeWith(PYTHON, "R-44 R-32 what the store must not say", () => {
  /** Everything that a user could print, log or send away. */
  const everythingOf = (error: unknown): string =>
    [
      inspect(error, { depth: 9, showHidden: true }),
      JSON.stringify(error),
      String((error as Error).stack),
    ].join();
  const isSilent = (text: string): void => {
    expect(text).not.toContain(SECRET);
    expect(text).not.toContain(TOKEN);
  };

  async function failure(target: string, delta: DeltaOptions): Promise<[IngestError, string]> {
    const said: string[] = [];
    const note = (message: string, fields: unknown): void => {
      said.push(inspect([message, fields], { depth: 9 }));
    };
    const logger = { debug: note, info: note, warn: note, error: note };
    try {
      const retry = { attempts: 2, baseDelay: 1, deadline: "10s" } as const;
      await using client = await connect(target, { ...options(delta), logger, retry });
      isSilent(inspect(client, { depth: 9, showHidden: true }));
      const { error } = await client.send(rows(0, 1));
      expect(error).toBeInstanceOf(IngestError);
      return [error!, everythingOf(error) + said.join()];
    } catch (error) {
      expect(error).toBeInstanceOf(IngestError);
      return [error as IngestError, everythingOf(error) + said.join()];
    }
  }

  test("a bucket that is not there, an endpoint that does not answer, an option that does not exist", async () => {
    const closed = `http://127.0.0.1:${await freePort()}`;
    const [missing, first] = await failure("delta:s3://no-such-bucket/t", {});
    expect(missing.code).toBe("NOT_FOUND");
    const [silent, second] = await failure("delta:s3://lake/t", {
      storage: { ...storage(), AWS_ENDPOINT_URL: closed },
    });
    expect(silent).toMatchObject({ code: "UNAVAILABLE", retry: "transient" });
    const [unknown, third] = await failure("delta:s3://lake/t", {
      storage: { ...storage(), AWS_SECRET_KEY_ID: SECRET },
    });
    expect(unknown.code).toBe("CONFIG_INVALID");
    expect(unknown.message).toContain("AWS_SECRET_KEY_ID");
    const [plain, fourth] = await failure("delta:s3://lake/t", {
      storage: { ...storage(), AWS_ALLOW_HTTP: false },
    });
    expect(["CONFIG_INVALID", "UNAVAILABLE"]).toContain(plain.code);
    for (const text of [first, second, third, fourth]) isSilent(text);
  });

  test("a server that quotes what it was sent", async () => {
    const { createServer: http } = await import("node:http");
    const echoing = http((request, response) => {
      response.writeHead(403, { "content-type": "application/xml" });
      const said = `${JSON.stringify(request.headers)} ${SECRET} ${TOKEN}`;
      response.end(`<Error><Code>AccessDenied</Code><Message>${said}</Message></Error>`);
    });
    await new Promise<void>((resolve) => echoing.listen(0, "127.0.0.1", resolve));
    const { port } = echoing.address() as { port: number };
    const [error, text] = await failure("delta:s3://lake/t", {
      storage: { ...storage(), AWS_ENDPOINT_URL: `http://127.0.0.1:${port}` },
    });
    echoing.close();
    expect(["PERMISSION_DENIED", "UNAUTHENTICATED"]).toContain(error.code);
    isSilent(text);
  });

  test("a secret in the URL is refused, and not repeated", async () => {
    for (const target of [`delta:s3://key:${SECRET}@lake/t`, `delta:s3://lake/t?token=${TOKEN}`]) {
      const [error, text] = await failure(target, {});
      expect(error.code).toBe("CONFIG_INVALID");
      expect(error.message).toContain("delta.storage");
      isSilent(text);
    }
  });
});
