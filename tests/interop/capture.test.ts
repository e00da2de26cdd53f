// what was captured is read by pyarrow and polars, also what a process that was killed has left.
import { spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, expect, test, vi } from "vitest";
import { connect } from "../../dist/index.js";
import { batchOf, everyType } from "../ts/support/batches.js";
import { describeWith, PYTHON } from "./support/peer.js";

const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-capture-"));
afterAll(() => fs.rmSync(home, { recursive: true, force: true }));

/** Rows of each file of a directory, as pyarrow reads them; with polars: as it does too, and every value validated. */
const READ = `
import glob, json, sys
import polars, pyarrow as pa, pyarrow.json
found = {}
for name in sorted(glob.glob(sys.argv[1] + "/captured-*")):
    if name.endswith(".arrow"):
        table = pa.ipc.open_file(name).read_all()
        if sys.argv[2] == "polars": assert polars.read_ipc(name).height == table.num_rows
    elif name.endswith(".arrows"):
        table = pa.ipc.open_stream(name).read_all()
        if sys.argv[2] == "polars": assert polars.read_ipc_stream(name).height == table.num_rows
    elif name.endswith(".ndjson"):
        table = pa.json.read_json(name)
        if sys.argv[2] == "polars": assert polars.read_ndjson(name).height == table.num_rows
    else: continue
    table.validate(full=sys.argv[2] == "polars")
    found[name] = [table.num_rows, table.num_columns, table.column("n").to_pylist() if "n" in table.column_names else []]
print(json.dumps(list(found.values())))
`;
function read(directory: string, other = "polars"): [number, number, number[]][] {
  const { stdout, stderr, status } = spawnSync(PYTHON, ["-c", READ, directory, other], { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

/** Sends rows until it is killed. */
const PROGRAM = `
import { tableFromArrays } from "apache-arrow";
import { connect } from INDEX;
const client = await connect("discard:", { capture: { directory: process.argv[1], format: process.argv[2] } });
for (let turn = 0; ; turn++) {
  (await client.send(tableFromArrays({ n: Int32Array.from({ length: 100 }, (_, i) => turn * 100 + i) }))).orThrow();
  if (client.stats().capture.rowsWritten > 1_000) console.log(client.stats().capture.rowsWritten);
}
`.replace(
  "INDEX",
  JSON.stringify(pathToFileURL(path.resolve(import.meta.dirname, "../../dist/index.js")).href),
);

describeWith(PYTHON, "R-43 captured files, read by others", () => {
  test("every type of column, in Arrow files and streams", async () => {
    for (const format of ["arrow-file", "arrow-stream"] as const) {
      const directory = path.join(home, format);
      const batch = batchOf(everyType());
      const client = await connect("discard:", { capture: { directory, format } });
      for (let i = 0; i < 3; i++) (await client.send(batch)).orThrow();
      await client.close();
      expect(client.stats().capture).toMatchObject({ rowsWritten: 3 * batch.numRows, rowsFailed: 0 });
      const found = read(directory, "none");
      expect(found.reduce((sum, [rows]) => sum + rows, 0)).toBe(3 * batch.numRows);
      for (const [, columns] of found) expect(columns).toBe(batch.numCols);
    }
  });

  test.each(["arrow-file", "arrow-stream", "ndjson"] as const)(
    "%s after SIGKILL: rows that were written are there, once and in order, for the next client",
    async (format) => {
      const directory = path.join(home, `killed-${format}`);
      const child = spawn(process.execPath, ["--input-type=module", "-e", PROGRAM, directory, format], {
        cwd: import.meta.dirname,
        stdio: ["ignore", "pipe", "inherit"],
      });
      let written = 0;
      for await (const chunk of child.stdout) {
        written = Number(String(chunk).trim().split("\n").at(-1));
        if (written > 0) break;
      }
      child.kill("SIGKILL");
      await vi.waitFor(() => expect(child.signalCode).toBe("SIGKILL"), { timeout: 30_000 });
      expect(fs.readdirSync(directory).some((name) => name.endsWith(".part"))).toBe(true);
      await (await connect("discard:", { capture: { directory, format } })).close();
      const [first, ...others] = read(directory);
      expect(others).toEqual([]);
      const [rows, , values] = first!;
      // Rows count as written once they are appended, and the system has them at the end of that turn.
      expect(rows).toBeGreaterThan(900);
      expect(values).toEqual(Array.from({ length: rows }, (_, i) => i));
      expect(fs.readdirSync(directory).some((name) => name.endsWith(".part"))).toBe(false);
    },
    60_000,
  );
});
