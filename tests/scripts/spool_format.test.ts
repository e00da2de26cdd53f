// the tests that specs/spool-format.md names are there.
import * as fs from "node:fs";
import * as path from "node:path";
import { expect, test } from "vitest";

const root = path.resolve(import.meta.dirname, "../..");

test("every promise of the format names a test that exists", () => {
  const page = fs.readFileSync(path.join(root, "specs/spool-format.md"), "utf8");
  const table = page.split("\n| promise | test |\n")[1] ?? "";
  let named = 0;
  for (const line of table.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("|--"))) {
    const tests = line.split(" | ").at(-1)!;
    for (const [, file, names] of tests.matchAll(/`(\w+\.rs)`: ((?:`\w+`,? ?)+)/g)) {
      const code = fs.readFileSync(path.join(root, "tests/rs/spool", file!), "utf8");
      for (const [, name] of names!.matchAll(/`(\w+)`/g)) {
        expect(code, `${file}: ${name}`).toContain(`fn ${name}(`);
        named += 1;
      }
    }
  }
  expect(named).toBeGreaterThan(25);
});
