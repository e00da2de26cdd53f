// `arrow-ingest emulator`: a Zerobus service in the foreground, until SIGINT or SIGTERM.

import * as fs from "node:fs";
import { parseArgs } from "node:util";
import {
  type Emulator,
  type EmulatorEvent,
  type EmulatorOptions,
  type EmulatorSummary,
  startEmulator,
} from "../index.js";
import { Interruption, type Io, Misuse, NOT_ALL, OK } from "./io.js";
import { jsonFile, optionsFile, refuseSecret, resolve } from "./settings.js";
import { count, explain, oneLine, plural, table } from "./text.js";

const FLAGS = {
  host: { type: "string" },
  port: { type: "string" },
  lake: { type: "string" },
  table: { type: "string", multiple: true, default: [] as string[] },
  fault: { type: "string", multiple: true, default: [] as string[] },
  "auto-create": { type: "boolean" },
  "no-auto-create": { type: "boolean" },
  tls: { type: "boolean" },
  ca: { type: "string" },
  "client-id": { type: "string" },
  "client-secret": { type: "string" },
  options: { type: "string" },
  json: { type: "boolean", default: false },
  quiet: { type: "boolean", short: "q", default: false },
} as const;

export async function emulator(args: readonly string[], io: Io): Promise<number> {
  const { values } = parseArgs({ args: [...args], options: FLAGS });
  const options = optionsOf(values, io);
  if (values.ca !== undefined && options.tls !== true) throw new Misuse("--ca needs --tls");
  if (values["auto-create"] && values["no-auto-create"])
    throw new Misuse("--auto-create and --no-auto-create exclude each other");
  const onEvent = ({ line, ...facts }: EmulatorEvent): void => {
    const now = new Date().toISOString();
    if (values.json) io.stdout.write(`${JSON.stringify({ time: now, ...facts })}\n`);
    else if (!values.quiet) io.stdout.write(`${now.slice(11, 23)} ${oneLine(line)}\n`);
  };
  using interruption = new Interruption(io, "what came is committed");
  // Neither an emulator nor a listener to signals keeps a process alive.
  const alive = setInterval(() => {}, 2 ** 30);
  try {
    await using running = await startEmulator({ ...options, onEvent });
    const authority = running.options.tls?.ca;
    if (authority !== undefined && values.ca !== undefined) fs.writeFileSync(values.ca, authority);
    io.stdout.write(values.json ? `${JSON.stringify(ready(running))}\n` : greeting(running, values, options));
    await interruption.wait();
    let failure: unknown;
    await running.close().catch((error: unknown) => {
      failure = error;
    });
    const summary = await running.summary();
    io.stdout.write(
      values.json ? `${JSON.stringify({ event: "summary", ...summary })}\n` : closing(summary, io),
    );
    if (failure === undefined) return OK;
    io.stderr.write(explain(failure));
    return NOT_ALL;
  } finally {
    clearInterval(alive);
  }
}

interface Values {
  readonly host?: string | undefined;
  readonly port?: string | undefined;
  readonly lake?: string | undefined;
  readonly table: readonly string[];
  readonly fault: readonly string[];
  readonly "auto-create"?: boolean | undefined;
  readonly "no-auto-create"?: boolean | undefined;
  readonly tls?: boolean | undefined;
  readonly ca?: string | undefined;
  readonly "client-id"?: string | undefined;
  readonly "client-secret"?: string | undefined;
  readonly options?: string | undefined;
}

/** What the file says, and on top of it what the command line says. */
function optionsOf(values: Values, io: Io): EmulatorOptions {
  const file = values.options === undefined ? {} : (optionsFile(values.options) as EmulatorOptions);
  const secret = values["client-secret"];
  if (secret !== undefined) refuseSecret("--client-secret", secret);
  const given: Record<string, unknown> = {
    host: values.host,
    port: values.port === undefined ? undefined : Number(values.port),
    lake: values.lake,
    autoCreate: values["no-auto-create"] ? false : values["auto-create"],
    tls: values.tls,
    clientId: values["client-id"],
    clientSecret: secret === undefined ? undefined : resolve("--client-secret", secret, io),
  };
  for (const name of Object.keys(given)) if (given[name] === undefined) delete given[name];
  const tables = Object.fromEntries(values.table.map(tableOf));
  return {
    ...file,
    ...given,
    ...(values.table.length > 0 ? { tables: { ...file.tables, ...tables } } : {}),
    ...(values.fault.length > 0 ? { faults: [...(file.faults ?? []), ...values.fault] } : {}),
  } as EmulatorOptions;
}

function tableOf(given: string): [string, unknown] {
  const [, name, path] = /^([^=]+)=(.+)$/su.exec(given) ?? [];
  if (name === undefined || path === undefined)
    throw new Misuse("--table takes catalog.schema.table=schema.json, a file with its columns");
  return [name, jsonFile(`--table ${name}`, path)];
}

const EXAMPLE = "main.default.events";

const ready = (emulator: Emulator): object => ({
  event: "ready",
  url: emulator.url(""),
  endpoint: emulator.options.zerobus.unityCatalogUrl,
  unityCatalogUrl: emulator.options.zerobus.unityCatalogUrl,
  ca: emulator.options.tls?.ca ?? null,
});

function greeting(emulator: Emulator, values: Values, options: EmulatorOptions): string {
  const { zerobus, tls } = emulator.options;
  const name = Object.keys(options.tables ?? {})[0] ?? EXAMPLE;
  const ca =
    values.ca === undefined ? "the certificate below" : `readFileSync(${JSON.stringify(values.ca)}, "utf8")`;
  const authority = tls === undefined ? "" : `  tls: { ca: ${ca} },\n`;
  const below = tls === undefined || values.ca !== undefined ? "" : `${tls.ca.trimEnd()}\n\n`;
  return (
    `Zerobus emulator at ${emulator.url("<catalog>.<schema>.<table>")}\n` +
    `for clients that take two URLs, of Arrow streams:\n` +
    `  Zerobus endpoint   ${zerobus.unityCatalogUrl}\n` +
    `  Unity Catalog URL  ${zerobus.unityCatalogUrl}\n` +
    `${options.lake === undefined ? "rows are counted and forgotten (--lake keeps them)" : `tables in ${options.lake}`}\n\n` +
    `await connect(${JSON.stringify(emulator.url(name))}, {\n` +
    `  zerobus: {\n` +
    `    unityCatalogUrl: ${JSON.stringify(zerobus.unityCatalogUrl)},\n` +
    `    clientId: ${JSON.stringify(zerobus.clientId)},\n` +
    `    clientSecret: ${secretOf(values, options)},\n` +
    `  },\n${authority}});\n\n${below}`
  );
}

/** How to write the secret, not what it is. */
function secretOf(values: Values, { clientSecret }: EmulatorOptions): string {
  const variable = /^@env:(.+)$/su.exec(values["client-secret"] ?? "")?.[1];
  if (variable !== undefined) return `process.env.${variable}`;
  return clientSecret === undefined ? '"any"' : '"…"';
}

function closing(summary: EmulatorSummary, io: Io): string {
  const { streams, tokensIssued, faultsFired } = summary;
  const head = [plural(streams, "stream"), plural(tokensIssued, "token"), plural(faultsFired, "fault")].join(
    ", ",
  );
  const rows = Object.entries(summary.tables).map(([name, one]) =>
    [name, one.rowsReceived, one.rowsDurable, one.rowsAcknowledged, one.batchesRefused, one.commits].map(
      (cell) => (typeof cell === "number" ? count(cell) : cell),
    ),
  );
  const titles = ["table", "rows received", "durable", "acknowledged", "batches refused", "commits"];
  return `${head}\n${rows.length > 0 ? table([titles, ...rows], io.stdout.columns ?? 120) : ""}`;
}
