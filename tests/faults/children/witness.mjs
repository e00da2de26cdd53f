import { batchOver, check, connect, scratch, survived } from "./support.mjs";

for (const target of ["discard:", `delta:${scratch()}/table`]) {
  await using client = await connect(target, {
    handoff: { mode: "pin", verifyPayload: true },
    batching: { linger: "100ms" },
  });
  const quiet = await client.send(batchOver({ ints: new Int32Array(1_000).fill(3) }));
  check(quiet.status === "acknowledged" && quiet.error == null, "a batch that nobody touched is reported");
  const ints = new Int32Array(1_000).fill(3);
  const delivery = await client.enqueue(batchOver({ ints }));
  ints[500] = 4;
  const result = await delivery.result;
  check(result.error?.code === "PAYLOAD_CHANGED", `${target} ${result.status} ${result.error?.code}`);
  check(result.status === "unknown", result.status);
}
survived();
