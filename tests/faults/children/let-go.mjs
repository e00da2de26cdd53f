// An idle client keeps nothing of what it sent, and nothing of what it refused.
import { batchOver, check, connect, survived } from "./support.mjs";

const client = await connect("discard:");
const gone = async (give) => {
  const memories = await give();
  for (let turn = 0; turn < 100 && memories.some((memory) => memory.deref() !== undefined); turn++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    globalThis.gc();
  }
  return memories.every((memory) => memory.deref() === undefined);
};
const ints = () => new Int32Array(1_000_000);
const weak = (array) => new WeakRef(array.buffer);

for (const handoff of ["auto", "copy", "ipc"]) {
  const sent = await gone(async () => {
    const given = ints();
    const result = await client.send(batchOver({ ints: given }), { handoff });
    check(result.status === "acknowledged", `${result}`);
    return [weak(given)];
  });
  check(sent, `a batch sent by ${handoff} is kept`);
}
const refused = await gone(async () => {
  const [one, other] = [ints(), ints()];
  const batch = batchOver({ ints: one, text: { offsets: other, values: new Uint8Array(1) } });
  Object.defineProperty(batch.data.children[1], "length", { value: 7.5 });
  const error = await client.send(batch).catch((reason) => reason);
  check(error.code === "BATCH_INVALID", `${error}`);
  return [weak(one), weak(other)];
});
check(refused, "a batch that was refused is kept");
await client.close();
survived();
