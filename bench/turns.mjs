// Clients that take turns, each a process of its own.
import { spawn } from "node:child_process";
import * as path from "node:path";
import { createInterface } from "node:readline";

/** `BENCH_TURNS=1` is for trying out. */
export const TURNS = Number(process.env.BENCH_TURNS ?? 7);

/** Each client once a turn, and each turn begun by another one. The first turn warms up and is not kept. */
export async function inTurn(name, clients, check) {
  const names = Object.keys(clients);
  const runs = Object.fromEntries(names.map((client) => [client, []]));
  for (let turn = 0; turn < TURNS + 1; turn++) {
    for (let i = 0; i < names.length; i++) {
      const client = names[(turn + i) % names.length];
      const done = await clients[client]();
      await check?.(client);
      if (turn > 0) runs[client].push(done);
    }
    console.error(`  ${name}: turn ${turn} of ${TURNS}`);
  }
  return runs;
}

/** A child that answers a line with a line. Put into `children`, for whoever ends them. */
export function asked([command, ...given], children) {
  const child = spawn(command, given, { stdio: ["pipe", "pipe", "inherit"] });
  children.push(child);
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async (what) => {
    const { value, done } = await answers.next();
    if (done) throw new Error(`${path.basename(command)} ended in the middle of ${JSON.stringify(what)}`);
    return JSON.parse(value);
  };
  const ask = (job) => {
    child.stdin.write(`${JSON.stringify(job)}\n`);
    return answer(job);
  };
  /** What it says unasked. */
  ask.greeting = () => answer("its start");
  ask.end = () => child.stdin.end();
  return ask;
}

/**
 * What this process and its JavaScript thread do from now on. Returns a function that says it, in `batches` batches:
 * seconds, CPU seconds of the process, CPU time of the thread for each batch, part of the time that its event loop
 * was busy.
 */
export function busyThread() {
  const [idle, thread] = [performance.eventLoopUtilization(), process.threadCpuUsage()];
  const [start, before] = [performance.now(), process.cpuUsage()];
  return (batches) => {
    const seconds = (performance.now() - start) / 1e3;
    const { user, system } = process.cpuUsage(before);
    const { utilization } = performance.eventLoopUtilization(idle);
    const busy = process.threadCpuUsage(thread);
    return {
      seconds,
      cpu: (user + system) / 1e6,
      threadUs: (busy.user + busy.system) / batches,
      loopUtilization: utilization,
    };
  };
}
