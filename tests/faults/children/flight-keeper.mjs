// A Flight server that keeps what it is given: gRPC by hand over Node's own HTTP/2, Arrow by apache-arrow. It is away
// when it is told to be. What a stream brought counts when the stream has ended well.
import * as http2 from "node:http2";
import { tableFromIPC } from "apache-arrow";

const UNAVAILABLE = 14;
/** Numbers of fields of FlightData, with their wire type. */
const HEADER = (2 << 3) | 2;
const BODY = (1000 << 3) | 2;

/** @param {(values: Int32Array) => void} keep Column `n` of each batch, in order. */
export async function startKeeper(keep) {
  const keeper = { isAway: false, refused: 0, url: "", close };
  const sessions = new Set();
  const server = http2.createServer();
  server.on("session", (session) => {
    sessions.add(session);
    session.on("error", () => {});
    session.on("close", () => sessions.delete(session));
  });
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    const head = { ":status": 200, "content-type": "application/grpc" };
    if (keeper.isAway) {
      keeper.refused++;
      stream.respond({ ...head, "grpc-status": UNAVAILABLE, "grpc-message": "away" }, { endStream: true });
      return;
    }
    const chunks = [];
    stream.on("data", (chunk) => chunks.push(chunk));
    stream.on("end", () => {
      // A client that closes at once takes its calls back.
      if (stream.destroyed) return;
      if (String(headers[":path"]).endsWith("DoPut"))
        for (const values of columnsOf(Buffer.concat(chunks))) keep(values);
      stream.respond(head, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end();
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  keeper.url = `grpc://127.0.0.1:${server.address().port}/a`;
  return keeper;

  function close() {
    server.close();
    for (const session of sessions) session.destroy();
  }
}

/** Of the messages of a DoPut. */
function columnsOf(bytes) {
  const parts = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32BE(at + 1);
    const [header, body] = fieldsOf(bytes.subarray(at + 5, at + 5 + length));
    at += 5 + length;
    if (header.length === 0) continue;
    const padded = Math.ceil(header.length / 8) * 8;
    const prefix = Buffer.alloc(8);
    prefix.writeInt32LE(-1, 0);
    prefix.writeInt32LE(padded, 4);
    parts.push(prefix, header, Buffer.alloc(padded - header.length), body);
  }
  if (parts.length === 0) return [];
  return tableFromIPC(Buffer.concat(parts)).batches.map((batch) => batch.getChild("n").toArray());
}

function fieldsOf(message) {
  let header = Buffer.alloc(0);
  let body = Buffer.alloc(0);
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = message[at++];
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const tag = varint();
    // All fields of FlightData are lengths and bytes.
    const length = varint();
    const field = message.subarray(at, at + length);
    at += length;
    if (tag === HEADER) header = field;
    if (tag === BODY) body = field;
  }
  return [header, body];
}
