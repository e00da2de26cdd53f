// File systems of a test's own, which only root may mount.
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { describe, test } from "vitest";

/** A small file system in memory. */
export class SmallDisk implements Disposable {
  readonly path = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-disk-"));

  constructor(bytes: number) {
    mount("-t", "tmpfs", "-o", `size=${bytes},mode=700`, "tmpfs", this.path);
  }

  /** Bytes that are left. */
  get free(): number {
    const { bavail, bsize } = fs.statfsSync(this.path);
    return bavail * bsize;
  }

  /** Of somebody else; all that is left, unless a size is given. */
  fill(bytes = this.free): void {
    fs.writeFileSync(path.join(this.path, "ballast"), Buffer.alloc(bytes));
  }

  /** Takes back what `fill` has put there. */
  empty(): void {
    fs.rmSync(path.join(this.path, "ballast"));
  }

  /** Nobody may have a file of it open to write. */
  readOnly(): void {
    mount("-o", "remount,ro", this.path);
  }

  [Symbol.dispose](): void {
    // A client that failed a test may have files open.
    execFileSync("umount", ["--lazy", this.path]);
    fs.rmdirSync(this.path);
  }
}

function mount(...args: string[]): void {
  execFileSync("mount", args, { stdio: ["ignore", "ignore", "pipe"], encoding: "utf8" });
}

/** Why no file system can be mounted; null if one can. */
function whyNot(): string | null {
  if (process.platform !== "linux") return "tmpfs is Linux'";
  try {
    new SmallDisk(1 << 16)[Symbol.dispose]();
    return null;
  } catch (error) {
    return `no file system may be mounted here: ${String((error as { stderr?: string }).stderr ?? error).trim()}`;
  }
}

/** As `describe`, where file systems can be mounted. In CI it fails, unless even root may not. */
export function describeWithDisks(name: string, body: () => void): void {
  const why = whyNot();
  if (why === null) {
    describe(name, body);
    return;
  }
  console.warn(`SKIPPED: ${name}: ${why}`);
  if (process.env.CI && process.getuid?.() !== 0)
    test(name, () => {
      throw new Error(`CI runs as root: ${why}`);
    });
  else test.skip(`${name} (${why})`, () => {});
}
