// As much of a Flight server as it takes to look at headers: gRPC by hand over Node's own HTTP/2. It knows no
// Arrow, keeps no rows, and acknowledges a stream by ending it well.
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";

export interface Call {
  /** As in `DoPut`. */
  readonly method: string;
  readonly headers: http2.IncomingHttpHeaders;
  /** What came after them, as far as the stream got, where the server keeps it. */
  readonly body: Buffer[];
}

/**
 * A verdict on a call: nothing is good, a promise is good once it is fulfilled, `"silence"` is none at all, else a
 * gRPC status and what it says.
 */
export type Verdict = readonly [status: number, message: string] | "silence" | Promise<void> | undefined;

export const INVALID_ARGUMENT = 3;
export const UNAVAILABLE = 14;
export const UNAUTHENTICATED = 16;

export class FlightServer implements AsyncDisposable {
  readonly calls: Call[] = [];
  readonly #server = http2.createServer();
  readonly #sessions = new Set<http2.ServerHttp2Session>();

  /** `keeps`: what clients send is kept, byte by byte. */
  static async start(judge: (call: Call) => Verdict = () => undefined, keeps = false): Promise<FlightServer> {
    const server = new FlightServer(judge, keeps);
    await new Promise<void>((resolve) => server.#server.listen(0, "127.0.0.1", resolve));
    return server;
  }

  private constructor(judge: (call: Call) => Verdict, keeps: boolean) {
    this.#server.on("session", (session) => {
      this.#sessions.add(session);
      session.on("error", () => {});
      session.on("close", () => this.#sessions.delete(session));
    });
    this.#server.on("stream", (stream, headers) => {
      const call = { method: String(headers[":path"]).split("/").at(-1)!, headers, body: [] as Buffer[] };
      this.calls.push(call);
      if (keeps) stream.on("data", (chunk: Buffer) => call.body.push(chunk));
      stream.on("error", () => {});
      const grpc = { ":status": 200, "content-type": "application/grpc" };
      const verdict = judge(call);
      if (verdict === "silence") {
        stream.resume();
        return;
      }
      if (verdict !== undefined && !(verdict instanceof Promise)) {
        const [status, message] = verdict;
        stream.respond({ ...grpc, "grpc-status": status, "grpc-message": message }, { endStream: true });
        return;
      }
      stream.resume();
      stream.on("end", async () => {
        await verdict;
        stream.respond(grpc, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
        stream.end();
      });
    });
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#sessions.size;
  }

  /** Says goodbye on every connection, as servers do that restart or let none grow old. */
  async hangUp(): Promise<void> {
    for (const session of this.#sessions) session.close();
    while (this.#sessions.size > 0) await new Promise((resolve) => setTimeout(resolve, 1));
    // Until the other side has heard it.
    await new Promise((resolve) => setTimeout(resolve, 100));
  }

  get url(): string {
    return `grpc://127.0.0.1:${(this.#server.address() as AddressInfo).port}/a`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.#sessions) session.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
