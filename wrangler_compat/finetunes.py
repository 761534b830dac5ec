"""The fine-tunes of the REST door: what ``wrangler ai finetune`` and the SDKs ask. Parses, calls, renders.

Shapes: developers.cloudflare.com/api (Workers AI, Finetunes) and wrangler's ``ai/createFinetune.ts``. The
documentation's examples end in a slash, the clients' calls don't.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from worker.bindings import AI
from worker.errors import AiError
from worker.lora import create_finetune
from worker.requests import read_json
from worker.uploads import uploaded
from wrangler_compat.rest import failure_response, listing, success_envelope

_PREFIX = "/client/v4/accounts/{account}/ai/finetunes"


def finetunes_door() -> list[Route]:
    """The routes, for a host whose ``app.state.ai`` is the AI."""
    routes = [
        (_PREFIX, _all, "GET"),
        (_PREFIX, _create, "POST"),
        (f"{_PREFIX}/public", _public, "GET"),
        (f"{_PREFIX}/{{finetune}}/finetune-assets", _upload, "POST"),
    ]
    return [
        Route(path + end, _told(answer), methods=[method], name=f"{method} {path}{end}")
        for path, answer, method in routes
        for end in ("", "/")
    ]


def _told(answer: Callable[[Request, AI], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        try:
            return listing(await answer(request, request.app.state.ai))
        except Exception as fault:
            return failure_response(AiError.of(fault))

    return handle


async def _all(_request: Request, ai: AI) -> dict[str, Any]:
    found = await asyncio.to_thread(ai.finetunes.all)
    return success_envelope([finetune.model_dump() for finetune in found])


async def _public(_request: Request, ai: AI) -> dict[str, Any]:
    found = await asyncio.to_thread(ai.finetunes.all)
    return success_envelope([finetune.model_dump() for finetune in found if finetune.public])


async def _create(request: Request, ai: AI) -> dict[str, Any]:
    asked = await read_json(request)
    finetune = await asyncio.to_thread(create_finetune, ai.catalog, ai.finetunes, asked)
    return success_envelope(finetune.model_dump())


async def _upload(request: Request, ai: AI) -> dict[str, Any]:
    from runtime.adapters import MAX_BYTES  # few need it

    store = ai.finetunes
    async with uploaded(request, most=MAX_BYTES, folder=store.incoming()) as form:
        wanted, name = request.path_params["finetune"], form.fields.get("file_name", "")
        await asyncio.to_thread(store.add_file, wanted, name, form.file)
    return success_envelope({"success": True})
