// Whether a Delta table keeps its pace: over commits, over files that the table has, over partitions of a commit, over
// clients of a process, and for one who waits. Ratios of two things measured in this run; bars that are failed are
// named at the end. `BENCH_SCALE=0.05` makes everything smaller, to try it out.
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { median } from "../data.mjs";
import { asked } from "../turns.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(here, "../..");
const python = path.join(root, ".tools/venv/bin/python");
const scale = Number(process.env.BENCH_SCALE ?? 1);
const scaled = (number) => Math.max(1, Math.round(number * scale));
const only = process.env.BENCH_PARTS?.split(",");
const lake = fs.mkdtempSync(path.join(os.tmpdir(), "bench-delta-scale-"));
const children = [];
const results = {};
const failed = [];

/** A store with a bucket, which says where it is. */
const MOTO = `
import sys, boto3
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
host, port = server.get_host_and_port()
where = f"http://{host}:{port}"
boto3.client("s3", endpoint_url=where, region_name="us-east-1", aws_access_key_id="bench",
             aws_secret_access_key="bench-bench").create_bucket(Bucket="lake")
print(where, flush=True)
sys.stdin.read()
`;

/** A client of ours, in a process of its own. */
const client = () =>
  asked([process.execPath, "--expose-gc", path.join(here, "delta_scale_client.mjs")], children);
const peer = asked([python, path.join(here, "delta_scale_peer.py")], children);
const at = (name) => path.join(lake, name);

const parts = { commits, files, partitions, store, clients, idle };
try {
  for (const [name, part] of Object.entries(parts)) {
    if (only && !only.includes(name)) continue;
    console.error(`  ${name}`);
    results[name] = await part();
    console.error(`    ${JSON.stringify(results[name])}`);
  }
} finally {
  for (const child of children) child.kill();
  fs.rmSync(lake, { recursive: true, force: true });
}
console.log(JSON.stringify({ ...results, failed }));

/** What must hold; NaN does not. */
function bar(what, value, most, unit = "") {
  if (value <= most) return;
  const text = `${what}: ${value.toFixed(2)}${unit}, at most ${most}${unit}`;
  failed.push(text);
  console.error(`    ✗ ${text}`);
}

/** CPU for a commit of one row: early, late, with another writer in between, and after reopening. */
async function commits() {
  const [early, late, window] = [50, Math.max(300, scaled(3_000)), 50];
  const run = client();
  const job = { job: "commits", target: `delta:${at("commits")}`, keep: true };
  await run({ ...job, open: true, count: early - window / 2 });
  const before = await run({ ...job, count: window });
  const half = Math.floor((late - early - window) / 2);
  const middle = await run({ ...job, count: half });
  await run({ ...job, count: late - early - window - half });
  const after = await run({ ...job, count: window });
  await run({ ...job, open: true, count: window });
  // A client that is new begins with a checkpoint, which is not what a commit costs.
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  const reopened = await run({ ...job, count: window });
  run.end();

  const [one, other] = [client(), client()];
  const beside = { ...job, target: `delta:${at("beside")}` };
  await one({ ...beside, open: true, count: early });
  const alone = await one({ ...beside, count: window });
  const cpuMs = [];
  await other({ ...beside, open: true, count: 1 });
  for (let turn = 0; turn < Math.max(100, scaled(500)); turn++) {
    await other({ ...beside, count: 1 });
    cpuMs.push((await one({ ...beside, count: 1 })).cpuMs);
  }
  one.end();
  other.end();
  const found = {
    commits: late,
    earlyCpuMs: before.cpuMs,
    lateCpuMs: after.cpuMs,
    lateOverEarly: after.cpuMs / before.cpuMs,
    lateOverEarlyMean: after.meanCpuMs / before.meanCpuMs,
    reopenedOverEarly: reopened.cpuMs / before.cpuMs,
    grownMiB: after.rssMiB - middle.rssMiB,
    besideEarlyCpuMs: median(cpuMs.slice(0, window)),
    besideLateCpuMs: median(cpuMs.slice(-window)),
    besideOverEarly: median(cpuMs.slice(-window)) / median(cpuMs.slice(0, window)),
    aloneCpuMs: alone.cpuMs,
  };
  bar("CPU of a late commit over an early one", found.lateOverEarly, 1.3, " ×");
  bar("the same after reopening", found.reopenedOverEarly, 1.3, " ×");
  bar("the same with another writer in between", found.besideOverEarly, 1.3, " ×");
  bar("memory that the second half of the commits leaves behind", found.grownMiB, 16, " MiB");
  return found;
}

/** Connecting and committing to a table of a million files, against an empty one. */
async function files() {
  const count = scaled(1_000_000);
  const found = {};
  for (const [name, checkpoint] of [
    ["behindCheckpoint", true],
    ["withoutCheckpoint", false],
  ]) {
    const [full, empty] = [[], []];
    for (let turn = 0; turn < 3; turn++) {
      const target = at(`files-${name}-${turn}`);
      // Read once and no more: a log without checkpoint is as long as its files are many.
      const size = checkpoint ? count : Math.round(count / 5);
      await peer({ job: "table", target, files: size, versions: 20, checkpoint });
      for (const [list, table] of [
        [empty, at(`empty-${name}-${turn}`)],
        [full, target],
      ]) {
        const run = client();
        list.push(
          await run({
            job: "opening",
            warm: `delta:${at(`warm-${name}-${turn}-${list === full}`)}`,
            target: `delta:${table}`,
            more: 10,
          }),
        );
        run.end();
      }
      fs.rmSync(target, { recursive: true });
    }
    const of = (list, field) => median(list.map((run) => run[field]));
    const total = (list) => median(list.map((run) => run.connectMs + run.firstMs));
    found[name] = {
      files: checkpoint ? count : Math.round(count / 5),
      connectMs: of(full, "connectMs"),
      firstMs: of(full, "firstMs"),
      furtherMs: of(full, "furtherMs"),
      overEmpty: total(full) / total(empty),
      furtherOverEmpty: of(full, "furtherMs") / of(empty, "furtherMs"),
      moreMiB: of(full, "aboveMiB") - of(empty, "aboveMiB"),
    };
  }
  bar(
    "connect and commit behind a checkpoint, over an empty table",
    found.behindCheckpoint.overEmpty,
    2,
    " ×",
  );
  bar("memory of it", found.behindCheckpoint.moreMiB, 30, " MiB");
  bar(
    "a further commit without a checkpoint, over an empty table",
    found.withoutCheckpoint.furtherOverEmpty,
    1.5,
    " ×",
  );
  return found;
}

/** A million rows over partitions in mixed order, against `write_deltalake` and a sync of what it wrote. */
async function partitions() {
  const rows = scaled(1_000_000);
  const found = {};
  for (const keys of [0, 100, 1_000, 10_000]) {
    const [ours, theirs] = [[], []];
    let files = 0;
    let bytes = 0;
    const run = client();
    for (let turn = 0; turn < 4; turn++) {
      const target = at(`partitions-${keys}-${turn}`);
      const done = await run({ job: "partitions", target: `delta:${target}`, rows, keys });
      const written = dataFiles(target);
      fs.rmSync(target, { recursive: true });
      const other = await peer({ job: "partitions", target: `${target}-peer`, rows, keys });
      // The first turn warms both up.
      if (turn === 0) continue;
      ours.push(done.seconds);
      theirs.push(other);
      files = Math.max(files, written.length / Math.max(1, keys) / done.versions);
      bytes = written.reduce((sum, size) => sum + size, 0) / other.bytes;
    }
    run.end();
    found[keys] = {
      seconds: median(ours),
      peerSeconds: median(theirs.map((run) => run.seconds)),
      peerSyncedSeconds: median(theirs.map((run) => run.syncedSeconds)),
      overPeerSynced: median(ours.map((seconds, turn) => seconds / theirs[turn].syncedSeconds)),
      filesPerPartitionAndCommit: files,
      bytesOverPeer: bytes,
    };
    if (keys > 0) bar(`files for each of ${keys} partitions`, files, 1);
    bar(`time over ${keys} partitions, over write_deltalake and a sync`, found[keys].overPeerSynced, 1, " ×");
    bar(`bytes over ${keys} partitions, over write_deltalake`, bytes, 1.1, " ×");
  }
  return found;
}

function dataFiles(target) {
  return fs
    .readdirSync(target, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.name.endsWith(".parquet") && !entry.parentPath.includes("_delta_log"))
    .map((entry) => fs.statSync(path.join(entry.parentPath, entry.name)).size);
}

/** The same into an object store, as moto plays it: it answers one request after the other. */
async function store() {
  // Its standard error has a line for each request.
  const moto = spawn(python, ["-u", "-c", MOTO], { stdio: ["pipe", "pipe", "ignore"] });
  children.push(moto);
  const lines = createInterface({ input: moto.stdout })[Symbol.asyncIterator]();
  const endpoint = (await lines.next()).value;
  const storage = {
    AWS_ENDPOINT_URL: endpoint,
    AWS_ALLOW_HTTP: "true",
    AWS_REGION: "us-east-1",
    AWS_ACCESS_KEY_ID: "bench",
    AWS_SECRET_ACCESS_KEY: "bench-bench",
    AWS_CONDITIONAL_PUT: "etag",
  };
  const [rows, keys] = [scaled(100_000), 200];
  const [ours, theirs] = [[], []];
  const run = client();
  for (let turn = 0; turn < 3; turn++) {
    const job = { job: "partitions", rows, keys };
    const done = await run({ ...job, target: `delta:s3://lake/ours-${turn}`, storage: { storage } });
    const other = await peer({ ...job, target: `s3://lake/peer-${turn}`, storage });
    if (turn === 0) continue;
    ours.push(done.seconds);
    theirs.push(other.seconds);
  }
  run.end();
  moto.kill();
  return {
    rows,
    keys,
    seconds: median(ours),
    peerSeconds: median(theirs),
    overPeer: median(ours) / median(theirs),
  };
}

/** A process with one client, and one with a thousand. */
async function clients() {
  const count = scaled(1_000);
  const found = { clients: count };
  for (const [name, many] of [
    ["one", 1],
    ["many", count],
  ]) {
    const run = client();
    const home = at(`crowd-${name}`);
    fs.mkdirSync(home);
    found[name] = await run({ job: "crowd", lake: home, clients: many, rounds: 3 });
    run.end();
    fs.rmSync(home, { recursive: true });
  }
  bar("threads of many clients more than of one", found.many.threads - found.one.threads, 16);
  return found;
}

/** Who waits on a client that has been quiet. */
async function idle() {
  const found = {};
  for (const sends of [1, 10, 100]) {
    const run = client();
    found[sends] = await run({ job: "idle", lake, sends, rounds: Math.max(3, scaled(20)) });
    run.end();
    bar(`p50 of ${sends} sends at once`, found[sends].p50Ms, 25, " ms");
    bar(`p99 of ${sends} sends at once`, found[sends].p99Ms, 100, " ms");
    bar(`versions of ${sends} sends at once`, found[sends].mostVersions, 2);
  }
  return found;
}
