// What the attacks share.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { Data, Field, Float64, Int32, RecordBatch, Schema, Struct, Utf8 } from "apache-arrow";

import { connect as connectAsUsersDo } from "../../../dist/index.js";

/** Commits often, so that an attack is not mostly waiting. */
export function connect(target, options = {}) {
  const commits = String(target).startsWith("delta:") ? { delta: { commitInterval: "20ms" } } : {};
  const quick = { batching: { linger: "5ms" }, ...commits };
  return connectAsUsersDo(target, { ...quick, ...options });
}

/** A batch over buffers that the attack has in its hands. */
export function batchOver({ ints, floats, text }) {
  const fields = [];
  const children = [];
  let rows = 0;
  const add = (name, type, data) => {
    fields.push(new Field(name, type, true));
    children.push(data);
    rows = data.length;
  };
  if (ints) add("i", new Int32(), new Data(new Int32(), 0, ints.length, 0, [undefined, ints]));
  if (floats) add("f", new Float64(), new Data(new Float64(), 0, floats.length, 0, [undefined, floats]));
  if (text)
    add("s", new Utf8(), new Data(new Utf8(), 0, text.offsets.length - 1, 0, [text.offsets, text.values]));
  const struct = new Struct(fields);
  return new RecordBatch(new Schema(fields), new Data(struct, 0, rows, 0, [], children));
}

export function words(rows, width = 8) {
  const offsets = new Int32Array(rows + 1);
  for (let row = 0; row <= rows; row++) offsets[row] = row * width;
  return { offsets, values: new Uint8Array(rows * width).fill(97) };
}

/** A folder that whoever started the attack removes: here, native threads may still write to it at the end. */
export function scratch() {
  return fs.mkdtempSync(path.join(os.tmpdir(), "attack-"));
}

export function check(truth, message) {
  if (!truth) throw new Error(message);
}

export function survived() {
  console.log("SURVIVED");
}
