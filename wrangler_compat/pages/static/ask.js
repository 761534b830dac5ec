// One request to the REST door. Aborting the signal closes the connection, at which roost stops computing.
import { frames } from "./sse.js";

export class Refusal extends Error {}

// Calls hear.text(piece) for every piece, hear.value(json) for what isn't text, hear.usage(usage) and hear.by(headers).
export async function ask(address, inputs, signal, hear) {
  const answer = await fetch(address, { method: "POST", body: JSON.stringify(inputs), headers: { "content-type": "application/json" }, signal });
  const kind = answer.headers.get("content-type") ?? "";
  if (!answer.ok) throw new Refusal(await refusal(answer));
  hear.by(answer.headers);
  if (kind.startsWith("text/event-stream")) return streamed(answer.body, hear);
  if (!kind.startsWith("application/json")) return hear.value(`${kind}, ${(await answer.arrayBuffer()).byteLength} bytes`);
  whole((await answer.json()).result, hear);
}

async function streamed(body, hear) {
  for await (const frame of frames(body)) {
    if (frame.errors) throw new Refusal(worded(frame.errors));
    if (frame.response) hear.text(frame.response);
    if (frame.tool_calls?.length) hear.value(frame.tool_calls);
    if (frame.usage) hear.usage(frame.usage);
  }
}

function whole(result, hear) {
  const { response, usage, tool_calls: calls, ...rest } = result ?? {};
  if (typeof response === "string") hear.text(response);
  else if (response !== undefined) hear.value(response);
  else hear.value(usage ? rest : result);
  if (calls?.length) hear.value(calls);
  if (usage) hear.usage(usage);
}

async function refusal(answer) {
  try {
    return worded((await answer.json()).errors);
  } catch {
    return `HTTP ${answer.status}`;
  }
}

const worded = (errors) => errors.map(({ code, message }) => `${code}: ${message}`).join("\n");
