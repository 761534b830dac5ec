"""An API on FastAPI that asks the model, and keeps its answers in KV."""

import asgi
from fastapi import FastAPI, HTTPException, Request
from pyodide.ffi import JsException
from workers import WorkerEntrypoint

MODEL = "@hf/nexusflow/starling-lm-7b-beta"
DAY = 86_400  # seconds

app = FastAPI()


@app.get("/ask")
async def ask(request: Request, q: str) -> dict[str, str | bool]:
    env = request.scope["env"]
    if (kept := await env.ANSWERS.get(q)) is not None:
        return {"answer": kept, "kept": True}
    try:
        answer = await env.AI.run(MODEL, {"prompt": q, "max_tokens": 64})
    except JsException as error:
        raise HTTPException(400, error.message) from error
    await env.ANSWERS.put(q, answer.response, expirationTtl=DAY)
    return {"answer": answer.response, "kept": False}


class Default(WorkerEntrypoint):
    """The Worker."""

    async def fetch(self, request):  # type: ignore[no-untyped-def]
        """Let FastAPI answer."""
        return await asgi.fetch(app, request.js_object, self.env, self.ctx)
