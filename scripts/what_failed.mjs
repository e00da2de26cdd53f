// Says again, at the end of a long log, which tests failed and why: who reads CI often sees only its tail.
// By itself it is given the path of a log.
import * as fs from "node:fs";
import { fileURLToPath } from "node:url";

const MOST_LINES = 60;
/** A test, what a compiler refused, and what was ended from outside. */
const FAILED =
  /^test .* \.\.\. FAILED|^\s*FAIL |^error(\[\w+\])?: |\(signal: \d+|out of memory|^✗ .* was stopped: /;

/** What failed in a log of cargo and vitest, ready to be printed; "" where nothing did. */
export function whatFailed(log) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what colours a line is taken off.
  const lines = log.replace(/\u001b\[[0-9;]*m/g, "").split("\n");
  const said = [
    ...lines.filter((line) => FAILED.test(line)),
    ...unended(lines),
    ...blocks(lines, /^---- .* stdout ----/, /^(---- |failures:|test result:)/),
    ...blocks(lines, /Failed Tests \d+|Failed Suites \d+|Unhandled (Errors?|Rejection)/, /^\s*Test Files /),
  ];
  return said.length > 0 ? ["✗ what failed, once more:", ...said.map((line) => `  ${line}`)].join("\n") : "";
}

/** The tests that cargo has called slow and that never ended: where a run was stopped, one of them hung. */
function unended(lines) {
  const ended = new Set(lines.map((line) => /^test (\S+) \.\.\. /.exec(line)?.[1]));
  return lines.filter((line) => {
    const slow = /^test (\S+) has been running for over/.exec(line);
    return slow && !ended.has(slow[1]);
  });
}

/** The lines from each that `start` matches to the next that `end` matches; long blocks are cut. */
function blocks(lines, start, end) {
  const found = [];
  for (let first = 0; first < lines.length; first++) {
    if (!start.test(lines[first])) continue;
    let last = first + 1;
    while (last < lines.length && !end.test(lines[last])) last++;
    found.push(...lines.slice(first, Math.min(last, first + MOST_LINES)));
    first = last - 1;
  }
  return found;
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  process.stderr.write(`${whatFailed(fs.readFileSync(process.argv[2], "utf8"))}\n`.trimStart());
