// `arrow-ingest send`: files, one piece after another.

import { parseArgs } from "node:util";
import { deliver, type Item, OUTPUT_FLAGS } from "./deliver.js";
import { type Input, inspect } from "./input.js";
import { type Io, Misuse } from "./io.js";
import { SETTING_FLAGS, settings } from "./settings.js";
import { messageOf } from "./text.js";

export async function send(args: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { ...SETTING_FLAGS, ...OUTPUT_FLAGS },
  });
  const [target, ...paths] = positionals;
  if (target === undefined || paths.length === 0)
    throw new Misuse("send needs a target and at least one file (- is standard input)");
  if (paths.indexOf("-") !== paths.lastIndexOf("-"))
    throw new Misuse("standard input (-) can be read only once");
  const options = settings(values, io);
  const inputs: Input[] = [];
  for (const path of paths) inputs.push(await inspect(path, io));
  const total = inputs.reduce<number | null>(
    (sum, { size }) => (sum === null || size === null ? null : sum + size),
    0,
  );
  const items = (signal: AbortSignal, onRead: (bytes: number) => void) => read(inputs, signal, onRead);
  return deliver({ target, options, flags: values, total, items }, io);
}

async function* read(
  inputs: readonly Input[],
  signal: AbortSignal,
  onRead: (bytes: number) => void,
): AsyncGenerator<Item, void, undefined> {
  for (const { name, pieces } of inputs) {
    try {
      for await (const { bytes, firstRow } of pieces(signal, onRead))
        yield { batch: bytes, origin: { file: name, firstRow } };
    } catch (error) {
      throw new Error(`${name}: ${messageOf(error)}`, { cause: error });
    }
  }
}
