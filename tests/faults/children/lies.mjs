// Buffers that lie about what they are: properties of their own hide the true ones.
import { batchOver, check, connect, survived } from "./support.mjs";

const way = process.argv[2];
const client = await connect("discard:");
const hide = (object, name, value) => Object.defineProperty(object, name, { value });
const outcome = (batch) =>
  client.send(batch).then(
    (result) => result.error?.code ?? `${result.status}, ${result.handoff}`,
    (error) => error.code,
  );

if (way === "resizable") {
  // Said to be of fixed length, and shrunk while it is lent.
  for (let turn = 0; turn < 20; turn++) {
    const memory = new ArrayBuffer(64 << 20, { maxByteLength: 64 << 20 });
    hide(memory, "resizable", false);
    const told = outcome(batchOver({ ints: new Int32Array(memory) }));
    memory.resize(0);
    const word = await told;
    check(word === "acknowledged, copied", word);
  }
} else {
  // Said to have another length than WebAssembly's have, and grown afterwards: a marked one aborts the process.
  for (const initial of [1, 0]) {
    const memory = new WebAssembly.Memory({ initial, maximum: 4 });
    const ints = new Int32Array(memory.buffer);
    hide(memory.buffer, "byteLength", initial * 65_536 + 8);
    if (initial === 0) for (const name of ["byteLength", "length"]) hide(ints, name, 8);
    const word = await outcome(batchOver({ ints }));
    check(word === "acknowledged, copied" || word === "BATCH_INVALID", word);
    memory.grow(1);
  }
}
await client.close();
survived();
