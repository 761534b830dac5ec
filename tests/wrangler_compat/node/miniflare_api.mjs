// The test Worker through miniflare's own API, its AI binding pointed at roost by an option. Arguments: port, roost.
import { Miniflare } from "miniflare";

const [port, roost] = process.argv.slice(2);
const miniflare = new Miniflare({
  port: Number(port),
  host: "127.0.0.1",
  modules: true,
  scriptPath: new URL("worker/src/index.js", import.meta.url).pathname,
  compatibilityDate: "2025-04-01",
  cf: false,
  ai: { binding: "AI", remoteProxyConnectionString: new URL(roost) },
});
await miniflare.ready;
console.log("Ready on");
