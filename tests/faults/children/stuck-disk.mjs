// A dead-letter directory that holds what is no file: a pipe that nobody writes to, links. None of it is read, and
// a disk that never answers keeps no `close` beyond its deadline.
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { startEmulator } from "../../../dist/index.js";
import { batchOver, check, connect, scratch, survived } from "./support.mjs";

const letters = scratch();
const elsewhere = `${scratch()}/other.arrow`;
fs.writeFileSync(elsewhere, "of somebody else");
const pipe = spawnSync("mkfifo", [`${letters}/rejected-1-0.arrow.part`]);
check(pipe.status === 0, "mkfifo");
fs.symlinkSync(elsewhere, `${letters}/rejected-2-0.arrow.part`);
fs.symlinkSync(elsewhere, `${letters}/rejected-3-0.arrow`);
fs.symlinkSync("/dev/zero", `${letters}/rejected-4-0.arrow.part`);

const emulator = await startEmulator({ faults: ["reject:column=i,equals=7"] });
const client = await connect(emulator.url("a.b.c"), {
  ...emulator.options,
  zerobus: { ...emulator.options.zerobus, atomicRefusals: true },
  deadLetter: { directory: letters, maxFiles: 1, maxFileBytes: 1 },
});
const sent = client.send(batchOver({ ints: Int32Array.of(6, 7, 8) }));
const told = await Promise.race([sent, new Promise((resolve) => setTimeout(resolve, 5_000, null))]);
console.log(told?.status, told?.acceptedRows);
const start = performance.now();
await client.close({ deadline: 300 }).catch(() => {});
const took = performance.now() - start;
console.log(`closed within ${Math.round(took)} ms`);
check(told?.status === "partial" && told.acceptedRows === 2, "the outcome waits for the disk");
check((await sent).status === "partial", "no outcome");
check(fs.readFileSync(elsewhere, "utf8") === "of somebody else", "a link was followed");
check(fs.existsSync(`${letters}/rejected-3-0.arrow`), "a link was removed");
check(client.stats().deadLetters.kept === 1, "the row is not kept");
await emulator.close();
survived();
