// of the golden files, what Delta can hold is written to a table and read back equal by deltalake
// and polars; what it cannot hold is refused with every such column named, and nothing is written.
import * as fs from "node:fs";
import * as path from "node:path";
import {
  type DataType,
  type Dictionary,
  type Field,
  type Table,
  tableFromIPC,
  tableToIPC,
} from "apache-arrow";
import { expect, test } from "vitest";
import { connect, type IngestError } from "../../dist/index.js";
import { cases } from "./support/golden.js";
import { base64, describeWith, folderOfFile, goldenRoot, PYTHON, peerOfFile } from "./support/peer.js";

/** `specs/delta-types.md`, read again. */
function holds(type: DataType): boolean {
  const facts = type as unknown as { isSigned?: boolean; precision?: number; scale?: number };
  const children = (type.children ?? []) as Field[];
  switch (type.typeId) {
    case 2:
      return facts.isSigned === true;
    case 3:
      return facts.precision !== 0;
    case 7:
      return facts.precision! <= 38 && facts.scale! >= 0 && facts.scale! <= facts.precision!;
    case 4:
    case 5:
    case 6:
    case 8:
    case 10:
    case 15:
    case 19:
    case 20:
      return true;
    case 12:
    case 16:
    case 21:
      return holds(children[0]!.type);
    case 13: {
      const names = new Set(children.map(({ name }) => name.toLowerCase()));
      return (
        children.length > 0 && names.size === children.length && children.every((one) => holds(one.type))
      );
    }
    case 17: {
      const [key, value] = children[0]!.type.children as Field[];
      return (key!.type.children ?? []).length === 0 && holds(key!.type) && holds(value!.type);
    }
    case -1: {
      const words = (type as Dictionary).dictionary as DataType;
      return words.typeId !== -1 && (words.children ?? []).length === 0 && holds(words);
    }
    default:
      return false;
  }
}

/** Types that can hold values which Delta cannot: dates with a time of day, instants that are no whole µs, … */
const LOOKED_AT = new Set([7, 8, 10]);

const folder = folderOfFile("golden");
const streams = cases((name) => !/bigendian|compression|0\.17\.1/.test(name)).filter(({ name }) =>
  name.endsWith(".stream"),
);
const peer = peerOfFile();
let count = 0;

const quick = { batching: { linger: 0 }, delta: { commitInterval: "10ms" } } as const;
const newTable = (): string => path.join(folder, `t${count++}`);

async function outcome(table: string, input: Table | Uint8Array): Promise<IngestError | null> {
  await using client = await connect(`delta:${table}`, quick);
  return (await client.send(input)).error;
}

describeWith(fs.existsSync(goldenRoot) ? PYTHON : goldenRoot, "R-20 golden files in Delta tables", () => {
  for (const one of streams)
    test(`${one.name}: what Delta can hold comes back equal`, async () => {
      const table = tableFromIPC(one.bytes);
      const { fields } = table.schema;
      const seen = new Set<string>();
      let names = fields
        .filter(({ name }) => fields.filter((other) => other.name === name).length === 1)
        .filter(
          ({ name, type }) => holds(type) && !seen.has(name.toLowerCase()) && seen.add(name.toLowerCase()),
        )
        .map(({ name }) => name);

      const refused = fields.filter(({ name }) => !names.includes(name));
      if (refused.length > 0 && table.numRows > 0) {
        const target = newTable();
        const error = await outcome(target, one.bytes);
        expect(error?.code).toBe("SCHEMA_MISMATCH");
        for (const { name } of refused) expect(error!.message).toContain(`${name}: `);
        expect(fs.existsSync(path.join(target, "_delta_log"))).toBe(false);
      }

      for (;;) {
        if (names.length === 0) return;
        const target = newTable();
        const chosen = table.select(names);
        const error = await outcome(target, chosen);
        if (error !== null) {
          // A value that Delta cannot hold: the column is named, and goes.
          expect(error.code, error.message).toBe("BATCH_INVALID");
          expect(LOOKED_AT, error.message).toContain(
            fields.find(({ name }) => name === error.field)?.type.typeId,
          );
          expect(error.row, error.message).not.toBeNull();
          names = names.filter((name) => name !== error.field);
          continue;
        }
        if (table.numRows === 0) return;
        const expected = [base64(tableToIPC(chosen, "stream"))];
        const answers = await peer.ask<Record<string, string | null>>("delta_equal", {
          path: target,
          expected,
        });
        // polars has its own limits of decimals; deltalake is the judge, polars a witness where it can read.
        expect(answers).toMatchObject({ deltalake: null, files: null });
        if (answers.polars !== null) expect(answers.polars, names.join()).toMatch(/^cannot/);
        const bytes = newTable();
        expect(await outcome(bytes, tableToIPC(chosen, "file"))).toBeNull();
        const again = await peer.ask<Record<string, string | null>>("delta_equal", { path: bytes, expected });
        expect(again).toMatchObject({ deltalake: null, files: null });
        return;
      }
    });
});
