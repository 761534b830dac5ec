"""The OpenAI door: ``…/ai/v1/…`` for OpenAI's SDKs and whatever speaks like them. Parses, calls, renders.

No envelope on success; for errors Cloudflare's, as the platform has it on these routes, with an ``error`` in it.
Shapes: OpenAI's API reference, checked with the official SDKs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runtime.tasks import TASKS
from worker.bindings import AI
from worker.doors import Question, answer_question
from worker.errors import AiError
from worker.forms.chat import ChatForm
from worker.forms.chosen import wants_usage
from worker.forms.completion import CompletionForm
from worker.forms.openai import openai_error
from worker.forms.responses import ResponsesForm
from worker.forms.tools import is_legacy
from worker.requests import read_json
from wrangler_compat import openai_inputs
from wrangler_compat.openai_embeddings import of_embeddings
from wrangler_compat.rest import failure_envelope

_PREFIX = "/client/v4/accounts/{account}/ai/v1"
_CREATED = 1_700_000_000  # a card's own date is text of many forms, and clients want a number
_Read = Callable[[dict[str, Any]], Question]


def openai_door() -> list[Route]:
    """The door's routes, for a host whose ``app.state.ai`` is the AI."""
    return [
        Route(f"{_PREFIX}/chat/completions", _running(_chat), methods=["POST"]),
        Route(f"{_PREFIX}/completions", _running(_completion), methods=["POST"]),
        Route(f"{_PREFIX}/responses", _running(_response), methods=["POST"]),
        Route(f"{_PREFIX}/embeddings", _embeddings, methods=["POST"]),
        Route(f"{_PREFIX}/models", _models, methods=["GET"]),
        Route(f"{_PREFIX}/models/{{model:path}}", _model, methods=["GET"]),
    ]


def _running(read: _Read) -> Callable[[Request], Awaitable[Response]]:
    async def question(request: Request) -> Question:
        return read(await read_json(request))

    async def route(request: Request) -> Response:
        return await answer_question(request, question, openai_refusal)

    return route


def _chat(body: dict[str, Any]) -> Question:
    asked, extras = openai_inputs.of_chat(body)
    return Question(asked, ChatForm(asked[0], usage=wants_usage(body), legacy=is_legacy(body)), extras)


def _completion(body: dict[str, Any]) -> Question:
    asked, extras = openai_inputs.of_completion(body)
    return Question(asked, CompletionForm(asked[0], usage=wants_usage(body)), extras)


def _response(body: dict[str, Any]) -> Question:
    asked, extras = openai_inputs.of_response(body)
    return Question(asked, ResponsesForm(body), extras)


async def _embeddings(request: Request) -> Response:
    async def question(request: Request) -> Question:
        ai: AI = request.app.state.ai
        return of_embeddings(ai.catalog, await read_json(request))

    return await answer_question(request, question, openai_refusal)


async def _models(request: Request) -> Response:
    """An extension: the platform has no such route, but clients ask for it."""
    ai: AI = request.app.state.ai
    listed = [_described(card.name, card.author) for card in ai.catalog if card.task.name in TASKS]
    return JSONResponse({"object": "list", "data": sorted(listed, key=lambda model: model["id"])})


async def _model(request: Request) -> Response:
    ai: AI = request.app.state.ai
    try:
        card = ai.catalog[request.path_params["model"]]
    except LookupError as fault:
        return openai_refusal(AiError.of(fault))
    return JSONResponse(_described(card.name, card.author))


def openai_refusal(error: AiError) -> JSONResponse:
    """Cloudflare's envelope, and in it what OpenAI's SDKs look for."""
    answer = failure_envelope(error)
    told = {**answer, **openai_error(error, error.message)}
    return JSONResponse(told, status_code=error.status, headers=error.headers)


def _described(name: str, author: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": author}
