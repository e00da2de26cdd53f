// A line to a server that can be cut, halved, reset and silenced, to the byte.
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** `up` is towards the server. Cut once so many more bytes have passed; the byte after them does not. */
export interface Cut {
  readonly on: "up" | "down";
  readonly after: number;
  /** `reset`: RST both ways. `half`: FIN in that direction, while the other goes on. */
  readonly how: "reset" | "half";
}

export class Line implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #held: (() => void)[] = [];
  #cut: (Cut & { left: number; done: () => void }) | undefined;
  #stalled = false;
  /** So many more connections are reset once they have said their first word. */
  resets = 0;
  connections = 0;

  private constructor(to: () => number) {
    // A line that answers FIN by FIN knows no half-closes.
    this.#server = createServer({ allowHalfOpen: true }, (near) => {
      this.connections++;
      this.#sockets.add(near);
      near.on("close", () => this.#sockets.delete(near)).on("error", () => {});
      if (this.resets > 0) {
        this.resets--;
        near.once("data", () => near.resetAndDestroy());
        return;
      }
      const far = connect({ host: "127.0.0.1", port: to(), allowHalfOpen: true });
      this.#sockets.add(far);
      far.on("close", () => this.#sockets.delete(far)).on("error", () => near.resetAndDestroy());
      near.on("error", () => far.destroy());
      this.#pump("up", near, far);
      this.#pump("down", far, near);
    });
  }

  static async to(port: number | (() => number)): Promise<Line> {
    const line = new Line(typeof port === "number" ? () => port : port);
    await new Promise<void>((resolve) => line.#server.listen(0, "127.0.0.1", resolve));
    return line;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Settles when it has happened. */
  cut(cut: Cut): Promise<void> {
    return new Promise((done) => {
      this.#cut = { ...cut, left: cut.after, done };
    });
  }

  /** Nothing passes, in either direction, and nobody is told; of what comes until `flow`, nothing is lost. */
  stall(): void {
    this.#stalled = true;
  }

  flow(): void {
    this.#stalled = false;
    for (const pass of this.#held.splice(0)) pass();
  }

  #pump(direction: "up" | "down", from: Socket, to: Socket): void {
    let ended = false;
    const pass = (bytes: Buffer): void => {
      if (ended || to.destroyed) return;
      const cut = this.#cut;
      if (cut?.on === direction) cut.left -= bytes.length;
      if (cut?.on !== direction || cut.left >= 0) {
        to.write(bytes);
        return;
      }
      this.#cut = undefined;
      ended = true;
      to.write(bytes.subarray(0, bytes.length + cut.left));
      if (cut.how === "half") to.end();
      else {
        from.resetAndDestroy();
        to.resetAndDestroy();
      }
      cut.done();
    };
    const soon = (work: () => void): void => {
      if (this.#stalled) this.#held.push(work);
      else work();
    };
    from.on("data", (bytes: Buffer) => soon(() => pass(bytes)));
    from.on("end", () => soon(() => to.end()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
