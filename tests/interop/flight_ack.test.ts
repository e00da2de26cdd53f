// with cumulative acknowledgements no row is lost or kept twice, whatever becomes of the line, by any
// of the reference servers of examples/flight-servers, each on the Flight library of its own language.
import { tableFromArrays } from "apache-arrow";
import { afterAll, beforeAll, expect, test } from "vitest";
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
  });
