// with cumulative acknowledgements no row is lost or kept twice, whatever becomes of the line, by any
// of the reference servers of examples/flight-servers, each on the Flight library of its own language.
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { tableFromArrays } from "apache-arrow";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { connect } from "../../dist/index.js";
import { Line } from "./support/line.js";
import { describeWith, Peer } from "./support/peer.js";
import { FlightServer, SERVERS } from "./support/servers.js";

/** Of 1, 3, 9, … rows: in base 3 the number of all rows says of each batch how often it is there. */
const sizes = Array.from({ length: 10 }, (_, index) => 3 ** index);
const numbers = (rows: number) => tableFromArrays({ id: Int32Array.from({ length: rows }, (_, row) => row) });

for (const name of ["durable_put.py", "durable_put.go", "DurablePut.java"] as const)
  describeWith(SERVERS[name].there, `R-17 ${name}`, () => {
    let server: FlightServer;
    let peer: Peer;
    beforeAll(async () => {
      [server, peer] = await Promise.all([FlightServer.start(name), Peer.start()]);
    });
    afterAll(async () => {
      await server?.[Symbol.asyncDispose]();
      await peer?.[Symbol.asyncDispose]();
    });

    test("every batch is there once, though the line was cut with each", async () => {
      await using line = await Line.to(server.port);
      {
        await using client = await connect(`grpc://127.0.0.1:${line.port}/ids`, {
          batching: { linger: 0 },
          retry: { attempts: 1_000, baseDelay: 1, maxDelay: 20 },
          flight: {
            acknowledgement: "cumulative",
            keepAlive: 300,
            acknowledgementTimeout: "2s",
            connectTimeout: "5s",
          },
        });
        // So that there is a session to disturb.
        expect(await client.send(numbers(sizes[0]!))).toMatchObject({ status: "acknowledged" });
        const faults: [string, () => Promise<void>][] = [
          ["cut before the part", () => line.cut({ on: "up", after: 0, how: "reset" })],
          ["cut in the midst of the part", () => line.cut({ on: "up", after: 200, how: "reset" })],
          ["kept, and the answer is lost", () => line.cut({ on: "down", after: 0, how: "reset" })],
          ["the client's half is closed", () => line.cut({ on: "up", after: 0, how: "half" })],
          ["the server's half is closed", () => line.cut({ on: "down", after: 0, how: "half" })],
          ["the answer is cut in two", () => line.cut({ on: "down", after: 12, how: "reset" })],
        ];
        for (const [index, [fault, happens]] of faults.entries()) {
          const before = line.connections;
          const [result] = await Promise.all([client.send(numbers(sizes[index + 1]!)), happens()]);
          expect(result, `${fault}: ${result.error?.message}`).toMatchObject({ status: "acknowledged" });
          expect(line.connections, fault).toBeGreaterThan(before);
        }
        // Reset in the midst of the handshake, three times over.
        const lost = line.cut({ on: "up", after: 0, how: "reset" });
        line.resets = 3;
        const [result] = await Promise.all([client.send(numbers(sizes[7]!)), lost]);
        expect(result).toMatchObject({ status: "acknowledged" });
        expect(line.resets).toBe(0);
        // Silence: found out by keep-alive, or by the answer that is owed where a server has hung up for so many
        // pings and is asked less; what was under way comes in after all.
        const before = line.connections;
        line.stall();
        const delivery = await client.enqueue(numbers(sizes[8]!));
        await expect.poll(() => line.connections, { timeout: 20_000 }).toBeGreaterThan(before);
        line.flow();
        expect(await delivery.result).toMatchObject({ status: "acknowledged" });
        expect(await client.send(numbers(sizes[9]!))).toMatchObject({ status: "acknowledged" });
      }
      const request = { location: server.location, action: "rows", body: "ids" };
      const [rows] = await peer.ask<[string]>("flight_act", request);
      expect(Number(rows).toString(3)).toBe("1".repeat(sizes.length));
    });

    test("R-73, R-75: a later process goes on at the same row, and a copy of its spool is told apart", async () => {
      await using line = await Line.to(server.port);
      const home = fs.mkdtempSync(path.join(os.tmpdir(), "arrow-ingest-ack-"));
      const [original, copy] = [path.join(home, "original"), path.join(home, "copy")];
      const lines: [string, Record<string, unknown>][] = [];
      const open = (directory: string) =>
        connect(`grpc://127.0.0.1:${line.port}/spooled`, {
          batching: { linger: 0 },
          retry: { baseDelay: 1, maxDelay: 20 },
          flight: { acknowledgement: "cumulative", acknowledgementTimeout: "2s", connectTimeout: "5s" },
          spool: { directory },
          logger: { warn: (message, fields) => void lines.push([message, fields]) },
        });
      // One of the servers counts the rows of all tables.
      const rows = async (): Promise<number> => {
        const request = { location: server.location, action: "rows", body: "spooled" };
        return Number((await peer.ask<[string]>("flight_act", request))[0]);
      };
      const before = await rows();
      try {
        const first = await open(original);
        expect((await first.send(numbers(sizes[0]!))).success).toBe(true);
        // The rows are kept, the answer is lost, and the client ends without it.
        const [spooled] = await Promise.all([
          first.enqueue(numbers(sizes[1]!)),
          line.cut({ on: "down", after: 0, how: "reset" }).then(() => first.close({ deadline: 0 })),
        ]);
        expect((await spooled.result).status).toBe("spooled");
        fs.cpSync(original, copy, { recursive: true });
        // A close waits five seconds for the disk; where that is slower, the spool is free a moment later.
        const second = await vi.waitFor(() => open(original), { timeout: 20_000, interval: 200 });
        expect((await second.send(numbers(sizes[2]!))).success).toBe(true);
        await second.close();
        const other = await open(copy);
        const lost = await other.enqueue(numbers(sizes[3]!));
        await expect
          .poll(() => lines.map(([, { error }]) => (error as { code?: string } | undefined)?.code), {
            timeout: 10_000,
          })
          .toContain("SPOOL_FOREIGN");
        expect(other.ready).toBe(false);
        await other.close({ deadline: 0 });
        expect((await lost.result).status).toBe("spooled");
        expect(((await rows()) - before).toString(3)).toBe("111");
      } finally {
        fs.rmSync(home, { recursive: true, force: true });
      }
    });
  });
