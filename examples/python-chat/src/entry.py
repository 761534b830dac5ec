"""The chat's Worker in Python: the page is the other one's, the answers stream."""

from http import HTTPMethod
from urllib.parse import urlsplit

from pyodide.ffi import JsException
from workers import Request, Response, WorkerEntrypoint

MODEL = "@hf/nexusflow/starling-lm-7b-beta"
SYSTEM = {"role": "system", "content": "You are a friendly assistant. Answer briefly."}
KEPT = 10  # messages; the model's context is 4096 tokens


class Default(WorkerEntrypoint):
    """Answers POST /chat."""

    async def fetch(self, request: Request) -> Response:
        """A stream of server-sent events, or the error as JSON."""
        if urlsplit(request.url).path != "/chat" or request.method != HTTPMethod.POST:
            return Response("Not found", status=404)
        messages = (await request.json())["messages"]
        try:
            stream = await self.env.AI.run(
                MODEL, {"messages": [SYSTEM, *messages[-KEPT:]], "max_tokens": 256, "stream": True}
            )
        except JsException as error:
            return Response.from_json({"error": error.message}, status=502)
        return Response(stream, headers={"content-type": "text/event-stream"})
