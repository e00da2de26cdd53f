// Every test of both languages, and one line at the end that sums them: `N passed, N failed, N skipped`.
// Arguments are handed to vitest, and then only vitest runs: `npm test -- tests/ts/client.test.ts`.
// `--quick` (npm run test:quick) leaves out what needs other programs or a package: interop, faults, package.
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { root } from "./ensure.mjs";
import { whatFailed } from "./what_failed.mjs";
import { whatWasSkipped } from "./what_was_skipped.mjs";

const MINUTES = 20;
const quick = process.argv.includes("--quick");
const filter = process.argv.slice(2).filter((argument) => argument !== "--quick");
const total = { passed: 0, failed: 0, skipped: 0 };
let broken = false;
let log = "";
const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-test-"));
process.once("exit", () => fs.rmSync(home, { recursive: true, force: true }));
/** Tests in Rust write what they left out to this file: cargo has no word for it, and counts them as passed. */
const skips = path.join(home, "skipped");

if (filter.length === 0) {
  // In a hurry as they were built beside the addon, and so compiled once; tests/rs/host.rs would start vitest, which
  // comes below.
  const features = quick ? [] : ["--no-default-features", "--features=emulator"];
  const left = quick ? ["--", "--skip=the_typescript_tests_pass"] : [];
  // By themselves, so that the limit below is one on tests: a machine that compiles everything for the first time
  // may take as long again.
  await run("cargo", ["test", "--no-run", ...features]);
  const output = await run("cargo", ["test", "--no-fail-fast", ...features, ...left]);
  for (const [, passed, failed, ignored] of output.matchAll(
    /^test result: .*?(\d+) passed; (\d+) failed; (\d+) ignored/gm,
  )) {
    total.passed += +passed;
    total.failed += +failed;
    total.skipped += +ignored;
  }
  // What a test starts as a child process of its own is run, though the harness calls it ignored.
  total.skipped -= [...output.matchAll(/^test .* \.\.\. ignored, run by /gm)].length;
}

const report = path.join(home, "vitest.json");
const outputs = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
const slow = quick
  ? ["interop", "faults", "package", "wasm"].map((name) => `--exclude=tests/${name}/**`)
  : [];
await run("node", ["node_modules/vitest/vitest.mjs", "run", ...outputs, ...slow, ...filter]);
if (fs.existsSync(report)) {
  const counts = JSON.parse(fs.readFileSync(report, "utf8"));
  total.passed += counts.numPassedTests;
  total.failed += counts.numFailedTests;
  total.skipped += counts.numPendingTests + counts.numTodoTests;
}

const read = (file) => (fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "");
const rust = new Set(read(skips).split("\n").filter(Boolean)).size;
total.passed -= rust;
total.skipped += rust;
const found = read(report);
const skipped = whatWasSkipped(found === "" ? undefined : JSON.parse(found), log, read(skips));
if (skipped.length > 0) console.log(`\nskipped:\n${skipped.map((name) => `  ${name}\n`).join("")}`.trimEnd());
if (broken) console.log(`\n${whatFailed(log)}`);
console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
// In CI a skipped test is a test that nobody runs anywhere.
if (process.env.CI && total.skipped > 0) {
  console.error("\u2717 CI is where nothing is skipped.");
  broken = true;
}
process.exit(broken || total.failed > 0 || total.passed === 0 ? 1 : 0);

/** Shows the output while it is made, and returns it. */
function run(command, args) {
  console.log(`\u203a ${command} ${args.join(" ")}`);
  return new Promise((resolve) => {
    const env = { ...process.env, ARROW_INGEST_SKIPPED: skips };
    const child = spawn(command, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"], detached: true });
    // A test that hangs would take CI's whole time and leave nothing to read. The group, because what hangs
    // is a child of cargo, and it holds our pipe.
    const end = () => process.kill(-child.pid, "SIGTERM");
    const limit = setTimeout(() => {
      const why = `\n\u2717 ${command} ${args.join(" ")} was stopped: it had not ended in ${MINUTES} minutes.`;
      console.error(why);
      log += `${why}\n`;
      end();
    }, MINUTES * 60_000);
    process.once("SIGINT", end);
    let text = "";
    child.stdout.on("data", (chunk) => {
      text += chunk;
      log += chunk;
      process.stdout.write(chunk);
    });
    child.stderr.on("data", (chunk) => {
      log += chunk;
      process.stderr.write(chunk);
    });
    child.on("error", (error) => {
      console.error(`\u2717 ${command}: ${error.message}`);
      broken = true;
      clearTimeout(limit);
      resolve(text);
    });
    child.on("exit", (code) => {
      if (code !== 0) broken = true;
      clearTimeout(limit);
      process.off("SIGINT", end);
      // Not "close" alone: a server that a failed test has left behind keeps the pipes open.
      const late = setTimeout(() => resolve(text), 5_000);
      child.once("close", () => {
        clearTimeout(late);
        resolve(text);
      });
    });
  });
}
