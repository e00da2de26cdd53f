// Takes the ArrayBuffer away in the way named, after it was handed over and before its outcome.
import { MessageChannel } from "node:worker_threads";
import { batchOver, check, connect, scratch, survived } from "./support.mjs";

const way = process.argv[2];
const take = {
  transfer: (buffer) => buffer.transfer(),
  "structured-clone": (buffer) => structuredClone(buffer, { transfer: [buffer] }),
  "post-message": (buffer) => {
    const { port1, port2 } = new MessageChannel();
    try {
      port1.postMessage(buffer, [buffer]);
    } finally {
      port1.close();
      port2.close();
    }
  },
}[way];

for (const target of ["discard:", `delta:${scratch()}/table`]) {
  await using client = await connect(target);
  for (let turn = 0; turn < 50; turn++) {
    const ints = Int32Array.from({ length: 100_000 }, (_, at) => at);
    const delivery = await client.enqueue(batchOver({ ints }));
    let threw = false;
    try {
      take(ints.buffer);
    } catch {
      threw = true;
    }
    check(threw, `${way} took a pinned buffer away`);
    check(ints[99_999] === 99_999, "the buffer is gone");
    globalThis.gc();
    const result = await delivery.result;
    check(
      result.status === "acknowledged" && result.handoff === "pinned",
      `${result.status}, ${result.handoff}`,
    );
    // `copy` is for those who want to give the buffer away.
    const own = Int32Array.from({ length: 1_000 }, (_, at) => at);
    const copied = await client.enqueue(batchOver({ ints: own }), { handoff: "copy" });
    take(own.buffer);
    check((await copied.result).status === "acknowledged", "a copied batch needs its buffer");
  }
}
survived();
