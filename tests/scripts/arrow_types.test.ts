// a new Arrow type touches places that one page lists. The page has each of them, and the types that it names.

import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import {
  javascriptTypes,
  matrix,
  namedInRust,
  namedInTypescript,
  PAGE,
  places,
  placesOnPage,
  rustTypes,
  withMatrices,
} from "../../scripts/arrow-types.mjs";

const page = readFileSync(path.resolve(import.meta.dirname, "../..", PAGE), "utf8");

describe("R-35 the page of Arrow types", () => {
  test.each([
    ["Rust", places().rust],
    ["TypeScript", places().typescript],
  ])("%s: has every file that names types, and what becomes of the others", (heading, found) => {
    const listed = placesOnPage(page, heading);
    expect(listed.map(({ file }) => file).sort()).toEqual([...found.keys()].sort());
    for (const { file, decides, others } of listed) {
      expect(decides, file).not.toBe("");
      expect(others, file).not.toBe("");
    }
  });

  test("has the types that each place names; else: node scripts/arrow-types.mjs", () => {
    expect(withMatrices(page)).toBe(page);
  });

  test("has every type of arrow-rs and of apache-arrow", () => {
    expect(rustTypes()).toEqual(expect.arrayContaining(["Null", "Utf8View", "RunEndEncoded"]));
    for (const type of [...rustTypes(), ...javascriptTypes().values()])
      expect(page).toContain(`\n| ${type} |`);
  });
});

describe("what counts as naming a type", () => {
  const types = ["Null", "Utf8", "List", "Struct"];

  test("a variant, under an alias too, but not in comments, tests or of another library", () => {
    const named = (text: string) => [...namedInRust(text, types)];
    expect(named("use arrow::datatypes::DataType;\nmatch t { DataType::Utf8 => 1, _ => 2 }")).toEqual([
      "Utf8",
    ]);
    expect(named("use arrow::datatypes::{DataType as Arrow, Field};\nArrow::List(_)")).toEqual(["List"]);
    expect(named("use arrow::datatypes::{DataType};\nuse DataType::{Null, Struct};")).toEqual([
      "Null",
      "Struct",
    ]);
    expect(named("use arrow::datatypes::DataType;\n// DataType::Utf8\n#[cfg(test)]\nDataType::List")).toEqual(
      [],
    );
    expect(named("use deltalake_core::kernel::DataType;\nDataType::Struct(_)")).toEqual([]);
  });

  test("a number of typeId, in a switch or compared", () => {
    const all = new Map([
      [1, "Null"],
      [5, "Utf8"],
      [12, "List"],
      [-1, "Dictionary"],
    ]);
    const named = (text: string) => [...namedInTypescript(text, all)];
    expect(
      named("switch (type.typeId) { case 5: { return 1; } case -1: return 2; }\nswitch (n) { case 12: }"),
    ).toEqual(["Utf8", "Dictionary"]);
    expect(named("if (one.typeId !== 1 || DataType.isList(type)) return; // typeId === 5")).toEqual([
      "Null",
      "List",
    ]);
  });

  test("a type that a place gains is a difference in the table", () => {
    const before = new Map([["a.rs", new Set(["Utf8"])]]);
    const after = new Map([["a.rs", new Set(["Utf8", "List"])]]);
    expect(matrix(types, after)).not.toBe(matrix(types, before));
    expect(matrix(types, after)).toContain("| List | ● |");
  });
});
