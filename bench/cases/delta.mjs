// Three million flights from memory into a Delta table: ours against `write_deltalake`, in turn.
//
// Both have the data in memory, in the form their users have it in: JavaScript record batches of 1,024 rows, and
// a pyarrow table. Ours is on the clock from the first batch until `flush` has answered, which is after data and
// log are synced to disk; the peer syncs nothing, so it is measured a second time with a sync of what it wrote.
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { connect } from "../../dist/index.js";
import { flights, median } from "../data.mjs";

const TURNS = 11;
const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(here, "../..");
const lake = fs.mkdtempSync(path.join(os.tmpdir(), "bench-delta-"));
const { bytes, table } = await flights();
const ipc = path.join(lake, "flights.arrows");
fs.writeFileSync(ipc, bytes);

const python = path.join(root, ".tools/venv/bin/python");
const peer = spawn(python, [path.join(here, "delta_peer.py"), ipc, lake], {
  stdio: ["pipe", "pipe", "inherit"],
});
const answers = createInterface({ input: peer.stdout })[Symbol.asyncIterator]();
if ((await answers.next()).value !== "ready") throw new Error("the peer did not start");

const ours = [];
const theirs = [];
const theirsSynced = [];
for (let turn = 0; turn < TURNS + 1; turn++) {
  const target = path.join(lake, `ours-${turn}`);
  const seconds = await write(target);
  peer.stdin.write(`${turn}\n`);
  const [plain, synced] = (await answers.next()).value.split(" ").map(Number);
  fs.rmSync(target, { recursive: true });
  // The first turn warms both up.
  if (turn === 0) continue;
  ours.push(seconds);
  theirs.push(plain);
  theirsSynced.push(synced);
  console.error(
    `  ours ${seconds.toFixed(3)} s, write_deltalake ${plain.toFixed(3)} s, synced ${synced.toFixed(3)} s`,
  );
}
peer.stdin.end();
fs.rmSync(lake, { recursive: true });
const megabytes = bytes.length / 1e6;
console.log(
  JSON.stringify({
    rows: table.numRows,
    megabytes,
    oursSeconds: median(ours),
    peerSeconds: median(theirs),
    peerSyncedSeconds: median(theirsSynced),
    oursOverPeer: median(ours.map((seconds, turn) => theirs[turn] / seconds)),
    oursOverPeerSynced: median(ours.map((seconds, turn) => theirsSynced[turn] / seconds)),
    oursMegabytesPerSecond: megabytes / median(ours),
  }),
);

async function write(target) {
  await using client = await connect(`delta:${target}`);
  const start = performance.now();
  const results = [];
  for (const batch of table.batches) results.push((await client.enqueue(batch)).result);
  await client.flush();
  const seconds = (performance.now() - start) / 1_000;
  for (const result of await Promise.all(results)) result.orThrow();
  return seconds;
}
