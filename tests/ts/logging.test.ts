// loggers of each kind get the line and every fact of it.
import * as assert from "node:assert/strict";
import { Console } from "node:console";
import { Writable } from "node:stream";
import * as vm from "node:vm";
import bunyan from "bunyan";
import pino from "pino";
import { expect, test } from "vitest";
import winston from "winston";
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

test("R-44 winston: the level, the line, and the facts, which its formats may redact", async () => {
  const lines: Record<string, unknown>[] = [];
  const redact = winston.format((info) => ({ ...info, causes: "[redacted]" }));
  const stream = new Writable({
    write(chunk, _, done) {
      lines.push(JSON.parse(String(chunk)));
      done();
    },
  });
  const logger = winston.createLogger({
    level: "error",
    format: winston.format.combine(redact(), winston.format.json()),
    transports: [new winston.transports.Stream({ stream })],
  });
  await provoke(logger);
  expect(lines).toEqual([]);
  logger.level = "warn";
  await provoke(logger.child({ part: "ingest" }));
  expect(lines).toEqual([{ level: "warn", message: LINE, part: "ingest", causes: "[redacted]" }]);
});

test("R-44 bunyan itself: its level, its line, and the facts through its serializers", async () => {
  const ring = new bunyan.RingBuffer({ limit: 10 });
  const logger = bunyan.createLogger({
    name: "service",
    streams: [{ type: "raw", level: "error", stream: ring }],
    serializers: { causes: (causes: string[]) => causes.map(() => "[redacted]") },
  });
  await provoke(logger as Logger);
  expect(ring.records).toEqual([]);
  logger.level("warn");
  await provoke(logger.child({ part: "ingest" }) as Logger);
  expect(ring.records).toMatchObject([
    { level: bunyan.WARN, msg: LINE, part: "ingest", causes: ["[redacted]"], name: "service" },
  ]);
});

test("R-44 pino redacts facts by their paths", async () => {
  const lines: Record<string, unknown>[] = [];
  const out = new Writable({
    write(chunk, _, done) {
      lines.push(JSON.parse(String(chunk)));
      done();
    },
  });
  await provoke(pino({ redact: ["causes[*]"] }, out));
  expect(lines).toMatchObject([{ msg: LINE, causes: ["[Redacted]"] }]);
});

test("R-44 console itself", async () => {
  const chunks: string[] = [];
  const out = new Writable({
    write(chunk, _, done) {
      chunks.push(String(chunk));
      done();
    },
  });
  await provoke(new Console(out));
  expect(chunks.join("")).toBe(`${LINE} { causes: [ 'Error: no idea' ] }\n`);
});
