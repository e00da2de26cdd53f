import { batchOver, check, connect, scratch, survived } from "./support.mjs";

for (const target of ["discard:", `delta:${scratch()}/table`]) {
  await using client = await connect(target);
  for (let turn = 0; turn < 20; turn++) {
    const memory = new WebAssembly.Memory({ initial: 8, maximum: 2_000 });
    const ints = new Int32Array(memory.buffer, 0, 100_000).fill(turn);
    const delivery = await client.enqueue(batchOver({ ints }));
    // Growing detaches the old ArrayBuffer; had it been marked, this would abort the process.
    memory.grow(1_000);
    globalThis.gc();
    const result = await delivery.result;
    check(result.status === "acknowledged", result.status);
    check(result.handoff === "copied", result.handoff);
    check(/webassembly/i.test(result.handoffReason), result.handoffReason);
  }
}
survived();
