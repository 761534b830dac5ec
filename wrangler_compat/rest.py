"""The REST door: ``/client/v4/accounts/{id}/ai/…`` in Cloudflare's envelope. Parses, calls, renders.

Shapes: developers.cloudflare.com/api (Workers AI), checked against the official SDKs' sources.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from catalog import InvalidInput
from worker.answer import Answer
from worker.bindings import AI
from worker.bindings.ai import describe
from worker.errors import AiError, new_request_id
from worker.requests import read_json, until_client_leaves
from worker.search import read_query
from worker.streams import CONTENT_TYPE, sse_frames

_PREFIX = "/client/v4/accounts/{account}/ai"


def rest_door() -> list[Route]:
    """The door's routes, for a host whose ``app.state.ai`` is the AI."""
    return [
        Route(f"{_PREFIX}/run/{{model:path}}", _run, methods=["POST"]),
        Route(f"{_PREFIX}/models/search", _search, methods=["GET"]),
        Route(f"{_PREFIX}/models/schema", _schema, methods=["GET"]),
    ]


async def _run(request: Request) -> Response:
    ai: AI = request.app.state.ai
    try:
        inputs = await read_json(request)
        answer = await until_client_leaves(request, ai.generate(request.path_params["model"], inputs))
        if answer.streaming:
            return event_stream(answer)
        result = await until_client_leaves(request, answer.result())
    except Exception as fault:
        return failure(AiError.of(fault))
    return JSONResponse(success(result), headers=answer.headers)


async def _search(request: Request) -> Response:
    ai: AI = request.app.state.ai
    try:
        page = ai.catalog.search(read_query(request.query_params))
    except InvalidInput as fault:
        return failure(AiError.of(fault))
    info = {"page": page.page, "per_page": page.per_page, "count": len(page.cards), "total_count": page.total}
    return _listing({**success([describe(card) for card in page.cards]), "result_info": info})


async def _schema(request: Request) -> Response:
    ai: AI = request.app.state.ai
    try:
        card = ai.catalog[request.query_params.get("model", "")]
    except LookupError as fault:
        return failure(AiError.of(fault))
    return _listing(success({"input": card.input_schema or {}, "output": card.output_schema or {}}))


def _listing(body: dict[str, Any]) -> JSONResponse:
    return JSONResponse(body, headers={"cf-ai-req-id": new_request_id()})


def event_stream(answer: Answer) -> StreamingResponse:
    """A streaming answer as an HTTP response. The content type is exact: clients compare it with ``===``."""
    headers = {**answer.headers, "content-type": CONTENT_TYPE, "cache-control": "no-cache"}
    return StreamingResponse(sse_frames(aiter(answer)), headers=headers)


def success(result: Any) -> dict[str, Any]:
    """The envelope of a success."""
    return {"result": result, "success": True, "errors": [], "messages": []}


def failure(error: AiError) -> JSONResponse:
    """The envelope of a refusal by the AI service; its ``result`` is an empty object."""
    body = {
        "errors": [{"message": error.message, "code": error.code}],
        "success": False,
        "result": {},
        "messages": [],
    }
    return JSONResponse(body, status_code=error.status, headers={"cf-ai-req-id": error.request_id})
