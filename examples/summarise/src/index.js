const MODEL = "@hf/nexusflow/starling-lm-7b-beta";
const PIECE = 4000; // characters, about a thousand tokens: with the instruction and the answer well within the model's limits

// A text in pieces that end where a paragraph or a sentence does, if one ends late enough.
function* pieces(text) {
  while (text.length > PIECE) {
    const end = Math.max(text.lastIndexOf("\n\n", PIECE), text.lastIndexOf(". ", PIECE) + 1);
    const cut = end > PIECE / 2 ? end : PIECE;
    yield text.slice(0, cut).trim();
    text = text.slice(cut);
  }
  yield text.trim();
}

async function summarise(env, text) {
  const instruction = `Summarise the text in ${env.SENTENCES} sentences.`;
  const messages = [
    { role: "system", content: instruction },
    { role: "user", content: text },
  ];
  const { response } = await env.AI.run(MODEL, { messages, max_tokens: 96, temperature: 0.2, seed: 1 });
  return response.trim();
}

export default {
  async fetch(request, env) {
    const text = await request.text();
    if (!text.trim()) return new Response("Send the text in the body of a POST.\n", { status: 400 });
    try {
      const parts = await Promise.all([...pieces(text)].map((piece) => summarise(env, piece)));
      const summary = parts.length === 1 ? parts[0] : await summarise(env, parts.join("\n\n").slice(0, PIECE));
      return Response.json({ summary, pieces: parts.length });
    } catch (error) {
      return Response.json({ error: error.message }, { status: 502 });
    }
  },
};
