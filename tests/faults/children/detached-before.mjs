import { batchOver, check, connect, survived } from "./support.mjs";

await using client = await connect("discard:");
const ints = Int32Array.from({ length: 1_000 }, (_, at) => at);
const batch = batchOver({ ints });
ints.buffer.transfer();
for (const handoff of ["auto", "pin", "copy"]) {
  let code;
  try {
    const result = await client.send(batch, { handoff });
    code = result.error?.code;
  } catch (error) {
    code = error.code;
  }
  check(code === "BATCH_INVALID", `${handoff}: a detached buffer gave ${code}`);
}
const good = await client.send(batchOver({ ints: new Int32Array(10) }));
check(good.status === "acknowledged", "the client is spoilt");
survived();
