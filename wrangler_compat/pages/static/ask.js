// One request to the REST door. Aborting the signal closes the connection, at which roost stops computing.
import { ofFrame, ofWhole } from "./answers.js";
import { frames } from "./sse.js";

export class Refusal extends Error {}

// Calls hear.text(piece) for every piece, hear.value(json) for what isn't text, and hear.usage(usage).
export async function ask(address, inputs, signal, hear) {
  const answer = await fetch(address, { method: "POST", body: JSON.stringify(inputs), headers: { "content-type": "application/json" }, signal });
  const kind = answer.headers.get("content-type") ?? "";
  if (!answer.ok) throw new Refusal(await refusal(answer));
  if (kind.startsWith("text/event-stream")) return streamed(answer.body, hear);
  if (!kind.startsWith("application/json")) return hear.value(`${kind}, ${(await answer.arrayBuffer()).byteLength} bytes`);
  tell(ofWhole((await answer.json()).result), hear);
}

async function streamed(body, hear) {
  for await (const frame of frames(body)) {
    if (frame.errors) throw new Refusal(worded(frame.errors));
    tell(ofFrame(frame), hear);
  }
}

function tell({ text, values, usage }, hear) {
  if (text) hear.text(text);
  if (values && (!Array.isArray(values) || values.length)) hear.value(values);
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
