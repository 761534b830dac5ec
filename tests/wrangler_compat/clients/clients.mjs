// One npm client of Workers AI against a running roost: node clients.mjs CLIENT URL MODEL PROMPT
// Prints {plain, streamed, refusal}: the whole answer, the same streamed, and the exception for a model that isn't there.

const [client, url, model, prompt] = process.argv.slice(2);
const account = "0123456789abcdef0123456789abcdef";
const api = `${url}/client/v4/accounts/${account}/ai`;
const nobody = "@cf/no/such";
const messages = [{ role: "user", content: prompt }];
const few = { max_tokens: 8, temperature: 0 };

async function joined(pieces, text) {
  let all = "";
  for await (const piece of pieces) all += text(piece) ?? "";
  return all;
}

const clients = {
  async cloudflare() {
    const { default: Cloudflare } = await import("cloudflare");
    const sdk = new Cloudflare({ baseURL: `${url}/client/v4`, apiToken: "any", maxRetries: 0 });
    const run = (name, more) => sdk.ai.run(name, { account_id: account, messages, ...few, ...more });
    const stream = async () => {
      const answer = await run(model, { stream: true }).asResponse();
      const frames = (await answer.text()).split("\n\n").filter((frame) => frame && frame !== "data: [DONE]");
      return frames.map((frame) => JSON.parse(frame.slice("data: ".length)).response).join("");
    };
    return { plain: (await run(model)).response, streamed: await stream(), refuse: () => run(nobody) };
  },

  async openai() {
    const { default: OpenAI } = await import("openai");
    const sdk = new OpenAI({ baseURL: `${api}/v1`, apiKey: "any", maxRetries: 0 });
    const run = (name, more) => sdk.chat.completions.create({ model: name, messages, ...few, ...more });
    return {
      plain: (await run(model)).choices[0].message.content,
      streamed: await joined(await run(model, { stream: true }), (chunk) => chunk.choices[0].delta.content),
      refuse: () => run(nobody),
    };
  },

  async "workers-ai-provider"() {
    const { createWorkersAI } = await import("workers-ai-provider");
    const { generateText, streamText } = await import("ai");
    const rewriting = (address, init) =>
      fetch(String(address).replace("https://api.cloudflare.com/client/v4", `${url}/client/v4`), init);
    const provider = createWorkersAI({ accountId: account, apiKey: "any", fetch: rewriting });
    const options = (name) => ({ model: provider(name), prompt, maxOutputTokens: 8, temperature: 0, maxRetries: 0 });
    return {
      plain: (await generateText(options(model))).text,
      streamed: await joined(streamText(options(model)).textStream, (piece) => piece),
      refuse: () => generateText(options(nobody)),
    };
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

const { plain, streamed, refuse } = await clients[client]();
const refusal = await refuse().then(
  () => null,
  (error) => ({
    name: error.constructor.name,
    told: [error.message, error.responseBody, JSON.stringify(error.errors ?? error.error ?? error.data)].join(" "),
  }),
);
console.log(JSON.stringify({ plain, streamed, refusal }));
