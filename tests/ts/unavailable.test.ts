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
import { type Installation, libc, unavailable } from "../../dist/unavailable.js";

const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-unavailable-"));
afterAll(() => fs.rmSync(home, { recursive: true, force: true }));

const ADDON = "arrow-ingest-linux-x64-gnu";
const here: Installation = { addon: ADDON, manifest: {}, outOfDescriptors: false };

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
      "cannot be loaded: x.node: file too short",
    ],
    ["something else", "text", "cannot be loaded: text"],
  ])("%s", (_, cause, says) => {
    const message = said(cause);
    expect(message).toContain(says);
    expect(message).not.toContain("is not installed");
  });

  test("a bundle", () => {
    for (const cause of [loaderError(), Object.assign(new Error("Cannot find module"), { code: "X" })])
      expect(said(cause, { manifest: null })).toContain("leave arrow-ingest out of it");
    expect(() => addonOf({ default: {} })).toThrow(TypeError);
  });

  test("descriptors that ran out are seen where nobody says it, and a cause that is its own ends", () => {
    expect(said(loaderError(), { outOfDescriptors: true })).toContain("ulimit -n");
    const own = new Error("Cannot find own");
    own.cause = own;
    expect(said(own)).toContain("is not installed");
  });

  test("the C library is asked for, and not knowing it is no error", () => {
    expect(libc(() => ({ header: { glibcVersionRuntime: "2.36" } }))).toBe("gnu");
    expect(libc(() => ({ header: {} }))).toBe("musl");
    const denied = (): never => {
      throw new Error("Requires sys access");
    };
    expect(libc(denied)).toBe("gnu");
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
