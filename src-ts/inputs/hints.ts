// What cannot be sent → the call that makes something of it that can: one table.
//
// Invariants:
// - Rows of the table are asked in order, and the first that knows a value answers.
// - Nothing of the value is in the message but a short text, or the name of its class.

import { types } from "node:util";
import { describe } from "../options/checks.js";

type Shape = Readonly<Record<string, unknown>>;

interface Hint {
  is(value: Shape): boolean;
  /** What it is, and what to do. */
  readonly says: string;
}

const has =
  (...methods: readonly string[]) =>
  (value: Shape): boolean =>
    methods.every((method) => typeof value[method] === "function");

const tagged =
  (tag: string) =>
  (value: Shape): boolean =>
    (value as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag] === tag;

const holds =
  (...properties: readonly string[]) =>
  (value: Shape): boolean =>
    properties.every((property) => value[property] !== undefined && value[property] !== null);

const OBJECTS: readonly Hint[] = [
  { is: types.isPromise as (value: unknown) => boolean, says: "a Promise: await it first" },
  { is: has("then"), says: "a promise of some kind: await it first" },
  { is: has("collectSync", "explain"), says: "a lazy frame of polars: send(await frame.collect())" },
  { is: has("collectSync", "describePlan"), says: "a lazy frame of polars: send(await frame.collect())" },
  { is: has("toFrame", "toArray"), says: "a series of polars: send(series.toFrame())" },
  {
    is: has("readUntil", "getColumnsObject"),
    says: "a reader of DuckDB, which has made values of the rows already: send(await connection.run(sql)), or sendAll(await connection.stream(sql))",
  },
  {
    is: has("getColumnVector", "getRowObjects"),
    says: "a chunk of DuckDB, which does not say what its columns are called: give the result that it is of to sendAll()",
  },
  { is: has("runAndReadAll", "stream"), says: "a connection of DuckDB: send(await connection.run(sql))" },
  { is: has("intoFFI"), says: "a part of parquet-wasm that holds no rows: send a Table of it" },
  { is: has("fetchArrow"), says: "a result that can be fetched as Arrow: send what that gives" },
  {
    is: (value) => holds("type", "data", "length")(value) && has("toArray", "getChild")(value),
    says: "a vector of apache-arrow: send new Table({ name: vector })",
  },
  {
    is: (value) => holds("type", "data", "length")(value) && has("toArray", "at")(value),
    says: "a column of flechette: send tableFromColumns({ name: column })",
  },
  {
    is: (value) => holds("fields", "metadata")(value) && !holds("batches")(value),
    says: "a schema without rows: give it to connect() or to a call as { schema }",
  },
  {
    is: has("arrayBuffer", "json", "text"),
    says: "a response: send(await response.bytes()), or sendAll(ipcBatches(response.body))",
  },
  {
    is: has("arrayBuffer", "stream", "slice"),
    says: "a Blob: send(await blob.arrayBuffer()), or sendAll(ipcBatches(blob.stream())); of JSON, CSV or Parquet, sendBytes(blob)",
  },
  {
    is: tagged("URL"),
    says: "a URL: of a file, send(await readFile(url)); of a server, send(await (await fetch(url)).bytes())",
  },
  {
    is: (value) => has("pipe", "read")(value) && value.readableObjectMode !== true,
    says: "a stream of bytes: sendAll(ipcBatches(stream)) reads Arrow IPC from it, and sendBytes(stream) JSON, CSV or Parquet",
  },
  {
    is: has("getReader", "pipeTo"),
    says: "a stream: give it to sendAll(), or pipe it into client.writable(); of bytes, sendAll(ipcBatches(stream))",
  },
  {
    is: has("readFile", "createReadStream"),
    says: "an open file: send(await file.readFile()), or sendAll(ipcBatches(file.createReadStream()))",
  },
  {
    is: types.isMap as (value: unknown) => boolean,
    says: "a Map: of columns, send(Object.fromEntries(map))",
  },
  {
    is: (value) => typeof value[Symbol.asyncIterator as never] === "function",
    says: "an async iterable: give it to sendAll()",
  },
  {
    is: (value) =>
      !Array.isArray(value) && !types.isDate(value) && typeof value[Symbol.iterator as never] === "function",
    says: "an iterable: give it to sendAll()",
  },
];

/** What a value is, and the call for it; undefined where there is nothing to say but its class. */
export function hintFor(value: unknown): string | undefined {
  switch (typeof value) {
    case "string":
      return `${describe(value)}: of a file, send await readFile(path), or sendBytes(path) if it is JSON, CSV or Parquet; bytes in text, send Buffer.from(text, "base64")`;
    case "function":
      return isAsyncGenerator(value)
        ? "a generator function: give what it returns, called, to sendAll()"
        : "a function: call it, and send what it returns";
    case "undefined":
      return "undefined: a function that returns nothing, or an await that is missing";
    case "object":
      return value === null ? undefined : hintForObject(value as Shape);
    default:
      return undefined;
  }
}

const isAsyncGenerator = (value: unknown): boolean => types.isGeneratorFunction(value);

function hintForObject(value: Shape): string | undefined {
  for (const { is, says } of OBJECTS) {
    try {
      if (is(value)) return says;
    } catch {
      // A getter of the user's: the next row may do without it.
    }
  }
  return undefined;
}
