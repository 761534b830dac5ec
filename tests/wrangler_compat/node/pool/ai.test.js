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

// The engine behind this test file, as `roost ps` sees it.
async function engine() {
  const [row] = (await (await fetch(`${env.ROOST_URL}/cdn-cgi/local/ps`)).json()).loaded;
  return row;
}

async function idle() {
  let row = await engine();
  while (row.running || row.waiting) row = await engine();
  return row;
}

const cancelling = {
  "a reader that cancels": (reader) => reader.cancel(),
  "a signal that aborts": async (reader, controller) => {
    controller.abort();
    await expect(reader.read()).rejects.toThrow("aborted");
  },
};

for (const [name, cancel] of Object.entries(cancelling)) {
  test(`${name}, having read the first chunk while the engine still generated`, async () => {
    const endless = { prompt: "Go on.", max_tokens: 3000, temperature: 5, seed: 1, stream: true };
    const before = (await idle()).generated_tokens;
    const controller = new AbortController();
    const reader = (await env.AI.run(MODEL, endless, { signal: controller.signal })).getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toContain("data: ");
    expect((await engine()).running).toBe(1);
    await cancel(reader, controller);
    expect((await idle()).generated_tokens - before).toBeLessThan(1000);
  });
}

test("a call that aborts", async () => {
  const before = (await idle()).generated_tokens;
  const endless = { prompt: "Go on.", max_tokens: 3000, temperature: 5, seed: 1 };
  await expect(env.AI.run(MODEL, endless, { signal: AbortSignal.timeout(300) })).rejects.toThrow();
  expect((await idle()).generated_tokens - before).toBeLessThan(1000);
});

test("a call over RPC", async () => {
  await expect((async () => await env.AI.aiSearch())()).rejects.toThrow("5902: this call goes over JavaScript RPC");
});
