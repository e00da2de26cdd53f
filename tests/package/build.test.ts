// what a build has compiled is not compiled again. The second build of a new tree compiled the crate once more,
// and so did a build in CI after one outside of it, and packing.
import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";

test.each([undefined, "true"])(
  "R-37 building again, with CI=%s, compiles nothing",
  (ci) => {
    // `npm test` has built the addon.
    const built = spawnSync(process.execPath, ["scripts/ensure.mjs", "addon"], {
      encoding: "utf8",
      env: { ...process.env, CI: ci },
    });
    expect(built.status, built.stderr).toBe(0);
    expect(built.stderr).toContain("Finished `release`");
    expect(built.stderr).not.toContain("Compiling");
  },
  1_200_000,
);
