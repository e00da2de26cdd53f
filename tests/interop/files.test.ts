// R-64: what goes into a table from JSON, CSV and Parquet is what pyarrow reads of the same file.
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, expect, test } from "vitest";
import { connect, t } from "../../dist/index.js";
import { run } from "../ts/support/cli.js";
import { describeWith, PYTHON } from "./support/peer.js";

const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-files-peer-"));
afterAll(() => fs.rmSync(home, { recursive: true, force: true }));
const at = (name: string): string => path.join(home, name);

const peer = (...args: string[]): string =>
  JSON.parse(
    execFileSync(PYTHON, [path.join(import.meta.dirname, "files_peer.py"), ...args], { encoding: "utf8" }),
  ) as string;

const schema = t.schema({
  id: t.int64(),
  small: t.int16().nullable(),
  x: t.float64().nullable(),
  price: t.decimal(18, 4).nullable(),
  name: t.utf8().nullable(),
  ok: t.bool().nullable(),
  day: t.date().nullable(),
  at: t.timestamp("us", "UTC").nullable(),
});

const NAMES = ["", "a, b", 'says "no"', "two\nlines", "é😀", "x".repeat(300)];

/** Rows as texts, the same in each run. */
function* rows(count: number): Generator<Record<string, string | null>> {
  let seed = 42;
  const draw = (below: number): number => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const maybe = (value: string): string | null => (draw(8) === 0 ? null : value);
  const two = (value: number): string => String(value).padStart(2, "0");
  for (let i = 0; i < count; i++) {
    const day = `20${two(draw(90) + 10)}-${two(draw(12) + 1)}-${two(draw(28) + 1)}`;
    yield {
      id: String(9_007_199_254_740_993n + BigInt(i)),
      small: maybe(String(draw(65_536) - 32_768)),
      x: maybe(String((draw(2_000_000) - 1_000_000) / 7)),
      price: maybe(`${draw(90_000_000)}${two(draw(100))}.${two(draw(100))}${two(draw(100))}`),
      name: maybe(NAMES[draw(NAMES.length)]!),
      ok: maybe(draw(2) === 0 ? "true" : "false"),
      day: maybe(day),
      at: maybe(
        `${day}T${two(draw(24))}:${two(draw(60))}:${two(draw(60))}.${String(draw(1_000_000)).padStart(6, "0")}Z`,
      ),
    };
  }
}

const IN_QUOTES = ["name", "day", "at", "price"];
const asJson = (row: Record<string, string | null>): string =>
  `{${Object.entries(row)
    .map(
      ([name, value]) =>
        `"${name}":${value !== null && IN_QUOTES.includes(name) ? JSON.stringify(value) : value}`,
    )
    .join(",")}}`;
const asCsv = (row: Record<string, string | null>): string =>
  Object.entries(row)
    .map(([name, value]) =>
      value !== null && name === "name" ? `"${value.replaceAll('"', '""')}"` : (value ?? ""),
    )
    .join(",");

describeWith(PYTHON, "R-64 files", () => {
  test.each(["json", "csv"] as const)("%s, through a Delta table", async (format) => {
    const all = [...rows(2_000)];
    const text =
      format === "json"
        ? all.map(asJson).join("\n")
        : `${Object.keys(all[0]!).join(",")}\n${all.map(asCsv).join("\n")}\n`;
    const name = at(`rows.${format}`);
    fs.writeFileSync(name, text);
    const lake = at(`lake-${format}`);
    await using client = await connect(`delta:${lake}`, { schema });
    let count = 0;
    for await (const { result, rejections } of client.sendBytes(name)) {
      expect(rejections).toEqual([]);
      count += result.orThrow().acceptedRows;
    }
    expect(count).toBe(2_000);
    expect(peer(format, name, lake)).toBe("");
  });

  test.each(["snappy", "gzip", "zstd", "brotli", "none"])(
    "Parquet with %s, by the command line",
    async (codec) => {
      const name = at(`${codec}.parquet`);
      peer("parquet", name, codec);
      const lake = at(`lake-${codec}`);
      const { code, stderr } = await run(["send", `delta:${lake}`, name, "--quiet"]);
      expect(stderr).toBe("");
      expect(code).toBe(0);
      expect(peer("same-parquet", name, lake)).toBe("");
    },
  );
});
