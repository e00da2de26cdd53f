// no use or misuse from JavaScript can crash the process or make Rust read freed memory. Each attack runs
// in a process of its own, which must end by itself, with code 0, after its own checks; a signal is a failure.
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { describe, expect, test } from "vitest";
import { FlightServer, UNAVAILABLE } from "../ts/support/flight-server.js";

const children = path.join(process.cwd(), "tests/faults/children");

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly output: string;
}

function attack(name: string, args: readonly string[] = [], limitMs = 240_000): Promise<Ended> {
  const flags = ["--expose-gc", "--max-old-space-size=2048"];
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-attack-"));
  const child = spawn(process.execPath, [...flags, path.join(children, `${name}.mjs`), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, TMPDIR: scratch },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  }
  // A hang is a failure with a name, not a test runner that gives up on everything.
  const hung = setTimeout(() => {
    output += "\nHUNG";
    child.kill("SIGKILL");
  }, limitMs);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      clearTimeout(hung);
      fs.rmSync(scratch, { recursive: true, force: true });
      resolve({ code, signal, output });
    });
  });
}

async function survives(name: string, args: readonly string[] = []): Promise<string> {
  const ended = await attack(name, args);
  expect(ended, ended.output).toMatchObject({ code: 0, signal: null });
  expect(ended.output).toContain("SURVIVED");
  return ended.output;
}

describe("R-04 memory that is taken away while Rust holds it", () => {
  test.each(["transfer", "structured-clone", "post-message"])(
    "%s throws, and the rows arrive",
    async (way) => {
      await survives("detach", [way]);
    },
  );

  test("a buffer detached before the send is a clear error", async () => {
    await survives("detached-before");
  });

  test("a resizable buffer that shrinks was copied", async () => {
    await survives("resize");
  });

  test("WebAssembly memory that grows was copied, and may go on growing", async () => {
    await survives("wasm");
  });

  test("shared memory that another thread writes to was copied", async () => {
    await survives("shared");
  });

  test("garbage collection under pressure takes nothing that is in use", async () => {
    await survives("gc");
  });

  test("an idle client keeps no memory of what it sent or refused", async () => {
    await survives("let-go");
  });

  test.each(["resizable", "wasm"])("a buffer that hides being %s is seen through", async (kind) => {
    await survives("lies", [kind]);
  });
});

describe("R-18 clients that are dropped without close()", () => {
  test("are ended once they have nothing in flight, with their connections, and say so", async () => {
    await using server = await FlightServer.start();
    await survives("dropped", [server.url]);
    await expect.poll(() => server.connections, { timeout: 20_000 }).toBe(0);
  });
});

describe("R-04 calls into the addon that no packer of ours makes", () => {
  test("lying numbers and arrays are refused by name, keep nothing, and the client goes on", async () => {
    await survives("numbers");
  });
});

describe("R-04 batches that break what is around them", () => {
  test("getters that send another batch while theirs is packed spoil neither", async () => {
    await survives("reenter");
  });

  test("signals that throw lose no delivery", async () => {
    await survives("rude-signal");
  });

  test("an error about a name longer than any string is told", async () => {
    await survives("long-name");
  });

  test("small batches whose lists cannot be joined go as they are", async () => {
    await survives("nothings");
  });
});

describe("R-04 memory that is written to while Rust reads it", () => {
  test.each(["discard", "delta"])(
    "scribbling over every buffer in flight to %s ends in outcomes",
    async (to) => {
      await survives("scribble", [to]);
    },
  );

  test("the development option reports a batch that was changed in flight", async () => {
    await survives("witness");
  });
});

describe("R-04, R-18 environments that end with batches in flight", () => {
  // Three quarters of a minute where nothing else runs. The instrumented addon, which only counts lines, takes
  // several times as long for each.
  test("a worker is terminated 500 times", { timeout: 300_000 }, async () => {
    await survives("terminate", [process.env.ARROW_INGEST_ADDON === undefined ? "500" : "100"]);
  });

  test("the worker that loaded the addon ends, and others come", async () => {
    await survives("first-worker");
  });

  test.each(["headers", "retry"])(
    "workers are terminated while their %s callback owes an answer",
    async (which) => {
      await using server = await FlightServer.start(({ method }) =>
        method === "DoPut" ? [UNAVAILABLE, "away"] : undefined,
      );
      await survives("terminate-asked", [server.url, which]);
    },
  );

  test.each(["exit", "throw", "worker-exit"])("the process ends by %s", async (way) => {
    const ended = await attack("exit", [way], 60_000);
    expect(ended, ended.output).toMatchObject({ code: way === "throw" ? 1 : 0, signal: null });
    expect(ended.output).not.toContain("HUNG");
  });

  test("what is asked of a client that ends, or has ended, is answered", async () => {
    await survives("closed-operations");
  });

  test("an idle client keeps no process alive, and one that waits keeps it alive until it is told", async () => {
    await survives("alive");
  });
});

describe("R-15, R-18 what goes wrong around refused rows", () => {
  test("tables of several batches over streams that refuse, rotate and break are accounted for row by row", async () => {
    await survives("torture");
  });

  test("a dead-letter directory of pipes and links holds up nobody", async () => {
    await survives("stuck-disk");
  });
});

describe("R-04, R-18, R-34 emulators, headers and workspaces", () => {
  test("workers end with an emulator, its client and open questions for headers; so does the process", async () => {
    await survives("emulators", ["40"]);
  });

  test("a workspace that floods, drips, redirects or quotes is a small error in time, without the secret", async () => {
    await survives("hostile-workspace");
  });
});

describe("R-19 many at once", () => {
  test("hundreds of senders on one client, several workers with clients of their own", async () => {
    await survives("crowd");
  });
});
