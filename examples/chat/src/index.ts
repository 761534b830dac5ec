interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

interface Env {
  AI: { run(model: string, inputs: object, options?: object): Promise<ReadableStream> };
}

const MODEL = "@hf/nexusflow/starling-lm-7b-beta";
const SYSTEM: Message = { role: "system", content: "You are a friendly assistant. Answer briefly." };
const KEPT = 10; // messages; the model's context is 4096 tokens

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    if (new URL(request.url).pathname !== "/chat" || request.method !== "POST") {
      return new Response("Not found", { status: 404 });
    }
    const { messages } = (await request.json()) as { messages: Message[] };
    try {
      const stream = await env.AI.run(MODEL, {
        messages: [SYSTEM, ...messages.slice(-KEPT)],
        max_tokens: 256,
        stream: true,
      });
      return new Response(stream, { headers: { "content-type": "text/event-stream" } });
    } catch (error) {
      return Response.json({ error: (error as Error).message }, { status: 502 });
    }
  },
};
