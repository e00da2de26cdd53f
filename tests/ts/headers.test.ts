// Promises of the headers callback: asked when a connection is made, and whatever it does, one clear error.
import { execFile } from "node:child_process";
import * as path from "node:path";
import { inspect, promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { Binding, type Listener } from "../../dist/binding.js";
import { connect, type HeadersRequest } from "../../dist/index.js";
import { FlightServer, UNAUTHENTICATED } from "./support/flight-server.js";
import { refused } from "./support/refused.js";
import { tableOf } from "./support/table.js";

const batch = tableOf({ id: Int32Array.of(1, 2, 3) });
const retry = { attempts: 3, baseDelay: 1 };
const authorizations = (server: FlightServer): unknown[] =>
  server.calls.map(({ headers }) => headers.authorization);

describe("R-34 a headers callback", () => {
  test("is asked before each connection, and its headers go with every call", async () => {
    await using server = await FlightServer.start();
    const asked: HeadersRequest[] = [];
    const provider = async (request: HeadersRequest) => {
      asked.push(request);
      return { authorization: `Bearer ${asked.length}`, "X-Team": "ice" };
    };
    for (const headers of [provider, { provider, timeout: "5s" } as const]) {
      await using client = await connect(server.url, { headers, batching: { linger: 0 } });
      expect((await client.send(batch)).orThrow().rows).toBe(3);
    }
    // One connection to see that the server is there, one for the session.
    expect(asked).toEqual(new Array(4).fill({ reason: "connect" }));
    expect(new Set(authorizations(server))).toEqual(new Set([1, 2, 3, 4].map((turn) => `Bearer ${turn}`)));
    expect(server.calls.every(({ headers }) => headers["x-team"] === "ice")).toBe(true);
  });

  test("is asked for the connection that follows one which the server ended in good order", async () => {
    await using server = await FlightServer.start();
    let asked = 0;
    const headers = () => ({ authorization: `Bearer ${++asked}` });
    await using client = await connect(server.url, { headers, flight: { commitInterval: 1 } });
    for (let turn = 0; turn < 3; turn++) {
      expect((await client.send(batch)).orThrow().attempts).toBe(1);
      await server.hangUp();
    }
    const puts = server.calls.filter(({ method }) => method === "DoPut");
    expect(puts.map(({ headers }) => headers.authorization)).toEqual(["Bearer 2", "Bearer 3", "Bearer 4"]);
    expect(client.stats().sessions).toEqual({ opened: 1, broken: 0, rotated: 0 });
  });

  test("may answer at once, with nothing at all, or with an object without a prototype", async () => {
    await using server = await FlightServer.start();
    const bare: Record<string, string> = Object.assign(Object.create(null), { a: "b" });
    for (const headers of [() => ({ a: "b" }), () => ({}), async () => bare])
      await (await connect(server.url, { headers })).close();
    expect(server.calls.map(({ headers }) => headers.a)).toEqual(["b", undefined, "b"]);
  });

  test("is asked once, however many wait for it", async () => {
    await using server = await FlightServer.start();
    let asked = 0;
    const gate = Promise.withResolvers<void>();
    const headers = async () => {
      if (asked++ > 0) await gate.promise;
      return { authorization: `Bearer ${asked}` };
    };
    await using client = await connect(server.url, { headers });
    const checks = Array.from({ length: 20 }, () => client.check());
    while (asked < 2) await new Promise(setImmediate);
    gate.resolve();
    await Promise.all(checks);
    // A check that came to ask when the others had their answer is asked for anew.
    expect(asked).toBeLessThan(20);
  });

  test("is asked again after UNAUTHENTICATED, and told so: connecting", async () => {
    let token = "old";
    await using server = await FlightServer.start(({ headers }) =>
      headers.authorization === "new" ? undefined : [UNAUTHENTICATED, "expired"],
    );
    const reasons: string[] = [];
    const headers = ({ reason }: HeadersRequest) => {
      reasons.push(reason);
      if (reason === "unauthenticated") token = "new";
      return { authorization: token };
    };
    await using _client = await connect(server.url, { headers, retry });
    expect(reasons).toEqual(["connect", "unauthenticated"]);
  });

  test("R-13 is asked again after UNAUTHENTICATED, and told so: delivering", async () => {
    let good = "1";
    await using server = await FlightServer.start(({ headers }) =>
      headers.authorization === good ? undefined : [UNAUTHENTICATED, "expired"],
    );
    let issued = 1;
    const reasons: string[] = [];
    const headers = async ({ reason }: HeadersRequest) => {
      reasons.push(reason);
      if (reason === "unauthenticated") good = String(++issued);
      return { authorization: String(issued) };
    };
    await using client = await connect(server.url, { headers, retry, batching: { linger: 0 } });
    expect((await client.send(batch)).orThrow().attempts).toBe(1);
    good = "nobody has it";
    const result = (await client.send(batch)).orThrow();
    expect(result.attempts).toBe(2);
    expect(reasons.at(-1)).toBe("unauthenticated");
  });

  test("R-32 a token that stays wrong is UNAUTHENTICATED, and shown nowhere", async () => {
    let open = true;
    await using server = await FlightServer.start(({ headers }) =>
      open ? undefined : [UNAUTHENTICATED, `not ${headers.authorization}`],
    );
    const said: unknown[] = [];
    const note = (...facts: unknown[]) => said.push(facts);
    const options = {
      headers: async () => ({ authorization: "Bearer s3cr3t-token" }),
      logger: { debug: note, info: note, warn: note, error: note },
      batching: { linger: 0 },
      retry,
    };
    {
      await using client = await connect(server.url, options);
      open = false;
      const result = await client.send(batch);
      expect(result).toMatchObject({ success: false, attempts: 3 });
      expect(result.error).toMatchObject({ code: "UNAUTHENTICATED", retry: "reauthenticate" });
      said.push(result, JSON.stringify(result), client, client.stats());
    }
    const error = await refused(server.url, options);
    expect(error).toMatchObject({ code: "UNAUTHENTICATED", attempts: 3 });
    said.push(error, JSON.stringify(error));
    expect(inspect(said, { depth: 20, showHidden: true })).not.toContain("s3cr3t");
  });
});

describe("R-34 a headers callback that fails", () => {
  const circular = new Error("mine");
  circular.cause = circular;
  const evil = new Error("mine");
  Object.defineProperty(evil, "message", {
    get() {
      throw new Error("never read me");
    },
  });
  test.each<[string, () => never, string]>([
    [
      "an error with a cause",
      () => {
        throw new TypeError("fetch failed", { cause: new Error("ECONNREFUSED") });
      },
      "TypeError: fetch failed",
    ],
    [
      "text",
      () => {
        throw "no token today";
      },
      "no token today",
    ],
    [
      "undefined",
      () => {
        throw undefined;
      },
      "undefined",
    ],
    [
      "an error that is its own cause",
      () => {
        throw circular;
      },
      "Error: mine",
    ],
    [
      "an error that cannot be read",
      () => {
        throw evil;
      },
      "an error that cannot be read",
    ],
  ])("by throwing %s is asked again, then UNAUTHENTICATED with its words", async (_, fail, words) => {
    await using server = await FlightServer.start();
    for (const headers of [fail, async () => fail()]) {
      let asked = 0;
      const provider = () => {
        asked++;
        return headers();
      };
      const error = await refused(server.url, { retry, headers: provider });
      expect(error).toMatchObject({ code: "UNAUTHENTICATED", retry: "reauthenticate", operation: "headers" });
      expect(error.attempts).toBe(3);
      expect(asked).toBe(3);
      expect(error.toJSON().causes[0]).toBe(words);
    }
    expect(server.calls).toEqual([]);
  });

  test.each<[string, unknown]>([
    ["undefined", undefined],
    ["null", null],
    ["a string", "Bearer s3cr3t"],
    ["a number", 3],
    ["an array", [["authorization", "s3cr3t"]]],
    ["a Map", new Map([["authorization", "s3cr3t"]])],
    ["the Headers of fetch", new Headers({ authorization: "s3cr3t" })],
    ["a value that is no string", { authorization: { s3cr3t: 1 } }],
    ["a value that is missing", { authorization: undefined }],
    ["a value that cannot be sent", { authorization: "s3cr3t\nx: y" }],
    ["half a character", { authorization: "s3cr3t\ud800" }],
    ["a name that cannot be one", { "Bearer s3cr3t": "authorization" }],
    ["a name without letters", { "": "s3cr3t" }],
    ["a name that is gRPC's own", { "grpc-timeout": "s3cr3t" }],
  ])("by giving %s is CONFIG_INVALID at once, without its values", async (_, given) => {
    await using server = await FlightServer.start();
    const error = await refused(server.url, { retry, headers: async () => given });
    expect(error).toMatchObject({ code: "CONFIG_INVALID", retry: "never", attempts: 1 });
    expect(error.message).toContain("header");
    expect(inspect([error, error.toJSON()], { depth: 9 })).not.toContain("s3cr3t");
  });

  test("R-14 while delivering fails the delivery, and the next one may pass", async () => {
    await using server = await FlightServer.start();
    let give: unknown = { a: "b" };
    await using client = await connect(server.url, {
      headers: async () => give as Record<string, string>,
      batching: { linger: 0 },
      retry,
    });
    give = 7;
    const failed = await client.send(batch);
    expect(failed).toMatchObject({ status: "failed", error: { code: "CONFIG_INVALID" } });
    give = {};
    expect((await client.send(batch)).status).toBe("acknowledged");
  });

  test("by never answering is UNAUTHENTICATED after its time, and its late word is for nobody", async () => {
    await using server = await FlightServer.start();
    const late = Promise.withResolvers<Record<string, string>>();
    const headers = { provider: () => late.promise, timeout: 20 };
    const error = await refused(server.url, { headers, retry: { attempts: 2, baseDelay: 1 } });
    expect(error).toMatchObject({ code: "UNAUTHENTICATED", retry: "reauthenticate", attempts: 2 });
    expect(error.message).toContain("20ms");
    late.resolve({ authorization: "late" });
    await new Promise(setImmediate);
    expect(server.calls).toEqual([]);
  });
});

describe("R-18 R-34 the end, while a headers callback owes an answer", () => {
  const hanging = () => new Promise<Record<string, string>>(() => {});

  test("close settles everything at its deadline", async () => {
    await using server = await FlightServer.start();
    let asked = 0;
    const second = Promise.withResolvers<void>();
    const client = await connect(server.url, {
      headers: () => {
        if (asked++ === 0) return {};
        second.resolve();
        return hanging();
      },
      batching: { linger: 0 },
    });
    const sent = client.send(batch);
    await second.promise;
    await client.close({ deadline: 10 });
    const result = await sent;
    expect(result.status).toBe("failed");
    expect(["DEADLINE_EXCEEDED", "CLOSED", "UNAUTHENTICATED"]).toContain(result.error?.code);
  });

  test("an abort ends connecting", async () => {
    await using server = await FlightServer.start();
    const abort = new AbortController();
    const headers = () => {
      queueMicrotask(() => abort.abort(new Error("enough")));
      return hanging();
    };
    await expect(connect(server.url, { headers, signal: abort.signal })).rejects.toThrow("enough");
    expect(server.calls).toEqual([]);
  });

  test("close may come from within it", async () => {
    await using server = await FlightServer.start();
    let asked = 0;
    const client = await connect(server.url, {
      headers: async () => {
        if (asked++ > 0) await client.close({ deadline: 10 });
        return {};
      },
    });
    await expect(client.check()).rejects.toMatchObject({ code: "CLOSED" });
  });

  test("the process ends", async () => {
    await using server = await FlightServer.start();
    const index = path.join(import.meta.dirname, "../../dist/index.js");
    // What was asked for is given up, so nothing waits but the question.
    const script = `
      import { connect } from ${JSON.stringify(index)};
      const abort = new AbortController();
      const headers = { provider: () => (queueMicrotask(() => abort.abort()), new Promise(() => {})), timeout: "1h" };
      await connect(${JSON.stringify(server.url)}, { headers, signal: abort.signal }).catch((error) => console.log(error.name));
    `;
    const run = promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], {
      timeout: 50_000,
    });
    expect((await run).stdout.trim()).toBe("AbortError");
  });
});

describe("R-33 R-34 headers as an option", () => {
  test.each<[unknown, string, string]>([
    [{ provider: 5 }, "headers.provider", "must be a function, not 5"],
    [{ provider: true }, "headers.provider", "must be a function, not true"],
    [{ provider: null }, "headers.provider", "must be a function, not null"],
    [{ provider: () => ({}), timeout: 0 }, "headers.timeout", "leaves no time"],
    [{ provider: () => ({}), timeout: "soon" }, "headers.timeout", "duration"],
    [{ provider: () => ({}), timout: 1 }, "headers.timout", "is not an option"],
    [{ authorization: () => "x" }, "headers.authorization", "must be a string, not a function"],
  ])("%o is a mistake that is named", async (headers, at, message) => {
    const error = await refused("grpc://127.0.0.1:1/x", { headers });
    expect(error.issues.map((issue) => issue.path)).toEqual([at]);
    expect(error.issues[0]!.message).toContain(message);
  });

  test.each(["discard:", "delta:./nowhere", "grpc://127.0.0.1:1/x", "zerobus+http://127.0.0.1:1/a.b.c"])(
    "what cannot be sent is a mistake in the options of %s, each named and none shown",
    async (target) => {
      const headers = {
        "grpc-timeout": "1S",
        te: "s3cr3t",
        "Content-Length": "5",
        host: "s3cr3t",
        connection: "close",
        "no name": "s3cr3t",
        authorization: "Bearer s3cr3t\n",
        "x-from-a-file": "\ufeffs3cr3t",
        "x-utf8": "s3cr3t é",
        "x-fine": "visible ~ ASCII",
      };
      const error = await refused(target, { headers });
      expect(error).toMatchObject({ code: "CONFIG_INVALID", attempts: expect.any(Number) });
      const wrong = Object.keys(headers).filter((name) => name !== "x-fine");
      expect(error.issues.map((issue) => issue.path).sort()).toEqual(
        wrong.map((name) => `headers.${name}`).sort(),
      );
      expect(inspect([error, error.toJSON()], { depth: 9 })).not.toContain("s3cr3t");
    },
  );

  test("a header may be called provider", async () => {
    await using server = await FlightServer.start();
    await (await connect(server.url, { headers: { provider: "x", timeout: "y" } })).close();
    expect(server.calls[0]!.headers).toMatchObject({ provider: "x", timeout: "y" });
  });

  test("an answer to a question that nobody asked does nothing", async () => {
    const listener = new Proxy({}, { get: () => () => {} }) as Listener;
    const binding = await Binding.create("discard:", "{}", listener);
    for (const request of [1, 0, -1, Number.NaN, 2 ** 60]) binding.answerHeaders(request, { headers: {} });
    binding.dispose();
    binding.answerHeaders(1, { headers: {} });
  });
});
