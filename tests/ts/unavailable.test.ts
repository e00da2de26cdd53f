// R-37 R-32: where the native part cannot be had, the true cause comes first; a Node that is too old gets one line.
import { execFile } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { promisify } from "node:util";
import { rolldown } from "rolldown";
import { afterAll, describe, expect, test } from "vitest";
import { addonOf } from "../../dist/binding.js";
import { checkRuntime, OLDEST_NODE } from "../../dist/runtime.js";
import {
  foreignProcessor,
  glibcVersion,
  type Installation,
  otherVersion,
  unavailable,
} from "../../dist/unavailable.js";

const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-unavailable-"));
afterAll(() => fs.rmSync(home, { recursive: true, force: true }));

const ADDON = "arrow-ingest-linux-x64-gnu";
const here: Installation = {
  addon: ADDON,
  manifest: {},
  outOfDescriptors: false,
  machine: "linux-x64 with glibc 2.36",
  others: [],
  foreign: undefined,
};

/** As napi's loader throws it: a sentence about npm, and below it all that was tried. */
function loaderError(...tried: string[]): Error {
  const cause = [...tried, `Cannot find module '${ADDON}'`].reduce<Error | undefined>(
    (cause, message) => new Error(message, { cause }),
    undefined,
  );
  return new Error("Cannot find native binding. npm has a bug", { cause });
}

const said = (cause: unknown, installation: Partial<Installation> = {}): string => {
  const error = unavailable(cause, { ...here, ...installation });
  expect(error).toMatchObject({ code: "NATIVE_UNAVAILABLE", retry: "never", cause });
  return error.message;
};

describe("R-37 NATIVE_UNAVAILABLE names what is in the way", () => {
  test("a package that is not installed: its name, and the ways out", () => {
    const message = said(loaderError());
    expect(message).toContain(`is not installed for this machine (package ${ADDON})`);
    expect(message).toContain("npm install --include=optional");
    expect(message).toContain("npx arrow-ingest-build");
    expect(said(loaderError(), { manifest: { optionalDependencies: { [ADDON]: "1" } } })).toBe(message);
  });

  test("what is installed here is looked up by itself", () => {
    const { message } = unavailable(loaderError());
    expect(message).toMatch(/package for this machine|not installed for this machine/);
    expect(message).toContain(`arrow-ingest-${process.platform}-${process.arch}`);
  });

  test("a platform that no package was published for is not told to install one", () => {
    const manifest = { optionalDependencies: { [ADDON]: "1" } };
    const message = said(loaderError(), { addon: "arrow-ingest-linux-x64-musl", manifest });
    expect(message).toContain("has no package for this machine (it would be arrow-ingest-linux-x64-musl)");
    expect(message).toContain("npx arrow-ingest-build");
    expect(message).not.toContain("install again");
  });

  test.each([
    [
      "a policy",
      loaderError("Cannot load native addon because loading addons is disabled."),
      "--allow-addons",
    ],
    ["a policy for files", loaderError("Access to this API has been restricted."), "--allow-fs-read"],
    ["rights of Deno", new Error('Requires ffi access to "x", run again with --allow-ffi'), "--allow-ffi"],
    ["descriptors", loaderError("libx.so: cannot open shared object file: Too many open files"), "ulimit -n"],
    [
      "an old C library",
      loaderError("libc.so.6: version `GLIBC_2.34' not found\n(required by x)"),
      "GLIBC_2.34",
    ],
    [
      "a file that is broken",
      loaderError("x.node: file too short"),
      "cannot be loaded on linux-x64 with glibc 2.36: x.node: file too short",
    ],
    ...[
      "Error loading shared library ld-linux-x86-64.so.2: No such file or directory",
      "Error loading shared library libgcc_s.so.1: No such file or directory (needed by x.node)",
      "libc.so: cannot open shared object file: No such file or directory",
      "/lib/x86_64-linux-gnu/libc.so: invalid ELF header",
      "libc.musl-x86_64.so.1: cannot open shared object file: No such file or directory",
      "Error relocating x.node: __res_init: symbol not found",
    ].map((text): [string, Error, string] => [
      `a file for the other C library: ${text.split(":", 1)[0]}`,
      loaderError(text),
      `another C library (${text}`,
    ]),
    ["noexec", loaderError("x.node: failed to map segment from shared object"), "mounted noexec"],
    ["something else", "text", "cannot be loaded on linux-x64 with glibc 2.36: text"],
  ])("%s", (_, cause, says) => {
    const message = said(cause);
    expect(message).toContain(says);
    expect(message).not.toContain("is not installed");
  });

  test("a bundle", () => {
    for (const cause of [loaderError(), Object.assign(new Error("Cannot find module"), { code: "X" })])
      expect(said(cause, { manifest: null })).toContain("leave arrow-ingest out of it");
    expect(() => addonOf({ default: {} })).toThrow("leave arrow-ingest out of it");
  });

  test("descriptors that ran out are seen where nobody says it, and a cause that is its own ends", () => {
    expect(said(loaderError(), { outOfDescriptors: true })).toContain("ulimit -n");
    const own = new Error("Cannot find own");
    own.cause = own;
    expect(said(own)).toContain("is not installed");
  });

  test("R-84 packages of other machines, and a file for another processor", () => {
    const others = ["arrow-ingest-linux-arm64-musl"];
    expect(said(loaderError(), { others })).toContain(
      `is installed for another machine (${others[0]}), and this is linux-x64 with glibc 2.36, which wants ${ADDON}`,
    );
    expect(said(loaderError(), { foreign: "arm64" })).toContain("is for another processor (arm64)");
  });

  test("R-84 the processor that a file is for", () => {
    const file = path.join(home, "elf");
    const elf = (machine: number): string => {
      const head = Buffer.alloc(64);
      head.writeUInt32BE(0x7f454c46, 0);
      head.writeUInt16LE(machine, 18);
      fs.writeFileSync(file, head);
      return file;
    };
    expect(foreignProcessor(elf(183), "x64")).toBe("arm64");
    expect(foreignProcessor(elf(183), "arm64")).toBeUndefined();
    expect(foreignProcessor(elf(243), "x64")).toBe("ELF machine 243");
    fs.writeFileSync(file, "no library");
    for (const other of [file, path.join(home, "missing"), undefined])
      expect(foreignProcessor(other, "x64")).toBeUndefined();
  });

  test("R-84 another version: which, of what", () => {
    const manifest = { version: "2.0.0" };
    expect(otherVersion("2.0.0", { ...here, manifest })).toBeUndefined();
    expect(otherVersion("1.0.0", { ...here, manifest: null })).toBeUndefined();
    expect(otherVersion("1.0.0", { ...here, manifest })).toMatchObject({
      code: "NATIVE_UNAVAILABLE",
      retry: "never",
      message: expect.stringContaining(`is of version 1.0.0, and this package of 2.0.0 (package ${ADDON}`),
    });
  });

  test("the C library is asked for, and not knowing it is no error", () => {
    expect(glibcVersion(() => ({ header: { glibcVersionRuntime: "2.36" } }))).toBe("2.36");
    expect(glibcVersion(() => ({ header: {} }))).toBeNull();
    const denied = (): never => {
      throw new Error("Requires sys access");
    };
    expect(glibcVersion(denied)).toBe("");
  });
});

// The loader, the C library's and ours, provoked; a package is laid out as npm would, without the addon.
describe.runIf(process.platform === "linux")("R-84 an installation that is wrong", () => {
  const own = `linux-${process.arch}-${glibcVersion() === null ? "musl" : "gnu"}`;
  const other = process.arch === "x64" ? "arm64" : "x64";
  const built = process.env.ARROW_INGEST_ADDON ?? path.resolve(`dist/generated/arrow-ingest.${own}.node`);

  async function installed(platform: string, put: (file: string) => void, version?: string): Promise<string> {
    const modules = path.join(fs.mkdtempSync(path.join(home, "app-")), "node_modules");
    const main = path.join(modules, "arrow-ingest");
    fs.cpSync(path.resolve("dist"), path.join(main, "dist"), {
      recursive: true,
      filter: (file) => !/\.(node|map)$/.test(file),
    });
    const manifest = JSON.parse(fs.readFileSync("package.json", "utf8"));
    const names = [own, `linux-${other}-gnu`].map((name) => [`arrow-ingest-${name}`, manifest.version]);
    Object.assign(manifest, { optionalDependencies: Object.fromEntries(names) });
    if (version !== undefined) manifest.version = version;
    fs.writeFileSync(path.join(main, "package.json"), JSON.stringify(manifest));
    for (const name of ["apache-arrow", "p-retry"])
      fs.symlinkSync(path.resolve("node_modules", name), path.join(modules, name));
    const name = `arrow-ingest.${platform}.node`;
    const folder = path.join(modules, `arrow-ingest-${platform}`);
    fs.mkdirSync(folder);
    fs.writeFileSync(path.join(folder, "package.json"), JSON.stringify({ main: name, version: "0.0.0" }));
    put(path.join(folder, name));
    const code = `import { connect } from "arrow-ingest";
      const error = await connect("discard:").then(() => ({ code: "OPEN" }), (error) => error);
      console.log(error.code, error.message);`;
    const program = path.join(modules, "../program.mjs");
    fs.writeFileSync(program, code);
    const env = { ...process.env, NODE_OPTIONS: "" };
    const node = path.resolve("node_modules/.bin/node");
    return (await promisify(execFile)(node, [program], { timeout: 60_000, env })).stdout.trim();
  }

  test("for another machine", async () => {
    const said = await installed(`linux-${other}-gnu`, (file) => fs.writeFileSync(file, ""));
    expect(said).toMatch(/^NATIVE_UNAVAILABLE .* is installed for another machine/);
    expect(said).toContain(`(arrow-ingest-linux-${other}-gnu), and this is linux-${process.arch} with `);
  });

  test("for another processor, under this one's name", async () => {
    const head = Buffer.alloc(64);
    Buffer.from("7f454c46020101", "hex").copy(head);
    head.writeUInt16LE(other === "arm64" ? 183 : 62, 18);
    const said = await installed(own, (file) => fs.writeFileSync(file, head));
    expect(said).toContain(`is for another processor (${other})`);
  });

  test("cut short", async () => {
    const said = await installed(own, (file) => fs.writeFileSync(file, "\u007fELF"));
    expect(said).toMatch(/^NATIVE_UNAVAILABLE .* is installed and cannot be loaded on linux-/);
    expect(said).toMatch(/file too short|not a valid|Exec format/i);
  });

  test("of another version", async () => {
    const said = await installed(own, (file) => fs.symlinkSync(built, file), "9.9.9");
    expect(said).toMatch(/^NATIVE_UNAVAILABLE .* is of version \S+, and this package of 9\.9\.9/);
  });

  test("for a newer C library than the machine has", async () => {
    const said = await installed(own, (file) => {
      fs.copyFileSync(built, file, fs.constants.COPYFILE_FICLONE);
      const descriptor = fs.openSync(file, "r+");
      try {
        // The names of versions lie near the front. The loader compares them, too, and finds none of this name.
        const front = Buffer.alloc(2 ** 23);
        fs.readSync(descriptor, front, 0, front.length, 0);
        const at = front.indexOf("GLIBC_2.");
        expect(at).toBeGreaterThan(0);
        const end = front.indexOf(0, at);
        fs.writeSync(descriptor, `GLIBC_${"9".repeat(end - at - 6)}`, at);
      } finally {
        fs.closeSync(descriptor);
      }
    });
    expect(said).toMatch(
      /^NATIVE_UNAVAILABLE .* was built for a newer C library than this machine has .*GLIBC_9/,
    );
    expect(said).toMatch(/this is linux-\S+ with glibc \d/);
  });
});

describe("R-37 in a process of its own", () => {
  const index = path.resolve("dist/index.js");
  const node = path.resolve("node_modules/.bin/node");

  async function run(flags: readonly string[], code: string): Promise<string> {
    const file = path.join(home, "program.mjs");
    fs.writeFileSync(file, code);
    const { stdout } = await promisify(execFile)(node, [...flags, file], { timeout: 60_000 });
    return stdout.trim();
  }

  const connecting = `const { connect } = await import(${JSON.stringify(index)});
    const error = await connect("discard:").then(() => ({ code: "OPEN" }), (error) => error);
    console.log(error.code, error.message);`;

  test("--permission without addons", async () => {
    const said = await run(["--permission", "--allow-fs-read=*"], connecting);
    expect(said).toMatch(
      /^NATIVE_UNAVAILABLE the native part of arrow-ingest may not be loaded .*--allow-addons/,
    );
    expect(await run(["--permission", "--allow-fs-read=*", "--allow-addons"], connecting)).toMatch(/^OPEN/);
  });

  test("a bundle that holds the package, whoever made it", async () => {
    const input = path.join(home, "bundled.mjs");
    fs.writeFileSync(input, connecting);
    const made = await rolldown({ input, platform: "node", logLevel: "silent", external: ["apache-arrow"] });
    // Below the repository, so that apache-arrow is found, and below a package of another name.
    const app = fs.mkdtempSync(path.resolve("target/bundle-"));
    try {
      fs.writeFileSync(path.join(app, "package.json"), '{ "name": "app", "type": "module" }');
      await made.write({ dir: path.join(app, "dist"), format: "esm" });
      await made.close();
      const file = path.join(app, "dist/bundled.js");
      const env = { ...process.env, NODE_OPTIONS: "" };
      const { stdout } = await promisify(execFile)(node, [file], { timeout: 60_000, env });
      expect(stdout).toMatch(/^NATIVE_UNAVAILABLE .* is not found from within a bundle/);
    } finally {
      fs.rmSync(app, { recursive: true });
    }
  });

  test("no descriptors left", async () => {
    const said = await run(
      [],
      `import * as fs from "node:fs";
      await import(${JSON.stringify(index)});
      const open = [];
      try { for (;;) open.push(fs.openSync("/dev/null", "r")); } catch {}
      ${connecting}`,
    );
    expect(said).toMatch(/^NATIVE_UNAVAILABLE .* the process has no file descriptors left/);
  });

  test("--jitless, which has no WebAssembly: batches are sent all the same", async () => {
    const said = await run(
      ["--jitless"],
      `import { tableFromArrays } from "apache-arrow";
      import { connect } from ${JSON.stringify(index)};
      const client = await connect("discard:");
      const result = await client.send(tableFromArrays({ n: new Int32Array(65_536) }));
      console.log(result.status, result.rows);
      await client.close();`.replace(
        '"apache-arrow"',
        JSON.stringify(path.resolve("node_modules/apache-arrow/Arrow.node.mjs")),
      ),
    );
    expect(said).toBe("acknowledged 65536");
  });
});

describe("R-37 the oldest Node", () => {
  test("is the one that package.json and README name", () => {
    const { engines } = JSON.parse(fs.readFileSync("package.json", "utf8"));
    expect(engines.node).toBe(`>=${OLDEST_NODE}.0`);
    expect(fs.readFileSync("README.md", "utf8")).toContain(`Node ≥ ${OLDEST_NODE}`);
  });

  test.each(["20.20.2", "22.11.0", "9.9.9"])("%s is told so in one line", (version) => {
    expect(() => checkRuntime({ node: version })).toThrowError(
      `arrow-ingest needs Node ${OLDEST_NODE} or later; this is Node ${version}`,
    );
  });

  test("newer ones pass, and so do those that only claim to be some Node", () => {
    for (const versions of [
      { node: "22.12.0" },
      { node: "24.0.0" },
      { node: "22.6.0", bun: "1" },
      { node: "20.0.0", deno: "2" },
    ])
      checkRuntime(versions);
  });
});
