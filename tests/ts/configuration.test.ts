// R-33 R-44: options from the call, the environment and a file; where each came from; no secret in what is said of them.
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, describe, expect, test, vi } from "vitest";
import {
  type ConfigReport,
  type ConnectFromOptions,
  connect,
  connectFrom,
  IngestError,
  inspectConfig,
} from "../../dist/index.js";
import { OPTIONS } from "../../dist/options/table.js";
import { variableOf } from "../../scripts/options.mjs";

const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-config-"));
afterAll(() => fs.rmSync(home, { recursive: true, force: true }));
let made = 0;
function file(ending: string, text: string): string {
  const name = path.join(home, `${made++}${ending}`);
  fs.writeFileSync(name, text);
  return name;
}

const SECRET = "hush-7c1f";

async function failure(call: () => Promise<unknown>): Promise<IngestError> {
  try {
    await call();
  } catch (error) {
    if (error instanceof IngestError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

/** What a report says of a path: value and origin. */
function told(report: ConfigReport, at: string): unknown[] {
  const found = report.options.find(({ path }) => path === at);
  return found === undefined
    ? []
    : [found.value, found.from, found.where?.replace(home, "").slice(-9) ?? null];
}

describe("R-33 where an option comes from", () => {
  const config = file(
    ".yaml",
    "url: 'discard:'\nbatching:\n  maxRows: 1\n  linger: 1ms\n  maxBytes: 1KiB\nretry: {attempts: 7}\n",
  );
  const environment = { ARROW_INGEST_BATCHING_MAX_ROWS: "2", ARROW_INGEST_BATCHING_LINGER: "2ms" };

  test("the call goes before the environment, that before the file, and that before the default", async () => {
    const options = { environment, batching: { maxRows: 3 } };
    const report = await inspectConfig({ file: config, options });
    expect(report.issues).toEqual([]);
    expect(told(report, "batching.maxRows")).toEqual([3, "call", null]);
    expect(report.options).toContainEqual({
      path: "batching.linger",
      ...{ value: 2, kind: "duration", hidden: false },
      ...{ from: "environment", where: "ARROW_INGEST_BATCHING_LINGER" },
    });
    expect(report.options).toContainEqual({
      path: "batching.maxBytes",
      ...{ value: 1024, kind: "bytes", hidden: false, from: "file", where: `${config}:5` },
    });
    expect(told(report, "inflight.maxBytes")).toEqual([256 * 2 ** 20, "default", null]);
    expect(report.url).toMatchObject({ value: "discard:", from: "file", where: `${config}:1` });
    // Groups that are off are not there.
    expect(told(report, "deadLetter.maxFiles")).toEqual([]);
    expect(told(report, "telemetry.enabled")).toEqual([true, "default", null]);
  });

  test("the client that is made has them", async () => {
    const inflight = { ARROW_INGEST_INFLIGHT_MAX_BYTES: "1MiB" };
    const budget = async (client: Awaited<ReturnType<typeof connect>>) => {
      const { budget } = client.stats().bytes;
      await client.close();
      return budget;
    };
    const text = "[inflight]\nmaxBytes = '2MiB'\n";
    const toml = file(".toml", `url = "discard:"\n${text}`);
    expect(await budget(await connectFrom(toml, { environment: inflight }))).toBe(2 ** 20);
    expect(await budget(await connectFrom(pathToFileURL(toml)))).toBe(2 ** 21);
    expect(
      await budget(await connectFrom(toml, { inflight: { maxBytes: 4096 }, environment: inflight })),
    ).toBe(4096);
    const named = { ...inflight, ARROW_INGEST_CONFIG: toml, ARROW_INGEST_URL: "discard:" };
    expect(await budget(await connect(undefined, { environment: named }))).toBe(2 ** 20);
    const empty = { ARROW_INGEST_INFLIGHT_MAX_BYTES: "", ARROW_INGEST_CONFIG: toml };
    expect(await budget(await connect("discard:", { environment: empty }))).toBe(2 ** 21);
    // The call's target goes before a wrong one of the environment.
    const wrong = { ARROW_INGEST_URL: "nowhere:" };
    expect(await budget(await connectFrom(toml, { url: "discard:", environment: wrong }))).toBe(2 ** 21);
  });

  test("connect() takes everything from the process, and environment: false nothing", async () => {
    vi.stubEnv("ARROW_INGEST_URL", "discard:");
    vi.stubEnv("ARROW_INGEST_INFLIGHT_MAX_BYTES", "3MiB");
    try {
      await using client = await connect();
      expect(client.stats().bytes.budget).toBe(3 * 2 ** 20);
      await using other = await connect("discard:", { environment: false });
      expect(other.stats().bytes.budget).toBe(2 ** 28);
      const error = await failure(() => connect(undefined, { environment: false }));
      expect(error.issues).toEqual([expect.objectContaining({ path: "url" })]);
      expect(error.message).toContain("ARROW_INGEST_URL");
    } finally {
      vi.unstubAllEnvs();
    }
    const error = await failure(() => connect("discard:", { environment: 7 as never }));
    expect(error.issues[0]).toMatchObject({ path: "environment" });
  });

  test("every option can be given by its variable, and by a file", async () => {
    const samples: Record<string, [string, unknown]> = {
      number: ["7", 7],
      duration: ["7s", 7000],
      bytes: ["64MiB", 2 ** 26],
      boolean: ["true", true],
      string: ["text", "text"],
      strings: ["a, b", ["a", "b"]],
    };
    const environment: Record<string, string> = {};
    const wanted: Record<string, unknown> = {};
    for (const { path: at, kind, words, secret, exclusive } of OPTIONS) {
      if (kind === "group" || kind === "record" || exclusive || at.startsWith("flight.descriptor")) continue;
      const [text, value] = kind === "choice" ? [words![0]!, words![0]!] : samples[kind]!;
      environment[variableOf(at)] = text;
      wanted[at] = secret ? null : value;
    }
    Object.assign(environment, { ARROW_INGEST_TLS_SERVER_NAME: "text", ARROW_INGEST_RETRY_MAX_DELAY: "8s" });
    Object.assign(environment, { ARROW_INGEST_CAPTURE_SAMPLE: "0.5" });
    Object.assign(wanted, { "retry.maxDelay": 8000, "capture.sample": 0.5 });
    const report = await inspectConfig({ options: { environment } });
    expect(report.issues).toEqual([]);
    const found = Object.fromEntries(
      report.options.filter(({ from }) => from === "environment").map(({ path, value }) => [path, value]),
    );
    expect(found).toEqual(wanted);
    const tree: Record<string, Record<string, unknown>> = {};
    for (const { path: at, value } of report.options.filter(
      ({ from, hidden }) => from === "environment" && !hidden,
    )) {
      const steps = at.split(".");
      const name = steps.pop()!;
      steps.reduce<Record<string, unknown>>((group, step) => {
        group[step] ??= {};
        return group[step] as Record<string, unknown>;
      }, tree)[name] = value;
    }
    delete tree.tls?.cert;
    const again = await inspectConfig({
      file: file(".json", JSON.stringify(tree)),
      options: { environment: {} },
    });
    expect(again.issues).toEqual([]);
    expect(again.options.filter(({ from }) => from === "file").length).toBeGreaterThan(40);
  });

  test("records, shorthands, lists and groups in the environment", async () => {
    const environment = {
      ARROW_INGEST_HEADERS: '{"x-a": "1"}',
      ARROW_INGEST_HEADERS_X_TENANT: "blue",
      ARROW_INGEST_DELTA_STORAGE_AWS_REGION: "eu-west-1",
      ARROW_INGEST_HANDOFF: "copy",
      ARROW_INGEST_HANDOFF_VERIFY_PAYLOAD: "TRUE",
      ARROW_INGEST_QUARANTINE: "false",
      ARROW_INGEST_DELTA_PARTITION_BY: '["a,b", "c"]',
      ARROW_INGEST_BATCHING: '{"maxRows": 5}',
      ARROW_INGEST_FLIGHT_DESCRIPTOR_PATH: "a,b",
    };
    const options = { environment, headers: { "X-Tenant": "green" } };
    const report = await inspectConfig({ options });
    expect(report.issues).toEqual([]);
    expect(told(report, "headers.x-a").slice(0, 2)).toEqual([null, "environment"]);
    expect(told(report, "headers.X-Tenant").slice(0, 2)).toEqual([null, "call"]);
    expect(told(report, "headers.x-tenant")).toEqual([]);
    expect(told(report, "delta.storage.aws_region").slice(0, 2)).toEqual([null, "environment"]);
    expect(told(report, "handoff.mode").slice(0, 2)).toEqual(["copy", "environment"]);
    expect(told(report, "handoff.verifyPayload")[0]).toBe(true);
    expect(told(report, "quarantine.enabled")[0]).toBe(false);
    expect(told(report, "delta.partitionBy")[0]).toEqual(["a,b", "c"]);
    expect(told(report, "batching.maxRows")[0]).toBe(5);
    expect(told(report, "flight.descriptor.path")[0]).toEqual(["a", "b"]);
    // A value alone in the call stands for its option, and hides nothing else; a group of one of several, all.
    const call = { environment, handoff: "pin", flight: { descriptor: { command: "c" } } } as const;
    const other = await inspectConfig({ options: call });
    expect(told(other, "handoff.mode")[1]).toBe("call");
    expect(told(other, "handoff.verifyPayload")[1]).toBe("environment");
    expect(told(other, "flight.descriptor.command")).toEqual(["c", "call", null]);
    expect(told(other, "flight.descriptor.path")[1]).not.toBe("environment");
    expect(other.issues).toEqual([]);
  });

  test("a function that gives headers gives all of them", async () => {
    const environment = { ARROW_INGEST_HEADERS_X_TENANT: "blue" };
    const provider = () => ({ "x-own": "1" });
    for (const headers of [provider, { provider }]) {
      const report = await inspectConfig({ options: { environment, headers } });
      expect(report.issues).toEqual([]);
      expect(report.options.filter(({ path }) => path.startsWith("headers"))).toEqual([]);
    }
  });
});

describe("R-33 mistakes", () => {
  const yaml = file(
    ".yml",
    [
      "# a comment",
      "batching:",
      "  maxRows: many",
      "  lingr: 5ms",
      "retry:",
      "  attempts: ${env:TRIES}",
      "delta:",
      "  partitionBy: [a, 5]",
      "logger: console",
      "headers: {x-a: '${env:UNSET}'}",
      "deadLetter:",
      "  maxFiles: 3",
    ].join("\n"),
  );

  test("all of them at once: of the call, of variables, of lines", async () => {
    const environment = {
      TRIES: "0",
      ARROW_INGEST_BATCHING_LINGER: "soon",
      ARROW_INGEST_BATCHIN_MAX_ROWS: "1",
      ARROW_INGEST_RETRY_TRIES: "1",
      ARROW_INGEST_PORT_80_TCP_ADDR: "10.0.0.1",
      ARROW_INGEST_DELTA_STORAGE: "{nothing",
      ARROW_INGEST_RETRY: "often",
      ARROW_INGEST_LOG: "debug",
      arrow_ingest_flight_streams: "0",
    };
    const options = { environment, flight: { dictionaries: "lose" } } as never as ConnectFromOptions;
    const error = await failure(() => connectFrom(yaml, { ...options, url: "nowhere:" }));
    expect(error.code).toBe("CONFIG_INVALID");
    const said = Object.fromEntries(
      error.issues.map(({ path, source, suggestion }) => [
        path,
        [source?.replace(yaml, "file") ?? "call", suggestion].filter((word) => word !== undefined).join(" "),
      ]),
    );
    expect(said).toEqual({
      "batching.maxRows": "file:3",
      "batching.linger": "ARROW_INGEST_BATCHING_LINGER",
      "batching.lingr": "file:4 linger",
      "retry.attempts": "file:6",
      "delta.partitionBy": "file:8",
      logger: "file:9",
      "headers.x-a": "file:10",
      "deadLetter.directory": "file:11",
      ARROW_INGEST_BATCHIN_MAX_ROWS: "call ARROW_INGEST_BATCHING_MAX_ROWS",
      ARROW_INGEST_RETRY_TRIES: "call",
      "delta.storage": "ARROW_INGEST_DELTA_STORAGE",
      retry: "ARROW_INGEST_RETRY",
      "flight.streams": "arrow_ingest_flight_streams",
      "flight.dictionaries": "call",
    });
    expect(error.message).toContain(`(${yaml}:3)`);
    const report = await inspectConfig({ file: yaml, options });
    expect(report.ignored).toEqual(["ARROW_INGEST_PORT_80_TCP_ADDR"]);
    expect(report.issues.length).toBe(error.issues.length);
  });

  test("a file that is not there, of another kind, or of no format, with the line and without its text", async () => {
    const huge = file(".json", " ".repeat((1 << 20) + 1));
    const cases: [string, string, number | undefined][] = [
      [path.join(home, "missing.json"), "is not there", undefined],
      [home.concat(".ini"), "must end in .json, .yaml, .yml, .toml", undefined],
      [huge, "is larger than 1 MiB", undefined],
      [file(".json", `{\n  "tls": { "key": "${SECRET}" ,, }\n}`), "is not JSON", 2],
      [file(".json", `{\n\t"url": "discard:",\n\t"url": "${SECRET}"\n}`), "has a name twice", 3],
      [file(".yaml", `url: "${SECRET}\nbatching: }{`), "is not YAML", undefined],
      [file(".yaml", `a: 1\na: ${SECRET}`), "has a name twice", 2],
      [file(".toml", `[tls]\nkey = "${SECRET}\n`), "is not TOML", 2],
      [file(".yaml", `- ${SECRET}`), "must hold an object of options", undefined],
      [file(".json", "7"), "must hold an object of options", undefined],
      [file(".yaml", bomb()), "is not YAML that can be followed", undefined],
    ];
    fs.mkdirSync(path.join(home, "folder.json"));
    cases.push([path.join(home, "folder.json"), "is no regular file", undefined]);
    for (const [name, message, line] of cases) {
      const error = await failure(() => connectFrom(name, { batching: { maxRows: -1 } }));
      expect(error.issues[0], name).toMatchObject({ path: "config", message });
      if (line !== undefined) expect(error.issues[0]!.source).toBe(`${name}:${line}`);
      // What else is wrong is said, too.
      expect(error.issues.map(({ path }) => path)).toContain("batching.maxRows");
      expect(JSON.stringify(error) + error.message).not.toContain(SECRET);
    }
    const nothing = await failure(() => connectFrom(7 as never));
    expect(nothing.issues[0]).toMatchObject({ path: "file", message: "must be a path or a URL, not 7" });
    expect((await failure(() => connectFrom(file(".json", '{"url": 7}')))).issues[0]).toMatchObject({
      path: "url",
      message: "must be a string",
    });
  });

  test("lines of TOML: tables, dotted names, values over several lines", async () => {
    const toml = file(
      ".toml",
      [
        'url = "discard:"',
        "batching.maxRows = 0",
        "",
        "[inflight] # of all",
        "maxWrites = [",
        "  1,",
        "]",
        "[flight.auth]",
        'username = "me"',
        "password = 5",
      ].join("\n"),
    );
    const { issues } = await inspectConfig({ file: toml, options: { environment: {} } });
    expect(issues.map(({ path, source }) => [path, source?.replace(`${toml}:`, "")])).toEqual([
      ["batching.maxRows", "2"],
      ["inflight.maxWrites", "5"],
      ["flight.auth.password", "10"],
      ["flight.auth.password", "10"],
    ]);
    const long = file(".toml", `${"\n".repeat(2_001)}batching.maxRows = 0`);
    const report = await inspectConfig({ file: long, options: { environment: {} } });
    expect(report.issues[0]?.source).toBe(long);
  });

  test("lines of YAML go through aliases and lists, and a target has one, too", async () => {
    const text = "x: &x {maxRows: -1}\nbatching: *x\nurl: 'nowhere:'\n";
    const yaml = file(".yaml", text);
    const { issues, url } = await inspectConfig({ file: yaml, options: { environment: {} } });
    expect(issues.map(({ path, source }) => [path, source?.replace(`${yaml}:`, "")])).toEqual([
      ["batching.maxRows", "1"],
      ["x", "1"],
    ]);
    expect(url?.value).toBe("nowhere:");
    const target = await inspectConfig({
      file: file(".json", '{"url": "nowhere:"}'),
      options: { environment: {} },
    });
    expect(target.issues).toEqual([
      expect.objectContaining({ path: "url", source: expect.stringContaining("json") }),
    ]);
    const odd = await inspectConfig({ url: 7 as never, options: { environment: {} } });
    expect(odd.issues[0]).toMatchObject({ path: "url" });
  });
});

/** Aliases of aliases: nine lines that would be a thousand million values. */
function bomb(): string {
  const lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"];
  for (let i = 1; i < 9; i++)
    lines.push(
      `a${i}: &a${i} [${Array(10)
        .fill(`*a${i - 1}`)
        .join(",")}]`,
    );
  return lines.join("\n");
}

describe("R-44 secrets by reference", () => {
  fs.writeFileSync(path.join(home, "secret.txt"), `${SECRET}\n`);
  fs.mkdirSync(path.join(home, "folder"));

  test("of the environment, of a file beside the configuration, within a text, as a number; an escape", async () => {
    const yaml = file(
      ".yaml",
      [
        "zerobus: {clientSecret: '${file:secret.txt}', clientId: '${env:ID}'}",
        "batching: {maxRows: '${env:ROWS}'}",
        "headers: {authorization: 'Bearer ${env:TOKEN}', x-a: '$${env:TOKEN}'}",
        "delta: {partitionBy: '${env:COLUMNS}'}",
      ].join("\n"),
    );
    const environment = {
      ...{ ID: "me", ROWS: "12", TOKEN: SECRET, COLUMNS: "a,b" },
      ARROW_INGEST_TLS_KEY: `\${file:${path.join(home, "secret.txt")}}`,
      ARROW_INGEST_TLS_CERT: "cert",
    };
    const report = await inspectConfig({ file: yaml, options: { environment } });
    expect(report.issues).toEqual([]);
    expect(told(report, "batching.maxRows")[0]).toBe(12);
    expect(told(report, "delta.partitionBy")[0]).toEqual(["a", "b"]);
    const hidden = report.options.filter(({ hidden }) => hidden).map(({ path }) => path);
    expect(hidden.sort()).toEqual(
      ["headers.authorization", "headers.x-a", "tls.key", "zerobus.clientId", "zerobus.clientSecret"].sort(),
    );
    expect(JSON.stringify(report)).not.toContain(SECRET);
  });

  test("what a reference stands for is in no message, wherever it was put, and is not looked through", async () => {
    const yaml = file(
      ".yaml",
      "batching: {maxRows: '${env:S}', linger: '${env:S}'}\nflight: {compression: '${env:S}'}\ntls: {ca: '${env:R}'}\n",
    );
    const environment = { S: SECRET, R: "${env:S} ${nothing}" };
    const error = await failure(() => connectFrom(yaml, { url: "discard:", environment }));
    expect(error.issues.map(({ path }) => path).sort()).toEqual([
      "batching.linger",
      "batching.maxRows",
      "flight.compression",
    ]);
    expect(JSON.stringify(error.toJSON()) + error.message).not.toContain(SECRET);
    expect(error.issues[0]!.message).toBe("must be a whole number of at least 1");
  });

  test("what is not there, or no reference, is a mistake in its line", async () => {
    const references = ["${env:UNSET}", "${file:nothing.txt}", "${file:folder}", "${other}", "${env:}"];
    const yaml = file(".yaml", references.map((text, i) => `h${i}: '${text}'`).join("\n"));
    const { issues } = await inspectConfig({ file: yaml, options: { environment: {} } });
    const messages = issues.filter(({ source }) => source !== undefined).map(({ message }) => message);
    expect(messages.slice(0, 5)).toEqual([
      "refers to the environment variable UNSET, which is not set",
      "refers to the file nothing.txt, which is not there",
      "refers to the file folder, which is no regular file",
      expect.stringContaining("of another kind than ${env:NAME}"),
      expect.stringContaining("of another kind than ${env:NAME}"),
    ]);
    const variable = await inspectConfig({
      options: { environment: { ARROW_INGEST_TLS_CA: "${env:UNSET}" } },
    });
    expect(variable.issues[0]).toMatchObject({ path: "tls.ca", source: "ARROW_INGEST_TLS_CA" });
  });

  test("a target is shown without what does not belong in it", async () => {
    const { url } = await inspectConfig({ url: `grpc://me:${SECRET}@host:1/a?token=${SECRET}`, options: {} });
    expect(url?.value).toBe("grpc://\u2026@host:1/a?\u2026");
  });
});

test("importing and connecting without a file loads no library that reads files", () => {
  const program = `
    import { connect } from ${JSON.stringify(pathToFileURL(path.resolve(import.meta.dirname, "../../dist/index.js")).href)};
    import { createRequire } from "node:module";
    await (await connect("discard:", { batching: { maxRows: 5 } })).close();
    const loaded = process.moduleLoadList ?? [];
    const files = Object.keys(createRequire(import.meta.url).cache);
    console.log(JSON.stringify([...loaded, ...files].filter((name) => /node_modules.(yaml|smol-toml)/.test(name))));
  `;
  const out = execFileSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8" });
  expect(JSON.parse(out)).toEqual([]);
});
