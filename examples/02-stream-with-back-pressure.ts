// A producer that is faster than the table: it is slowed down, and memory stays where it is.
//
//   node examples/02-stream-with-back-pressure.ts [target]
import { tableFromArrays } from "apache-arrow";
import { connect } from "arrow-ingest";

const target = process.argv[2] ?? "delta:./lake/stream";
const BATCHES = 200;
const ROWS = 10_000;

/** Readings as they come, a batch at a time. Nothing runs ahead of what the client takes. */
async function* readings() {
  for (let i = 0; i < BATCHES; i++) {
    const first = i * ROWS;
    yield tableFromArrays({
      id: Int32Array.from({ length: ROWS }, (_, row) => first + row),
      value: Float64Array.from({ length: ROWS }, () => Math.random()),
    });
  }
}

await using client = await connect(target, {
  inflight: { maxBytes: "4MiB" },
  delta: { commitInterval: "250ms" },
});

let peak = 0;
const timer = setInterval(() => {
  peak = Math.max(peak, client.stats().bytes.inFlight);
}, 5);

let rows = 0;
for await (const result of client.sendAll(readings())) rows += result.orThrow().acceptedRows;
clearInterval(timer);

console.log(`${rows} rows in ${client.stats().writes.sent} writes, at most ${peak} bytes in flight`);

// The same with a stream, for those who have one; it fails with the first delivery that does.
await ReadableStream.from(readings()).pipeTo(client.writable());
console.log(`${client.stats().rows.accepted} rows after the stream`);
