// The picture of the dashboard in docs/operating.md: a client at work, scraped by a real Prometheus, which answers the
// queries of examples/grafana-dashboard.json; Vega draws what it says.
//
//   npm run dashboard                  writes docs/dashboard.svg, in some two minutes
//
// The client has troubles, so that every panel shows something: a query that finds nothing ends the script. Grafana is
// not in it: its look is its own, its queries are these.
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as http from "node:http";
import * as os from "node:os";
import * as path from "node:path";
import { PrometheusExporter } from "@opentelemetry/exporter-prometheus";
import { MeterProvider } from "@opentelemetry/sdk-metrics";
import { makeVector, Table } from "apache-arrow";
import { parse, View } from "vega";
import { compile } from "vega-lite";
import { connect, startEmulator } from "../dist/index.js";
import { debian } from "../scripts/debian.mjs";
import { fingerprint, panels } from "./panels.mjs";

const root = path.resolve(import.meta.dirname, "..");
const SECONDS = 100;
const STEP = 2;
const TABLE = "main.sales.payments";

const UNITS = { s: "s", bytes: "B", Bps: "B/s", rowsps: " rows/s", ops: "/s", short: "" };

if (process.argv[1] === import.meta.filename) {
  const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-dashboard-"));
  const stop = new AbortController();
  try {
    const start = Date.now() / 1000;
    const prometheus = await startPrometheus(home, await serveMetrics(stop.signal), stop.signal);
    await work(home);
    const answers = await Promise.all(panels().map((panel) => series(prometheus, panel, start)));
    const picture = await draw(answers);
    fs.writeFileSync(path.join(root, "docs/dashboard.svg"), picture);
  } finally {
    stop.abort();
    fs.rmSync(home, { recursive: true, force: true });
  }
  process.exit(0);
}

/** The port on which the metrics of this process are read. */
async function serveMetrics(signal) {
  const exporter = new PrometheusExporter({ preventServerStart: true });
  const { metrics } = await import("@opentelemetry/api");
  metrics.setGlobalMeterProvider(new MeterProvider({ readers: [exporter] }));
  const server = http.createServer((request, response) =>
    exporter.getMetricsRequestHandler(request, response),
  );
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  signal.addEventListener("abort", () => server.closeAllConnections());
  return server.address().port;
}

/** A Prometheus that asks each second, and its address. */
async function startPrometheus(home, port, signal) {
  const program = path.join(
    debian("prometheus", ["prometheus"], { suites: ["bookworm"] }),
    "usr/bin/prometheus",
  );
  const configuration = path.join(home, "prometheus.yml");
  const targets = [{ targets: [`127.0.0.1:${port}`] }];
  const scrapes = { job_name: "example", scrape_interval: "1s", static_configs: targets };
  fs.writeFileSync(configuration, JSON.stringify({ scrape_configs: [scrapes] }));
  const child = spawn(
    program,
    [
      `--config.file=${configuration}`,
      `--storage.tsdb.path=${path.join(home, "data")}`,
      "--web.listen-address=127.0.0.1:0",
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  signal.addEventListener("abort", () => child.kill("SIGKILL"));
  let said = "";
  for await (const chunk of child.stderr.iterator({ destroyOnReturn: false })) {
    said += chunk;
    const address = /Listening on.* address=(\S+)/.exec(said)?.[1];
    if (address !== undefined && said.includes("ready to receive")) {
      child.stderr.resume();
      return `http://${address}`;
    }
  }
  throw new Error(`Prometheus ended:\n${said}`);
}

/** Rows by ups and downs for SECONDS; some of them are refused, and the service is away, busy, and moves its streams. */
async function work(home) {
  await using emulator = await startEmulator({
    tables: {
      [TABLE]: [
        { name: "id", type: "INT" },
        { name: "amount", type: "DOUBLE" },
      ],
    },
    faults: ["reject:column=amount,below=0"],
  });
  await using client = await connect(emulator.url(TABLE), {
    ...emulator.options,
    deadLetter: { directory: path.join(home, "refused") },
    inflight: { maxBytes: "2MiB" },
  });
  const plan = new Map([
    [0.4, "close:status=UNAVAILABLE"],
    [0.41, "refuse:status=UNAVAILABLE,times=5"],
    [0.7, "pause:for=3s"],
    [0.85, "rotate:after=1000rows,times=3,grace=1s"],
  ]);
  const start = performance.now();
  for (let share = 0; share < 1; share = (performance.now() - start) / 1000 / SECONDS) {
    for (const [when, fault] of plan) {
      if (when > share) continue;
      emulator.addFault(fault);
      plan.delete(when);
    }
    const rows = 2_000 + Math.round(1_500 * Math.sin(share * 12));
    const amount = new Float64Array(rows).fill(9.5);
    if (share > 0.2 && share < 0.3) amount[0] = -1;
    const delivery = await client.enqueue(
      new Table({ id: makeVector(new Int32Array(rows)), amount: makeVector(amount) }),
    );
    void delivery.result; // a refusal is what is to be seen
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await client.flush();
}

/** What Prometheus answers to the queries of a panel: points of lines, by the names that their legend gives them. */
async function series(prometheus, { title, targets = [] }, start) {
  const points = [];
  for (const { expr, legendFormat } of targets) {
    const url = new URL("/api/v1/query_range", prometheus);
    url.searchParams.set("query", expr.replaceAll("$destination", ".*").replaceAll("$__rate_interval", "8s"));
    for (const [name, value] of [
      ["start", start],
      ["end", start + SECONDS],
      ["step", STEP],
    ])
      url.searchParams.set(name, String(value));
    const { data, error } = await (await fetch(url)).json();
    if (!data?.result.length) throw new Error(`${title}: ${expr}: ${error ?? "no line"}`);
    for (const { metric, values } of data.result) {
      const line = legendFormat.replaceAll(/\{\{(\w+)\}\}/g, (_, label) => metric[label] ?? "");
      for (const [at, value] of values)
        if (Number.isFinite(Number(value)))
          points.push({ at: Math.round(at - start), line, value: Number(value) });
    }
  }
  return points;
}

/** Rows of panels, each below its heading, as the dashboard has them. */
async function draw(answers) {
  const groups = [];
  for (const [i, { type, title, fieldConfig }] of panels().entries()) {
    if (type === "row") groups.push(group(title));
    else groups.at(-1).hconcat.push(chart(title, fieldConfig.defaults.unit, answers[i]));
  }
  const { spec } = compile({
    background: "white",
    padding: 12,
    config: { font: "sans-serif", aria: false, view: { stroke: "#ddd" } },
    vconcat: groups,
  });
  const view = new View(parse(spec), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  // What says nothing to who looks at it: two thirds of the file.
  const short = svg
    .replaceAll(/ (?:class|role|aria-[a-z]+|pointer-events|xmlns:xlink)="[^"]*"/g, "")
    .replaceAll(/<path d="M0,0h0v0h0Z"\/>/g, "")
    .replaceAll(/ (?:d|transform)="[^"]*"/g, (text) =>
      text.replaceAll(/\d+\.\d{2,}/g, (number) => Number(number).toFixed(1)),
    );
  const title = `<title>The dashboard of arrow-ingest, over ${SECONDS} s of a client</title>`;
  return `${short.replace(/<svg ([^>]*>)/, `<svg data-panels="${fingerprint()}" $1${title}`)}\n`;
}

function group(title) {
  const independent = { legend: { color: "independent" }, scale: { color: "independent" } };
  const heading = { text: title, fontSize: 15, anchor: "start", frame: "group", dy: -6 };
  return { title: heading, hconcat: [], spacing: 70, bounds: "flush", resolve: independent };
}

function chart(title, unit, values) {
  if (!(unit in UNITS)) throw new Error(`${title}: no text for the unit ${unit}`);
  // 0.2 a second is not 200 milli-anything; of a second it is 200 ms.
  const number = `format(datum.value, ${unit === "s" ? "" : "abs(datum.value) < 1 ? '~g' : "}'~s')`;
  const legend = { orient: "bottom", columns: 2, labelLimit: 0, labelFontSize: 9, columnPadding: 8 };
  const labels = `${number} + '${UNITS[unit]}'`;
  return {
    title: { text: title, fontWeight: "normal", anchor: "start", frame: "group" },
    ...{ width: 250, height: 110, data: { values } },
    mark: { type: "line", strokeWidth: 1.5 },
    encoding: {
      x: {
        field: "at",
        type: "quantitative",
        title: null,
        axis: { labelExpr: "datum.value + ' s'", tickCount: 4 },
      },
      y: { field: "value", type: "quantitative", title: null, axis: { labelExpr: labels, tickCount: 4 } },
      color: {
        field: "line",
        type: "nominal",
        title: null,
        sort: null,
        legend,
      },
    },
  };
}
