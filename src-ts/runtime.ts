// Whether this Node is one that `engines` in package.json names: asked once, before anything else is loaded.
//
// Without this check an older Node fails with an error about some function that it does not have. It imports errors.ts alone.

import { ingestError } from "./errors.js";

/** `engines.node` of package.json; a test holds the two together. */
export const OLDEST_NODE = "22.12";

/** @throws {IngestError} `NATIVE_UNAVAILABLE` on a Node that is too old. Exported for its test. */
export function checkRuntime(versions: Readonly<Record<string, string | undefined>>): void {
  // Bun and Deno claim to be some Node, and are not.
  if (versions.bun !== undefined || versions.deno !== undefined) return;
  const parts = (version: string): number[] => version.split(".").map(Number);
  const [major = 0, minor = 0] = parts(versions.node ?? "");
  const [least = 0, leastMinor = 0] = parts(OLDEST_NODE);
  if (major > least || (major === least && minor >= leastMinor)) return;
  throw ingestError({
    code: "NATIVE_UNAVAILABLE",
    operation: "load",
    message: `arrow-ingest needs Node ${OLDEST_NODE} or later; this is Node ${versions.node}`,
  });
}

checkRuntime(process.versions);
