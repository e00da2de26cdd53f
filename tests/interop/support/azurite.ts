// Microsoft's own emulator of Azure Blob, with its well-known account, in memory.
import { type ChildProcess, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import * as path from "node:path";
import { freePort } from "./moto.js";

const root = path.resolve(import.meta.dirname, "../../..");
export const AZURITE = path.join(root, "node_modules/azurite/dist/src/blob/main.js");
export const ACCOUNT = "devstoreaccount1";
// Published by Microsoft for this emulator, the same everywhere.
export const KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

export class Azurite implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly endpoint: string;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.endpoint = `http://127.0.0.1:${port}/${ACCOUNT}`;
  }

  /** With an empty container called `lake`. */
  static async start(): Promise<Azurite> {
    const port = await freePort();
    const args = ["--blobHost", "127.0.0.1", "--blobPort", String(port), "--inMemoryPersistence"];
    const child = spawn(
      process.execPath,
      [AZURITE, ...args, "--skipApiVersionCheck", "--silent", "--disableTelemetry"],
      { stdio: "ignore" },
    );
    const azurite = new Azurite(child, port);
    for (let i = 0; !(await azurite.#createContainer("lake").catch(() => false)); i++) {
      if (i > 300 || child.exitCode !== null) throw new Error(`${azurite.endpoint} does not answer`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return azurite;
  }

  async #createContainer(name: string): Promise<boolean> {
    const date = new Date().toUTCString();
    const version = "2021-12-02";
    // Azure's shared key: verb, eleven headers that are empty here, ours, and the resource with the account twice.
    const toSign = [
      `PUT${"\n".repeat(12)}x-ms-date:${date}`,
      `x-ms-version:${version}`,
      `/${ACCOUNT}/${ACCOUNT}/${name}`,
      "restype:container",
    ].join("\n");
    const signature = createHmac("sha256", Buffer.from(KEY, "base64")).update(toSign).digest("base64");
    const answer = await fetch(`${this.endpoint}/${name}?restype=container`, {
      method: "PUT",
      headers: {
        authorization: `SharedKey ${ACCOUNT}:${signature}`,
        "x-ms-date": date,
        "x-ms-version": version,
      },
    });
    if (!answer.ok && answer.status !== 409) throw new Error(await answer.text());
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill();
  }
}
