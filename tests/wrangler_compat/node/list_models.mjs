// A script of the kind that people write: one call of the binding, then the end.
import { getPlatformProxy } from "wrangler";

const { env, dispose } = await getPlatformProxy({ configPath: "worker/wrangler.jsonc", persist: false });
console.log(JSON.stringify(await env.AI.models()));
await dispose();
