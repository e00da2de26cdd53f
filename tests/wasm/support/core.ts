// The core of the client in WebAssembly, as a host would use it: `specs/wasm.md` has what crosses.
import * as fs from "node:fs";
import { moduleFile } from "../../../scripts/wasm.mjs";

// Of the types of a browser, which the rest of the tests have no use for.
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object) => { readonly exports: unknown };
};

interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer; grow(pages: number): number };
  arrow_ingest_input(length: number): number;
  arrow_ingest_call(): number;
  arrow_ingest_output(): number;
}

export interface Fault {
  readonly code: string;
  readonly message: string;
  readonly field: string | null;
}

export interface Range {
  readonly delivery: number;
  readonly firstRow: number;
  readonly rows: number;
}

export interface Encoded {
  readonly deliveries: readonly { readonly rows?: number; readonly error?: Fault }[];
  readonly failed: readonly { readonly ranges: readonly Range[]; readonly error: Fault }[];
  readonly streams: readonly {
    /** Bytes of each message, the schema's first. */
    readonly messages: readonly number[];
    readonly error?: Fault;
    readonly writes: readonly {
      readonly rows: number;
      readonly ranges: readonly Range[];
      readonly error?: Fault;
      readonly parts: readonly { readonly rows: number; readonly messages: number }[];
      readonly rejections: readonly {
        readonly delivery: number;
        readonly row: number;
        readonly code: string;
      }[];
    }[];
  }[];
}

export interface Answer {
  readonly head: Record<string, unknown> & { readonly error?: Fault };
  readonly body: Uint8Array;
}

let compiled: object | undefined;

export class Core {
  static load(): Core {
    // One module for all instances: compiling it takes longer than most tests.
    compiled ??= new WebAssembly.Module(fs.readFileSync(moduleFile(true)));
    return new Core(new WebAssembly.Instance(compiled).exports as Exports);
  }

  readonly #exports: Exports;

  private constructor(exports: Exports) {
    this.#exports = exports;
  }

  /** Of its memory, which never shrinks. */
  get bytes(): number {
    return this.#exports.memory.buffer.byteLength;
  }

  /** Takes all the memory that it could still have, but for so many pages of 64 KiB. */
  fill(room: number): void {
    const { memory } = this.#exports;
    const left = 65_536 - memory.buffer.byteLength / 65_536 - room;
    if (left > 0) memory.grow(left);
  }

  /** The bytes of a request, whatever they are. A trap is thrown. */
  raw(...parts: readonly Uint8Array[]): Answer {
    this.write(parts);
    return this.run();
  }

  /** The first half of a call. */
  write(parts: readonly Uint8Array[]): void {
    const { memory, arrow_ingest_input } = this.#exports;
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    let at = arrow_ingest_input(length) >>> 0;
    if (at === 0) throw new RangeError(`no memory for ${length} bytes`);
    for (const part of parts) {
      new Uint8Array(memory.buffer).set(part, at);
      at += part.length;
    }
  }

  /** The second half. Addresses beyond 2 GiB look negative to JavaScript. */
  run(): Answer {
    const { memory, arrow_ingest_call, arrow_ingest_output } = this.#exports;
    const answered = arrow_ingest_call() >>> 0;
    const answer = new Uint8Array(memory.buffer, arrow_ingest_output() >>> 0, answered).slice();
    const head = new DataView(answer.buffer).getUint32(0, true);
    return {
      head: JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(answer.subarray(4, 4 + head))),
      body: answer.subarray(4 + head),
    };
  }

  call(head: object, parts: readonly Uint8Array[] = []): Answer {
    return this.raw(...headed(head), ...parts);
  }

  /** What a client would put on the wire for these deliveries: the bytes of each stream. */
  encode(
    deliveries: readonly Uint8Array[],
    options: object = {},
    descriptor: Uint8Array = new Uint8Array(),
  ): { head: Encoded; streams: Uint8Array[] } {
    const { head, body } = this.call(
      {
        do: "encode",
        descriptor: descriptor.length,
        deliveries: deliveries.map(({ length }) => length),
        options,
      },
      [descriptor, ...deliveries],
    );
    if (head.error) throw Object.assign(new Error(`${head.error.code}: ${head.error.message}`), head.error);
    const encoded = head as unknown as Encoded;
    let start = 0;
    const streams = encoded.streams.map(({ messages }) => {
      const length = messages.reduce((sum, message) => sum + message, 0);
      start += length;
      return body.slice(start - length, start);
    });
    if (start !== body.length) throw new Error(`${body.length - start} bytes belong to no message`);
    return { head: encoded, streams };
  }
}

/** A head as it stands in a request, its length before it. */
export function headed(head: object): [Uint8Array, Uint8Array] {
  const text = new TextEncoder().encode(JSON.stringify(head));
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, text.length, true);
  return [length, text];
}

/** A `FlightDescriptor` of this path, as protobuf has it. */
export function descriptorOf(path: string): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(path);
  return Uint8Array.from([0x08, 1, 0x1a, text.length, ...text]);
}

/** The messages of a `DoPut` as one Arrow IPC stream. */
export function ipcOfPut(put: Uint8Array): Uint8Array {
  const pieces: Uint8Array[] = [];
  const view = new DataView(put.buffer, put.byteOffset, put.byteLength);
  for (let at = 0; at < put.length; ) {
    const end = at + 5 + view.getUint32(at + 1);
    at += 5;
    const fields = new Map<number, Uint8Array>();
    const number = () => {
      let [value, shift, byte] = [0, 1, 0];
      do {
        byte = put[at++]!;
        value += (byte & 0x7f) * shift;
        shift *= 128;
      } while (byte >= 0x80);
      return value;
    };
    while (at < end) {
      const tag = number() >>> 3;
      const length = number();
      fields.set(tag, put.subarray(at, at + length));
      at += length;
    }
    const header = fields.get(2)!;
    const padded = new Uint8Array(8 + Math.ceil(header.length / 8) * 8);
    new DataView(padded.buffer).setInt32(0, -1, true);
    new DataView(padded.buffer).setInt32(4, padded.length - 8, true);
    padded.set(header, 8);
    pieces.push(padded, fields.get(1000) ?? new Uint8Array());
  }
  return Buffer.concat(pieces);
}
