// six of our clients at one table in Azure Blob (as Azurite plays it), all rows once; what it
// refuses has the same code as elsewhere. There is no such test of GCS: no emulator at hand lists as it does.
import { inspect } from "node:util";
import { type Table, Utf8, vectorFromArray } from "apache-arrow";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect, type DeltaOptions, IngestError } from "../../dist/index.js";
import { tableOf } from "../ts/support/table.js";
import { ACCOUNT, AZURITE, Azurite, KEY } from "./support/azurite.js";
import { describeWith, Peer } from "./support/peer.js";

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

describeWith(AZURITE, "R-20 a table in Azure Blob", () => {
  let azurite: Azurite;
  beforeAll(async () => {
    azurite = await Azurite.start();
  }, 60_000);
  afterAll(async () => {
    await azurite?.[Symbol.asyncDispose]();
  });

  const storage = (): Record<string, string> => ({
    azure_storage_account_name: ACCOUNT,
    azure_storage_account_key: KEY,
    azure_storage_endpoint: azurite.endpoint,
    allow_http: "true",
  });
  const options = (delta: DeltaOptions = {}) => ({
    batching: { linger: 0 },
    retry: { attempts: 10, baseDelay: "20ms", deadline: "60s" } as const,
    delta: { commitInterval: "20ms", storage: storage(), ...delta } as DeltaOptions,
  });
  const rows = (from: number, to: number): Table =>
    tableOf({
      id: BigInt64Array.from(range(from, to), BigInt),
      who: vectorFromArray(new Array(to - from).fill("us"), new Utf8()),
    });

  test("six racing writers, of a table that is not there yet: each row once", async () => {
    const target = "delta:az://lake/crowd";
    const clients = await Promise.all(range(0, 6).map(() => connect(target, options())));
    const versions = await Promise.all(
      clients.map(async (client, which) => {
        const seen: bigint[] = [];
        for (let turn = 0; turn < 4; turn++) {
          const start = which * 1_000 + turn * 10;
          const result = await client.send(rows(start, start + 10));
          expect(result.error).toBeNull();
          expect(result.status).toBe("acknowledged");
          seen.push(result.position!.value);
        }
        return seen;
      }),
    );
    await Promise.all(clients.map((client) => client.close()));
    // Nobody was told a version that is another's.
    expect(new Set(versions.flat()).size).toBe(24);
    await using peer = await Peer.start();
    const read = await peer.ask<{ values: number[] }>("delta_rows", {
      path: "az://lake/crowd",
      column: "id",
      storage: storage(),
    });
    expect(read.values).toEqual(range(0, 6).flatMap((which) => range(which * 1_000, which * 1_000 + 40)));
  }, 120_000);

  test("a container that is not there, a wrong key: told as by any store, and the key by nobody", async () => {
    const failure = async (target: string, delta: DeltaOptions): Promise<IngestError> => {
      const error = await connect(target, {
        ...options(delta),
        retry: { attempts: 2, baseDelay: 1, deadline: "10s" },
      }).catch((error: unknown) => error);
      expect(error).toBeInstanceOf(IngestError);
      expect(inspect(error, { depth: 9, showHidden: true })).not.toContain(KEY);
      return error as IngestError;
    };
    expect((await failure("delta:az://nobodys/t", {})).code).toBe("NOT_FOUND");
    const wrong = { ...storage(), azure_storage_account_key: KEY.replace("Eby8", "Xby8") };
    const refused = await failure("delta:az://lake/t", { storage: wrong });
    // Azurite says AuthorizationFailure, where Azure says AuthenticationFailed (`UNAUTHENTICATED`).
    expect(refused).toMatchObject({ code: "PERMISSION_DENIED", retry: "never" });
  });
});
