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
from worker.errors import AiError, BadBody
from worker.requests import read_json, until_client_leaves
from wrangler_compat.rest import SearchParams, event_stream, success

_MODEL_HEADER = "cf-consn-model-id"


def wire_door() -> list[Route]:
    """The door's routes, to be mounted in a host whose ``app.state.ai`` is the AI."""
    return [
        Route("/run", _run, methods=["POST"]),
        Route("/ai-api/models/search", _search, methods=["GET"]),
    ]


async def _run(request: Request) -> Response:
    ai: AI = request.app.state.ai
    try:
        body = await read_json(request)
        inputs, options = body.get("inputs"), body.get("options")
        if not isinstance(inputs, dict) or not isinstance(options, dict | None):
            raise BadBody("expected {inputs, options}")  # noqa: TRY301
        model = request.headers.get(_MODEL_HEADER, "")
        answer = await until_client_leaves(request, ai.generate(model, inputs, options))
        if answer.streaming:
            return event_stream(answer)
        result = await until_client_leaves(request, answer.result())
    except Exception as fault:
        return failure(AiError.of(fault))
    return JSONResponse(result, headers=answer.headers)


async def _search(request: Request) -> Response:
    ai: AI = request.app.state.ai
    try:
        page = ai.catalog.search(SearchParams.of(request))
    except InvalidInput as fault:
        return failure(AiError.of(fault))
    return JSONResponse(success([describe(card) for card in page.cards]))


def failure(error: AiError) -> JSONResponse:
    """The body from which the binding makes its exception: ``5007: No such model …``."""
    body = {
        "name": error.name,
        "internalCode": error.code,
        "httpCode": error.status,
        "message": error.message,
        "description": error.description,
        "requestId": error.request_id,
        "errors": [{"code": error.code, "message": error.message}],
    }
    return JSONResponse(body, status_code=error.status, headers={"cf-ai-req-id": error.request_id})
