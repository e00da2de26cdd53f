// Arrow IPC that is broken in known ways. Every one of these is wrong by the format; none is left to chance.
import { tableFromIPC, tableToIPC } from "apache-arrow";
import { rebuildSchema, writeIpc } from "../../../dist/handoff/rebuild.js";
import { batchOf, everyType } from "./batches.js";

export interface Malformed {
  readonly name: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

interface Message {
  /** Where the message begins (its continuation mark), its metadata, its body, and the next one. */
  readonly start: number;
  readonly metadata: number;
  readonly body: number;
  readonly end: number;
  /** 1 schema · 2 dictionary · 3 record batch */
  readonly kind: number;
}

/** The stream that all others are made from. */
export function wellFormed(): Uint8Array<ArrayBuffer> {
  const batch = batchOf(everyType());
  return Uint8Array.from(writeIpc(batch as never, rebuildSchema(batch.schema as never)));
}

export function wellFormedFile(): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(tableToIPC(tableFromIPC(wellFormed()), "file"));
}

export function messagesOf(bytes: Uint8Array): Message[] {
  const view = viewOf(bytes);
  const found: Message[] = [];
  for (let at = 0; at + 8 <= bytes.length; ) {
    const length = view.getInt32(at + 4, true);
    if (length === 0) break;
    const metadata = at + 8;
    const root = tableAt(view, metadata);
    const body = metadata + length;
    const length64 = root.field(3);
    const size = length64 === undefined ? 0 : Number(view.getBigInt64(length64, true));
    found.push({ start: at, metadata, body, end: body + size, kind: bytes[root.field(1)!]! });
    at = body + size;
  }
  return found;
}

/** Where the field nodes and the buffers of a record batch (or dictionary) message are. */
export function tablesOf(bytes: Uint8Array, message: Message): { nodes: number[]; buffers: number[] } {
  const view = viewOf(bytes);
  const root = tableAt(view, message.metadata);
  let batch = follow(view, root.field(2)!);
  if (message.kind === 2) batch = follow(view, tableFrom(view, batch).field(1)!);
  const table = tableFrom(view, batch);
  const list = (field: number): number[] => {
    const vector = follow(view, table.field(field)!);
    const count = view.getInt32(vector, true);
    return Array.from({ length: count }, (_, i) => vector + 4 + i * 16);
  };
  return { nodes: list(1), buffers: list(2) };
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
const follow = (view: DataView, at: number): number => at + view.getUint32(at, true);
const tableAt = (view: DataView, at: number) => tableFrom(view, follow(view, at));

/** A flatbuffers table: where its fields are. */
function tableFrom(view: DataView, at: number) {
  const vtable = at - view.getInt32(at, true);
  const size = view.getUint16(vtable, true);
  return {
    field(index: number): number | undefined {
      const slot = 4 + index * 2;
      const offset = slot < size ? view.getUint16(vtable + slot, true) : 0;
      return offset === 0 ? undefined : at + offset;
    },
  };
}

/** At least 200 of them. */
export function malformed(): Malformed[] {
  const good = wellFormed();
  const file = wellFormedFile();
  const messages = messagesOf(good);
  const batch = messages.find(({ kind }) => kind === 3)!;
  const schema = messages[0]!;
  const found: Malformed[] = [];
  const add = (name: string, bytes: Uint8Array): void => {
    found.push({ name, bytes: Uint8Array.from(bytes) });
  };
  const edit = (name: string, of: Uint8Array, change: (bytes: Uint8Array, view: DataView) => void): void => {
    const bytes = Uint8Array.from(of);
    change(bytes, viewOf(bytes));
    add(name, bytes);
  };

  // Cut anywhere but between two messages, where a stream may end.
  const between = new Set([...messages.map(({ end }) => end), 0]);
  for (let i = 1; i <= 60; i++) {
    let at = Math.floor((batch.end * i) / 61);
    while (between.has(at) || between.has(at - 4)) at++;
    add(`stream cut at ${at}`, good.subarray(0, at));
  }
  for (let i = 1; i <= 30; i++) {
    const at = Math.floor((file.length * i) / 31);
    add(`file cut at ${at}`, file.subarray(0, at));
  }

  // Lengths of messages.
  for (const message of messages)
    for (const length of [-1, -2_147_483_648, 2_147_483_647, 0x7fff_fff8, 8, 3])
      edit(`message at ${message.start} says its metadata has ${length} bytes`, good, (_, view) =>
        view.setInt32(message.start + 4, length, true),
      );
  for (const message of messages.filter(({ kind }) => kind !== 1)) {
    const { field } = tableAt(viewOf(good), message.metadata);
    for (const length of [-1n, 2n ** 62n, 2n ** 40n, -(2n ** 63n), 1n])
      edit(`message at ${message.start} says its body has ${length} bytes`, good, (_, view) =>
        view.setBigInt64(field(3)!, length, true),
      );
  }

  // What a record batch says of its columns.
  const { nodes, buffers } = tablesOf(good, batch);
  for (const [index, at] of nodes.entries())
    for (const length of [-1n, 2n ** 40n])
      edit(`node ${index} says ${length} rows`, good, (_, view) => view.setBigInt64(at, length, true));
  for (const [index, at] of buffers.entries()) {
    const length = viewOf(good).getBigInt64(at + 8, true);
    // A buffer without bytes may be anywhere.
    if (length === 0n) continue;
    for (const lie of [-8n, 2n ** 40n])
      edit(`buffer ${index} says it begins at ${lie}`, good, (_, view) => view.setBigInt64(at, lie, true));
    for (const lie of [-1n, 2n ** 50n])
      edit(`buffer ${index} says it has ${lie} bytes`, good, (_, view) =>
        view.setBigInt64(at + 8, lie, true),
      );
  }

  // Messages that are missing, or in a wrong order.
  const slice = (message: Message): Uint8Array => good.subarray(message.start, message.end);
  add("no schema", good.subarray(schema.end));
  add("no dictionary", Buffer.concat([slice(schema), slice(batch)]));
  add("a schema after the schema", Buffer.concat([slice(schema), slice(schema), slice(batch)]));
  add("a batch before its schema", Buffer.concat([slice(batch), slice(schema)]));

  // No Arrow at all.
  add("nothing", new Uint8Array(0));
  for (const text of [
    "\0",
    "ARROW1",
    "ARROW1\0\0ARROW1",
    "PAR1 and more of Parquet PAR1",
    '{"a": 1}\n{"a": 2}\n',
  ])
    add(JSON.stringify(text), Buffer.from(text));
  for (let seed = 1; seed <= 20; seed++) {
    let state = seed * 2_654_435_761;
    const noise = Uint8Array.from({ length: seed * 37 }, () => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      return state >>> 16;
    });
    add(`noise ${seed}`, noise);
    add(`noise ${seed} behind a mark`, Buffer.concat([Buffer.from([255, 255, 255, 255]), noise]));
  }
  edit("a footer that is longer than the file", file, (bytes, view) =>
    view.setInt32(bytes.length - 10, 2_000_000_000, true),
  );
  edit("a footer of negative length", file, (bytes, view) => view.setInt32(bytes.length - 10, -5, true));
  return found;
}
