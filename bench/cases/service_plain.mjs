// What example 06 is compared with: a server of the same kind, which parses an event and answers at once.
import { fastify } from "fastify";

const app = fastify();
app.post("/events", ({ body }) => ({ delivery: String(body.id.length) }));
process.once("SIGTERM", () => app.close());
const address = await app.listen({ port: 0, host: "127.0.0.1" });
console.log(`listening on port ${new URL(address).port}`);
