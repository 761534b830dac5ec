"""The wire door: what ``env.AI`` of a workerd isolate speaks to ``workers-binding.ai``. Bare results, no envelope.

Source: workerd's ``src/cloudflare/internal/ai-api.ts``. The model's name is in a header alone; the content type of a
result must be ``application/json`` to the letter, or the binding hands out a stream in place of an object.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from worker.bindings import AI
from worker.doors import Asked, answer_request
from worker.errors import AiError
from worker.requests import read_json

_MODEL_HEADER = "cf-consn-model-id"


def wire_door() -> list[Route]:
    """The door's routes, for a host whose ``app.state.ai`` is the AI."""
    return [
        Route("/run", _run, methods=["POST"]),
        Route("/ai-api/models/search", _search, methods=["GET"]),
    ]


async def _run(request: Request) -> Response:
    return await answer_request(request, _asked, _bare, _failure)


async def _asked(request: Request) -> Asked:
    body = await read_json(request)
    # The server reads headers as latin-1, clients write UTF-8.
    model = request.headers.get(_MODEL_HEADER, "").encode("latin-1").decode("utf-8", "replace")
    return model, body.get("inputs"), body.get("options")


async def _search(request: Request) -> Response:
    ai: AI = request.app.state.ai
    try:
        found = await ai.models(request.query_params)
    except AiError as error:
        return _failure(error)
    return JSONResponse({"success": True, "result": found, "errors": [], "messages": []})


def _bare(result: dict[str, Any]) -> dict[str, Any]:
    return result


def _failure(error: AiError) -> JSONResponse:
    """The body from which the binding makes its exception: the code, a colon, the description."""
    return JSONResponse(error.to_dict(), status_code=error.status, headers={"cf-ai-req-id": error.request_id})
