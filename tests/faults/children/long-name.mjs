// An error that names a column whose name is longer, once written out, than any string of JavaScript may be.
import { Data, Field, RecordBatch, Schema, Struct, Utf8 } from "apache-arrow";
import { check, connect, survived } from "./support.mjs";

const fields = [new Field("\u0001".repeat(50_000_000), new Utf8(), true)];
const offsets = new Int32Array([0, 1]);
const column = new Data(new Utf8(), 0, 1, 0, [offsets, new Uint8Array([0xff])]);
const batch = new RecordBatch(new Schema(fields), new Data(new Struct(fields), 0, 1, 0, [], [column]));
const client = await connect("discard:");
const result = await client.send(batch);
check(result.error?.code === "BATCH_INVALID", `it ends as ${result.status}`);
check(result.error.message.length < 10_000, "the message has no bound");
await client.close();
survived();
