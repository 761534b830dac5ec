// Reads a stream of server-sent events: an object per frame. Ends at [DONE], or with OpenAI's last event of a response;
// throws where the stream breaks off before.

const LAST = new Set(["response.completed", "response.incomplete"]);

export async function* frames(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("The stream broke off before its end.");
    const pieces = (text + value).split("\n\n");
    text = pieces.pop();
    for (const piece of pieces) {
      const data = piece.split("\n").find((line) => line.startsWith("data:"))?.replace(/^data: ?/, "");
      if (data === undefined) continue;
      if (data === "[DONE]") return;
      const frame = JSON.parse(data);
      yield frame;
      if (LAST.has(frame.type)) return;
    }
  }
}
