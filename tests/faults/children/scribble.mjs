// Writes over offsets, text and numbers of batches that are in flight. The rows may be wrong, that is the
// caller's fault; memory safety must not depend on it, and every batch must have an outcome.
import { batchOver, check, connect, scratch, survived, words } from "./support.mjs";

const target = process.argv[2] === "delta" ? `delta:${scratch()}/table` : "discard:";
await using client = await connect(target);
let seed = 7;
const random = () => {
  seed = (seed * 1103515245 + 12345) & 0x7fffffff;
  return seed;
};
for (let turn = 0; turn < 200; turn++) {
  const ints = new Int32Array(50_000).fill(1);
  const text = words(50_000);
  const delivery = await client.enqueue(batchOver({ ints, text }));
  for (let blow = 0; blow < 20_000; blow++) {
    text.offsets[random() % text.offsets.length] = random() - 2 ** 30;
    text.values[random() % text.values.length] = random();
    ints[random() % ints.length] = random();
  }
  const result = await delivery.result;
  const outcome = result.error?.code ?? result.status;
  check(outcome === "acknowledged" || outcome === "BATCH_INVALID", outcome);
}
const steady = await client.send(batchOver({ ints: new Int32Array(50_000).fill(1), text: words(50_000) }));
check(steady.status === "acknowledged", "the client is spoilt");
survived();
