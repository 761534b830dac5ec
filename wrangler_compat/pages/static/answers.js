// What a frame or a whole answer says, whichever shape the model's card promises: the platform's own, or one of OpenAI's.
// Each is read into {text, values, usage}; values are what isn't text, such as calls of functions.

export function ofFrame(frame) {
  if (frame.choices) {
    const { delta, text } = frame.choices[0] ?? {};
    return { text: delta?.content ?? text ?? "", values: delta?.tool_calls, usage: frame.usage };
  }
  if (frame.type?.startsWith("response.")) return ofEvent(frame);
  return { text: frame.response ?? "", values: frame.tool_calls, usage: frame.usage };
}

function ofEvent(event) {
  if (event.type === "response.output_text.delta") return { text: event.delta };
  if (event.type === "response.function_call_arguments.done") return { text: "", values: [{ name: event.name, arguments: event.arguments }] };
  return { text: "", usage: ofOpenAI(event.response?.usage) };
}

export function ofWhole(result) {
  if (result?.choices) {
    const { message, text } = result.choices[0];
    return { text: message?.content ?? text ?? "", values: message?.tool_calls, usage: result.usage };
  }
  if (result?.object === "response") {
    const parts = result.output.flatMap((item) => item.content ?? []);
    return { text: parts.map((part) => part.text).join(""), values: result.output.filter((item) => item.type === "function_call"), usage: ofOpenAI(result.usage) };
  }
  const { response, usage, tool_calls: calls } = result ?? {};
  if (typeof response === "string") return { text: response, values: calls, usage };
  return { text: "", values: response === undefined ? result : response, usage };
}

const ofOpenAI = (usage) => usage && { prompt_tokens: usage.input_tokens, completion_tokens: usage.output_tokens };
