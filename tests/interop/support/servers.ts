// Flight servers that nobody here wrote the protocol for, each a process that prints its port.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { PYTHON } from "./peer.js";

const root = path.resolve(import.meta.dirname, "../../..");
const at = (...parts: string[]): string => path.join(root, ...parts);

interface Kind {
  /** Missing where the tool to make it is missing. */
  readonly there: string;
  readonly command: readonly string[];
}

const python = (script: string): Kind => ({ there: PYTHON, command: [PYTHON, at(script)] });
const go = (name: string): Kind => ({ there: at(".tools/go", name), command: [at(".tools/go", name)] });
const java = (name: string): Kind => ({
  there: at(".tools/java/installed"),
  command: [
    "java",
    // Arrow's own memory needs it; the others make a JVM of a few seconds start in a fraction of one.
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    ...["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"],
    `${at(".tools/java/lib/*")}:${at(".tools/java/classes")}`,
    name,
  ],
});

export const SERVERS = {
  "pyarrow, keeps": python("tests/interop/flight_server.py"),
  "pyarrow, moods": python("tests/interop/moody_server.py"),
  "arrow-go, keeps": go("keep"),
  "arrow-go, flightsql": go("sql"),
  "Arrow Java, keeps": java("PutServer"),
  "durable_put.py": python("examples/flight-servers/durable_put.py"),
  "durable_put.go": go("durable_put"),
  "DurablePut.java": java("DurablePut"),
} as const;

export type ServerName = keyof typeof SERVERS;

export class FlightServer implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly port: number;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  static async start(name: ServerName, args: readonly string[] = []): Promise<FlightServer> {
    const [command, ...rest] = SERVERS[name].command;
    // Java has three lines to say about logging; what the others say is an error.
    const errors = /java/i.test(name) ? "ignore" : "inherit";
    const child = spawn(command!, [...rest, ...args], { stdio: ["ignore", "pipe", errors] });
    const lines = createInterface({ input: child.stdout! });
    const ended = once(child, "close").then(() => {
      throw new Error(`${name} ended before it said its port`);
    });
    const [line] = (await Promise.race([once(lines, "line"), ended])) as [string];
    ended.catch(() => {});
    return new FlightServer(child, Number(line));
  }

  get location(): string {
    return `grpc://127.0.0.1:${this.port}`;
  }

  /** As by a power cut: nothing is finished, nobody is told. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill("SIGKILL");
    await once(this.#child, "exit");
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}
