// Nobody but Rust holds the batches; garbage is made and collected all the time.
import { batchOver, check, connect, scratch, survived, words } from "./support.mjs";

for (const target of ["discard:", `delta:${scratch()}/table`]) {
  const client = await connect(target, { inflight: { maxBytes: "32MiB" } });
  const results = [];
  for (let turn = 0; turn < 300; turn++) {
    const ints = Int32Array.from({ length: 20_000 }, (_, at) => at);
    const delivery = await client.enqueue(batchOver({ ints, text: words(20_000) }));
    results.push(delivery.result);
    if (turn % 10 === 0) globalThis.gc();
    // Memory that was freed too early is written over at once.
    for (let garbage = 0; garbage < 20; garbage++) new Uint8Array(100_000).fill(garbage);
  }
  await client.flush();
  for (const result of await Promise.all(results)) check(result.status === "acknowledged", result.status);
  // Pins are let go of by threads of their own, soon after the outcomes.
  for (let turn = 0; client.stats().pinned.pins > 0 && turn < 1_000; turn++)
    await new Promise((resolve) => setTimeout(resolve, 10));
  const { pinned } = client.stats();
  check(pinned.bytes === 0 && pinned.pins === 0, `still pinned: ${JSON.stringify(pinned)}`);
  await client.close();
}
survived();
