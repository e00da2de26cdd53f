// What a run of the tests left out, by name.

/**
 * @param {object | undefined} report Vitest's, in JSON; undefined if there is none.
 * @param {string} log What the run printed: helpers say `SKIPPED: what: why` of parts of tests.
 * @param {string} rust Lines that tests in Rust wrote: cargo counts them as passed.
 */
export function whatWasSkipped(report, log, rust) {
  const tests = (report?.testResults ?? [])
    .flatMap(({ assertionResults }) => assertionResults)
    .filter(({ status }) => status !== "passed" && status !== "failed")
    .map(({ fullName }) => fullName.trim());
  const lines = rust.split("\n").filter((line) => line !== "");
  const said = [...log.matchAll(/SKIPPED: (.+)/g)].map(([, text]) => text.trim());
  // A whole group is said and reported: once is enough.
  const parts = said.filter((text) => !tests.some((test) => test.includes(text.split(": ")[0])));
  return [...new Set([...tests, ...lines, ...parts])];
}
