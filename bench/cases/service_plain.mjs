// What example 06 is measured against: the same request read and parsed in the same way, and answered at once.
import * as http from "node:http";

const server = http.createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const { id } = JSON.parse(Buffer.concat(chunks).toString("utf8"));
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ delivery: id }));
});
process.once("SIGTERM", () => server.close());
server.listen(0, "127.0.0.1", () => {
  console.log(`listening on port ${server.address().port}`);
});
