// `arrow-ingest send`: files, one piece after another.

import * as fs from "node:fs";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { RecordBatchReader } from "apache-arrow";
import { IngestError } from "../index.js";
import { deliver, type Item, OUTPUT_FLAGS } from "./deliver.js";
import { type Decoding, type Input, inspect, type SchemaWanted } from "./input.js";
import { type Io, Misuse } from "./io.js";
import { SETTING_FLAGS, settings } from "./settings.js";
import { messageOf } from "./text.js";

export async function send(args: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { ...SETTING_FLAGS, ...OUTPUT_FLAGS, format: { type: "string" }, schema: { type: "string" } },
  });
  const [target, ...paths] = positionals;
  if (target === undefined || paths.length === 0)
    throw new Misuse("send needs a target and at least one file (- is standard input)");
  if (paths.indexOf("-") !== paths.lastIndexOf("-"))
    throw new Misuse("standard input (-) can be read only once");
  const options = settings(values, io);
  const inputs: Input[] = [];
  const decoding = await decodingOf(values);
  for (const path of paths) inputs.push(await inspect(path, io, decoding));
  const total = inputs.reduce<number | null>(
    (sum, { size }) => (sum === null || size === null ? null : sum + size),
    0,
  );
  return deliver(
    {
      target,
      options,
      config: values.config,
      flags: values,
      total,
      items: (signal, onRead, client) => read(inputs, signal, onRead, () => client.schema()),
    },
    io,
  );
}

const FORMATS = ["json", "csv", "parquet"] as const;

/** @throws {Misuse} naming the flag that is wrong. */
async function decodingOf(flags: { format?: string; schema?: string }): Promise<Decoding> {
  const format = FORMATS.find((one) => one === flags.format);
  if (flags.format !== undefined && format === undefined)
    throw new Misuse(`--format takes one of ${FORMATS.join(", ")}; Arrow IPC is known by its content`);
  if (flags.schema === undefined) return format === undefined ? {} : { format };
  const given = await schemaFile(flags.schema);
  // Asked for JSON and CSV alone: Parquet has its own.
  const schema = () => given;
  return format === undefined ? { schema } : { format, schema };
}

type Schema = Exclude<NonNullable<Decoding["schema"]>, () => unknown>;

/** The schema of an Arrow IPC file, or what a module exports. */
async function schemaFile(given: string): Promise<Schema> {
  try {
    if (/\.[cm]?[jt]s$/u.test(given)) {
      const { default: exported, schema = exported } = (await import(
        pathToFileURL(path.resolve(given)).href
      )) as Record<string, unknown>;
      if (schema == null) throw new Misuse(`--schema ${given}: it exports no default and no "schema"`);
      return schema as Schema;
    }
    const reader = RecordBatchReader.from(fs.readFileSync(given)).open();
    if (reader.schema == null) throw new Misuse(`--schema ${given}: it holds no schema`);
    return reader.schema;
  } catch (error) {
    if (error instanceof Misuse) throw error;
    throw new Misuse(
      `--schema ${given}: an Arrow IPC file, or a module that exports a schema, is needed: ${messageOf(error)}`,
    );
  }
}

async function* read(
  inputs: readonly Input[],
  signal: AbortSignal,
  onRead: (bytes: number) => void,
  schemaWanted: SchemaWanted,
): AsyncGenerator<Item, void, undefined> {
  for (const { name, pieces } of inputs) {
    try {
      for await (const { bytes, firstRow, decoded } of pieces(signal, onRead, schemaWanted))
        yield { batch: bytes, origin: { file: name, firstRow, ...(decoded && { decoded }) } };
    } catch (error) {
      throw failed(name, error);
    }
  }
}

/** Of an error of ours, its code and its causes stay. */
function failed(name: string, error: unknown): Error {
  const message = `${name}: ${messageOf(error)}`;
  if (!(error instanceof IngestError)) return new Error(message, { cause: error });
  const { code, operation, field, issues, cause } = error;
  return new IngestError({ code, operation, field, issues, cause, message });
}
