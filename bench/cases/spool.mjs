// The durable log against plain writes and reads of the same sizes, in one process, in turn (spool.rs).
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { median } from "../data.mjs";
import { TURNS } from "../turns.mjs";

/** What is opened and read; of 10 GB the first record takes no longer than of 1 GB. */
const OPENED_MIB = Number(process.env.BENCH_SPOOL_MIB ?? 1024);

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const build = ["build", "--release", "--features", "bench", "--bin", "bench-spool"];
execFileSync("cargo", build, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "bench-spool-"));
try {
  const driver = path.join(root, "target/release/bench-spool");
  const found = JSON.parse(
    execFileSync(driver, [folder, String(TURNS), String(OPENED_MIB)], { encoding: "utf8" }),
  );
  const { small, waiting, opening, segments, ...appends } = found;
  const ratios = (over, under) => median(over.map((value, i) => value / under[i]));
  const results = {
    appends: Object.fromEntries(
      Object.entries(appends).map(([name, { count, size, spoolSeconds, plainSeconds }]) => [
        name,
        {
          megabytesPerSecond: (count * size) / median(spoolSeconds) / 1e6,
          throughputOverPlain: ratios(plainSeconds, spoolSeconds),
        },
      ]),
    ),
    small: {
      recordBytes: small.recordBytes,
      p50Us: median(small.spoolMicroseconds),
      overPlain: median(small.spoolMicroseconds) / median(small.plainMicroseconds),
    },
    waiting: {
      appendsPerSecond: waiting.appends / median(waiting.togetherSeconds),
      overOneByOne: ratios(waiting.oneByOneSeconds, waiting.togetherSeconds),
    },
    opening: { ...opening, gigabytesPerSecond: opening.bytes / opening.allSeconds / 1e9 },
    segments,
  };
  console.log(JSON.stringify({ turns: TURNS, load: os.loadavg()[0], ...results }));
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
