"""The HTTP host: takes the doors as mounts, adds what is said of roost itself under ``/cdn-cgi/local/``."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.bindings import AI
from worker.guard import LOCAL_HOSTS, Guard, Refuse, edge_refusal

_log = logging.getLogger("roost.requests")
_CLIENT_LEFT = 499  # nginx's word for it; nobody receives it


def create_host(
    ai: AI,
    doors: Sequence[BaseRoute],
    *,
    hosts: frozenset[str] | None = LOCAL_HOSTS,
    token: str | None = None,
    refuse: Refuse = edge_refusal,
    exception_handlers: dict[Any, Any] | None = None,
) -> Starlette:
    """The application that serves ``doors`` over ``ai``. ``hosts``, ``token`` and ``refuse``: see :class:`Guard`."""
    local = [
        Route("/cdn-cgi/local/health", _health, methods=["GET"]),
        Route("/cdn-cgi/local/ps", _ps, methods=["GET"]),
        Route("/cdn-cgi/local/usage", _usage, methods=["GET"]),
    ]
    app = Starlette(
        routes=[*local, *doors],
        middleware=[Middleware(_Edge), Middleware(Guard, hosts=hosts, token=token, refuse=refuse)],
        exception_handlers=exception_handlers,
        lifespan=_lifespan,
    )
    app.router.redirect_slashes = False
    app.state.ai = ai
    return app


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    watching = asyncio.create_task(app.state.ai.pool.watch())
    yield
    watching.cancel()
    await app.state.ai.aclose()


async def _health(request: Request) -> Response:
    ai: AI = request.app.state.ai
    loaded = {name: "loaded" for model in ai.loaded() for name in sorted(model.names)}
    return JSONResponse({"status": "ok", "version": importlib.metadata.version("roost"), "models": loaded})


async def _ps(request: Request) -> Response:
    """What is in memory: a row per loaded artifact."""
    ai: AI = request.app.state.ai
    rows = []
    for model in ai.loaded():
        stats, manifest = model.stats(), model.artifact.manifest
        rows.append(
            {
                "names": sorted(model.names),
                "weights": manifest.weights,
                "precision": manifest.precision,
                "kv": manifest.kv,
                "stand_in": manifest.stand_in,
                "device": str(model.device),
                "chip": model.device.chip,
                "same_words": model.same_words,
                "running": stats.running,
                "waiting": stats.waiting,
                "cached_tokens": stats.cached_tokens,
                "generated_tokens": stats.generated_tokens,
                "kept_tokens": stats.kept_tokens,
                "preemptions": stats.preemptions,
                "drafted_tokens": stats.drafted,
                "accepted_tokens": stats.accepted,
                "adapters": [
                    {"name": adapter.name, "rank": adapter.rank, "megabytes": round(adapter.size / 1e6, 1)}
                    for adapter in model.adapters.loaded()
                ],
                "megabytes": round(model.artifact.size / 1e6),
                "idle_seconds": 0.0 if stats.running or stats.waiting else round(model.idle_seconds, 1),
                "loaded_seconds": round(time.time() - model.loaded_at, 1),
            }
        )
    return JSONResponse({"loaded": rows})


async def _usage(request: Request) -> Response:
    """What was asked of each model since the start."""
    ai: AI = request.app.state.ai
    return JSONResponse({"models": ai.ledger.as_rows()})


class _Edge:
    """What Cloudflare's edge adds: a ``cf-ray`` on every reply, and a log line in wrangler's form.

    A refused WebSocket says that its connection ends there, as hypercorn ends it: a client that keeps connections for
    its next request would send that into nowhere.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return await self._app(scope, receive, lambda message: _ending(message, send))
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started, status = time.perf_counter(), _CLIENT_LEFT

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["cf-ray"] = f"{secrets.token_hex(8)}-LOCAL"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            took = (time.perf_counter() - started) * 1000
            _log.info("%s %s %d (%.0fms)", scope["method"], scope.get("roost.path", scope["path"]), status, took)


async def _ending(message: Message, send: Send) -> None:
    if message["type"] == "websocket.http.response.start":
        MutableHeaders(scope=message)["connection"] = "close"
    await send(message)
