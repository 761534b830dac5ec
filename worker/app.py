"""The HTTP host: takes the doors as mounts, adds what is said of roost itself under ``/cdn-cgi/local/``."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.bindings import AI
from worker.guard import LOCAL_HOSTS, Guard, Refuse, edge_refusal
from worker.inspection import loaded_rows
from worker.metrics import CONTENT_TYPE, Metrics
from worker.recent import gathered
from worker.request_log import tell
from worker.tracing import Tracing

_CLIENT_LEFT = 499  # nginx's word for it; nobody receives it


def create_host(
    ai: AI,
    doors: Sequence[BaseRoute],
    *,
    hosts: frozenset[str] | None = LOCAL_HOSTS,
    token: str | None = None,
    refuse: Refuse = edge_refusal,
    exception_handlers: dict[Any, Any] | None = None,
    tracing: Tracing | None = None,
) -> Starlette:
    """The application that serves ``doors`` over ``ai``. ``hosts``, ``token`` and ``refuse``: see :class:`Guard`."""
    local = [
        Route("/cdn-cgi/local/health", _health, methods=["GET"]),
        Route("/cdn-cgi/local/ps", _ps, methods=["GET"]),
        Route("/cdn-cgi/local/usage", _usage, methods=["GET"]),
        Route("/cdn-cgi/local/metrics", _metrics, methods=["GET"]),
    ]
    app = Starlette(
        routes=[*local, *doors],
        middleware=[
            Middleware(_Edge, tracing=tracing),
            Middleware(Guard, hosts=hosts, token=token, refuse=refuse),
        ],
        exception_handlers=exception_handlers,
        lifespan=_lifespan,
    )
    app.router.redirect_slashes = False
    app.state.ai = ai
    app.state.metrics = Metrics(ai)
    app.state.tracing = tracing
    app.state.ready = False
    app.state.token = token
    return app


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    watching = asyncio.create_task(app.state.ai.pool.watch())
    app.state.ready = True
    yield
    app.state.ready = False
    watching.cancel()
    await app.state.ai.aclose()
    if app.state.tracing is not None:
        await asyncio.to_thread(app.state.tracing.close)


async def _health(request: Request) -> Response:
    """Whether it lives, whether it takes requests (else 503), what is loaded, and where models run."""
    ai: AI = request.app.state.ai
    loaded = {name: "loaded" for model in ai.loaded() for name in sorted(model.names)}
    ready: bool = request.app.state.ready
    told = {
        "status": "ok" if ready else "stopping",
        "live": True,
        "ready": ready,
        "version": importlib.metadata.version("roost"),
        "device": str(ai.pool.device),
        "models": loaded,
    }
    return JSONResponse(told, status_code=200 if ready else 503)


async def _metrics(request: Request) -> Response:
    """Prometheus' text."""
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.exposition(), media_type=CONTENT_TYPE)


async def _ps(request: Request) -> Response:
    """What is in memory, a row per loaded artifact, and the requests that run."""
    ai: AI = request.app.state.ai
    return JSONResponse({"loaded": loaded_rows(ai), "requests": [entry.as_row() for entry in ai.recent.running()]})


async def _usage(request: Request) -> Response:
    """What was asked of each model since the start."""
    ai: AI = request.app.state.ai
    return JSONResponse({"models": ai.ledger.as_rows()})


class _Edge:
    """What Cloudflare's edge adds: a ``cf-ray`` on every reply, and a log line in wrangler's form.

    A refused WebSocket says that its connection ends there, as hypercorn ends it: a client that keeps connections for
    its next request would send that into nowhere.
    """

    def __init__(self, app: ASGIApp, tracing: Tracing | None = None) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return await self._app(scope, receive, lambda message: _ending(message, send))
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started, status, entries = time.perf_counter(), _CLIENT_LEFT, gathered()

        unread = _has_body(scope)

        async def heard() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and bool(message.get("more_body"))
            return message

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status, headers = message["status"], MutableHeaders(scope=message)
                headers["cf-ray"] = f"{secrets.token_hex(8)}-LOCAL"
                if unread:  # the server closes such a connection, and a client that isn't told sends its next into it
                    headers["connection"] = "close"
            await send(message)

        caller = self._tracing.caller(Headers(scope=scope)) if self._tracing else contextlib.nullcontext()
        try:
            with caller:
                await self._app(scope, heard, watch)
        finally:
            took = time.perf_counter() - started
            tell(scope["method"], scope.get("roost.path", scope["path"]), status, took, entries)


def _has_body(scope: Scope) -> bool:
    """Whether a request of HTTP/1 brings a body."""
    headers = Headers(scope=scope)
    brings = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    return brings and scope["http_version"].startswith("1")


async def _ending(message: Message, send: Send) -> None:
    if message["type"] == "websocket.http.response.start":
        MutableHeaders(scope=message)["connection"] = "close"
    await send(message)
