// Why the addon cannot be loaded, in words that say what to change.
//
// Invariants:
// - The true cause comes first. "Not installed" is said only where nothing else is known to be in the way: a policy,
//   missing rights, a bundle and used-up descriptors look alike to napi's loader.
// - Finding out never fails: whatever keeps the addon from being loaded may keep this from looking.

import * as fs from "node:fs";
import { chainOf, type IngestError, ingestError, isError } from "./errors.js";

/** What can be known of the installation; in one place, so that tests can say otherwise. */
export interface Installation {
  /** The package with the addon for this machine. */
  readonly addon: string;
  /** `package.json` of this package; null where these files do not lie in it. */
  readonly manifest: { readonly optionalDependencies?: Readonly<Record<string, string>> } | null;
  readonly outOfDescriptors: boolean;
}

/** The error for whatever kept the addon from being loaded. */
export function unavailable(cause: unknown, installation: Installation = installed()): IngestError {
  return ingestError({
    code: "NATIVE_UNAVAILABLE",
    operation: "load",
    message: `the native part of arrow-ingest ${why(messages(cause), installation)}`,
    cause,
  });
}

const FROM_SOURCE = "build it from source with `npx arrow-ingest-build`, which needs Rust";

function why(texts: readonly string[], { addon, manifest, outOfDescriptors }: Installation): string {
  const says = (pattern: RegExp): string | undefined => texts.find((text) => pattern.test(text));
  if (says(/addons is disabled|ERR_DLOPEN_DISABLED/) !== undefined)
    return "may not be loaded by this process: start Node with --allow-addons beside --permission, and without --no-addons";
  if (says(/Access to this API has been restricted|ERR_ACCESS_DENIED/) !== undefined)
    return "may not be read by this process: start Node with --allow-fs-read for the folder of node_modules, and --allow-addons";
  if (says(/NotCapable|Requires \w+ access/) !== undefined)
    return "may not be loaded by this process: run Deno with --allow-ffi, --allow-read, --allow-env and --allow-sys";
  if (outOfDescriptors || says(/EMFILE|ENFILE|too many open files/i) !== undefined)
    return "cannot be opened: the process has no file descriptors left. Close some, or raise the limit (ulimit -n)";
  if (manifest === null)
    return (
      "is not found from within a bundle: leave arrow-ingest out of it (`external` of esbuild, Rollup and Vite, " +
      "`externals` of webpack, `serverExternalPackages` of Next.js), and ship node_modules beside it"
    );
  const old = says(/GLIBC(XX)?_[\d.]+' not found/);
  if (old !== undefined)
    return `was built for a newer C library than this machine has (${firstLine(old)}): ${FROM_SOURCE}`;
  const broken = texts.find((text) => !/^(Cannot find|Unsupported|Failed to load native)/.test(text));
  if (broken !== undefined) return `is installed and cannot be loaded: ${firstLine(broken)}`;
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
  const suffix = platform === "linux" ? `-${libc()}` : platform === "win32" ? "-msvc" : "";
  return {
    addon: `arrow-ingest-${platform}-${arch}${suffix}`,
    manifest: manifest(),
    outOfDescriptors: outOfDescriptors(),
  };
}

/** Exported for its test. */
export function libc(report: () => object = () => process.report.getReport()): "gnu" | "musl" {
  try {
    const { header } = report() as { header?: { glibcVersionRuntime?: string } };
    return header?.glibcVersionRuntime === undefined ? "musl" : "gnu";
  } catch {
    // Deno wants a right for it. Most machines have the GNU library.
    return "gnu";
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

/** Node takes a file that it cannot open for one that is not there, so nobody says it. */
function outOfDescriptors(): boolean {
  try {
    fs.closeSync(fs.openSync(process.execPath, "r"));
    return false;
  } catch (error) {
    return /EMFILE|ENFILE/.test(String(error));
  }
}
