import { Hono } from "hono";
import { stream } from "hono/streaming";

interface AI {
  run(model: string, inputs: object, options?: object): Promise<any>;
  models(params?: object): Promise<{ name: string }[]>;
}

const MODEL = "@hf/nexusflow/starling-lm-7b-beta";
const app = new Hono<{ Bindings: { AI: AI } }>();

app.get("/models", async (c) => c.json((await c.env.AI.models()).map(({ name }) => name)));

app.get("/ask", async (c) => {
  const { response, usage } = await c.env.AI.run(MODEL, { prompt: c.req.query("q") ?? "", max_tokens: 64 });
  return c.json({ answer: response, tokens: usage.total_tokens });
});

app.get("/stream", async (c) => {
  const answer = await c.env.AI.run(MODEL, { prompt: c.req.query("q") ?? "", max_tokens: 64, stream: true });
  c.header("content-type", "text/event-stream");
  return stream(c, (out) => out.pipe(answer));
});

app.onError((error, c) => c.json({ error: error.message }, 400));

export default app;
