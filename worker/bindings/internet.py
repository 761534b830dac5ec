"""``fetch()`` of a Worker, and the AI binding: requests that go out over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlsplit

import httpx

from worker.bindings.binding import Binding, BindingError, Incoming, Outgoing, raw

_HOPS = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "host"}
_PACKED = {"content-encoding", "content-length", *_HOPS}
_PATIENCE = httpx.Timeout(10, read=None)  # seconds; a long prompt on a CPU takes its time
_UNLIMITED = httpx.Limits(max_connections=None)


class Internet(Binding):
    """``js.fetch``."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(timeout=_PATIENCE, limits=_UNLIMITED)

    async def fetch(self, request: Outgoing) -> Incoming:
        """The response from wherever ``request.url`` leads."""
        return await self._sent(request, request.url, {})

    async def _sent(self, request: Outgoing, url: str, extra: dict[str, str]) -> Incoming:
        kept = [(name, value) for name, value in (*request.headers, *extra.items()) if name not in _HOPS]
        body = request.body if request.method not in ("GET", "HEAD") else None
        if body is None:
            await anext(request.body, None)
        try:
            built = self._client.build_request(request.method, url, headers=raw(kept), content=body)
            answer = await self._client.send(built, stream=True, follow_redirects=request.redirect == "follow")
        except httpx.HTTPError as error:
            raise BindingError(f"{urlsplit(url).netloc} can't be reached: {error}") from error
        except httpx.InvalidURL as error:
            raise BindingError("Invalid URL string.", "TypeError") from error
        found = [(name, value) for name, value in answer.headers.multi_items() if name not in _PACKED]
        packed = "content-encoding" in answer.headers or request.method == "HEAD"
        told = "" if packed else answer.headers.get("content-length", "")
        length = int(told) if told.isdecimal() else None
        reason, url = answer.reason_phrase, str(answer.url)
        return Incoming(answer.status_code, found, _read(answer), reason, url, length=length)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class AiWire(Internet):
    """``env.AI``: the wire protocol of ``workers-binding.ai``, to the doors of the roost at ``url``."""

    def __init__(self, url: str, token: str | None = None) -> None:
        super().__init__()
        self._url = url.rstrip("/")
        self._extra = {"authorization": f"Bearer {token}"} if token else {}

    def described(self) -> dict[str, Any]:
        """The isolate's own class speaks the protocol."""
        return {"kind": "ai"}

    async def fetch(self, request: Outgoing) -> Incoming:
        """The doors' answer, byte for byte."""
        parts = urlsplit(request.url)
        return await self._sent(request, f"{self._url}{parts.path}?{parts.query}", self._extra)


async def _read(answer: httpx.Response) -> AsyncGenerator[bytes]:
    try:
        async for piece in answer.aiter_bytes():
            yield piece
    except httpx.HTTPError as error:
        raise BindingError(f"the response broke off: {error}") from error
    finally:
        await answer.aclose()
