// Stands before the hub for clients that send no key: adds the bearer token to each request, and changes nothing else.
// Prints where it listens, then reads from its input a line with the hub's URL and the key. Ends with its input.

import http from "node:http";
import readline from "node:readline";

const agent = new http.Agent({ keepAlive: true });
let hub, key;

function pass(request, response) {
  const headers = [...request.rawHeaders, "Authorization", `Bearer ${key}`];
  const { hostname: host, port } = hub;
  const options = { agent, host, port, method: request.method, path: request.url, headers, setHost: false };
  const onward = http.request(options, (answer) => {
    response.writeHead(answer.statusCode, answer.rawHeaders);
    response.flushHeaders();
    answer.pipe(response);
    answer.on("error", () => response.destroy());
  });
  onward.on("error", () => response.destroy());
  response.on("close", () => onward.destroy());
  request.pipe(onward);
}

const server = http.createServer(pass);
server.requestTimeout = 0;
server.listen(0, "127.0.0.1", () => console.log(`listening ${server.address().port}`));

const input = readline.createInterface({ input: process.stdin });
input.once("line", (line) => {
  const [url, token] = line.split(" ");
  [hub, key] = [new URL(url), token];
});
input.on("close", () => process.exit(0));
