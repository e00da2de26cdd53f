// An S3 to play with, and a road to it that can be blocked, cut and dug up.
import { type ChildProcess, spawn } from "node:child_process";
import {
  createServer as createHttp,
  type Server as HttpServer,
  type IncomingMessage,
  request,
} from "node:http";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import * as path from "node:path";
import { PYTHON } from "./peer.js";

export class Moto implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly endpoint: string;

  private constructor(child: ChildProcess, endpoint: string) {
    this.#child = child;
    this.endpoint = endpoint;
  }

  /** With an empty bucket called `lake`. */
  static async start(): Promise<Moto> {
    const port = await freePort();
    const server = path.join(path.dirname(PYTHON), "moto_server");
    const child = spawn(server, ["-H", "127.0.0.1", "-p", String(port)], { stdio: "ignore" });
    const moto = new Moto(child, `http://127.0.0.1:${port}`);
    for (let i = 0; !(await fetch(`${moto.endpoint}/moto-api/`).catch(() => undefined))?.ok; i++) {
      if (i > 300) throw new Error(`${moto.endpoint} does not answer`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await fetch(`${moto.endpoint}/lake`, { method: "PUT" });
    return moto;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill();
  }
}

export async function freePort(): Promise<number> {
  const probe: Server = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

export type Fate = "pass" | "stall" | "lose answer" | "refuse";

/** Passes every request on to an S3, unless `fate` wants something else. */
export class Road implements AsyncDisposable {
  readonly #server: HttpServer;
  readonly #sockets = new Set<Socket>();
  readonly #held: (() => void)[] = [];
  fate: (request: IncomingMessage) => Fate = () => "pass";

  private constructor(to: string) {
    this.#server = createHttp((incoming, outgoing) => {
      const fate = this.fate(incoming);
      const pass = (): void => {
        const { method, url, headers } = incoming;
        const onward = request(`${to}${url}`, { method, headers }, (answer) => {
          if (fate === "lose answer") {
            answer.resume().on("end", () => incoming.socket.destroy());
            return;
          }
          outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
          answer.pipe(outgoing);
        });
        onward.on("error", () => incoming.socket.destroy());
        incoming.pipe(onward);
      };
      if (fate === "refuse") incoming.socket.destroy();
      else if (fate === "stall") this.#held.push(pass);
      else pass();
    });
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => {}).on("close", () => this.#sockets.delete(socket));
    });
  }

  static async to(endpoint: string): Promise<Road> {
    const road = new Road(endpoint);
    await new Promise<void>((resolve) => road.#server.listen(0, "127.0.0.1", resolve));
    return road;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** How many requests are held up. */
  get held(): number {
    return this.#held.length;
  }

  /** Lets what was held up pass. */
  open(): void {
    this.fate = () => "pass";
    for (const pass of this.#held.splice(0)) pass();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
