// The test Worker's code in plain Node, with the env of wrangler's getPlatformProxy(). Arguments: config, port.
import { createServer } from "node:http";
import { Readable } from "node:stream";
import { getPlatformProxy } from "wrangler";
import worker from "./worker/src/index.js";

const [configPath, port] = process.argv.slice(2);
const { env } = await getPlatformProxy({ configPath, persist: false });

createServer(async (incoming, outgoing) => {
  const body = incoming.method === "GET" ? undefined : Readable.toWeb(incoming);
  const request = new Request(`http://localhost${incoming.url}`, { method: incoming.method, body, duplex: "half" });
  const response = await worker.fetch(request, env);
  outgoing.writeHead(response.status, Object.fromEntries(response.headers));
  const reader = response.body.getReader();
  outgoing.on("close", () => reader.cancel().catch(() => {}));
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) outgoing.write(piece.value);
  outgoing.end();
}).listen(Number(port), "127.0.0.1", () => console.log("Ready on"));
