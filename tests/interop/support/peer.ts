// One Python process that is asked many things; what needs it is skipped aloud where it is not installed.
import { type ChildProcessByStdio, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { afterAll, beforeAll, describe, test } from "vitest";

const root = path.resolve(import.meta.dirname, "../../..");
/** The Arrow project's integration files: beside this project, or where `ARROW_TESTING` says. */
export const goldenRoot = path.resolve(root, process.env.ARROW_TESTING ?? "../shared/arrow-testing");
export const PYTHON = path.join(root, ".tools/venv/bin/python");

/** As `describe`; where `there` is missing it says so, and on CI, where nothing may be missing, fails. */
export function describeWith(there: string, name: string, body: () => void): void {
  if (fs.existsSync(there)) {
    describe(name, body);
    return;
  }
  const why = `${there} is not there${there === goldenRoot ? " (ARROW_TESTING says where it is)" : ""}`;
  console.warn(`SKIPPED: ${name}: ${why}`);
  if (process.env.CI)
    test(name, () => {
      throw new Error(why);
    });
  else test.skip(`${name} (${why})`, () => {});
}

/** As `test`, with {@link describeWith}'s conditions. */
export function testWith(there: string, name: string, body: () => Promise<void>): void {
  describeWith(there, name, () => test(name, body));
}

export class Peer implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;
  readonly #reader: Interface;
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(env: Record<string, string>) {
    this.#child = spawn(PYTHON, [path.join(root, "tests/interop/peer.py")], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, PYTHONDONTWRITEBYTECODE: "1", ...env },
    });
    this.#reader = createInterface({ input: this.#child.stdout });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  static async start(env: Record<string, string> = {}): Promise<Peer> {
    const peer = new Peer(env);
    await peer.#answer();
    return peer;
  }

  /** Requests are answered one after the other. */
  ask<T>(op: string, request: Record<string, unknown>): Promise<T> {
    const asked = this.#turn.then(() => {
      this.#child.stdin.write(`${JSON.stringify({ op, ...request })}\n`);
      return this.#answer();
    });
    this.#turn = asked.catch(() => {});
    return asked as Promise<T>;
  }

  async #answer(): Promise<unknown> {
    const line = await this.#lines.next();
    if (line.done) throw new Error("the Python process ended");
    const answer = JSON.parse(line.value) as { ok?: unknown; error?: string };
    if (answer.error !== undefined) throw new Error(`Python: ${answer.error}`);
    return answer.ok;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin.end();
    await new Promise((resolve) => this.#child.once("close", resolve));
    this.#reader.close();
  }
}

/** One {@link Peer} for all tests of a file; none where Python is not installed, and then no test may ask it. */
export function peerOfFile(): Pick<Peer, "ask"> {
  let peer: Peer | undefined;
  beforeAll(async () => {
    if (fs.existsSync(PYTHON)) peer = await Peer.start();
  });
  afterAll(async () => {
    await peer?.[Symbol.asyncDispose]();
  });
  return {
    ask: (op, request) => {
      if (!peer) throw new Error(`${PYTHON} is not there`);
      return peer.ask(op, request);
    },
  };
}

/** A folder that is gone after the tests of a file. */
export function folderOfFile(name: string): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), `arrow-ingest-${name}-`));
  afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export const base64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
