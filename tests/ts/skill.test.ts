// R-35 R-53: the ten tasks of the skill for coding assistants run as they stand.
import { execFile } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { blocks } from "../../scripts/docs.mjs";

const root = path.resolve(import.meta.dirname, "../..");
const page = fs.readFileSync(path.join(root, "skills/arrow-ingest/SKILL.md"), "utf8");
// Below the repository, so that `apache-arrow` and the package itself are found.
fs.mkdirSync(path.join(root, "target"), { recursive: true });
const programs = fs.mkdtempSync(path.join(root, "target/skill-"));
const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-skill-"));
afterAll(() => {
  for (const folder of [programs, home]) fs.rmSync(folder, { recursive: true, force: true });
});

test("each of the ten tasks has one block, and all of them run", async () => {
  const titles = [...page.matchAll(/^## (\d+)\. /gm)].map(([, number]) => Number(number));
  expect(titles).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  const found = blocks(page) as { language: string; text: string }[];
  expect(found.map(({ language }) => language)).toEqual(Array(10).fill("ts"));
  const files = found.map(({ text }, at) => {
    const file = path.join(programs, `${at + 1}.mts`);
    fs.writeFileSync(file, text);
    return pathToFileURL(file).href;
  });
  const program = `for (const file of ${JSON.stringify(files)}) { await import(file); console.log("ran"); }`;
  const args = ["--input-type=module", "-e", program];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args, { cwd: home });
  expect(stderr).toBe("");
  expect(stdout.split("\n").filter((line) => line === "ran").length).toBe(10);
  expect(stdout).toContain("acknowledged");
  expect(fs.readdirSync(home).sort()).toEqual(["captured", "ingest.yaml", "lake", "refused"]);
  expect(fs.readdirSync(path.join(home, "lake")).sort()).toEqual(["batches", "events", "orders", "stream"]);
}, 60_000);
