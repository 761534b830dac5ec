import { cloudflareTest } from "@cloudflare/vitest-pool-workers";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [
    cloudflareTest({
      wrangler: { configPath: "../worker/wrangler.jsonc" },
      miniflare: { bindings: { ROOST_URL: process.env.ROOST_URL } },
    }),
  ],
  test: {
    testTimeout: 60000,
    // workerd rejects a promise of its own when a signal aborts a stream.
    onUnhandledError: ({ name }) => name !== "AbortError",
  },
});
