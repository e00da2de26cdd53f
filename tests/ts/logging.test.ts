// loggers of each kind get the line and every fact of it.
import * as assert from "node:assert/strict";
import { Writable } from "node:stream";
import * as vm from "node:vm";
import pino from "pino";
import { expect, test } from "vitest";
import { connect, type Logger } from "../../dist/index.js";

/** Makes the client say something: `retry.when` throws, and the reason is a fact of the line. */
async function provoke(logger: Logger): Promise<void> {
  const when = () => {
    throw new Error("no idea");
  };
  const refused = connect("grpc://127.0.0.1:1/x", { logger, retry: { attempts: 2, baseDelay: 1, when } });
  await assert.rejects(refused);
}

const LINE = "retry.when gave no verdict: the retry class decides";
const FACTS = { causes: ["Error: no idea"] };

test("R-34 console and winston: a line, and the facts behind it", async () => {
  const said: unknown[][] = [];
  await provoke({ warn: (...args: unknown[]) => said.push(args) });
  expect(said).toEqual([[LINE, FACTS]]);
});

test("R-34 pino keeps the facts, also of a level that is switched on later", async () => {
  const lines: Record<string, unknown>[] = [];
  const out = new Writable({
    write(chunk, _, done) {
      lines.push(JSON.parse(String(chunk)));
      done();
    },
  });
  const logger = pino({ level: "silent" }, out);
  await provoke(logger);
  expect(lines).toEqual([]);
  logger.level = "warn";
  await provoke(logger.child({ part: "ingest" }));
  expect(lines).toMatchObject([{ level: 40, msg: LINE, part: "ingest", ...FACTS }]);
});

test("R-34 bunyan, by its shape, gets the object first, and its own `this`", async () => {
  const logger = {
    said: [] as unknown[][],
    child: () => {},
    addStream: () => {},
    addSerializers: () => {},
    warn(...args: unknown[]) {
      this.said.push(args);
    },
  };
  await provoke(logger);
  expect(logger.said).toEqual([[FACTS, LINE]]);
});

test("R-34 a logger without the method, one that throws, and one that rejects fail nothing", async () => {
  await provoke({});
  await provoke({
    warn() {
      throw new Error("full");
    },
  });
  // No Promise of ours, and nobody else would catch it.
  await provoke({ warn: () => vm.runInNewContext("Promise.reject(new Error('full'))") });
});
