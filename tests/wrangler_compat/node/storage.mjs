// Runs storage_worker.js in miniflare. Arguments: the folder of its state, and a file with what to send it.
import { readFileSync } from "node:fs";
import { Miniflare } from "miniflare";

const [state, file] = process.argv.slice(2);
const miniflare = new Miniflare({
  modules: true,
  scriptPath: new URL("storage_worker.js", import.meta.url).pathname,
  compatibilityDate: "2026-01-01",
  cf: false,
  d1Databases: { DB: "the-id" },
  r2Buckets: { BUCKET: "the-bucket" },
  d1Persist: `${state}/d1`,
  r2Persist: `${state}/r2`,
});
const answer = await miniflare.dispatchFetch("http://x/", { method: "POST", body: readFileSync(file) });
console.log(await answer.text());
await miniflare.dispose();
