// The table of cases inside the Workers vitest pool: these tests run in workerd themselves.
import { env } from "cloudflare:test";
import { expect, test } from "vitest";
import cases from "../cases.json";

const MODEL = "@hf/nexusflow/starling-lm-7b-beta";

async function streamed(inputs) {
  const stream = await env.AI.run(MODEL, { ...inputs, stream: true });
  const frames = (await new Response(stream).text()).split("\n\n").filter(Boolean);
  expect(frames.pop()).toBe("data: [DONE]");
  return frames.map((frame) => JSON.parse(frame.slice("data: ".length)).response).join("");
}

for (const { case: name, model = MODEL, inputs, error } of cases) {
  test(name, async () => {
    if (error) {
      await expect(env.AI.run(model, inputs)).rejects.toThrow(error);
    } else {
      const { response } = await env.AI.run(model, inputs);
      expect(response).not.toBe("");
      expect(await streamed(inputs)).toBe(response);
    }
  });
}

test("models", async () => {
  expect((await env.AI.models({ search: "starling" })).map(({ name }) => name)).toEqual([MODEL]);
});

test("a reader that cancels", async () => {
  const endless = { prompt: "Go on.", max_tokens: 3000, temperature: 5, seed: 1, stream: true };
  const reader = (await env.AI.run(MODEL, endless)).getReader();
  expect(new TextDecoder().decode((await reader.read()).value)).toContain("data: ");
  await reader.cancel();
});
