// What the native side sees: any input through the real packer and the real import, back as IPC streams.
import * as addon from "../../../dist/generated/index.js";
import { type DeliveryContent, Packer, type Packing } from "../../../dist/handoff.js";
import { toContent } from "../../../dist/source.js";
import { contentOf } from "./content.js";

export type Mode = "auto" | "pin" | "copy" | "ipc";

export const MODES: readonly Mode[] = ["pin", "copy", "ipc"];
/** `false`: payload stays where it is (Moved). `true`: everything is copied off the thread first (Computed). */
export const PAYLOADS = [false, true] as const;

export interface Echoed {
  readonly packing: Packing;
  /** One IPC stream for each batch that was given; none for what has no batch. */
  readonly streams: Uint8Array[];
}

/** @throws What the packer or the native side has against the input. */
export class Echo implements Disposable {
  readonly #native: addon.NativeClient;
  readonly #packer: Packer;

  constructor() {
    this.#native = new addon.NativeClient("discard:", "{}", () => {});
    this.#packer = new Packer((message) => this.#native.registerSchema(message));
  }

  echo(input: unknown, mode: Mode, computed: boolean): Echoed {
    return this.#echo(contentOf(input), mode, computed);
  }

  /** Also of what is not ready at once. */
  async echoOf(input: unknown, mode: Mode, computed: boolean, schema?: unknown): Promise<Echoed> {
    return this.#echo(
      await toContent(input, { operation: "send", schema, signal: undefined }),
      mode,
      computed,
    );
  }

  #echo(content: DeliveryContent, mode: Mode, computed: boolean): Echoed {
    const packer = this.#packer;
    packer.begin(0);
    const packing = packer.add(1, content, mode);
    return { packing, streams: this.#native.echo(packer.finish(), packer.buffers, computed) };
  }

  [Symbol.dispose](): void {
    this.#native.dispose();
  }
}
