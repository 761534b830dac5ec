"""How the binding's requests come when something carries them: unpacked here, they are the wire door's.

miniflare's remote-proxy client sends all to one address, the URL in ``MF-URL`` and each header as ``MF-Header-…``
(``workers/shared/remote-proxy-client.worker.ts``). wrangler before 4.36 sends all to REST's ``/ai/run/proxy`` with the
URL in ``X-Forwarded`` (``ai/fetcher.ts``).
"""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from worker.errors import AiError, NotEmulated
from wrangler_compat.rpc import refuse_calls
from wrangler_compat.wire import refusal

WIRE_HOST = "workers-binding.ai"
_PACKED = b"mf-header-"
CARRIED = "roost.path"
"""The scope's key for the path that was meant, for the log and for refusals."""
PROXY_PATH = "/client/v4/accounts/{account}/ai/run/proxy"


def transports(wire: list[BaseRoute], home: ASGIApp) -> list[BaseRoute]:
    """The routes at which requests for ``wire`` arrive packed; ``home`` answers a browser that comes to ``/``."""
    door = Router(wire)
    miniflare = _Unpacked(door, "mf-url", home)
    return [
        Route("/", miniflare),
        WebSocketRoute("/", miniflare),
        Route(PROXY_PATH, _Unpacked(door, "x-forwarded")),
    ]


class _Unpacked:
    """ASGI: the request whose URL stands in the header ``named``, as ``door`` knows it."""

    def __init__(self, door: ASGIApp, named: str, home: ASGIApp | None = None) -> None:
        self._door = door
        self._named = named
        self._home = home

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            target = urlsplit(headers.get(self._named, ""))
        except ValueError as error:  # half a bracket
            raise HTTPException(HTTPStatus.NOT_FOUND) from error
        if scope["type"] == "websocket" and not target.netloc:
            return await refuse_calls(scope, receive, send)
        if self._home is not None and self._named not in headers and scope["method"] in ("GET", "HEAD"):
            return await self._home(scope, receive, send)
        if not target.netloc:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        if target.hostname != WIRE_HOST:
            binding = headers.get("mf-binding", "of this project")
            fault = NotEmulated(f"the remote binding {binding} is not an AI binding: roost answers for AI alone")
            return await refusal(AiError.of(fault))(scope, receive, send)
        scope[CARRIED] = target.path
        path = {"path": unquote(target.path), "raw_path": target.path.encode()}
        inner = {**scope, **path, "query_string": target.query.encode(), "headers": _unpacked(scope["headers"])}
        await self._door(inner, receive, send)


def _unpacked(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The packed headers under their own names in place of the carrier's, or all of them where none is packed."""
    packed = [(name[len(_PACKED) :], value) for name, value in headers if name.startswith(_PACKED)]
    return packed or headers
