// R-35 R-40: the examples run as they are printed, and say what their comments say.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { startEmulator } from "../../dist/index.js";
import { readBack } from "../../examples/demo/readback.mjs";
import { blocks } from "../../scripts/docs.mjs";

const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-examples-"));
afterAll(() => fs.rmSync(home, { recursive: true, force: true }));

async function run(example: string, ...args: string[]): Promise<string> {
  const node = path.resolve("node_modules/.bin/node");
  const { stdout } = await promisify(execFile)(node, [`examples/${example}`, ...args], { timeout: 240_000 });
  return stdout;
}

test("R-20 00-first: README's program, in a folder of its own", async () => {
  const node = path.resolve("node_modules/.bin/node");
  const { stdout } = await promisify(execFile)(node, [path.resolve("examples/00-first.mjs")], { cwd: home });
  expect(stdout).toBe("acknowledged 3 { kind: 'version', value: 1n }\n");
});

test("R-30 01-first-table", async () => {
  const said = await run("01-first-table.ts", `delta:${path.join(home, "first")}`);
  expect(said).toMatch(/TransmissionResult #1 acknowledged: 3 rows/);
  expect(said).toContain("3 rows are durable (version 1)");
});

test("R-11 02-stream-with-back-pressure", async () => {
  const said = await run("02-stream-with-back-pressure.ts", `delta:${path.join(home, "stream")}`);
  const [, rows, peak] = /^(\d+) rows in \d+ writes, at most (\d+) bytes in flight/.exec(said)!;
  expect(Number(rows)).toBe(2_000_000);
  // The budget, and the group of batches that was let in last.
  expect(Number(peak)).toBeLessThanOrEqual(4 * 2 ** 20 + 2 ** 20);
  expect(said).toContain("4000000 rows after the stream");
});

test("R-40 03-opentelemetry: OTLP arrives at a collector that decodes it", async () => {
  const said = await run("03-opentelemetry.ts");
  const lines = said.trim().split("\n");
  const sends = lines.filter((line) => line.startsWith("arrow_ingest.send under its caller"));
  expect(sends.length).toBe(3);
  expect(sends.filter((line) => line.includes("arrow_ingest.rows=10 ")).length).toBe(1);
  expect(sends[0]).toContain("arrow_ingest.status=acknowledged");
  expect(lines).toContain("arrow_ingest.rows.accepted [{row}]");
  expect(lines).toContain("arrow_ingest.delivery.duration [s]");
  expect(lines).toContain("arrow_ingest.memory.pinned [By]");
  const listed = fs.readFileSync("specs/telemetry.md", "utf8");
  for (const line of lines.filter((line) => line.endsWith("]")))
    expect(listed).toContain(`\`${line.split(" ")[0]}\``);
  for (const [, name] of sends[0]!.matchAll(/(arrow_ingest\.[a-z._]+)=/g))
    expect(listed).toContain(`\`${name}\``);
});

test("R-22 R-23 04-zerobus, into the emulator", async () => {
  const lake = path.join(home, "lake");
  const said = await run("04-zerobus.ts", lake);
  expect(said).toContain("acknowledged after 1 attempt: another stream is no failure");
  expect(said).toContain("20001 rows are acknowledged");
  const [, rows, streams] = /the emulator holds (\d+) rows, which came on (\d+) streams/.exec(said)!;
  expect(Number(rows)).toBe(20_001);
  // Rotated at least once. The one of `check` held no rows, and is a stream of its own.
  expect(Number(streams)).toBeGreaterThan(2);
  expect(fs.existsSync(path.join(lake, "main/sales/orders/_delta_log"))).toBe(true);
});

test("R-64 07-files: lines that do not fit are told by their number", async () => {
  const said = await run("07-files.ts", `delta:${path.join(home, "orders")}`, path.join(home, "files"));
  expect(said).toMatch(/^monday\.ndjson: 2 rows\nmonday\.ndjson, line 2: price: VALUE_INEXACT: /);
  expect(said).toMatch(/\ntuesday\.csv: 2 rows\ntuesday\.csv, line 3: price: VALUE_MALFORMED: /);
  expect(said).toMatch(/\nframe: 2 rows\n$/);
});

test("R-22 R-33 04-zerobus, against a service that it did not start: another target and three variables", async () => {
  const lake = path.join(home, "service");
  await using service = await startEmulator({ lake, clientId: "me", clientSecret: "its secret" });
  const said = await promisify(execFile)(
    path.resolve("node_modules/.bin/node"),
    ["examples/04-zerobus.ts", service.url("main.sales.orders")],
    {
      timeout: 60_000,
      env: {
        ZEROBUS_UNITY_CATALOG_URL: service.options.zerobus.unityCatalogUrl,
        ZEROBUS_CLIENT_ID: "me",
        ZEROBUS_CLIENT_SECRET: "its secret",
      },
    },
  );
  expect(said.stdout).toMatch(/20001 rows are acknowledged\n$/);
  expect(await service.rows("main.sales.orders")).toBe(20_001);
});

test("R-15 05-refused-rows", async () => {
  const directory = path.join(home, "refused");
  const said = await run("05-refused-rows.ts", directory);
  expect(said).toContain("partial: 3 rows are acknowledged, 2 refused");
  expect(said).toMatch(/row 1: INVALID_ARGUMENT: .*"amount"/);
  expect(said).toContain("row 3: BATCH_INVALID: amount: 40000000000 does not fit Int32");
  expect(said).toContain("amount: Int64");
  // A line for each file: one that gets nothing for a second is finished.
  const again = said.split("\n").filter((line) => line.includes("sent again:"));
  expect(
    [...again.join("\n").matchAll(/row (\d+) \((\w+)\)/g)].map(([, row, code]) => `${row} ${code}`),
  ).toEqual(["1 INVALID_ARGUMENT", "3 BATCH_INVALID"]);
  expect(said).toContain("the table holds 5 rows");
  expect(fs.readdirSync(directory)).toEqual([]);
});

test("R-65 08-tables: columns and tables of other libraries", async () => {
  const said = await run("08-tables.mjs");
  expect(
    said
      .trim()
      .split("\n")
      .map((line) => /^(.*?): (\d+) rows/.exec(line)?.slice(1).join(" ")),
  ).toEqual([
    "typed arrays 3",
    "arrays 3",
    "flechette 2",
    "Arquero 2",
    "polars 3",
    "DuckDB 5",
    "parquet-wasm 10000",
    "socket 3",
  ]);
});

const children: ChildProcess[] = [];
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
});

test("R-60 06-service: what was answered 200 is in the table once, through a SIGKILL under load", async () => {
  const [table, spool] = [path.join(home, "events"), path.join(home, "spool")];
  const start = async () => {
    const node = path.resolve("node_modules/.bin/node");
    const child = spawn(node, ["examples/06-service.ts", `delta:${table}`, spool, "0"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    // A service that a failed test leaves behind would keep the whole run from ending.
    children.push(child);
    const ended = once(child, "exit");
    let said = "";
    await new Promise<void>((resolve, reject) => {
      child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
        said += chunk;
        if (/listening on port \d+/.test(said)) resolve();
      });
      child.once("exit", () => reject(new Error(`the service ended: ${said}`)));
    });
    const url = `http://127.0.0.1:${/port (\d+)/.exec(said)![1]}`;
    return { child, ended, url };
  };
  const post = async (url: string, event: object): Promise<number> => {
    const response = await fetch(`${url}/events`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(event),
    });
    await response.text();
    return response.status;
  };
  const answered = new Set<string>();
  let next = 0;
  /** Twenty at a time, until `count` are answered or the service is gone. */
  const load = async (url: string, count: number, each: () => void): Promise<void> => {
    const end = answered.size + count;
    const one = async (): Promise<void> => {
      while (answered.size < end) {
        const id = `event-${next++}`;
        try {
          if ((await post(url, { id, at: "2026-11-30T12:00:00Z", kind: "click" })) === 200) answered.add(id);
        } catch {
          return;
        }
        each();
      }
    };
    await Promise.all(Array.from({ length: 20 }, one));
  };

  const first = await start();
  expect(await post(first.url, { id: "x", at: "no time", kind: "click" })).toBe(422);
  expect((await fetch(`${first.url}/ready`)).status).toBe(200);
  const broken = { method: "POST", headers: { "content-type": "application/json" }, body: "{" };
  expect((await fetch(`${first.url}/events`, broken)).status).toBe(400);
  await load(first.url, 2_000, () => {
    if (answered.size === 500) first.child.kill("SIGKILL");
  });
  await first.ended;
  expect(answered.size).toBeGreaterThanOrEqual(500);
  const second = await start();
  await load(second.url, 200, () => {});
  // A row that was refused, and said to be, is no reason to end with an error.
  expect(await post(second.url, { id: "y", at: "no time", kind: "click" })).toBe(422);
  second.child.kill("SIGTERM");
  expect(await second.ended).toEqual([0, null]);

  const ids: string[] = [];
  await readBack(table, (name: string, values: Iterable<unknown>) => {
    if (name === "id") ids.push(...(values as Iterable<string>));
  });
  expect(new Set(ids).size).toBe(ids.length);
  expect([...answered].filter((id) => !ids.includes(id))).toEqual([]);
}, 120_000);

test("R-35 the service of docs/spool.md answers what its page says, and ends well after a refused row", async () => {
  const shown = blocks(fs.readFileSync("docs/spool.md", "utf8"));
  const { text } = shown.find(({ language }) => language === "ts")!;
  const shell = shown.find(({ language }) => language === "sh");
  expect(text).toContain("server.listen(8080);");
  const listening = "server.listen(0, () => console.log(JSON.stringify(server.address())));";
  // Below the repository, so that the package is found.
  fs.mkdirSync("target", { recursive: true });
  const folder = fs.mkdtempSync(path.resolve("target/service-"));
  try {
    const program = path.join(folder, "service.ts");
    fs.writeFileSync(program, text.replace("server.listen(8080);", listening));
    const child = spawn(path.resolve("node_modules/.bin/node"), [program], { cwd: folder });
    const ended = once(child, "exit");
    const [first] = await once(child.stdout, "data");
    const url = `http://127.0.0.1:${JSON.parse(String(first)).port}`;
    const post = async (body: string) => (await fetch(url, { method: "POST", body })).status;
    expect(await post(`{ "id": "1", "at": "2026-11-30T12:00:00Z" }`)).toBe(200);
    expect(await post(`{ "id": "2", "at": "no time" }`)).toBe(422);
    expect(await post(`{`)).toBe(400);
    expect((await fetch(`${url}/ready`)).status).toBe(200);
    child.kill("SIGTERM");
    expect(await ended).toEqual([0, null]);
    const ids: unknown[] = [];
    await readBack(path.join(folder, "lake/events"), (name: string, values: Iterable<unknown>) => {
      if (name === "id") ids.push(...values);
    });
    expect(ids).toEqual(["1"]);
    expect(fs.readdirSync(path.join(folder, "spool/default/dead-letters")).length).toBe(1);
    // And what the page shows of the command line, in its order, on the spool that is there now.
    for (const line of shell!.text.trim().split("\n")) {
      const [, , ...words] = line.replace(/\s#.*/, "").trim().split(/\s+/);
      const done = promisify(execFile)(process.execPath, [path.resolve("dist/cli.js"), ...words], {
        cwd: folder,
      });
      await expect(done, line).resolves.toBeDefined();
    }
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
});
