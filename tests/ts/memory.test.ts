// Promises of src-ts/handoff/memory.ts: memory is lent only where nothing can take it away.
import { Data, Int32, makeData, type RecordBatch } from "apache-arrow";
import { describe, expect, test } from "vitest";
import { pinningIsSound, tryPinning } from "../../dist/handoff/memory.js";
import { Packer } from "../../dist/handoff.js";
import { batchOf, parse } from "./support/batches.js";

const PIN = 0;
const COPY = 1;
const ABSENT = 2;

function column(buffer: ArrayBufferLike, rows = buffer.byteLength / 4): RecordBatch {
  const data = makeData({
    type: new Int32(),
    length: rows,
    nullCount: 0,
    data: new Int32Array(buffer, 0, rows),
  });
  return batchOf({ x: data });
}

function pack(batch: RecordBatch, mode: "auto" | "pin" | "copy" = "auto") {
  const packer = new Packer(() => 0);
  packer.begin(0);
  const packing = packer.add(1, { batches: [batch as never] }, mode);
  const [, values] = parse(packer.finish()).deliveries[0]!.batches[0]!.buffers;
  return { packing, values: values!, buffers: packer.buffers };
}

const unsafe = (why: RegExp) =>
  expect.objectContaining({ code: "HANDOFF_UNSAFE", field: "x", message: expect.stringMatching(why) });

test("the tests run on a Node where pinning is sound", () => {
  expect(pinningIsSound()).toBe(true);
});

describe("R-01 R-04 what is pinned", () => {
  test("a plain ArrayBuffer is, and cannot be detached any more", () => {
    const buffer = new ArrayBuffer(400);
    const { values, packing, buffers } = pack(column(buffer));
    expect(values).toMatchObject({ mode: PIN, offset: 0, length: 400 });
    expect(buffers[values.index]).toBe(buffer);
    const charge = 400 + 1_024 + 128 * 4;
    expect(packing).toEqual({ bytes: 400, charge, pinned: 1, copied: 0, ipc: 0, reason: null });
    expect(() => buffer.transfer()).toThrow();
    expect(() => structuredClone(buffer, { transfer: [buffer] })).toThrow();
    expect(buffer.byteLength).toBe(400);
  });

  test("pages of plain memory are, too: they only look like WebAssembly's", () => {
    expect(pack(column(new ArrayBuffer(65_536)), "pin").values.mode).toBe(PIN);
    expect(pack(column(new ArrayBuffer(131_072)), "auto").packing.reason).toBe(null);
  });

  test("a structuredClone that somebody put in place detaches nothing", () => {
    const { structuredClone } = globalThis;
    try {
      globalThis.structuredClone = (_, options) => {
        for (const given of options?.transfer ?? []) (given as ArrayBuffer).transfer();
        throw new TypeError("not cloned");
      };
      const buffer = new ArrayBuffer(65_536);
      expect(pack(column(buffer)).values.mode).toBe(PIN);
      expect(buffer.byteLength).toBe(65_536);
    } finally {
      globalThis.structuredClone = structuredClone;
    }
  });

  test("copied memory can be transferred afterwards", () => {
    const buffer = new ArrayBuffer(400);
    const { values, packing } = pack(column(buffer), "copy");
    expect(values.mode).toBe(COPY);
    expect(packing.reason).toBe("copied: copy was asked for");
    expect(buffer.transfer().byteLength).toBe(400);
  });
});

describe("R-01 R-02 what cannot be pinned is copied with a reason, or refused by name", () => {
  test("a resizable ArrayBuffer", () => {
    const buffer = new ArrayBuffer(400, { maxByteLength: 800 });
    const { values, packing } = pack(column(buffer, 100));
    expect(values.mode).toBe(COPY);
    expect(packing.reason).toBe("copied: column x: its ArrayBuffer is resizable");
    expect(() => pack(column(buffer, 100), "pin")).toThrowError(
      unsafe(/column x cannot be pinned.*resizable/),
    );
    buffer.resize(0);
    expect(() => pack(column(new ArrayBuffer(0), 0))).not.toThrow();
  });

  test("a SharedArrayBuffer, in every mode by a copy that other threads cannot write to", () => {
    const shared = new SharedArrayBuffer(400);
    new Int32Array(shared).fill(7);
    for (const mode of ["auto", "copy"] as const) {
      const { values, packing, buffers } = pack(column(shared), mode);
      const copy = buffers[values.index]!;
      expect(values.mode).toBe(PIN);
      expect(copy).toBeInstanceOf(ArrayBuffer);
      expect(new Int32Array(copy)[99]).toBe(7);
      expect(packing).toMatchObject({ pinned: 0, copied: 1 });
    }
    expect(() => pack(column(shared), "pin")).toThrowError(unsafe(/shared with other threads/));
  });

  test("WebAssembly memory, which is never marked and can grow afterwards", () => {
    const memory = new (
      globalThis as never as {
        WebAssembly: { Memory: new (o: object) => { buffer: ArrayBuffer; grow(n: number): void } };
      }
    ).WebAssembly.Memory({ initial: 1 });
    const batch = column(memory.buffer, 100);
    const { values, packing } = pack(batch);
    expect(values.mode).toBe(COPY);
    expect(packing.reason).toMatch(/^copied: column x: its ArrayBuffer .* belongs to WebAssembly/);
    expect(() => pack(batch, "pin")).toThrowError(unsafe(/WebAssembly/));
    memory.grow(1);
    expect(memory.buffer.byteLength).toBe(131_072);
    expect(() => pack(batch)).toThrowError(/detached/);
  });

  test("columns of whole pages are told apart, one of WebAssembly's among plain ones", () => {
    const { WebAssembly } = globalThis as never as {
      WebAssembly: { Memory: new (o: object) => { buffer: ArrayBuffer } };
    };
    const of = (buffer: ArrayBuffer) =>
      makeData({ type: new Int32(), length: 16_384, nullCount: 0, data: new Int32Array(buffer) });
    const plain = () => of(new ArrayBuffer(65_536));
    expect(pack(batchOf({ x: plain(), y: plain(), z: plain() }), "pin").packing.pinned).toBe(3);
    const foreign = of(new WebAssembly.Memory({ initial: 1 }).buffer);
    expect(pack(batchOf({ w: plain(), x: foreign, y: plain() })).packing).toMatchObject({
      pinned: 2,
      copied: 1,
      reason: expect.stringMatching(/^copied: column x: .*WebAssembly/),
    });
  });

  test("one reason for each kind of memory, however many columns", () => {
    const resizable = () =>
      makeData({
        type: new Int32(),
        length: 2,
        nullCount: 0,
        data: new Int32Array(new ArrayBuffer(8, { maxByteLength: 16 })),
      });
    const { packing } = pack(batchOf({ x: resizable(), y: resizable(), z: resizable() }));
    expect(packing.reason).toBe("copied: column x: its ArrayBuffer is resizable");
    expect(packing.copied).toBe(3);
  });
});

describe("R-04 detached memory is an error, and never an empty column", () => {
  test("values", () => {
    const buffer = new ArrayBuffer(400);
    const batch = column(buffer);
    buffer.transfer();
    expect(() => pack(batch)).toThrowError(
      expect.objectContaining({
        code: "BATCH_INVALID",
        field: "x",
        message: expect.stringMatching(/detached/),
      }),
    );
  });

  test("validity", () => {
    const bits = new Uint8Array([1]);
    const data = new Data(new Int32(), 0, 4, -1, [undefined, new Int32Array(4), bits] as never);
    structuredClone(bits.buffer, { transfer: [bits.buffer] });
    expect(() => pack(batchOf({ x: data }))).toThrowError(
      /column x is not valid: its ArrayBuffer is detached/,
    );
  });

  test("IPC bytes", () => {
    const bytes = new Uint8Array(16);
    bytes.buffer.transfer();
    const packer = new Packer(() => 0);
    packer.begin(0);
    expect(() => packer.add(1, { bytes }, "auto")).toThrowError(/detached/);
  });
});

describe("IPC bytes as given", () => {
  const given = (bytes: ArrayBufferView, mode: "auto" | "pin" | "copy" | "ipc" = "auto") => {
    const packer = new Packer(() => 0);
    packer.begin(0);
    const packing = packer.add(1, { bytes }, mode);
    return { packing, batch: parse(packer.finish()).deliveries[0]!.batches[0]!, buffers: packer.buffers };
  };

  test("any view of any buffer, from where it begins to where it ends", () => {
    for (const view of [
      new Uint8Array(64).subarray(3, 17),
      new DataView(new ArrayBuffer(30), 4),
      new Float64Array(4),
    ]) {
      const { batch, packing } = given(view);
      expect(batch).toMatchObject({ schemaId: -1, rows: -1, nodes: [] });
      expect(batch.buffers).toEqual([
        { mode: PIN, index: 0, offset: view.byteOffset, length: view.byteLength },
      ]);
      expect(packing).toEqual({
        bytes: view.byteLength,
        charge: view.byteLength + 1_024 + 128 * 2,
        pinned: 0,
        copied: 0,
        ipc: 1,
        reason: "ipc: the batch was given as Arrow IPC",
      });
    }
  });

  test("shared, resizable and empty ones", () => {
    expect(given(new Uint8Array(new SharedArrayBuffer(8))).packing.reason).toMatch(
      /as Arrow IPC; copied: its memory is shared/,
    );
    expect(given(new Uint8Array(new ArrayBuffer(8, { maxByteLength: 9 }))).batch.buffers[0]!.mode).toBe(COPY);
    expect(given(new Uint8Array(0)).batch.buffers[0]!.mode).toBe(ABSENT);
    expect(given(new Uint8Array(9), "copy").batch.buffers[0]!.mode).toBe(COPY);
    expect(() => given(new Uint8Array(new SharedArrayBuffer(8)), "pin")).toThrowError(
      /the bytes cannot be pinned/,
    );
  });
});

describe("the runtime is tried, not asked for its version", () => {
  test("pinning is not sound where the mark has no effect, or cannot be made", () => {
    expect(tryPinning(() => {})).toBe(false);
    expect(
      tryPinning(() => {
        throw new TypeError("no such function");
      }),
    ).toBe(false);
  });
});
