// Jest as it comes: CommonJS, a realm of its own, no flag.
const { tableFromArrays } = require("apache-arrow");
const { connect, IngestError, startEmulator, TransmissionResult } = require("arrow-ingest");

test("a batch is sent, and its result is of the class that the package exports", async () => {
  const client = await connect("discard:");
  const result = await client.send(tableFromArrays({ n: Int32Array.of(1, 2, 3) }));
  expect(result).toBeInstanceOf(TransmissionResult);
  expect(result.orThrow()).toMatchObject({ status: "acknowledged", rows: 3 });
  await client.close();
});

test("rows go through an emulator into a table", async () => {
  const emulator = await startEmulator({ faults: ["close:after=1rows"] });
  const client = await connect(emulator.url("main.test.rows"), emulator.options);
  const result = await client.send(tableFromArrays({ id: BigInt64Array.of(1n, 2n) }));
  expect([result.status, result.attempts]).toEqual(["acknowledged", 2]);
  await client.close();
  await emulator.close();
});

test("errors are ours, and those of this realm keep their causes", async () => {
  await expect(connect("nowhere:")).rejects.toBeInstanceOf(IngestError);
  const headers = () => {
    throw new Error("outer", { cause: new Error("inner") });
  };
  const failed = connect("grpc://127.0.0.1:1/x", { headers, retry: { attempts: 1 } });
  const error = await failed.catch((reason) => reason);
  expect(error).toMatchObject({ code: "UNAUTHENTICATED" });
  expect(error.toJSON().causes).toEqual(["Error: outer", "Error: inner"]);
});
