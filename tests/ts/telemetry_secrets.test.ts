// no secret is in anything that is told: spans, metrics, lines, channels, results, errors; also not with
// `ARROW_INGEST_LOG=debug`, which has the native side write its own transitions and nobody else's.
import { execFile } from "node:child_process";
import * as path from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const SECRET = "c4narY-9f3b-hush";
const node = path.resolve("node_modules/.bin/node");
const run = (env: Record<string, string>) =>
  promisify(execFile)(node, ["tests/ts/support/secrets_client.mjs", SECRET], {
    env: { ...process.env, ...env },
    timeout: 120_000,
    maxBuffer: 64 << 20,
  });

test("R-44 with everything switched on, nothing that is told has the secret", async () => {
  const { stdout, stderr } = await run({ ARROW_INGEST_LOG: "debug" });
  const told = `${stdout}\n${stderr}`;
  expect(told).not.toContain(SECRET);
  for (const encoded of [btoa(SECRET), btoa(`me:${SECRET}`), encodeURIComponent(SECRET)])
    expect(told).not.toContain(encoded);
  // It was all there to be told.
  for (const kind of ["debug", "warn", "span", "event", "observed", "channel", "result", "thrown"])
    expect(stdout).toContain(`'${kind}'`);
  expect(stdout).toContain("native: opened");
  for (const code of ["UNAUTHENTICATED", "UNAVAILABLE", "ROWS_REJECTED"]) expect(stdout).toContain(code);
  // And the native side's own lines alone.
  const lines = stderr.split("\n").filter((line) => / (TRACE|DEBUG|INFO|WARN|ERROR) /.test(line));
  expect(lines.length).toBeGreaterThan(5);
  for (const line of lines) expect(line).toMatch(/ arrow_ingest: /);
});

test("R-44 without the variable the native side writes nothing", async () => {
  const { stdout, stderr } = await run({ ARROW_INGEST_LOG: "" });
  expect(stderr).not.toMatch(/arrow_ingest: /);
  expect(stdout).not.toContain("native: ");
});
