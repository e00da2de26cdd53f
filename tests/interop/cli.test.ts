// R-15 R-38: rows that a pyarrow Flight server refuses, from the command line: sent, kept, sent again.
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { tableFromArrays, tableToIPC } from "apache-arrow";
import { afterAll, beforeAll, expect, test } from "vitest";
import { listDeadLetters, readDeadLetter } from "../../dist/index.js";
import { run } from "../ts/support/cli.js";
import { describeWith, PYTHON } from "./support/peer.js";

const script = path.join(import.meta.dirname, "flight_server.py");
const FLAGS = ["--set", "flight.acknowledgement=part", "--set", "flight.atomicRefusals=true", "--json"];

describeWith(PYTHON, "R-38 a pyarrow Flight server that refuses rows", () => {
  let server: ChildProcess;
  let port: string;
  let home: string;
  beforeAll(async () => {
    home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-cli-interop-"));
    const stdio = ["ignore", "pipe", "ignore"] as const;
    server = spawn(PYTHON, [script, "--answers", "part", "--refuse", "price"], { stdio: [...stdio] });
    port = await new Promise((resolve) => createInterface({ input: server.stdout! }).once("line", resolve));
  });
  afterAll(() => {
    server.kill();
    fs.rmSync(home, { recursive: true, force: true });
  });

  test("send says which rows; resend keeps what is refused again, and removes what is taken", async () => {
    const prices = Float64Array.from({ length: 100 }, (_, row) => (row === 3 || row === 70 ? -row : row));
    const file = path.join(home, "prices.arrow");
    fs.writeFileSync(file, tableToIPC(tableFromArrays({ price: prices }), "file"));
    const directory = path.join(home, "refused");
    const target = `grpc://127.0.0.1:${port}/cli/first`;
    const sent = await run(["send", target, file, ...FLAGS, "--set", `deadLetter.directory=${directory}`]);
    expect(sent.code).toBe(1);
    expect(JSON.parse(sent.stdout)).toMatchObject({
      success: false,
      deliveries: { partial: 1 },
      rows: { sent: 100, acknowledged: 98, rejected: 2, failed: 0 },
      rejections: [{ code: "INVALID_ARGUMENT", rows: 2, first: { file, row: 3 } }],
      failures: [],
    });
    const [before] = await listDeadLetters(directory);

    const refused = await run(["deadletter", "resend", directory, target, ...FLAGS]);
    expect(refused.code).toBe(1);
    expect(JSON.parse(refused.stdout)).toMatchObject({
      rows: { acknowledged: 0, rejected: 2 },
      failures: [],
      files: { removed: 1, kept: 0 },
    });
    const [anew, ...none] = await listDeadLetters(directory);
    expect(none).toEqual([]);
    expect(anew!.path).not.toBe(before!.path);
    expect([...(await readDeadLetter(anew!)).rows.getChild("price")!]).toEqual([-3, -70]);

    const taken = await run(["deadletter", "resend", directory, `delta:${home}/lake`]);
    expect(taken).toMatchObject({ code: 0, stderr: "" });
    expect(await listDeadLetters(directory)).toEqual([]);
  });
});
