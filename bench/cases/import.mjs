// What importing costs a program, beyond `apache-arrow`, which whoever sends Arrow imports anyway. Ours is what
// `npm run pack` publishes: dist/ as few modules.
//
// Each import has a process of its own, in turn, and nothing was imported before it. The first of each warms the cache
// of the disk and does not count.
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import { root } from "../../scripts/ensure.mjs";
import { makeModules } from "../../scripts/modules.mjs";
import { median } from "../data.mjs";

const RUNS = 20;
const BAR_MS = 25;
// Within the repository, where the dependencies are found.
fs.mkdirSync(path.join(root, "target"), { recursive: true });
const folder = fs.mkdtempSync(path.join(root, "target/bench-import-"));
process.once("exit", () => fs.rmSync(folder, { recursive: true }));
fs.cpSync(path.join(root, "dist"), folder, {
  recursive: true,
  filter: (file) => !file.endsWith(".node"),
});
fs.writeFileSync(path.join(folder, "package.json"), '{ "type": "module" }');
await makeModules(folder);
const modules = {
  arrow: import.meta.resolve("apache-arrow"),
  ours: pathToFileURL(path.join(folder, "index.js")).href,
};
const program = `
  const cpu = process.cpuUsage();
  const start = performance.now();
  await import(process.argv[1]);
  const ms = performance.now() - start;
  const { user, system } = process.cpuUsage(cpu);
  console.log(JSON.stringify({ ms, cpuMs: (user + system) / 1_000 }));
`;
const taken = { arrow: [], ours: [] };
for (let run = 0; run <= RUNS; run++)
  for (const [name, url] of Object.entries(modules)) {
    const args = ["--input-type=module", "--eval", program, url];
    const took = JSON.parse(execFileSync(process.execPath, args, { cwd: root, encoding: "utf8" }));
    if (run > 0) taken[name].push(took);
  }
const of = (name, unit) => median(taken[name].map((one) => one[unit]));
const [arrowMs, oursMs] = [of("arrow", "ms"), of("ours", "ms")];
const [arrowCpuMs, oursCpuMs] = [of("arrow", "cpuMs"), of("ours", "cpuMs")];
const beyondMs = oursMs - arrowMs;
const failed =
  beyondMs > BAR_MS ? [`${beyondMs.toFixed(1)} ms beyond apache-arrow, at most ${BAR_MS} ms`] : [];
console.error(`  arrow-ingest ${oursMs.toFixed(1)} ms, apache-arrow ${arrowMs.toFixed(1)} ms`);
console.log(JSON.stringify({ runs: RUNS, arrowMs, oursMs, beyondMs, arrowCpuMs, oursCpuMs, failed }));
