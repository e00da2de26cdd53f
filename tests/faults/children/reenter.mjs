// Getters of a batch that send another one while it is packed: the numbers of the one must not go with the
// memory of the other, and a ticket that was granted meanwhile must not be lost, or all behind it wait for ever.
import { batchOver, check, connect, survived } from "./support.mjs";

const client = await connect("discard:", { inflight: { maxBytes: "1MiB" } });
const outcome = (promise) =>
  Promise.race([
    promise.then(
      (result) => result.error?.code ?? result.status,
      (error) => error.code ?? String(error),
    ),
    new Promise((resolve) => setTimeout(resolve, 10_000, "nothing")),
  ]);
for (let turn = 0; turn < 100; turn++) {
  const memory = new ArrayBuffer(4_000, { maxByteLength: 4_000 });
  const inner = batchOver({ ints: new Int32Array(memory) });
  const outer = batchOver({ ints: new Int32Array(1_000), floats: new Float64Array(1_000) });
  const floats = outer.data.children[1];
  const { values } = floats;
  const sent = [];
  Object.defineProperty(floats, "values", {
    get() {
      sent.push(outcome(client.send(inner)));
      return values;
    },
  });
  // The first fills the budget, so that the second is packed when its ticket is granted.
  const first = outcome(client.send(batchOver({ ints: new Int32Array(1 << 18) })));
  const second = outcome(client.send(outer));
  const third = outcome(client.send(batchOver({ ints: new Int32Array(1_000) })));
  const told = [await first, await second, await third];
  check(String(told) === "acknowledged,acknowledged,acknowledged", `turn ${turn}: ${told}`);
  check(sent.length > 0, "no getter was called");
  for (const word of await Promise.all(sent))
    check(word === "acknowledged" || word === "BATCH_INVALID", `a batch within a batch: ${word}`);
}
await client.close();
survived();
process.exit(0);
