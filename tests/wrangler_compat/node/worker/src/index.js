// A Worker that does with env.AI what the tests ask of it, and says what came of it.
const MODEL = "@hf/nexusflow/starling-lm-7b-beta";

async function outcome(promise) {
  try {
    return { ok: await promise };
  } catch (error) {
    return { name: error.name, message: error.message };
  }
}

async function run(request, { AI }) {
  const { model, inputs, options } = await request.json();
  const result = await outcome(AI.run(model ?? MODEL, inputs, options));
  const seen = { id: AI.lastRequestId, log: AI.aiGatewayLogId, status: AI.lastRequestHttpStatusCode };
  if (result.ok instanceof ReadableStream) {
    return new Response(result.ok, { headers: { "content-type": "text/event-stream", "x-id": seen.id ?? "" } });
  }
  return Response.json({ ...result, ...seen, internal: AI.lastRequestInternalStatusCode });
}

async function first(request, { AI }) {
  const reader = (await AI.run(MODEL, await request.json())).getReader();
  const { value } = await reader.read();
  await reader.cancel();
  return new Response(value);
}

async function abortStream(request, { AI }) {
  const controller = new AbortController();
  const stream = await AI.run(MODEL, await request.json(), { signal: controller.signal });
  const reader = stream.getReader();
  await reader.read();
  controller.abort();
  return Response.json(await outcome(reader.read().then(() => reader.read())));
}

async function abortAnswer(request, { AI }) {
  const signal = AbortSignal.timeout(300);
  return Response.json(await outcome(AI.run(MODEL, await request.json(), { signal })));
}

async function extras(_request, { AI }) {
  const file = (name, type, text) => ({ name, blob: new Blob([text], { type }) });
  const gateway = AI.gateway("mine");
  const inputs = { prompt: "Hi", max_tokens: 2, temperature: 0 };
  const answer = await AI.run(MODEL, inputs, { gateway: { id: "mine", metadata: { a: 1 } } });
  const log = AI.aiGatewayLogId;
  await gateway.patchLog(log, { feedback: 1, score: 5 });
  const steps = [
    { provider: "openai", endpoint: "x", headers: {}, query: {} },
    { provider: "workers-ai", endpoint: MODEL, headers: {}, query: inputs },
  ];
  const universal = await gateway.run(steps);
  const url = await gateway.getUrl("workers-ai");
  const led = await fetch(`${url}/${MODEL}`, { method: "POST", body: JSON.stringify(inputs) });
  const raw = await AI.run(MODEL, inputs, { returnRawResponse: true });
  const fetched = await AI.fetch("https://workers-binding.ai/ai-api/models/search");
  const body = new Blob(["abc"]).stream();
  return Response.json({
    answer,
    log: await gateway.getLog(log),
    noLog: await outcome(gateway.getLog("nothing")),
    led: await led.json(),
    universal: { step: universal.headers.get("cf-aig-step"), body: await universal.json() },
    raw: { type: raw.headers.get("content-type"), id: raw.headers.get("cf-ai-req-id"), body: await raw.json() },
    fetched: { status: fetched.status, id: fetched.headers.get("cf-ai-req-id") },
    markdown: await AI.toMarkdown([
      file("a.html", "text/html", "<h1>Title</h1><script>no()</script><p>some <b>bold</b> text</p>"),
      file("a.csv", "text/csv", "a,b\n1,2\n"),
      file("a.txt", "text/plain", "as it is"),
      file("a.pdf", "application/pdf", "%PDF"),
    ]),
    webSocket: await outcome(webSocket(AI)),
    stream: await outcome(AI.run(MODEL, { audio: { body, contentType: "audio/wav" } })),
    rag: await outcome(AI.autorag("mine").search({ query: "a" })),
  });
}

async function webSocket(AI) {
  const refused = await AI.run(MODEL, {}, { websocket: true });
  return { status: refused.status, upgraded: Boolean(refused.webSocket), body: await refused.json() };
}

async function rpc(_request, { AI }) {
  const called = (call) => outcome((async () => call())());
  return Response.json({
    aiSearch: await called(() => AI.aiSearch().list()),
    websearch: await called(() => AI.websearch({ query: "a" })),
    beta: await called(() => AI.gateway("mine", { beta: true }).getUrl("openai")),
  });
}

const routes = {
  "/run": run,
  "/first": first,
  "/abort-stream": abortStream,
  "/abort-answer": abortAnswer,
  "/extras": extras,
  "/models": async (request, { AI }) => Response.json(await outcome(AI.models(await request.json()))),
  "/rpc": rpc,
  "/vars": (_request, { AI, ...vars }) => Response.json({ ...vars, ai: typeof AI }),
};

export default {
  async fetch(request, env) {
    const route = routes[new URL(request.url).pathname];
    return route ? route(request, env) : new Response("no such route", { status: 404 });
  },
};
