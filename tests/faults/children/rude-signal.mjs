// Signals that throw when they are listened to, or no longer: no delivery is lost by it, and no later one spoilt.
import { batchOver, check, connect, survived } from "./support.mjs";

const batch = () => batchOver({ ints: new Int32Array(1 << 17) });
const outcome = (promise) =>
  Promise.race([
    promise.then(
      (result) => result.status,
      (error) => error.message,
    ),
    new Promise((resolve) => setTimeout(resolve, 5_000, "nothing")),
  ]);
const rude = (name) => {
  const { signal } = new AbortController();
  Object.defineProperty(signal, name, {
    value() {
      throw new Error("rude");
    },
  });
  return signal;
};
for (const maxBytes of ["256MiB", "600KiB"]) {
  // With the small budget, all but the first wait for a ticket.
  const client = await connect("discard:", { inflight: { maxBytes } });
  for (const name of ["addEventListener", "removeEventListener"]) {
    const told = await Promise.all(
      [undefined, rude(name), rude(name), undefined].map((signal) =>
        outcome(client.send(batch(), signal === undefined ? {} : { signal })),
      ),
    );
    for (const word of told) check(word === "acknowledged", `${name}: ${told}`);
  }
  const steady = await outcome(client.send(batch()));
  check(steady === "acknowledged", `the client is spoilt: ${steady}`);
  await client.close();
}
survived();
process.exit(0);
