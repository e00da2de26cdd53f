// What telemetry costs: throughput with spans, metrics and their SDK, as a share of that without, in turn.
//
// The SDK samples every span and its exporter throws all away, so what is measured is this package and the SDK. To
// `discard:` nothing else takes time: a destination can only make the share smaller.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import {
  AggregationTemporality,
  MeterProvider,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";
import { BatchSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import { tableFromArrays } from "apache-arrow";
import { connect } from "../../dist/index.js";
import { mixedBatch } from "../data.mjs";

const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 7);
const SCALE = Number(process.env.BENCH_SCALE ?? 1);

const exporter = {
  export: (_, done) => done({ code: 0 }),
  shutdown: async () => {},
  forceFlush: async () => {},
};
const spans = new TracerProvider({ spanProcessors: [new BatchSpanProcessor({ exporter })] });
const meters = new MeterProvider({
  readers: [
    new PeriodicExportingMetricReader({
      exporter: { ...exporter, selectAggregationTemporality: () => AggregationTemporality.CUMULATIVE },
      exportIntervalMillis: 1_000,
      exportTimeoutMillis: 1_000,
    }),
  ],
});
const WAYS = {
  off: { enabled: false },
  metrics: { meter: meters.getMeter("bench") },
  all: { tracer: spans.getTracer("bench"), meter: meters.getMeter("bench") },
};

const lake = fs.mkdtempSync(path.join(os.tmpdir(), "bench-telemetry-"));
const rowsOf = (rows) =>
  tableFromArrays({
    id: Int32Array.from({ length: rows }, (_, row) => row),
    price: Float64Array.from({ length: rows }, (_, row) => row / 7),
  }).batches[0];
const SIZES = [
  ["10 rows", rowsOf(10), 60_000],
  ["1,000 rows", rowsOf(1_000), 30_000],
  ["1 MB", mixedBatch(2 ** 20), 600],
];

const median = (values) => values.toSorted((one, other) => one - other)[values.length >> 1];
const results = [];
for (const target of ["discard", "delta"])
  for (const [name, batch, full] of SIZES) {
    const count = Math.ceil((full * SCALE) / (target === "delta" ? 3 : 1));
    const seconds = { off: [], metrics: [], all: [] };
    const cpu = { off: [], metrics: [], all: [] };
    for (let round = -1; round < ROUNDS; round++)
      for (const [way, telemetry] of Object.entries(WAYS)) {
        const url = target === "delta" ? `delta:${path.join(lake, `${name}-${way}-${round}`)}` : "discard:";
        const client = await connect(url, { telemetry });
        const start = performance.now();
        const before = process.cpuUsage();
        const source = (function* () {
          for (let i = 0; i < count; i++) yield batch;
        })();
        for await (const result of client.sendAll(source)) if (!result.success) throw result.error;
        // The first round warms up.
        const { user, system } = process.cpuUsage(before);
        if (round >= 0) {
          seconds[way].push((performance.now() - start) / 1e3);
          cpu[way].push(user + system);
        }
        await client.close();
      }
    const share = (way, of = seconds) => median(of.off.map((off, round) => off / of[way][round]));
    const row = {
      target,
      batch: name,
      batchesPerSecond: count / median(seconds.off),
      metricsOverOff: share("metrics"),
      allOverOff: share("all"),
      // Of the whole process: what a busy machine shows more steadily.
      allOverOffByCpu: share("all", cpu),
    };
    results.push(row);
    console.error(
      `  ${target}, ${name}: metrics ${row.metricsOverOff.toFixed(3)}, all ${row.allOverOff.toFixed(3)}, by CPU ${row.allOverOffByCpu.toFixed(3)} of ${Math.round(row.batchesPerSecond)}/s`,
    );
  }
fs.rmSync(lake, { recursive: true });
await spans.shutdown();
await meters.shutdown();
const bars = [
  ["1 MB", 0.97],
  ["1,000 rows", 0.9],
];
const failed = results
  .filter(({ target }) => target === "delta")
  .flatMap((row) =>
    bars
      .filter(([batch, bar]) => batch === row.batch && row.allOverOff < bar)
      .map(([batch]) => `${batch} to delta`),
  );
console.log(JSON.stringify({ rows: results, failed }));
