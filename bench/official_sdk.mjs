// The official TypeScript SDK of Zerobus, for the case `zerobus`: fetched when it is first wanted, and no dependency of
// this package, because its only binary is for Linux on x64.
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { createRequire } from "node:module";
import * as path from "node:path";
import { fileURLToPath } from "node:url";

// The addon without its loader: the package of that name which would choose an addon has no loader in it.
const NAME = "@databricks/zerobus-ingest-sdk-linux-x64-gnu";
const VERSION = "1.3.0";

/** The path of its addon, or undefined where there is none for this machine. */
export function officialSdk() {
  const { glibcVersionRuntime } = process.report.getReport().header;
  if (process.platform !== "linux" || process.arch !== "x64" || !glibcVersionRuntime) {
    console.error(`  ${NAME} is for Linux on x64 with glibc: its part is left out`);
    return undefined;
  }
  const home = path.resolve(path.dirname(fileURLToPath(import.meta.url)), `../.tools/zerobus-sdk-${VERSION}`);
  if (!fs.existsSync(path.join(home, "node_modules", NAME))) {
    const quiet = ["--no-save", "--no-audit", "--no-fund", "--loglevel=error"];
    const args = ["install", "--prefix", home, ...quiet, `${NAME}@${VERSION}`];
    execFileSync("npm", args, { stdio: ["ignore", 2, 2] });
  }
  return createRequire(path.join(home, "package.json")).resolve(NAME);
}
