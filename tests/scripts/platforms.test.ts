// what is asserted of an addon that was built for another platform, and which tools may build it.
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { expect, test } from "vitest";
import { platforms } from "../../scripts/build-platform.mjs";
import { addonFault, byVersion, faultOf, needsOf } from "../../scripts/elf.mjs";
import { askNodeFirst } from "../../scripts/ensure.mjs";
import { GLIBC_FLOOR, rustVersion, versionFault } from "../../scripts/toolchain.mjs";

const needs = {
  machine: "Advanced Micro Devices X86-64",
  libraries: ["libm.so.6", "libc.so.6", "ld-linux-x86-64.so.2"],
  symbols: [{ name: "memcpy", version: "GLIBC_2.14" }],
  glibc: "2.14",
};

test("R-80 an addon that needs a later C library, another library, or what nobody defines is no addon", () => {
  expect(faultOf(needs, false)).toBeUndefined();
  const later = { ...needs, symbols: [{ name: "dlsym", version: "GLIBC_2.34" }], glibc: "2.34" };
  expect(faultOf(later, false)).toBe("it needs glibc 2.34: dlsym@GLIBC_2.34");
  const unwinding = { ...needs, symbols: [{ name: "_Unwind_Resume", version: "GCC_3.0" }] };
  expect(faultOf({ ...unwinding, glibc: GLIBC_FLOOR }, false)).toBeUndefined();
  expect(faultOf({ ...needs, libraries: ["libssl.so.3"] }, false)).toBe("it needs libssl.so.3");
  const wild = { ...needs, symbols: [{ name: "napi_create_error", version: undefined }] };
  expect(faultOf(wild, false)).toBe("nobody defines napi_create_error");

  const musl = { ...needs, libraries: ["libc.so"], symbols: wild.symbols, glibc: undefined };
  expect(faultOf(musl, true)).toBeUndefined();
  expect(faultOf({ ...musl, symbols: needs.symbols }, true)).toBe("it needs glibc");
  expect(faultOf(needs, true)).toContain("it needs libm.so.6");
});

test("versions are ordered by number", () => {
  expect(["2.34", "2.4", "2.28", "2.2.5"].sort(byVersion)).toEqual(["2.2.5", "2.4", "2.28", "2.34"]);
});

test.runIf(process.platform === "linux")("R-80 readelf tells what a library of this Node needs", () => {
  const { sharedObjects } = process.report.getReport() as unknown as { sharedObjects: string[] };
  const library = sharedObjects.find((file) => /libgcc_s|libstdc/.test(file))!;
  const found = needsOf(library);
  expect(found.libraries.join()).toMatch(/\blibc\./);
  expect(found.symbols.length).toBeGreaterThan(5);
  const [own, other] = process.arch === "x64" ? ["x86_64", "aarch64"] : ["aarch64", "x86_64"];
  expect(addonFault(library, `${other}-unknown-linux-gnu`)).toMatch(/^it is for /);
  expect(addonFault(library, `${own}-unknown-linux-gnu`) ?? "").not.toMatch(/^it is for /);
  expect(() => needsOf(import.meta.filename)).toThrow(/is no shared library/);
});

test("R-80 a compiler older than Cargo.toml wants is refused", () => {
  expect(versionFault("rustc 1.96.0 (ac68faa20 2026-05-25)", "1.95")).toBeUndefined();
  expect(versionFault(`rustc ${rustVersion()}.0`, rustVersion())).toBeUndefined();
  expect(versionFault("rustc 1.63.0", "1.95")).toBe("rustc 1.63.0 is too old: Cargo.toml wants Rust 1.95.");
  expect(versionFault("rustc 2.0.0", "1.95")).toBeUndefined();
  expect(versionFault("gcc", "1.95")).toContain("does not say its version");
});

test("the addon has one HTTP client, one provider of TLS, and no compressor of brotli", () => {
  const lock = fs.readFileSync("Cargo.lock", "utf8");
  const names = [...lock.matchAll(/^name = "(.+)"$/gm)].map(([, name]) => name!);
  expect(names).toContain("ring");
  // With two providers in the tree, rustls panics at the first connection unless the process has chosen one.
  for (const other of ["aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls"])
    expect(names).not.toContain(other);
  // That of patches/reqwest is the other one by another number.
  expect(names.filter((name) => name === "reqwest")).toHaveLength(2);
  expect(names).not.toContain("rustls-platform-verifier");
  // That of patches/brotli has no source of its own in the lock file.
  expect(lock).toContain('name = "brotli"\n');
  expect(lock).not.toMatch(/^name = "brotli"\nversion = ".+"\nsource = /m);
});

test("R-80 each platform of package.json has a name of npm's, and Linux has four", async () => {
  const names = ((await platforms()) as { name: string }[]).map(({ name }) => name);
  expect(names.filter((name) => name.startsWith("linux")).sort()).toEqual([
    "linux-arm64-gnu",
    "linux-arm64-musl",
    "linux-x64-gnu",
    "linux-x64-musl",
  ]);
});

test("R-81 the loader asks Node for its C library before it asks the machine", () => {
  const loader = fs.readFileSync("src-ts/generated/index.js", "utf8");
  expect(loader.indexOf("isMuslFromNode()\n")).toBeGreaterThan(0);
  expect(loader.indexOf("isMuslFromNode()\n")).toBeLessThan(loader.indexOf("isMuslFromFilesystem()\n"));
  const napis = "const isMuslFromFilesystem = () => null\n    musl = isMuslFromFilesystem()\n";
  expect(askNodeFirst(napis)).toContain("const isMuslFromNode = ");
});

test("R-81 the table of docs/runtimes.md has what `npm run test:runtimes` tries, and nothing else", () => {
  const list = execFileSync(process.execPath, ["scripts/test-runtimes.mjs", "--list"], { encoding: "utf8" });
  const page = fs.readFileSync("docs/runtimes.md", "utf8");
  const [, table] = /^\| runtime or tool \|.*\n\|-+\|-+\|\n((?:\|.*\n)+)/m.exec(page)!;
  const named = table!
    .trim()
    .split("\n")
    .map((line) => line.split(" | ")[0]!.slice(2));
  expect(named.sort()).toEqual(list.trim().split("\n").sort());
});
