"""The REST door: ``/client/v4/accounts/{id}/ai/…`` in Cloudflare's envelope. Parses, calls, renders.

Shapes: developers.cloudflare.com/api (Workers AI), checked against the official SDKs' sources.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from catalog import InvalidInput, Query
from worker.answer import Answer
from worker.bindings import AI
from worker.bindings.ai import describe
from worker.errors import AiError
from worker.requests import read_json, until_client_leaves
from worker.streams import CONTENT_TYPE, sse_frames


class SearchParams(BaseModel):
    """The query of models/search. SDKs may send ``source=2.0``; unknown names are ignored."""

    model_config = ConfigDict(extra="ignore")

    search: str | None = None
    task: str | None = None
    author: str | None = None
    source: int | None = None
    hide_experimental: bool = False
    page: int = Field(1, ge=1)
    per_page: int = Field(50, ge=1, le=1000)

    @classmethod
    def of(cls, request: Request) -> Query:
        """The request's query as the catalogue's; raises :class:`InvalidInput` with the name and the reason."""
        given = {name: value for name, value in request.query_params.items() if value}
        try:
            return Query(**cls.model_validate(given).model_dump())
        except ValidationError as error:
            first = error.errors()[0]
            path = "/" + "/".join(str(part) for part in first["loc"])
            raise InvalidInput(path, f"'{path}' {first['msg']}") from error


def rest_door() -> Mount:
    """The door's routes, to be mounted in a host whose ``app.state.ai`` is the AI."""
    return Mount(
        "/client/v4/accounts/{account}/ai",
        routes=[
            Route("/run/{model:path}", _run, methods=["POST"]),
            Route("/models/search", _search, methods=["GET"]),
            Route("/models/schema", _schema, methods=["GET"]),
        ],
    )


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
        page = ai.catalog.search(SearchParams.of(request))
    except InvalidInput as fault:
        return failure(AiError.of(fault))
    info = {"page": page.page, "per_page": page.per_page, "count": len(page.cards), "total_count": page.total}
    return JSONResponse({**success([describe(card) for card in page.cards]), "result_info": info})


async def _schema(request: Request) -> Response:
    ai: AI = request.app.state.ai
    try:
        card = ai.catalog[request.query_params.get("model", "")]
    except LookupError as fault:
        return failure(AiError.of(fault))
    return JSONResponse(success({"input": card.input_schema or {}, "output": card.output_schema or {}}))


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
