"""The wire door: what ``env.AI`` of a workerd isolate speaks to ``workers-binding.ai``. Bare results, no envelope.

Source: workerd's ``src/cloudflare/internal/ai-api.ts``. The model's name is in a header alone; the content type of a
result must be ``application/json`` to the letter, or the binding hands out a stream in place of an object.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from catalog import InvalidInput
from worker.bindings import AI
from worker.bindings.ai import describe
from worker.errors import AiError
from worker.requests import read_json, until_client_leaves
from worker.search import read_query
from wrangler_compat.rest import event_stream, success

_MODEL_HEADER = "cf-consn-model-id"


def wire_door() -> list[Route]:
    """The door's routes, for a host whose ``app.state.ai`` is the AI."""
    return [
        Route("/run", _run, methods=["POST"]),
        Route("/ai-api/models/search", _search, methods=["GET"]),
    ]


async def _run(request: Request) -> Response:
    ai: AI = request.app.state.ai
    try:
        body = await read_json(request)
        model = _utf8(request.headers.get(_MODEL_HEADER, ""))
        answer = await until_client_leaves(request, ai.generate(model, body.get("inputs"), body.get("options")))
        if answer.streaming:
            return event_stream(answer)
        result = await until_client_leaves(request, answer.result())
    except Exception as fault:
        return failure(AiError.of(fault))
    return JSONResponse(result, headers=answer.headers)


async def _search(request: Request) -> Response:
    ai: AI = request.app.state.ai
    try:
        page = ai.catalog.search(read_query(request.query_params))
    except InvalidInput as fault:
        return failure(AiError.of(fault))
    return JSONResponse(success([describe(card) for card in page.cards]))


def _utf8(header: str) -> str:
    """A header's text: the server reads latin-1, clients write UTF-8."""
    return header.encode("latin-1").decode("utf-8", "replace")


def failure(error: AiError) -> JSONResponse:
    """The body from which the binding makes its exception: the code, a colon, the description."""
    return JSONResponse(error.to_dict(), status_code=error.status, headers={"cf-ai-req-id": error.request_id})
