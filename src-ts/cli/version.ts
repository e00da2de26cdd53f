// `arrow-ingest --version`: everything that a report of a mistake should name.

import { connect } from "../index.js";
import { type Io, OK } from "./io.js";

export async function version(io: Io): Promise<number> {
  await using client = await connect("discard:");
  const { version, native, runtime } = client.version();
  io.stdout.write(
    `arrow-ingest ${version} (${native.target}, arrow ${native.arrow}, delta ${native.delta}, ` +
      `Node ${runtime.node}, ${runtime.pinning ? "pinning" : "copying"})\n`,
  );
  return OK;
}
