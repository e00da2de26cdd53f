// The emulator of zerobus.mjs, in a process of its own: `zerobus_server.mjs <options as JSON>`. Says where it is, and
// answers each line with the counts of its tables.
import { createInterface } from "node:readline";
import { startEmulator } from "../../dist/index.js";

await using emulator = await startEmulator(JSON.parse(process.argv[2]));
console.log(JSON.stringify({ url: emulator.url(""), options: emulator.options }));
for await (const _ of createInterface({ input: process.stdin }))
  console.log(JSON.stringify((await emulator.summary()).tables));
