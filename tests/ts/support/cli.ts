import { PassThrough } from "node:stream";
import type { Io, Signal } from "../../../dist/cli/io.js";
import { main } from "../../../dist/cli/main.js";

/** A command under way in this process, and the hands that its surroundings have on it. */
export interface Running {
  readonly code: Promise<number>;
  readonly stdin: PassThrough;
  readonly exits: number[];
  stdout(): string;
  stderr(): string;
  /** Resolves when standard error or output holds this. */
  says(text: string | RegExp): Promise<void>;
  signal(name: Signal): void;
  /** How many listen to signals. */
  listeners(): number;
}

export interface Around {
  readonly env?: Record<string, string>;
  readonly terminal?: { readonly columns: number };
  readonly patienceMs?: number;
}

export function start(argv: readonly string[], { env = {}, terminal, patienceMs }: Around = {}): Running {
  const listeners = new Set<(signal: Signal) => void>();
  const stdin = new PassThrough();
  const exits: number[] = [];
  const texts = { out: "", err: "" };
  const waiting = new Set<() => void>();
  const output = (name: "out" | "err") => ({
    write(text: string) {
      texts[name] += text;
      for (const look of waiting) look();
    },
    ...(terminal === undefined ? {} : { isTTY: true, columns: terminal.columns }),
  });
  const io: Io = {
    stdin,
    stdout: output("out"),
    stderr: output("err"),
    env,
    onSignal(called) {
      listeners.add(called);
      return () => void listeners.delete(called);
    },
    exit: (code) => void exits.push(code),
    ...(patienceMs === undefined ? {} : { patienceMs }),
  };
  return {
    code: main(argv, io),
    stdin,
    exits,
    stdout: () => texts.out,
    stderr: () => texts.err,
    says(text) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const look = (): void => {
        const all = texts.out + texts.err;
        if (typeof text === "string" ? !all.includes(text) : !text.test(all)) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      look();
      return promise;
    },
    signal(name) {
      for (const called of [...listeners]) called(name);
    },
    listeners: () => listeners.size,
  };
}

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export async function run(argv: readonly string[], around: Around = {}, input?: Uint8Array): Promise<Ended> {
  const running = start(argv, around);
  running.stdin.end(input);
  const code = await running.code;
  return { code, stdout: running.stdout(), stderr: running.stderr() };
}
