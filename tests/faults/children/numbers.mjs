// Calls into the addon itself, as no packer of ours would make them: each number of a sound call replaced by
// each of these, and arrays of buffers that are not what they say. Every one is refused by name or imported;
// nothing of a refused one is kept, and the client goes on.

import { Table } from "apache-arrow";
import * as addon from "../../../dist/generated/index.js";
import { Packer } from "../../../dist/handoff.js";
import { toContent } from "../../../dist/source.js";
import { batchOver, check, survived, words } from "./support.mjs";

const HOSTILE = [Number.NaN, -1, -2, 0, 0.5, 1, 3, 7, 2 ** 31, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 1e300];
HOSTILE.push(Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, Number.MIN_VALUE, 2 ** 63, -(2 ** 63));

const answers = new Map();
let settled = 0;
const client = new addon.NativeClient("discard:", "{}", (numbers) => {
  for (let at = 0; at < numbers.length; at += numbers[at + 1]) {
    if (numbers[at] === 1) settled++;
    if (numbers[at] === 3) answers.get(numbers[at + 2])?.(numbers[at + 3]);
    if (numbers[at] === 9) setImmediate(() => client.resume());
  }
});
let operations = 0;
function answered(start) {
  const operation = ++operations;
  return new Promise((resolve) => {
    answers.set(operation, resolve);
    start(operation);
  });
}
check((await answered((operation) => client.open(operation))) === -1, "it did not open");

const packer = new Packer((message) => client.registerSchema(message));
const sound = batchOver({
  ints: new Int32Array(100),
  floats: new Float64Array(100),
  text: words(100),
});
let sequence = 0;
let accepted = 0;
function pack(first, batches) {
  packer.begin(0);
  for (const [index, batch] of batches.entries()) packer.add(first + index, toContent(batch), "pin");
  return { call: packer.finish().slice(), buffers: packer.buffers };
}
/** How a call ended: "" if it was taken, else the code and message of what it threw. */
function tried(make) {
  try {
    make();
    return "";
  } catch (error) {
    const { code, message } = JSON.parse(error.message);
    return `${code}: ${message}`;
  }
}
function submitted(call, buffers) {
  const ended = tried(() => check(client.submit(call, buffers) === 0, "nothing else is in the budget"));
  if (ended === "") {
    accepted += call[2];
    sequence += call[2];
  }
  return ended;
}
const held = () => JSON.parse(client.stats());

// ---- numbers ----------------------------------------------------------------------------------

let refused = 0;
// Deliveries of one batch and of several.
const { call, buffers } = pack(1, [sound, new Table([sound, sound])]);
for (const computed of [false, true])
  for (let at = 0; at < call.length; at++)
    for (const lie of HOSTILE) {
      const lied = call.slice();
      lied[at] = lie;
      const ended = tried(() => client.echo(lied, buffers, computed));
      check(/^($|BATCH_INVALID: .)/.test(ended), `echo with number ${at} = ${lie}: ${ended}`);
      if (ended !== "") refused++;
    }
check(refused > call.length * HOSTILE.length, `only ${refused} lies were refused`);
for (let length = 0; length < call.length; length++)
  check(tried(() => client.echo(call.subarray(0, length), buffers, true)) !== "", `${length} numbers`);
check(tried(() => client.echo(new Float64Array([...call, 0]), buffers, true)) !== "", "a number too many");

// What is refused gives back what it took of the budget; what is taken gets its outcome.
// The first delivery is a third of the batches.
const batchLength = (call.length - 3 - 2 * 3) / 3;
const sequencesAt = [3, 3 + 3 + batchLength];
for (let at = 2; at < call.length; at++)
  for (const lie of HOSTILE) {
    // They may skip as many as they like, and would leave none for those that follow.
    if (sequencesAt.includes(at)) continue;
    const { call: lied, buffers } = pack(sequence + 1, [sound, new Table([sound, sound])]);
    lied[at] = lie;
    submitted(lied, buffers);
  }

// ---- arrays of buffers ------------------------------------------------------------------------

const fresh = () => pack(sequence + 1, [sound]);
const wrong = [
  [() => [], "there is no ArrayBuffer 0"],
  [() => new Array(4), "buffers[0] is not an ArrayBuffer"],
  [() => new Array(2 ** 32 - 1), "4294967295 ArrayBuffers"],
  [(buffers) => buffers.map(() => new Float64Array(100)), "buffers[0] is not an ArrayBuffer"],
  [(buffers) => buffers.map(() => null), "buffers[0] is not an ArrayBuffer"],
  [(buffers) => buffers.map(() => ({ byteLength: 4_096 })), "buffers[0] is not an ArrayBuffer"],
  [(buffers) => buffers.map(() => new ArrayBuffer(0)), "lie outside an ArrayBuffer of 0 bytes"],
  [(buffers) => [...buffers.slice(0, -1), new ArrayBuffer(8)], "lie outside an ArrayBuffer of 8 bytes"],
];
for (const [spoil, why] of wrong) {
  const { call, buffers } = fresh();
  const ended = submitted(call, spoil(buffers));
  check(ended.startsWith("BATCH_INVALID") && ended.includes(why), `${why}? ${ended}`);
}
// Shared memory is taken by some versions of Node's own interface and refused by others; no packer sends it.
{
  const { call, buffers } = fresh();
  const shared = buffers.map(({ byteLength }) => new SharedArrayBuffer(byteLength));
  const ended = submitted(call, shared);
  check(ended === "" || ended.includes("is not an ArrayBuffer"), `shared memory: ${ended}`);
}
// A buffer that was detached before the call.
{
  const { call, buffers } = fresh();
  const gone = new ArrayBuffer(buffers[0].byteLength);
  gone.transfer();
  const ended = submitted(call, [gone, ...buffers.slice(1)]);
  check(ended.includes("was it detached?"), `a detached buffer: ${ended}`);
}
// An accessor in place of a buffer: it calls in once more, or takes away what another element has.
{
  const { call, buffers } = fresh();
  let inner = "not called";
  const array = [...buffers];
  Object.defineProperty(array, 1, {
    get() {
      inner = tried(() => client.echo(call, buffers, true));
      return buffers[1];
    },
  });
  const ended = submitted(call, array);
  check(ended === "" && inner === "", `an accessor that calls in: ${ended}; ${inner}`);
}
{
  const { call, buffers } = fresh();
  const first = new ArrayBuffer(buffers[0].byteLength);
  const array = [first, ...buffers.slice(1)];
  Object.defineProperty(array, 1, {
    get() {
      first.transfer();
      return buffers[1];
    },
  });
  const ended = submitted(call, array);
  check(ended.includes("was it detached?"), `an accessor that takes memory away: ${ended}`);
}

// An accessor that takes the numbers themselves away.
{
  const { call, buffers } = fresh();
  const array = [...buffers];
  Object.defineProperty(array, 1, {
    get() {
      call.buffer.transfer(8);
      for (let garbage = 0; garbage < 100; garbage++) new Float64Array(call.length).fill(1e9);
      return buffers[1];
    },
  });
  const deliveries = call[2];
  const ended = tried(() => client.submit(call, array));
  check(ended === "", `an accessor that takes the numbers away: ${ended}`);
  accepted += deliveries;
  sequence += deliveries;
}

// ---- and it goes on ---------------------------------------------------------------------------

const { call: last, buffers: lastBuffers } = fresh();
const ended = submitted(last, lastBuffers);
check(ended === "", `a sound call after all of them: ${ended}`);
check((await answered((operation) => client.flush(operation))) === -1, "the flush failed");
// Outcomes come in a hop of their own.
for (let turn = 0; settled < accepted && turn < 1_000; turn++)
  await new Promise((resolve) => setTimeout(resolve, 10));
check(settled === accepted && accepted > 1, `${settled} outcomes for ${accepted} deliveries`);
for (let turn = 0; held().pinned.pins > 0 && turn < 1_000; turn++)
  await new Promise((resolve) => setTimeout(resolve, 10));
const { bytes, pinned } = held();
check(bytes.inFlight === 0 && pinned.pins === 0 && pinned.bytes === 0, `left behind: ${client.stats()}`);
check((await answered((operation) => client.close(operation, 10_000))) === -1, "the close failed");
client.dispose();
survived();
