// what is sent to Flight servers in Go and in Java comes back equal, as pyarrow reads it. Every golden
// stream goes through both; what a server cannot hold is said here by name, with the reason that it gives.
import { RecordBatchStreamWriter, tableFromArrays, tableFromIPC } from "apache-arrow";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connect, type TransmissionResult } from "../../dist/index.js";
import { cases, valuesOfBatches, valuesOfJson } from "./support/golden.js";
import { base64, describeWith, goldenRoot, Peer } from "./support/peer.js";
import { FlightServer, SERVERS } from "./support/servers.js";

const golden = cases((folder) => !folder.includes("bigendian")).filter(({ name }) =>
  name.endsWith(".stream"),
);

/** What comes of these streams instead; should a later version hold them, the list is wrong and says so. */
const CANNOT = {
  "arrow-go, keeps": {},
  "Arrow Java, keeps": {
    // A struct with two children of one name has one child in Java.
    "1.0.0-littleendian/generated_duplicate_fieldnames.stream": { refuses: /not all nodes, buffers/ },
    // The child of a list within a dictionary gets Java's own name.
    "1.0.0-littleendian/generated_nested_dictionary.stream": { changes: /became .*\$data\$/s },
  },
} as Record<string, Record<string, { refuses?: RegExp; changes?: RegExp }>>;

for (const name of ["arrow-go, keeps", "Arrow Java, keeps"] as const)
  describeWith(SERVERS[name].there, `R-21 ${name} what it is put`, () => {
    let server: FlightServer;
    let peer: Peer;
    beforeAll(async () => {
      [server, peer] = await Promise.all([FlightServer.start(name), Peer.start()]);
    });
    afterAll(async () => {
      await server?.[Symbol.asyncDispose]();
      await peer?.[Symbol.asyncDispose]();
    });

    async function put(path: string, bytes: Uint8Array): Promise<TransmissionResult> {
      await using client = await connect(`${server.location}/${path}`, {
        batching: { linger: 0 },
        retry: { attempts: 1 },
        flight: { dictionaries: "keep", commitInterval: "20ms" },
      });
      return await client.send(bytes);
    }
    const get = (ticket: string) => peer.ask<string>("flight_get", { location: server.location, ticket });

    test("R-14 answers of parts are acknowledgements, and the rows are there, in order", async () => {
      const ids = { id: Int32Array.from({ length: 100_000 }, (_, row) => row) };
      const args = name === "arrow-go, keeps" ? ["-answers", "part"] : [];
      await using answering = await FlightServer.start(name, args);
      {
        await using client = await connect(`${answering.location}/numbers`, {
          flight: { acknowledgement: "part", maxMessageSize: "16KiB", commitInterval: "1h" },
        });
        // Acknowledged though the stream goes on: it is the parts that were answered.
        expect(await client.send(tableFromArrays(ids))).toMatchObject({
          status: "acknowledged",
          rows: 100_000,
        });
      }
      const stream = await peer.ask<string>("flight_get", {
        location: answering.location,
        ticket: "numbers",
      });
      const expected = RecordBatchStreamWriter.writeAll(tableFromArrays(ids)).toUint8Array(true);
      const pairs = [{ left: base64(expected), right: [stream] }];
      expect(await peer.ask("compare", { pairs })).toEqual([null]);
    });

    // Each by its name, so that the report says which.
    if (golden.length > 0)
      describe("R-03 golden streams", () => {
        test.each(golden)("$name", async (one) => {
          const exception = CANNOT[name]![one.name] ?? {};
          const result = await put(one.name, one.bytes);
          if (exception.refuses !== undefined) {
            expect(result).toMatchObject({ success: false, error: { code: "ROWS_REJECTED" } });
            expect(result.error!.message).toMatch(exception.refuses);
            return;
          }
          expect(result.status, result.error?.message).toBe("acknowledged");
          // Nothing is sent of a stream without rows, so the server has nothing to give back.
          if (result.rows === 0) return;
          const back = await get(one.name);
          if (one.name.includes("interval")) {
            // pyarrow has no Python type for two of the intervals; the JSON speaks for those.
            const { batches } = tableFromIPC(Buffer.from(back, "base64"));
            expect(valuesOfBatches(batches)).toEqual(valuesOfJson(one.json()));
            return;
          }
          const pairs = [{ left: base64(one.bytes), right: [back] }];
          const [difference] = await peer.ask<[string | null]>("compare", { pairs });
          if (exception.changes === undefined) expect(difference).toBeNull();
          else expect(difference).toMatch(exception.changes);
        });
      });
  });

describeWith(goldenRoot, "R-03 the golden streams", () => {
  test("are enough of them to mean something", () => {
    expect(golden.length).toBeGreaterThan(30);
  });
});
