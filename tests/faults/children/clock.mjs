// A producer with a spool that does what it is told over IPC, one thing after the other, and sets its own clock.
import * as fs from "node:fs";
import { connect } from "../../../dist/index.js";

const [url, options, directory] = process.argv.slice(2);
const clock = fs.openSync(process.env.CLOCK_FILE, "r+");
let client;
let outcomes = [];

const does = {
  // The file keeps its length: it is mapped.
  jump: (seconds) => void fs.writeSync(clock, new BigInt64Array([BigInt(seconds)]), 0, 8, 0),
  open: async () => {
    client = await connect(url, { ...JSON.parse(options), spool: { directory } });
    return client.recovered;
  },
  enqueue: async (from) => {
    outcomes.push((await client.enqueue({ n: Int32Array.of(from, from + 1) })).result);
  },
  look: () => ({ spool: client.stats().spool, now: Date.now() }),
  outcomes: async () => {
    const ended = await Promise.all(outcomes);
    outcomes = [];
    return ended.map(({ status }) => status);
  },
  close: (deadline) => client.close({ deadline }),
};

process.on("message", async ([what, value]) => {
  const answer = await does[what](value);
  process.send({ answer: what === "close" ? null : (answer ?? null) });
});
