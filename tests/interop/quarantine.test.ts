// rows that a Flight server (pyarrow) refuses are found and given back with the reason, the others are there
// once and in order, and what was refused is in an Arrow file that pyarrow reads.
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { createInterface } from "node:readline";
import {
  Float64,
  Int32,
  type RecordBatch,
  RecordBatchStreamWriter,
  Table,
  Utf8,
  vectorFromArray,
} from "apache-arrow";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect, listDeadLetters, readDeadLetter, removeDeadLetter } from "../../dist/index.js";
import { describeWith, PYTHON } from "./support/peer.js";

const script = path.join(import.meta.dirname, "flight_server.py");
const COMPARE = `
import sys, pyarrow.flight as flight
client = flight.connect("grpc://127.0.0.1:" + sys.argv[1])
for result in client.do_action(flight.Action("compare", (sys.argv[2] + "\\n" + sys.argv[3]).encode())):
    print(result.body.to_pybytes().decode())
`;
const READ = `
import json, sys, pyarrow as pa
with pa.memory_map(sys.argv[1]) as source:
    table = pa.ipc.open_file(source).read_all()
table.validate(full=True)
table = table.drop_columns(["_rejection_time"])
print(json.dumps(table.to_pydict()))
`;

describeWith(PYTHON, "R-15 a pyarrow Flight server that refuses rows", () => {
  const servers: ChildProcess[] = [];
  const ports: Record<string, string> = {};
  let folder: string;

  beforeAll(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-quarantine-"));
    for (const answers of ["part", "none"]) {
      const options = [script, "--answers", answers, "--refuse", "price"];
      const server = spawn(PYTHON, options, { stdio: ["ignore", "pipe", "ignore"] });
      servers.push(server);
      ports[answers] = await new Promise((resolve) =>
        createInterface({ input: server.stdout! }).once("line", resolve),
      );
    }
  });

  afterAll(() => {
    for (const server of servers) server.kill();
    fs.rmSync(folder, { recursive: true });
  });

  function python(code: string, ...args: string[]): Promise<string> {
    const child = spawn(PYTHON, ["-c", code, ...args], { stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (chunk) => {
      text += chunk;
    });
    return new Promise((resolve) => child.on("close", () => resolve(text.trim())));
  }

  /** Rows `from` to `to`; the price of those in `bad` is negative. */
  function rows(from: number, to: number, bad: readonly number[]): RecordBatch {
    const ids = Array.from({ length: to - from }, (_, row) => from + row);
    return new Table({
      id: vectorFromArray(ids, new Int32()),
      price: vectorFromArray(
        ids.map((id) => (bad.includes(id) ? -id : id / 7)),
        new Float64(),
      ),
      name: vectorFromArray(
        ids.map((id) => (id % 3 === 0 ? null : `row ${id}`)),
        new Utf8(),
      ),
    }).batches[0]!;
  }

  /** What the server has under `name` against these rows. */
  async function expectOnServer(port: string, name: string, batches: readonly RecordBatch[]): Promise<void> {
    const file = path.join(folder, "expected.stream");
    const expected = new Table([...batches]);
    fs.writeFileSync(file, RecordBatchStreamWriter.writeAll(expected).toUint8Array(true));
    expect(await python(COMPARE, port, name, file)).toBe("equal");
  }

  const ids = (batch: RecordBatch | null) => [...(batch?.getChild("id") ?? [])];

  test.each([
    ["part", "part", "auto"],
    ["part", "part", "copy"],
    ["none", "stream", "auto"],
    ["none", "stream", "ipc"],
  ] as const)(
    "server answers %s, acknowledged by %s, handoff %s",
    async (answers, acknowledgement, handoff) => {
      const name = `quarantine/${acknowledgement}/${handoff}`;
      const directory = path.join(folder, `letters-${acknowledgement}-${handoff}`);
      const bad = [1, 2, 700, 1_999, 2_500];
      const port = ports[answers]!;
      {
        await using client = await connect(`grpc://127.0.0.1:${port}/${name}`, {
          batching: { linger: "5ms" },
          handoff,
          flight: { acknowledgement, atomicRefusals: true, commitInterval: "10ms" },
          deadLetter: { directory },
        });
        // A table of several batches, others before and behind it in the same writes, and one that is all bad.
        const table = new Table([rows(0, 500, bad), rows(500, 2_000, bad)]);
        const [mixed, good, other, none] = await Promise.all([
          client.send(table),
          client.send(rows(2_000, 2_400, bad)),
          client.send(rows(2_400, 3_000, bad)),
          client.send(rows(2_500, 2_501, bad)),
        ]);
        expect(mixed).toMatchObject({ status: "partial", rows: 2_000, acceptedRows: 1_996, rejectedRows: 4 });
        expect(mixed.rejections.map(({ row }) => row)).toEqual([1, 2, 700, 1_999]);
        expect([...mixed.rejectionsByCode().keys()]).toEqual(["INVALID_ARGUMENT"]);
        expect(mixed.rejections[0]!.message).toContain("price must not be negative");
        expect(mixed.errorCode).toBe("ROWS_REJECTED");
        const refused = mixed.rejectedBatch()!;
        expect(String(refused.schema)).toBe(String(table.schema));
        expect(ids(refused)).toEqual([1, 2, 700, 1_999]);
        expect([...refused.getChild("name")!]).toEqual(["row 1", "row 2", "row 700", "row 1999"]);
        expect(mixed.acceptedBatch()!.numRows).toBe(1_996);
        expect(good.status).toBe("acknowledged");
        expect(other).toMatchObject({ status: "partial", acceptedRows: 599, rejectedRows: 1 });
        expect(ids(other.rejectedBatch())).toEqual([2_500]);
        // Every row was refused: nothing of it was kept.
        expect(none).toMatchObject({ status: "failed", acceptedRows: 0, rejectedRows: 1 });
        expect(ids(none.rejectedBatch())).toEqual([2_500]);
        expect(client.stats().deadLetters).toEqual({ kept: 6, failed: 0, filesRemoved: 0, filesDamaged: 0 });
        expect(client.stats().rows).toMatchObject({ accepted: 2_995, rejected: 6 });
        await expectOnServer(
          port,
          name,
          [mixed, good, other].map((result) => result.acceptedBatch()!),
        );
      }
      const files = await listDeadLetters(directory);
      expect(files.length).toBe(1);
      const told = JSON.parse(await python(READ, files[0]!.path));
      expect(told.id).toEqual([1, 2, 700, 1_999, 2_500, 2_500]);
      expect(told.price).toEqual(told.id.map((id: number) => -id));
      expect(told.name).toEqual(told.id.map((id: number) => (id % 3 === 0 ? null : `row ${id}`)));
      expect(told._rejection_row).toEqual([1, 2, 700, 1_999, 100, 0]);
      expect(told._rejection_sequence).toEqual([1, 1, 1, 1, 3, 4]);
      expect(new Set(told._rejection_code)).toEqual(new Set(["INVALID_ARGUMENT"]));
      expect(told._rejection_reason[0]).toContain("price must not be negative");

      // What was kept can be mended and sent again as it is.
      const kept = await readDeadLetter(files[0]!);
      expect(kept.rows.schema.names).toEqual(["id", "price", "name"]);
      expect(kept.rejections[3]).toMatchObject({ sequence: 1n, row: 1_999, code: "INVALID_ARGUMENT" });
      expect(Date.now() - kept.rejections[0]!.time.getTime()).toBeLessThan(600_000);
      await using again = await connect("discard:");
      expect(await again.send(kept.rows)).toMatchObject({ status: "acknowledged", rows: 6 });
      await removeDeadLetter(files[0]!);
      expect(await listDeadLetters(directory)).toEqual([]);
    },
  );

  test("without the promise that nothing was kept, all rows of the write fail and none is tried again", async () => {
    const port = ports.part!;
    await using client = await connect(`grpc://127.0.0.1:${port}/quarantine/off`, {
      flight: { acknowledgement: "part", atomicRefusals: true },
      quarantine: false,
    });
    const result = await client.send(rows(0, 100, [50]));
    expect(result).toMatchObject({ status: "failed", acceptedRows: 0, rejectedRows: 0 });
    expect(result.error).toMatchObject({ code: "ROWS_REJECTED", retry: "never" });
    expect(client.stats().writes).toMatchObject({ sent: 1, refused: 0 });
  });
});
