"""Who may knock: the Host header must be ours, and a token is asked for where one is set.

A person's browser shows the token once, at :data:`ENTRANCE`, and gets a cookie for it that other sites can't use.

A page in somebody's browser can reach 127.0.0.1 through a name that it controls (DNS rebinding); its requests bear
that name as their Host, and are refused here before any door sees them. So are those that a page of another site
sends to our own name, which no browser asks about first where they are simple (a form, text/plain).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import urlencode, urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from worker.errors import AiError, ForeignHost, Unauthorized

TOKEN_PARAMETER = "roost-token"
"""Where a transport carries no header of its own, the token stands in the query: miniflare keeps that of an address."""
PREVIEW_HEADER = "cf-workers-preview-token"
"""What wrangler's proxy sends of the session that roost gave it."""
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]", "workers-binding.ai"})
PAGES = "/cdn-cgi/local/"
"""Where what a person looks at is."""
ENTRANCE = f"{PAGES}enter"
STATIC = f"{PAGES}static"
"""The pages' own files: the entrance has to look like something, too."""
PAGE_COOKIE = "roost-pages"
OPEN_PATHS = frozenset({f"{PAGES}health", ENTRANCE})
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
        await (self._turned_away(connection) or self._app)(scope, receive, send)

    def _turned_away(self, request: HTTPConnection) -> Response | None:
        name = _name_of(request.headers.get("host", ""))
        if self._hosts is not None and name not in self._hosts:
            return self._refuse(request, ForeignHost(f"roost doesn't serve the host {name!r}"))
        known = bool(self._token) and is_token(given_token(request), self._token or "")
        if (page := _foreign_page(request)) and not known:
            return self._refuse(request, ForeignHost(f"roost doesn't answer pages of {page}"))
        path = request.url.path
        if not self._token or path in OPEN_PATHS or path.startswith(f"{STATIC}/"):
            return None
        if known or _holds_cookie(request, self._token):
            return None
        return _to_entrance(request) if _wants_page(request) else self._refuse(request, Unauthorized("no token"))


def is_token(given: str, token: str) -> bool:
    """Whether ``given`` is the token, in a time that tells nothing."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def page_key(token: str) -> str:
    """What the pages' cookie holds: cookies go to every port of a host, and the token itself is not for them."""
    return hmac.digest(token.encode(), b"roost's pages", "sha256").hex()


def _foreign_page(request: HTTPConnection) -> str | None:
    """The page of another site that had a browser send this, if one did; a browser tells in two headers.

    Pages of this machine may ask, whatever their port: a front end's server is one. A link that leads here may be
    followed, but nothing else may be fetched, framed or posted by a page elsewhere, ``Origin: null`` included.
    """
    if (origin := request.headers.get("origin")) is not None:
        near = from_here(request) or _name_of(_host_of(origin)) in LOCAL_HOSTS
        return None if near else repr(origin)
    follows = request.headers.get("sec-fetch-mode") == "navigate" and request.scope.get("method") == "GET"
    framed = request.headers.get("sec-fetch-dest") in ("iframe", "frame", "embed", "object")
    crossed = request.headers.get("sec-fetch-site") == "cross-site"
    return "another site" if crossed and (framed or not follows) else None


def _name_of(host: str) -> str:
    """A host without its port."""
    return (host[: host.rfind("]") + 1] or host.partition(":")[0]).lower()


def from_here(request: HTTPConnection) -> bool:
    """Whether no page of another origin sent this; another port of the same host is another origin."""
    origin = request.headers.get("origin")
    return origin is None or (bool(host := _host_of(origin)) and host == request.headers.get("host", ""))


def _host_of(origin: str) -> str:
    """An origin's host and port; nothing for one that has none, or is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:  # half a bracket
        return ""


def _holds_cookie(request: HTTPConnection, token: str) -> bool:
    return is_token(request.cookies.get(PAGE_COOKIE, ""), page_key(token)) and from_here(request)


def _wants_page(request: HTTPConnection) -> bool:
    path = request.url.path
    asked = request.scope.get("method") == "GET" and "text/html" in request.headers.get("accept", "")
    return asked and (path == "/" or path.startswith(PAGES))


def _to_entrance(request: HTTPConnection) -> Response:
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"{ENTRANCE}?{urlencode({'next': target})}", status_code=303)


def given_token(request: HTTPConnection) -> str:
    """The token that a request bears: as a bearer, in wrangler's preview header, or in the query; empty for none."""
    scheme, _, bearer = _text(request, "authorization").partition(" ")
    if scheme.lower() == "bearer" and bearer:
        return bearer
    return _text(request, PREVIEW_HEADER) or request.query_params.get(TOKEN_PARAMETER, "")


def _text(request: HTTPConnection, header: str) -> str:
    """A header as text: the server reads it as latin-1, clients write UTF-8."""
    return request.headers.get(header, "").encode("latin-1").decode("utf-8", "surrogateescape")
