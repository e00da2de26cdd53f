// Rows to acknowledged by `discard:`: ours, the ways of apache-arrow, and a loop written by hand for the very schema, in
// turn. Rates are rows for each second of the JavaScript thread's CPU, from the rows to the outcome, so that what else
// the machine does changes little; medians.
import {
  Bool,
  Data,
  Field,
  Float64,
  Int32,
  List,
  RecordBatch,
  Schema,
  Struct,
  Table,
  TimestampMicrosecond,
  tableFromJSON,
  Utf8,
  vectorFromArray,
} from "apache-arrow";
import { connect, t, tableFromRows } from "../../dist/index.js";
import { median } from "../data.mjs";

/** `BENCH_SCALE=0.1` is for trying out. */
const SCALE = Number(process.env.BENCH_SCALE ?? 1);
const TURNS = Math.max(3, Math.round(9 * SCALE));
const client = await connect("discard:");
const failed = [];
/** Written by hand, by how often the columns come. */
const loops = {};
const results = {};

const COLUMNS = [
  ["i", t.int32(), new Int32(), (row) => row],
  ["f", t.float64(), new Float64(), (row) => row * 1.5],
  ["s", t.utf8(), new Utf8(), (row) => `name-${row % 1000}`],
  ["b", t.bool(), new Bool(), (row) => row % 3 === 0],
  ["t", t.timestamp("us", "UTC"), new TimestampMicrosecond("UTC"), (row) => new Date(1.7e12 + row)],
];

await flat("5 columns", 1, 200_000, { builders: 10, json: 5 });
await flat("30 columns", 6, 40_000, { builders: 20, json: 20 });
await deep();
await wrong();
await oneByOne();

console.error(failed.length === 0 ? "all bars are held" : `failed: ${failed.join("; ")}`);
await client.close();
console.log(JSON.stringify({ results, failed }));

/** Columns over and over, as a producer's objects: made anew by one function, so of one shape. */
async function flat(name, times, count, least) {
  const columns = Array.from({ length: times }, (_, set) =>
    COLUMNS.map(([column, ...rest]) => [`${column}${set}`, ...rest]),
  ).flat();
  const schema = t.schema(columns.map(([column, type]) => [column, type]));
  const make = new Function(
    "makers",
    `return (row) => ({ ${columns.map(([column], index) => `${column}: makers[${index}](row)`)} });`,
  )(columns.map(([, , , value]) => value));
  const rows = Array.from({ length: count }, (_, row) => make(row));
  const ways = {
    ours: async () => {
      const { table, rejections } = await tableFromRows(rows, schema);
      if (rejections.length > 0) throw new Error(rejections[0].message);
      return client.send(table);
    },
    builders: () =>
      client.send(
        new Table(
          Object.fromEntries(
            columns.map(([column, , type]) => [
              column,
              vectorFromArray(
                rows.map((row) => row[column]),
                type,
              ),
            ]),
          ),
        ),
      ),
    json: () => client.send(tableFromJSON(rows)),
    hand: () => client.send(byHand(rows, times)),
  };
  const rates = await inTurn(ways, count);
  results[name] = { rates, over: over(rates) };
  bar(name, "builders", rates.ours / rates.builders, least.builders);
  bar(name, "tableFromJSON", rates.ours / rates.json, least.json);
  bar(name, "a loop by hand", rates.ours / rates.hand, 0.67);
}

/** Text that is not ASCII, nested lists and structs. */
async function deep() {
  const count = 20_000;
  const schema = t.schema({ s: t.utf8(), l: t.list(t.struct({ x: t.int32(), y: t.list(t.float64()) })) });
  const text = "é🎉ünï".repeat(15).slice(0, 100);
  const rows = Array.from({ length: count }, (_, row) => ({
    s: `${row}${text}`,
    l: [
      { x: row, y: [row, 0.5] },
      { x: row + 1, y: [] },
    ],
  }));
  const item = new Struct([
    new Field("x", new Int32(), false),
    new Field("y", new List(new Field("item", new Float64(), false)), false),
  ]);
  const types = { s: new Utf8(), l: new List(new Field("item", item, false)) };
  const ways = {
    ours: async () => client.send((await tableFromRows(rows, schema)).table),
    builders: () =>
      client.send(
        new Table(
          Object.fromEntries(
            Object.entries(types).map(([name, type]) => [
              name,
              vectorFromArray(
                rows.map((row) => row[name]),
                type,
              ),
            ]),
          ),
        ),
      ),
  };
  const rates = await inTurn(ways, count);
  results["text that is not ASCII, lists, structs"] = { rates, over: over(rates) };
  bar("nested", "builders", rates.ours / rates.builders, 4);
}

/** A writer's rows: those that nobody waits for, and those with a promise of their outcome. */
async function oneByOne() {
  const schema = t.schema(COLUMNS.map(([column, type]) => [column, type]));
  const make = (row) => ({
    i: row,
    f: row * 1.5,
    s: `name-${row % 1000}`,
    b: row % 3 === 0,
    t: new Date(1.7e12 + row),
  });
  const count = Math.round(300_000 * SCALE);
  const rows = Array.from({ length: count }, (_, row) => make(row));
  const ways = {
    write: async () => {
      const writer = client.rows(schema);
      for (const row of rows) {
        const waiting = writer.write(row);
        if (waiting !== undefined) await waiting;
      }
      await writer.flush();
    },
    awaited: async () => {
      const writer = client.rows(schema);
      for (const row of rows) await writer.write(row);
      await writer.flush();
    },
    send: async () => {
      const writer = client.rows(schema);
      const outcomes = [];
      for (let row = 0; row < count; row++) {
        outcomes.push(writer.send(rows[row]));
        // As a server does, which has some requests in a turn of the event loop.
        if (row % 1_000 === 999) await new Promise((resolve) => setImmediate(resolve));
      }
      for (const { status } of await Promise.all(outcomes))
        if (status !== "acknowledged") throw new Error(status);
    },
    sendAll: async () => {
      for await (const result of client.sendAll(rows, { schema })) result.orThrow();
    },
  };
  const rates = await inTurn(ways, count);
  results["one row at a time"] = { rates };
  for (const [name, least] of [
    ["write", 2e6],
    ["send", 3e5],
  ])
    if (rates[name] < least) failed.push(`${name}(row): ${(rates[name] / 1e6).toFixed(2)} M rows a second`);
}

/** Rows of which none fits: what each costs, and how long the event loop waits. */
async function wrong() {
  const schema = t.schema({ id: t.int32(), name: t.utf8() });
  const each = {};
  for (const count of [1_000, 10_000, 100_000, 1_000_000].map((count) => count * Math.min(1, SCALE))) {
    const rows = Array.from({ length: count }, (_, id) => ({ id: `${id}`, name: "x" }));
    await tableFromRows(rows.slice(0, 1_000), schema);
    const turns = watchTurns();
    const start = cpuMs();
    const { rejections } = await tableFromRows(rows, schema);
    const took = cpuMs() - start;
    const longest = turns();
    if (rejections.length !== count) throw new Error(`${rejections.length} of ${count}`);
    each[count] = { us: (took / count) * 1_000, p99Ms: longest };
  }
  results.wrong = each;
  const [, few, , many] = Object.values(each);
  // Few are faster by what the collector has not yet to do.
  if (many.us > 3 * few.us)
    failed.push(`wrong rows: ${(many.us / few.us).toFixed(1)} times as much each among a million`);
  if (many.p99Ms > 5)
    failed.push(`wrong rows: p99 of a turn of the event loop is ${many.p99Ms.toFixed(1)} ms`);
}

async function inTurn(ways, count) {
  const names = Object.keys(ways);
  const times = Object.fromEntries(names.map((name) => [name, []]));
  for (let turn = 0; turn < TURNS + 2; turn++)
    for (let i = 0; i < names.length; i++) {
      const name = names[(turn + i) % names.length];
      const start = cpuMs();
      (await ways[name]())?.orThrow();
      if (turn >= 2) times[name].push(cpuMs() - start);
    }
  return Object.fromEntries(names.map((name) => [name, Math.round((count / median(times[name])) * 1_000)]));
}

/** CPU of this thread in each turn of the event loop, until it is asked for the 99th percentile. */
function watchTurns() {
  const turns = [];
  let last = cpuMs();
  let handle = setImmediate(function turn() {
    const now = cpuMs();
    turns.push(now - last);
    last = now;
    handle = setImmediate(turn);
  });
  return () => {
    clearImmediate(handle);
    turns.sort((one, other) => one - other);
    return turns[Math.floor(turns.length * 0.99)] ?? 0;
  };
}

/** Of this thread. */
function cpuMs() {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
}

function over(rates) {
  const entries = Object.entries(rates).filter(([name]) => name !== "ours");
  return Object.fromEntries(entries.map(([name, rate]) => [name, rates.ours / rate]));
}

function bar(name, peer, ratio, least) {
  console.error(`  ${name}: ${ratio.toFixed(2)} × ${peer} (at least ${least})`);
  if (ratio < least) failed.push(`${name}: ${ratio.toFixed(2)} × ${peer}, not ${least}`);
}

/** What somebody would write for this schema, with the same checks: kinds, ranges, unknown keys. */
function byHand(rows, times) {
  loops[times] ??= handLoop(times);
  return loops[times](rows);
}

/** Text as by hand: it is written out for as many columns as there are, nothing is looked up. */
function handLoop(times) {
  const sets = Array.from({ length: times }, (_, set) => set);
  const each = (text) => sets.map((set) => text.replaceAll("#", set)).join("\n");
  const body = `
    const count = rows.length;
    ${each(`const i# = new Int32Array(count), f# = new Float64Array(count), b# = new Uint8Array((count + 7) >> 3);
    const w# = new Int32Array(2 * count), o# = new Int32Array(count + 1);
    let s# = new Uint8Array(16 * count), e# = 0;`)}
    for (let k = 0; k < count; k++) {
      const row = rows[k];
      if (typeof row !== "object" || row === null) throw new Error("no row");
      for (const key in row) if (!known.has(key)) throw new Error(key);
      ${each(`{
        const { i#: i, f#: f, s#: s, b#: b, t#: t } = row;
        if (typeof i !== "number" || (i | 0) !== i) throw new Error("i");
        i#[k] = i;
        if (typeof f !== "number") throw new Error("f");
        f#[k] = f;
        if (typeof b !== "boolean") throw new Error("b");
        if (b) b#[k >> 3] |= 1 << (k & 7);
        if (!(t instanceof Date)) throw new Error("t");
        const us = t.getTime() * 1000;
        if (!(Math.abs(us) <= Number.MAX_SAFE_INTEGER)) throw new Error("t");
        w#[2 * k] = us;
        w#[2 * k + 1] = Math.floor(us / 4294967296);
        if (typeof s !== "string") throw new Error("s");
        const units = s.length;
        if (e# + 3 * units > s#.length) {
          const more = new Uint8Array(2 * s#.length + 3 * units);
          more.set(s#.subarray(0, e#));
          s# = more;
        }
        let j = 0;
        for (; j < units; j++) {
          const unit = s.charCodeAt(j);
          if (unit > 127) break;
          s#[e# + j] = unit;
        }
        if (j === units) e# += units;
        else if (s.isWellFormed()) e# += encoder.encodeInto(s, s#.subarray(e#)).written;
        else throw new Error("s");
        o#[k + 1] = e#;
      }`)}
    }
    return make(count, [${each(`[undefined, i#], [undefined, f#], [o#, s#.subarray(0, e#)], [undefined, b#],
      [undefined, new BigInt64Array(w#.buffer)],`)}]);`;
  const fields = sets.flatMap((set) =>
    COLUMNS.map(([name, , type]) => new Field(`${name}${set}`, type, false)),
  );
  const schema = new Schema(fields);
  const make = (count, buffers) => {
    const children = buffers.map((own, index) => new Data(fields[index].type, 0, count, 0, own));
    return new RecordBatch(schema, new Data(new Struct(fields), 0, count, 0, [], children));
  };
  const known = new Set(fields.map((field) => field.name));
  return new Function("make", "known", "encoder", `return (rows) => {${body}};`)(
    make,
    known,
    new TextEncoder(),
  );
}
