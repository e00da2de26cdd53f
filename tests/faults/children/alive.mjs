// A client that nobody waits for must not keep the process; one that owes an answer must.
import { spawnSync } from "node:child_process";
import { check, survived } from "./support.mjs";

const run = (code) =>
  spawnSync(
    process.execPath,
    [
      "--input-type=module",
      "-e",
      `import { connect, batchOver } from ${JSON.stringify(new URL("./support.mjs", import.meta.url).href)};\n${code}`,
    ],
    {
      encoding: "utf8",
      timeout: 20_000,
    },
  );
const idle = run(`await connect("discard:"); console.log("idle");`);
check(
  idle.status === 0 && idle.signal === null,
  `an idle client: ${idle.status} ${idle.signal} ${idle.stderr}`,
);

// The promise is the only thing that the process waits for.
const waiting = run(`
  const client = await connect("discard:", { batching: { linger: "500ms" } });
  client.send(batchOver({ ints: new Int32Array(10) })).then((result) => console.log("told", result.status));
`);
check(
  waiting.status === 0 && waiting.stdout.includes("told acknowledged"),
  `waiting: ${waiting.stdout} ${waiting.stderr}`,
);
survived();
