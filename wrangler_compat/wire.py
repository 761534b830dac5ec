"""The wire door: what ``env.AI`` of a workerd isolate speaks to ``workers-binding.ai``. Bare results, no envelope.

Source: workerd's ``src/cloudflare/internal/ai-api.ts`` and its neighbours. The model's name is in a header alone; the
content type of a result must be ``application/json`` to the letter, or the binding hands out a stream in place of an
object.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from runtime.errors import BadParameter
from worker import to_markdown
from worker.bindings import AI
from worker.doors import Asked, answer_request
from worker.errors import AiError, NotEmulated, new_request_id
from worker.raw_body import with_raw_body
from worker.requests import parse_json, read_body, read_json, until_client_leaves

_MODEL_HEADER = "cf-consn-model-id"
_RAW = "userInputs"  # the query parameter that tells a raw body from JSON
_NOT_OPTIONS = {_RAW, "version"}


def wire_door() -> list[BaseRoute]:
    """The door's routes, for a host whose ``app.state.ai`` is the AI."""
    return [
        Route("/run", run, methods=["POST"]),
        WebSocketRoute("/run", _RefusedWebSocket()),
        Route("/ai-api/models/search", _search, methods=["GET"]),
        Route("/to-everything/markdown/transformer", _transform, methods=["POST"]),
        Route("/to-everything/markdown/supported", _supported, methods=["GET"]),
        Route("/autorag/rags", _autorag, methods=["GET"]),
        Route("/autorag/rags/{rag}/{verb}", _autorag, methods=["POST"]),
    ]


async def run(request: Request) -> Response:
    """``env.AI.run``: JSON, or a raw body with the other inputs in the query."""
    return await answer_request(request, _asked_raw if _RAW in request.query_params else _asked, _bare, refusal)


def reply(body: Any) -> JSONResponse:
    """A reply that no model gave; it bears a request id like every other."""
    return JSONResponse(body, headers={"cf-ai-req-id": new_request_id()})


def refusal(error: AiError) -> JSONResponse:
    """The body from which the binding makes its exception: the code, a colon, the description."""
    return JSONResponse(error.to_dict(), status_code=error.status, headers=error.headers)


async def _asked(request: Request) -> Asked:
    body = await read_json(request)
    return _model(request), body.get("inputs"), body.get("options")


async def _asked_raw(request: Request) -> Asked:
    ai: AI = request.app.state.ai
    content = await read_body(request)
    inputs: dict[str, Any] = parse_json(request.query_params[_RAW], dict)
    options = {name: value for name, value in request.query_params.items() if name not in _NOT_OPTIONS}
    card = ai.catalog[_model(request)]
    return card.name, with_raw_body(card, inputs, content, request.headers.get("content-type", "")), options


def _model(request: HTTPConnection) -> str:
    """The model's name, without the prefix (``dev:@cf/…``) that the option of that name puts before it."""
    # The server reads headers as latin-1, clients write UTF-8.
    named = request.headers.get(_MODEL_HEADER, "").encode("latin-1").decode("utf-8", "replace")
    _, _, prefixed = named.partition(":")
    return prefixed if prefixed.startswith("@") else named


def _bare(result: dict[str, Any]) -> dict[str, Any]:
    return result


class _RefusedWebSocket:
    """``{websocket: true}``: no model here speaks it, which the handshake's reply says; the binding hands it out."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        ai: AI = connection.app.state.ai
        try:
            card = ai.catalog[_model(connection)]
        except Exception as fault:
            error = AiError.of(fault)
        else:
            error = AiError.of(BadParameter("/", f"The model {card.name} does not support WebSocket connections"))
        await refusal(error)(scope, receive, send)


async def _search(request: Request) -> Response:
    ai: AI = request.app.state.ai
    try:
        found = await ai.models(request.query_params)
    except AiError as error:
        return refusal(error)
    return reply({"success": True, "result": found, "errors": [], "messages": []})


async def _transform(request: Request) -> Response:
    try:
        files, wanted = _to_convert(await read_json(request))
        work = asyncio.to_thread(lambda: [to_markdown.convert(file, wanted) for file in files])
        return reply({"result": await until_client_leaves(request, work)})
    except Exception as fault:
        return refusal(AiError.of(fault))


def _to_convert(body: dict[str, Any]) -> tuple[list[Any], Any]:
    """The files, and the caller's ``conversionOptions``."""
    files, options = body.get("files"), body.get("options")
    if not isinstance(files, list):
        raise BadParameter("/", "required properties at '/' are 'files'")
    return files, options.get("conversionOptions") if isinstance(options, dict) else None


async def _supported(_request: Request) -> Response:
    return reply({"result": to_markdown.supported()})


async def _autorag(_request: Request) -> Response:
    return refusal(AiError.of(NotEmulated("roost has no AutoRAG: env.AI.autorag() needs Cloudflare's own")))
