// One npm client of Workers AI against a running roost: node clients.mjs CLIENT URL MODEL PROMPT
// Prints {plain, streamed, calls, refusal}: the whole answer, the same streamed, a forced call whole and streamed (for
// clients that have tools), and the exception for a model that isn't there.

const [client, url, model, prompt] = process.argv.slice(2);
const account = "0123456789abcdef0123456789abcdef";
const api = `${url}/client/v4/accounts/${account}/ai`;
const nobody = "@cf/no/such";
const messages = [{ role: "user", content: prompt }];
const few = { max_tokens: 8, temperature: 0 };
const parameters = { type: "object", properties: { city: { enum: ["Paris", "Rome"] } }, required: ["city"] };
const forced = { tools: [{ type: "function", function: { name: "weather", parameters } }], tool_choice: "required" };

async function joined(pieces, text) {
  let all = "";
  for await (const piece of pieces) all += text(piece) ?? "";
  return all;
}

async function throughAi(provider) {
  const { generateText, jsonSchema, streamText, tool } = await import("ai");
  const options = (name) => ({ model: provider(name), prompt, maxOutputTokens: 8, temperature: 0, maxRetries: 0 });
  const tools = { weather: tool({ description: "The weather", inputSchema: jsonSchema(parameters) }) };
  const calling = { ...options(model), maxOutputTokens: 40, tools, toolChoice: "required" };
  const [whole] = await (await generateText(calling)).toolCalls;
  const [streamed] = await streamText(calling).toolCalls;
  return {
    plain: (await generateText(options(model))).text,
    streamed: await joined(streamText(options(model)).textStream, (piece) => piece),
    calls: [whole.input, streamed.input],
    refuse: () => generateText(options(nobody)),
  };
}

const clients = {
  async cloudflare() {
    const { default: Cloudflare } = await import("cloudflare");
    const sdk = new Cloudflare({ baseURL: `${url}/client/v4`, apiToken: "any", maxRetries: 0 });
    const run = (name, more) => sdk.ai.run(name, { account_id: account, messages, ...few, ...more });
    const { tool_calls: [call] } = await run(model, { ...forced, max_tokens: 40 });
    const stream = async () => {
      const answer = await run(model, { stream: true }).asResponse();
      const frames = (await answer.text()).split("\n\n").filter((frame) => frame && frame !== "data: [DONE]");
      return frames.map((frame) => JSON.parse(frame.slice("data: ".length)).response).join("");
    };
    return { plain: (await run(model)).response, streamed: await stream(), calls: [call.arguments], refuse: () => run(nobody) };
  },

  async openai() {
    const { default: OpenAI } = await import("openai");
    const sdk = new OpenAI({ baseURL: `${api}/v1`, apiKey: "any", maxRetries: 0 });
    const run = (name, more) => sdk.chat.completions.create({ model: name, messages, ...few, ...more });
    const called = (answer) => JSON.parse(answer.choices[0].message.tool_calls[0].function.arguments);
    const calling = { model, messages, ...forced, temperature: 0, max_tokens: 40 };
    const calls = [await run(model, calling), await sdk.chat.completions.stream(calling).finalChatCompletion()];
    return {
      calls: calls.map(called),
      plain: (await run(model)).choices[0].message.content,
      streamed: await joined(await run(model, { stream: true }), (chunk) => chunk.choices[0].delta.content),
      refuse: () => run(nobody),
    };
  },

  async "workers-ai-provider"() {
    const { createWorkersAI } = await import("workers-ai-provider");
    const rewriting = (address, init) =>
      fetch(String(address).replace("https://api.cloudflare.com/client/v4", `${url}/client/v4`), init);
    return throughAi(createWorkersAI({ accountId: account, apiKey: "any", fetch: rewriting }));
  },

  async "@ai-sdk/openai-compatible"() {
    const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
    return throughAi(createOpenAICompatible({ name: "roost", baseURL: `${api}/v1`, apiKey: "any", includeUsage: true }));
  },

  // It can't send max_tokens: the answers are as long as the card's default lets them be.
  async "@langchain/cloudflare"() {
    const { ChatCloudflareWorkersAI } = await import("@langchain/cloudflare");
    const options = { cloudflareAccountId: account, cloudflareApiToken: "any", baseUrl: `${api}/run`, maxRetries: 0 };
    const chat = (name, streaming) => new ChatCloudflareWorkersAI({ ...options, model: name, streaming });
    const ask = "Say yes.";
    const plain = await chat(model, false).invoke(ask);
    const streamed = await joined(await chat(model, true).stream(ask), (piece) => piece.content);
    return { plain: plain.content, streamed, refuse: () => chat(nobody, false).invoke(ask) };
  },
};

const { plain, streamed, calls, refuse } = await clients[client]();
const refusal = await refuse().then(
  () => null,
  (error) => ({
    name: error.constructor.name,
    told: [error.message, error.responseBody, JSON.stringify(error.errors ?? error.error ?? error.data)].join(" "),
  }),
);
console.log(JSON.stringify({ plain, streamed, calls, refusal }));
