"""The pages' routes: read the request, gather the data, render it as HTML or as JSON. Holds no logic of its own."""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from catalog import ModelCard, UnknownModel
from worker.bindings import AI
from worker.errors import AiError
from worker.guard import ENTRANCE, PAGES, STATIC
from worker.inspection import loaded_rows
from wrangler_compat.pages.entrance import enter, show_entrance
from wrangler_compat.pages.facets import Browse
from wrangler_compat.pages.form import as_json, modes
from wrangler_compat.pages.model_facts import answered_by, details, summary
from wrangler_compat.pages.render import STATIC_FOLDER, page, path_of
from wrangler_compat.pages.snippets import example, snippets
from wrangler_compat.rest import failure_envelope

MODELS = f"{PAGES}models"
HOME = RedirectResponse(MODELS, status_code=303)
"""What answers a browser that names no page."""
_JSON = ".json"
Gather = Callable[[Request, ModelCard], Awaitable[dict[str, Any]]]


def pages_door() -> list[BaseRoute]:
    """The routes, for a host whose ``app.state.ai`` is the AI."""
    return [
        *[Route(path, HOME, methods=["GET"]) for path in (PAGES, PAGES.rstrip("/"))],
        Route(MODELS, _models, methods=["GET"]),
        Route(f"{MODELS}.json", _models_json, methods=["GET"]),
        Route(f"{MODELS}/{{model:path}}", _of_model("model.html", _model), methods=["GET"]),
        Route(f"{PAGES}playground/{{model:path}}", _of_model("playground.html", _playground), methods=["GET"]),
        Route(f"{PAGES}status", _status, methods=["GET"]),
        Route(f"{PAGES}status.json", _status_json, methods=["GET"]),
        Route(ENTRANCE, show_entrance, methods=["GET"]),
        Route(ENTRANCE, enter, methods=["POST"], name="enter"),
        Mount(STATIC, StaticFiles(directory=STATIC_FOLDER)),
    ]


async def _models(request: Request) -> Response:
    return page("models.html", {**_listed(request), "here": "models", "query": request.url.query})


async def _models_json(request: Request) -> Response:
    return JSONResponse(_listed(request))


def _listed(request: Request) -> dict[str, Any]:
    ai: AI = request.app.state.ai
    browse = Browse.of(request.query_params)
    found = browse.find(ai.catalog)
    return {
        "words": browse.words,
        "total": len(ai.catalog),
        "count": len(found),
        "facets": browse.counts(ai.catalog),
        "models": [summary(card) for card in found],
    }


def _of_model(template: str, gather: Gather) -> Callable[[Request], Awaitable[Response]]:
    """A page of one model; its twin where the path ends in ``.json`` and no model's name does."""

    async def show(request: Request) -> Response:
        ai: AI = request.app.state.ai
        name = request.path_params["model"]
        twin = name.endswith(_JSON) and name not in ai.catalog.cards
        try:
            card = ai.catalog[name.removesuffix(_JSON) if twin else name]
        except UnknownModel as fault:
            return _unknown(fault, twin=twin)
        data = await gather(request, card)
        return JSONResponse(data) if twin else page(template, {**data, "here": "models", "card": card})

    return show


def _unknown(fault: UnknownModel, *, twin: bool) -> Response:
    if not twin:
        return page("unknown.html", {"name": fault.name, "suggestions": fault.suggestions, "here": "models"}, 404)
    error = AiError.of(fault)
    return JSONResponse(failure_envelope(error), status_code=404, headers={"cf-ai-req-id": error.request_id})


async def _model(request: Request, card: ModelCard) -> dict[str, Any]:
    ai: AI = request.app.state.ai
    return await asyncio.to_thread(details, card, ai.pool, _url(request), token=_asks_token(request))


async def _playground(request: Request, card: ModelCard) -> dict[str, Any]:
    ai: AI = request.app.state.ai
    told = snippets(card, _url(request), token=_asks_token(request))
    return {
        **summary(card),
        "answered_by": await asyncio.to_thread(answered_by, card, ai.pool),
        "modes": [as_json(mode) for mode in modes(card)],
        "snippets": [snippet.as_json(example(card)) for snippet in told],
        "run": f"/client/v4/accounts/local/ai/run/{path_of(card.name)}",
    }


async def _status(request: Request) -> Response:
    return page("status.html", {**_running(request), "here": "status", "now": time.time()})


async def _status_json(request: Request) -> Response:
    return JSONResponse(_running(request))


def _running(request: Request) -> dict[str, Any]:
    ai: AI = request.app.state.ai
    return {
        "version": importlib.metadata.version("roost"),
        "device": ai.pool.device.described,
        "memory_megabytes": round(psutil.Process().memory_info().rss / 1e6),
        "loaded": loaded_rows(ai),
        "usage": ai.ledger.as_rows(),
        "recent": ai.recent.as_rows(),
    }


def _url(request: Request) -> str:
    """The address that the browser uses."""
    return f"{request.url.scheme}://{request.headers.get('host', '')}"


def _asks_token(request: Request) -> bool:
    return bool(request.app.state.token)
