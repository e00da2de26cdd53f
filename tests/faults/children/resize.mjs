import { batchOver, check, connect, scratch, survived } from "./support.mjs";

for (const target of ["discard:", `delta:${scratch()}/table`]) {
  await using client = await connect(target);
  for (let turn = 0; turn < 50; turn++) {
    const buffer = new ArrayBuffer(400_000, { maxByteLength: 800_000 });
    const ints = new Int32Array(buffer, 0, 100_000).fill(turn);
    const delivery = await client.enqueue(batchOver({ ints }));
    buffer.resize(turn % 2 ? 0 : 800_000);
    const result = await delivery.result;
    check(result.status === "acknowledged", result.status);
    check(result.handoff === "copied", result.handoff);
    check(/resizable/i.test(result.handoffReason), result.handoffReason);
  }
  let code;
  try {
    const buffer = new ArrayBuffer(400, { maxByteLength: 800 });
    await client.send(batchOver({ ints: new Int32Array(buffer, 0, 100) }), { handoff: "pin" });
  } catch (error) {
    code = error.code;
  }
  check(code === "HANDOFF_UNSAFE", `an explicit pin of a resizable buffer gave ${code}`);
}
survived();
