// What is asked of a client around and after its end is answered: nobody waits for ever.
import { batchOver, check, connect, scratch, survived } from "./support.mjs";

const answered = (promise) =>
  Promise.race([
    promise.then(
      () => "ok",
      (error) => error.code ?? String(error),
    ),
    new Promise((resolve) => setTimeout(resolve, 10_000, "nothing")),
  ]);

// A stream that is closed after its client was.
const client = await connect("discard:");
const writer = client.writable().getWriter();
await writer.write(batchOver({ ints: new Int32Array(8) }));
await client.close();
const late = await answered(writer.close());
check(late === "CLOSED", `closing the stream of a closed client says ${late}`);

// A question whose answer comes when the client is gone.
const lake = scratch();
for (let turn = 0; turn < 50; turn++) {
  const asked = await connect(`delta:${lake}/table-${turn}`);
  const questions = [asked.check(), asked.check(), asked.flush(), asked.check()].map(answered);
  const closed = await answered(asked.close({ deadline: turn % 5 }));
  check(closed === "ok", `close says ${closed}`);
  for (const answer of await Promise.all(questions))
    check(answer === "ok" || answer === "CLOSED", `a question is answered with ${answer}`);
}
survived();
process.exit(0);
