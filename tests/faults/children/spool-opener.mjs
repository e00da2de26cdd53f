// Opens a spool in another process or worker, and says what became of it.
import { parentPort } from "node:worker_threads";
import { connect } from "../../../dist/index.js";

const directory = process.argv.at(-1);
const say = (message) => (parentPort === null ? process.send(message) : parentPort.postMessage(message));
try {
  await (await connect("discard:", { spool: { directory }, telemetry: { enabled: false } })).close();
  say({ code: null });
} catch ({ code, retry, message }) {
  say({ code, retry, message });
}
if (parentPort === null) process.disconnect();
