// Gives secrets to every place that takes some, has things go wrong, and prints all that was told. The argument is
// the secret.
import * as diagnostics from "node:diagnostics_channel";
import { inspect } from "node:util";
import { tableFromArrays } from "apache-arrow";
import { connect, startEmulator } from "../../../dist/index.js";

const secret = process.argv[2];
const told = [];
const note =
  (kind) =>
  (...args) => {
    told.push(inspect([kind, ...args], { depth: 10, showHidden: true, maxStringLength: 10_000 }));
  };
const logger = Object.fromEntries(["debug", "info", "warn", "error"].map((level) => [level, note(level)]));
for (const type of ["connected", "reconnect", "retry", "paused", "rotated", "refused", "closed"])
  diagnostics.subscribe(`arrow-ingest:${type}`, note("channel"));

const span = {
  spanContext: () => ({ traceId: "1".repeat(32), spanId: "2".repeat(16), traceFlags: 1 }),
  setAttribute: note("attribute"),
  setAttributes: note("attributes"),
  addEvent: note("event"),
  setStatus: note("status"),
  end: note("end"),
};
const callbacks = [];
const instrument = { record: note("record") };
const telemetry = {
  tracer: {
    startSpan(...args) {
      note("span")(...args);
      return span;
    },
  },
  meter: {
    createHistogram: () => instrument,
    createObservableCounter: () => instrument,
    createObservableGauge: () => instrument,
    addBatchObservableCallback: (read) => callbacks.push(read),
  },
};
const common = { logger, telemetry, batching: { linger: 1 }, retry: { attempts: 2, baseDelay: 1 } };
const batch = () => tableFromArrays({ n: Int32Array.of(1, -1) });

async function attempt(url, options) {
  try {
    const client = await connect(url, { ...common, ...options });
    for (let i = 0; i < 3; i++) note("result")(await client.send(batch()));
    note("stats")(client.stats());
    for (const read of callbacks) read({ observe: note("observed") });
    await client.close();
  } catch (error) {
    note("thrown")(error);
  }
}

const emulator = await startEmulator({
  clientId: "id",
  clientSecret: secret,
  tables: { "c.s.t": [{ name: "n", type: "INT" }] },
  faults: ["expire-token:stream=1", "close:status=UNAVAILABLE,stream=2", "reject:column=n,below=0"],
});
await attempt(emulator.url("c.s.t"), { ...emulator.options });
await attempt(emulator.url("c.s.t"), {
  zerobus: { ...emulator.options.zerobus, clientId: "id", clientSecret: `${secret}-wrong` },
});
await attempt("grpc://127.0.0.1:1/x", {
  headers: { authorization: `Bearer ${secret}` },
  flight: { auth: { username: "me", password: secret } },
});
await attempt("grpc://127.0.0.1:1/x", {
  headers: async () => {
    throw new Error("no token today");
  },
});
await attempt("delta:s3://bucket/table", {
  delta: {
    storage: {
      aws_access_key_id: secret,
      aws_secret_access_key: secret,
      aws_session_token: secret,
      aws_endpoint: "http://127.0.0.1:1",
      aws_allow_http: "true",
      aws_region: "us-east-1",
    },
  },
});
await emulator.close();
console.log(told.join("\n"));
