// R-12 R-13 R-14 R-17 R-23: every fault of the emulator, over and over on one client. No row is lost, and none is
// held twice outside the windows that `specs/zerobus.md` names. The table is read by deltalake and polars.
//
//   FAULT_ROUNDS=100 npx vitest run tests/interop/zerobus_faults.test.ts   (a few rounds without it)
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import type { Table } from "apache-arrow";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type ConnectOptions,
  connect,
  type Delivery,
  type EmulatorEvent,
  type EmulatorOptions,
  startEmulator,
  type TransmissionResult,
} from "../../dist/index.js";
import { tableOf } from "../ts/support/table.js";
import { describeWith, Peer, PYTHON } from "./support/peer.js";

const ROUNDS = Number(process.env.FAULT_ROUNDS ?? 4);
const TABLE = "main.test.numbers";
const PER_BATCH = 100;

interface Case {
  /**
   * What goes wrong in a round. `STREAM` is the next stream of the table, `AFTER` some row of its first batches,
   * `TOTAL` one that goes up from round to round, for what ends no stream.
   */
  readonly faults: readonly string[];
  readonly options?: ConnectOptions;
  readonly emulator?: EmulatorOptions;
  /** Which numbers the emulator refuses. */
  readonly isBad?: (id: number) => boolean;
}

const CLOSE = "close:after=AFTER,stream=STREAM";

/** No row is held twice after any of these. A stream that is to be refused needs one that ends before it. */
const ONCE: Readonly<Record<string, Case>> = {
  refuse: { faults: [CLOSE, "refuse:status=UNAVAILABLE,stream=STREAM"] },
  "refuse-schema": { faults: [CLOSE, "refuse-schema:causes=FIELD_NOT_IN_TABLE,stream=STREAM"] },
  limit: { faults: [CLOSE, "limit:streams=0,times=1,stream=STREAM"] },
  "expire-token, at set-up": { faults: [CLOSE, "expire-token:stream=STREAM"] },
  "expire-token, in the midst": { faults: ["expire-token:after=AFTER,stream=STREAM"] },
  token: { faults: ["expire-token:after=AFTER,stream=STREAM", "token:status=503"] },
  rotate: { faults: ["rotate:grace=60s,after=AFTER,stream=STREAM"] },
  stall: { faults: ["stall:for=15ms,after=TOTAL"] },
  partial: { faults: ["partial:rows=37,after=AFTER,stream=STREAM"] },
  close: { faults: ["close:status=INTERNAL,after=AFTER,stream=STREAM"] },
  "lose-before-commit": { faults: ["lose-before-commit:after=AFTER,stream=STREAM"] },
  "pause, at set-up": { faults: [CLOSE, "pause:for=2ms,stream=STREAM"] },
  "pause, in the midst": { faults: ["pause:for=2ms,after=AFTER,stream=STREAM"] },
  reject: { faults: ["reject:column=id,below=0"], isBad: (id) => id % 250 === 249 },
};

/** Nothing is lost after these, and what was kept and not acknowledged may be held twice. */
const WINDOWS: Readonly<Record<string, Case>> = {
  "lose-after-commit": { faults: ["lose-after-commit:after=AFTER,stream=STREAM"] },
  "rotate, without grace": { faults: ["rotate:grace=1ms,after=AFTER,stream=STREAM"] },
  "stall, longer than is waited for": {
    // By no number of a stream: on a busy machine others are given up, too.
    faults: ["stall:for=1h,after=AFTER,times=ROUNDS"],
    options: { zerobus: { acknowledgementTimeout: "250ms" } },
  },
};

/** Repeatable, so that a round that fails can be had again. */
function dice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
}

describeWith(PYTHON, `R-13 R-17 every fault, ${ROUNDS} times in a row`, () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-faults-"));
  let peer: Peer;
  beforeAll(async () => {
    peer = await Peer.start();
  });
  afterAll(async () => {
    await peer[Symbol.asyncDispose]();
    fs.rmSync(folder, { recursive: true });
  });

  const numbers = (from: number, { isBad = () => false }: Case): Table => {
    const ids = Array.from({ length: PER_BATCH }, (_, row) => from + row);
    return tableOf({ id: BigInt64Array.from(ids, (id) => BigInt(isBad(id) ? -id : id)) });
  };

  /** Sends until every fault has fired, and reads what is held. */
  async function run(name: string, given: Case) {
    const lake = path.join(folder, name.replaceAll(/\W+/g, "-"));
    const roll = dice(7);
    let streams = 0;
    // A rule holds for good, and a fault that counts by itself is one.
    const once = given.isBad !== undefined || given.faults[0]!.includes("ROUNDS");
    const faults = Array.from({ length: once ? 1 : ROUNDS }, (_, round) =>
      given.faults.map((fault) =>
        fault
          .replace("STREAM", () => `${++streams}`)
          .replace("AFTER", () => `${1 + roll(3 * PER_BATCH)}rows`)
          .replace("ROUNDS", `${ROUNDS}`)
          .replace("TOTAL", () => `${1 + roll(2 * PER_BATCH) + round * 2 * PER_BATCH}rows`),
      ),
    ).flat();
    const fired: EmulatorEvent[] = [];
    const refusedStreams: string[] = [];
    const wanted = given.isBad ? Number.POSITIVE_INFINITY : once ? ROUNDS : faults.length;
    const onEvent = (event: EmulatorEvent) => {
      if (event.event === "faultFired") fired.push(event);
      if (event.event === "streamRefused") refusedStreams.push(event.line);
    };
    const results: TransmissionResult[] = [];
    let sent = 0;
    {
      await using emulator = await startEmulator({ lake, commitInterval: "2ms", onEvent, ...given.emulator });
      await using client = await connect(emulator.url(TABLE), {
        ...emulator.options,
        batching: { maxRows: PER_BATCH, linger: 0 },
        retry: { attempts: 1_000, baseDelay: "1ms", maxDelay: "5ms" },
        ...given.options,
        zerobus: { ...emulator.options.zerobus, ...given.options?.zerobus },
      });
      // Only now, so that the table is there and streams that are refused are those of deliveries.
      for (const fault of faults) emulator.addFault(fault);
      while (fired.length < wanted && results.length < ROUNDS * (given.isBad ? 2.5 : 12) + 12) {
        const under: Delivery[] = [];
        for (let turn = 0; turn <= roll(4); turn++) {
          under.push(await client.enqueue(numbers(sent, given)));
          sent += PER_BATCH;
        }
        results.push(...(await Promise.all(under.map((delivery) => delivery.result))));
      }
      expect((await emulator.summary()).faultsFired).toBeGreaterThanOrEqual(once ? ROUNDS : faults.length);
    }
    const table = path.join(lake, ...TABLE.split("."));
    const held = await peer.ask<{ values: number[]; polars: number[] }>("delta_rows", {
      path: table,
      column: "id",
    });
    expect(held.polars).toEqual(held.values);
    return { results, sent, held: held.values, refusedStreams };
  }

  test.each(Object.entries(ONCE))(
    "%s: nothing is lost and nothing held twice",
    { timeout: 600_000 },
    async (name, given) => {
      const { results, sent, held, refusedStreams } = await run(name, given);
      const ids = Array.from({ length: sent }, (_, id) => id);
      const bad = ids.filter((id) => given.isBad?.(id));
      const refused = results.flatMap((result) =>
        [...(result.rejectedBatch()?.getChild("id") ?? [])].map((id) => -Number(id)),
      );
      expect(refused).toEqual(bad);
      expect(results.map(({ error }) => error?.code ?? null)).toEqual(
        results.map(({ rejectedRows }) => (rejectedRows > 0 ? "ROWS_REJECTED" : null)),
      );
      expect(held).toEqual(ids.filter((id) => !bad.includes(id)));
      // A token that was refused in the midst of a stream opens no other one.
      if (name.startsWith("token") || name.endsWith("midst")) expect(refusedStreams).toEqual([]);
      if (given.isBad) expect(bad.length).toBeGreaterThanOrEqual(ROUNDS);
    },
  );

  test.each(Object.entries(WINDOWS))("%s: nothing is lost", { timeout: 600_000 }, async (name, given) => {
    const { results, sent, held } = await run(name, given);
    expect(results.filter(({ status }) => status !== "acknowledged")).toEqual([]);
    expect([...new Set(held)]).toEqual(Array.from({ length: sent }, (_, id) => id));
    // At most one burst for each fault: what was acknowledged is not sent again. Where patience is short, how
    // often it ends is the machine's affair.
    if (given.options === undefined) expect(held.length - sent).toBeLessThanOrEqual(ROUNDS * 4 * PER_BATCH);
  });
});
