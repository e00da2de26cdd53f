import { type ConnectOptions, connect, IngestError } from "../../../dist/index.js";

/** The error with which `connect` refuses what it is given, of whatever type that is. */
export async function refused(url: unknown, options?: unknown): Promise<IngestError> {
  try {
    const client = await connect(url as string, options as ConnectOptions);
    await client.close();
  } catch (error) {
    if (error instanceof IngestError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}
