// Why the addon cannot be loaded, in words that say what to change.
//
// Invariants:
// - The true cause comes first. "Not installed" is said only where nothing else is known to be in the way: a policy,
//   missing rights, a bundle and used-up descriptors look alike to napi's loader.
// - Finding out never fails: whatever keeps the addon from being loaded may keep this from looking.

import * as fs from "node:fs";
import { createRequire } from "node:module";
import { chainOf, type IngestError, ingestError, isError } from "./errors.js";

/** What can be known of the installation; in one place, so that tests can say otherwise. */
export interface Installation {
  /** The package with the addon for this machine. */
  readonly addon: string;
  /** `package.json` of this package; null where these files do not lie in it. */
  readonly manifest: {
    readonly version?: string;
    readonly optionalDependencies?: Readonly<Record<string, string>>;
  } | null;
  readonly outOfDescriptors: boolean;
  /** What this Node runs on, as "linux-x64 with glibc 2.36". */
  readonly machine: string;
  /** Packages with the addon for other machines that are installed. */
  readonly others: readonly string[];
  /** The processor that the installed file is for, where that is another than Node's. */
  readonly foreign: string | undefined;
}

/** The error for whatever kept the addon from being loaded. */
export function unavailable(cause: unknown, installation: Installation = installed()): IngestError {
  return because(why(messages(cause), installation), cause);
}

/**
 * The error for an addon of another version than this package, or undefined. They are published together and cross the
 * boundary by numbers: of two versions nobody knows what a number means.
 */
export function otherVersion(
  native: string,
  { manifest, addon }: Installation = installed(),
): IngestError | undefined {
  const wanted = manifest?.version;
  if (wanted === undefined || native === wanted) return undefined;
  return because(
    `is of version ${native}, and this package of ${wanted} (package ${addon}, or a file in dist/generated): ` +
      "install both again, without node_modules and the lockfile if need be",
    undefined,
  );
}

const because = (reason: string, cause: unknown): IngestError =>
  ingestError({
    code: "NATIVE_UNAVAILABLE",
    operation: "load",
    message: `the native part of arrow-ingest ${reason}`,
    cause,
  });

const FROM_SOURCE = "build it from source with `npx arrow-ingest-build`, which needs Rust";

function why(texts: readonly string[], installation: Installation): string {
  const { addon, manifest, outOfDescriptors, machine, others, foreign } = installation;
  const says = (pattern: RegExp): string | undefined => texts.find((text) => pattern.test(text));
  if (says(/addons is disabled|ERR_DLOPEN_DISABLED/) !== undefined)
    return "may not be loaded by this process: start Node with --allow-addons beside --permission, and without --no-addons";
  if (says(/Access to this API has been restricted|ERR_ACCESS_DENIED/) !== undefined)
    return "may not be read by this process: start Node with --allow-fs-read for the folder of node_modules, and --allow-addons";
  if (says(/NotCapable|Requires \w+ access/) !== undefined)
    return "may not be loaded by this process: run Deno with --allow-ffi, --allow-read, --allow-env and --allow-sys";
  if (outOfDescriptors || says(/EMFILE|ENFILE|too many open files/i) !== undefined)
    return "cannot be opened: the process has no file descriptors left. Close some, or raise the limit (ulimit -n)";
  // Bundlers put something in the place of the loader, and webpack brings package.json along.
  if (manifest === null || says(/what was loaded is no addon/) !== undefined)
    return (
      "is not found from within a bundle: leave arrow-ingest out of it (`external` of esbuild, Rollup and Vite, " +
      "`externals` of webpack, `serverExternalPackages` of Next.js), and ship node_modules beside it"
    );
  if (foreign !== undefined)
    return `is for another processor (${foreign}), and this Node is ${machine}: install again on this machine`;
  const old = says(/GLIBC(XX)?_[\d.]+' not found/);
  if (old !== undefined)
    return (
      `was built for a newer C library than this machine has (${firstLine(old)}; this is ${machine}): use a newer ` +
      `system (glibc 2.28 or later), or ${FROM_SOURCE}`
    );
  // What musl's loader and glibc's say of a file that is for the other. glibc's name for its own `libc.so` is a script;
  // musl takes itself for glibc's libraries of the same names, and misses what is glibc's alone.
  const library = says(
    /Error loading shared library (ld-linux|libgcc_s)|libc\.(so|musl-\w+\.so\.1): (cannot open|invalid ELF header)|Error relocating .*: (__\w+|gnu_get_libc_version): symbol not found/,
  );
  if (library !== undefined)
    return `was built for another C library (${firstLine(library)}), and this is ${machine}: install again on this machine`;
  const denied = says(/failed to map segment|Operation not permitted|EPERM|EACCES|Permission denied/i);
  if (denied !== undefined)
    return (
      `is installed and may not be run (${firstLine(denied)}): look whether node_modules is on a file system that is ` +
      "mounted noexec, whether its files can be read, and whether SELinux or the like forbids it"
    );
  const broken = texts.find((text) => !/^(Cannot find|Unsupported|Failed to load native)/.test(text));
  if (broken !== undefined) return `is installed and cannot be loaded on ${machine}: ${firstLine(broken)}`;
  if (others.length > 0)
    return (
      `is installed for another machine (${others.join(", ")}), and this is ${machine}, which wants ${addon}: ` +
      "node_modules or the lockfile came from elsewhere; install again on this machine"
    );
  const published = manifest.optionalDependencies;
  if (published !== undefined && !Object.hasOwn(published, addon))
    return `has no package for this machine (it would be ${addon}): ${FROM_SOURCE}`;
  return (
    `is not installed for this machine (package ${addon}): install again without leaving out optional ` +
    `dependencies (npm install --include=optional), or ${FROM_SOURCE}`
  );
}

const firstLine = (text: string): string => text.split("\n", 1)[0]!;

/** Of an error and its causes, with their codes. */
const messages = (thrown: unknown): string[] => [...chainOf(thrown)].map(messageOf);

function messageOf(error: unknown): string {
  if (!isError(error)) return String(error);
  const { code } = error as NodeJS.ErrnoException;
  const name = error.name === "Error" ? "" : `${error.name}: `;
  return `${name}${error.message}${code === undefined ? "" : ` (${code})`}`;
}

function installed(): Installation {
  const { platform, arch } = process;
  const glibc = glibcVersion();
  const linux = platform === "linux";
  const suffix = linux ? `-${glibc === null ? "musl" : "gnu"}` : platform === "win32" ? "-msvc" : "";
  const addon = `arrow-ingest-${platform}-${arch}${suffix}`;
  const found = manifest();
  return {
    addon,
    manifest: found,
    outOfDescriptors: outOfDescriptors(),
    machine: `${platform}-${arch}${linux ? ` with ${glibc === null ? "musl" : `glibc ${glibc}`.trim()}` : ""}`,
    others: Object.keys(found?.optionalDependencies ?? {}).filter(
      (name) => name !== addon && resolved(name) !== undefined,
    ),
    foreign: foreignProcessor(resolved(addon), arch),
  };
}

/** Of the glibc that Node is linked to; null with musl, empty where it is not to be known. Exported for its test. */
export function glibcVersion(report: () => object = () => process.report.getReport()): string | null {
  try {
    const { header } = report() as { header?: { glibcVersionRuntime?: string } };
    return header?.glibcVersionRuntime ?? null;
  } catch {
    // Deno wants a right for it. Most machines have the GNU library.
    return "";
  }
}

function manifest(): Installation["manifest"] {
  try {
    const found = JSON.parse(fs.readFileSync(new URL("../package.json", import.meta.url), "utf8"));
    return found?.name === "arrow-ingest" ? found : null;
  } catch {
    return null;
  }
}

/** The file that a package stands for, where it is installed. */
function resolved(name: string): string | undefined {
  try {
    return createRequire(import.meta.url).resolve(name);
  } catch {
    return undefined;
  }
}

/** By the number that ELF has for it: what the loader of such a file says does not name it. Exported for its test. */
export function foreignProcessor(file: string | undefined, arch: string): string | undefined {
  if (file === undefined) return undefined;
  try {
    const head = Buffer.alloc(20);
    const descriptor = fs.openSync(file, "r");
    let length: number;
    try {
      length = fs.readSync(descriptor, head, 0, head.length, 0);
    } finally {
      fs.closeSync(descriptor);
    }
    // What is cut short is told by the loader.
    if (length < head.length || head.readUInt32BE(0) !== 0x7f454c46) return undefined;
    const machine = head.readUInt16LE(18);
    const name = { 3: "ia32", 40: "arm", 62: "x64", 183: "arm64" }[machine] ?? `ELF machine ${machine}`;
    return name === arch ? undefined : name;
  } catch {
    return undefined;
  }
}

/** Node takes a file that it cannot open for one that is not there, so nobody says it. */
function outOfDescriptors(): boolean {
  try {
    fs.closeSync(fs.openSync(process.execPath, "r"));
    return false;
  } catch (error) {
    return /EMFILE|ENFILE/.test(String(error));
  }
}
