"""Who may knock: the Host header must be ours, and a token is asked for where one is set.

A page in somebody's browser can reach 127.0.0.1 through a name that it controls (DNS rebinding); its requests bear
that name as their Host, and are refused here before any door sees them.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import TypeAlias

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from worker.errors import AiError, ForeignHost, Unauthorized

TOKEN_PARAMETER = "roost-token"
"""Where a transport carries no header of its own, the token stands in the query: miniflare keeps that of an address."""
PREVIEW_HEADER = "cf-workers-preview-token"
"""What wrangler's proxy sends of the session that roost gave it."""
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]", "workers-binding.ai"})
OPEN_PATHS = frozenset({"/cdn-cgi/local/health"})
Refuse: TypeAlias = Callable[[HTTPConnection, Exception], Response]


def edge_refusal(_connection: HTTPConnection, fault: Exception) -> Response:
    """The edge's envelope."""
    error = AiError.of(fault)
    return JSONResponse(error.to_edge_envelope(), status_code=error.status)


class Guard:
    """ASGI middleware. ``hosts``: names that may stand in Host, ``None`` for any (only where a token is set).

    ``refuse`` makes the answer to what is turned away.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: frozenset[str] | None = LOCAL_HOSTS,
        token: str | None = None,
        refuse: Refuse = edge_refusal,
    ) -> None:
        self._app = app
        self._refuse = refuse
        self._hosts = hosts
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        connection = HTTPConnection(scope)
        fault = self._fault(connection)
        await (self._refuse(connection, fault) if fault else self._app)(scope, receive, send)

    def _fault(self, request: HTTPConnection) -> Exception | None:
        host = request.headers.get("host", "")
        name = host[: host.rfind("]") + 1] or host.partition(":")[0]
        if self._hosts is not None and name.lower() not in self._hosts:
            return ForeignHost(f"roost doesn't serve the host {name!r}")
        if self._token and request.url.path not in OPEN_PATHS and not self._holds_token(request):
            return Unauthorized("no token")
        return None

    def _holds_token(self, request: HTTPConnection) -> bool:
        token = (self._token or "").encode()
        return hmac.compare_digest(given_token(request).encode("utf-8", "surrogateescape"), token)


def given_token(request: HTTPConnection) -> str:
    """The token that a request bears: as a bearer, in wrangler's preview header, or in the query; empty for none."""
    scheme, _, bearer = _text(request, "authorization").partition(" ")
    if scheme.lower() == "bearer" and bearer:
        return bearer
    return _text(request, PREVIEW_HEADER) or request.query_params.get(TOKEN_PARAMETER, "")


def _text(request: HTTPConnection, header: str) -> str:
    """A header as text: the server reads it as latin-1, clients write UTF-8."""
    return request.headers.get(header, "").encode("latin-1").decode("utf-8", "surrogateescape")
