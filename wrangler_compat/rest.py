"""The REST door: ``/client/v4/accounts/{id}/ai/…`` in Cloudflare's envelope. Parses, calls, renders.

Shapes: developers.cloudflare.com/api (Workers AI), checked against the official SDKs' sources.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from worker.bindings import AI
from worker.bindings.ai import describe
from worker.doors import Asked, answer_request
from worker.errors import AiError, new_request_id
from worker.requests import read_json

_PREFIX = "/client/v4/accounts/{account}/ai"


def rest_door() -> list[Route]:
    """The door's routes, for a host whose ``app.state.ai`` is the AI."""
    return [
        Route(f"{_PREFIX}/run/{{model:path}}", _run, methods=["POST"]),
        Route(f"{_PREFIX}/models/search", _search, methods=["GET"]),
        Route(f"{_PREFIX}/models/schema", _schema, methods=["GET"]),
        Route(f"{_PREFIX}/tasks/search", _tasks, methods=["GET"]),
        Route(f"{_PREFIX}/authors/search", _authors, methods=["GET"]),
    ]


async def _run(request: Request) -> Response:
    return await answer_request(request, _asked, success_envelope, failure_response)


async def _asked(request: Request) -> Asked:
    return request.path_params["model"], await read_json(request), None


async def _search(request: Request) -> Response:
    ai: AI = request.app.state.ai
    try:
        page = ai.search(request.query_params)
    except AiError as error:
        return failure_response(error)
    info = {"page": page.page, "per_page": page.per_page, "count": len(page.cards), "total_count": page.total}
    return listing({**success_envelope([describe(card) for card in page.cards]), "result_info": info})


async def _schema(request: Request) -> Response:
    ai: AI = request.app.state.ai
    try:
        card = ai.catalog[request.query_params.get("model", "")]
    except LookupError as fault:
        return failure_response(AiError.of(fault))
    return listing(success_envelope({"input": card.input_schema or {}, "output": card.output_schema or {}}))


async def _tasks(request: Request) -> Response:
    ai: AI = request.app.state.ai
    tasks = {card.task.name: card.task.model_dump() for card in ai.catalog}
    return listing(success_envelope([tasks[name] for name in sorted(tasks)]))


async def _authors(request: Request) -> Response:
    ai: AI = request.app.state.ai
    return listing(success_envelope([{"name": author} for author in sorted({card.author for card in ai.catalog})]))


def listing(body: dict[str, Any]) -> JSONResponse:
    """A reply that no model gave; it bears a request id like every other."""
    return JSONResponse(body, headers={"cf-ai-req-id": new_request_id()})


def success_envelope(result: Any) -> dict[str, Any]:
    """The envelope of a result."""
    return {"result": result, "success": True, "errors": [], "messages": []}


def failure_response(error: AiError) -> JSONResponse:
    """A refusal by the AI service."""
    return JSONResponse(failure_envelope(error), status_code=error.status, headers=error.headers)


def failure_envelope(error: AiError) -> dict[str, Any]:
    """The envelope of such a refusal; its ``result`` is an empty object."""
    told = {"message": error.message, "code": error.code}
    return {"errors": [told], "success": False, "result": {}, "messages": []}
