// Servers that hang, that are not there, and that are something else: bounded, tried once where it can never pass,
// and told with what to change.
import * as http from "node:http";
import type { AddressInfo } from "node:net";
import * as net from "node:net";
import { tableFromArrays } from "apache-arrow";
import { describe, expect, test } from "vitest";
import { type ConnectOptions, connect, type IngestError } from "../../dist/index.js";
import { FlightServer } from "./support/flight-server.js";

const batch = tableFromArrays({ n: Int32Array.of(1, 2, 3) });
const FAILED_PRECONDITION = 9;

async function refused(url: string, options: ConnectOptions = {}): Promise<IngestError> {
  const client = connect(url, { retry: { attempts: 5, baseDelay: 1, maxDelay: 1 }, ...options });
  return client.then(
    async (client) => {
      await client.close();
      throw new Error("connected");
    },
    (error) => error,
  );
}

async function listening(server: net.Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

describe("R-12 R-14 a server that says nothing", () => {
  test("leaves rows in doubt once flight.acknowledgementTimeout is over, keepAlive or not", async () => {
    await using server = await FlightServer.start(({ method }) =>
      method === "DoPut" ? "silence" : undefined,
    );
    await using client = await connect(server.url, {
      flight: { keepAlive: 0, acknowledgementTimeout: "300ms", commitInterval: 5 },
      retry: { attempts: 2, baseDelay: 1, maxDelay: 1 },
    });
    const result = await client.send(batch);
    expect(result).toMatchObject({ status: "unknown", attempts: 2, error: { code: "UNAVAILABLE" } });
    expect(result.error!.message).toContain("flight.acknowledgementTimeout (300ms)");
  });

  test("a refusal with a long text arrives with its code and the text's beginning", async () => {
    const text = `columns are wrong ${"x".repeat(20_000)}`;
    await using server = await FlightServer.start(({ method }) =>
      method === "DoPut" ? [FAILED_PRECONDITION, text] : undefined,
    );
    await using client = await connect(server.url, { flight: { commitInterval: 5 } });
    const result = await client.send(batch);
    expect(result).toMatchObject({ attempts: 1, error: { code: "SCHEMA_MISMATCH" } });
    expect(result.error!.message).toContain("columns are wrong xxxx");
  });
});

describe("R-32 R-33 a server that is something else", () => {
  test("HTTP/1, in plain text and where TLS is expected, fails at connect and is tried once", async () => {
    const server = http.createServer();
    const port = await listening(server);
    const plain = await refused(`grpc://127.0.0.1:${port}/a`);
    expect(plain).toMatchObject({ code: "CONFIG_INVALID", retry: "never", attempts: 1 });
    expect(plain.message).toMatch(/HTTP\/1 .*HTTP\/2/);
    const secure = await refused(`grpc+tls://127.0.0.1:${port}/a`);
    expect(secure).toMatchObject({ code: "CONFIG_INVALID", attempts: 1 });
    expect(secure.message).toContain("does not speak TLS");
    server.close();
  });

  test("nobody at all has answered nothing", async () => {
    const server = net.createServer();
    const port = await listening(server);
    await new Promise((resolve) => server.close(resolve));
    for (const url of [`grpc://127.0.0.1:${port}/a`, `zerobus+http://127.0.0.1:${port}/a.b.c`]) {
      const error = await refused(url, { headers: { authorization: "Bearer x" } });
      expect(error).toMatchObject({ code: "UNAVAILABLE", retry: "transient", attempts: 5 });
      expect(error.message).toContain(`127.0.0.1:${port} cannot be reached`);
      expect(error.message).not.toContain("answered");
    }
  });

  test("a certificate that is none is refused before anybody is asked", async () => {
    const ca = "-----BEGIN CERTIFICATE-----\nnonsense!\n-----END CERTIFICATE-----";
    for (const url of ["grpc+tls://127.0.0.1:1/a", "zerobus://127.0.0.1:1/a.b.c"]) {
      const error = await refused(url, { tls: { ca }, headers: { authorization: "Bearer x" } });
      expect(error).toMatchObject({ code: "CONFIG_INVALID", attempts: 1 });
      expect(error.message).toContain("tls.ca");
    }
  });

  test("an address of IPv6 without its brackets is told of them", async () => {
    for (const url of ["grpc://::1:8815/a", "zerobus://::1:8815/a.b.c"])
      expect((await refused(url)).message).toContain("[::1]");
  });
});
