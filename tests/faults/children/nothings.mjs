// Small batches whose lists claim two thousand million nulls each: joined, their offsets overflow.
import { Data, Field, List, Null, RecordBatch, Schema, Struct } from "apache-arrow";
import { check, connect, survived } from "./support.mjs";

const most = 2 ** 31 - 1;
const item = new Field("item", new Null(), true);
const list = new List(item);
const fields = [new Field("l", list, true)];
const batch = () => {
  const items = new Data(new Null(), 0, most, most);
  const column = new Data(list, 0, 1, 0, [new Int32Array([0, most])], [items]);
  return new RecordBatch(new Schema(fields), new Data(new Struct(fields), 0, 1, 0, [], [column]));
};
const client = await connect("discard:", { batching: { linger: "50ms" } });
const results = await Promise.race([
  Promise.all([client.send(batch()), client.send(batch()), client.send(batch())]),
  new Promise((resolve) => setTimeout(resolve, 20_000, undefined)),
]);
check(results !== undefined, "no outcome came");
for (const result of results) check(result.status === "acknowledged", `${result}`);
await client.close();
survived();
process.exit(0);
