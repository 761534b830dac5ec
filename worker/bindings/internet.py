"""``fetch()`` of a Worker, and the AI binding: requests that go out over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from http.cookiejar import Cookie, CookieJar
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from worker.bindings.binding import Binding, BindingError, Incoming, Outgoing, raw
from worker.isolate.sockets import MAX_MESSAGE
from worker.sockets import UpstreamSocket

_HOPS = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "host"}
_PACKED = {"content-encoding", "content-length", *_HOPS}
_PATIENCE = httpx.Timeout(10, read=None)  # seconds; a long prompt on a CPU takes its time
_UNLIMITED = httpx.Limits(max_connections=None)
_ONCE = "A redirect asks for the request's body again, which was a stream and has been sent."
_OWN = ("accept", "user-agent")  # headers that httpx would add; the platform adds none


class _NoCookies(CookieJar):
    """A Worker's ``fetch`` keeps no cookies from one request to the next."""

    def set_cookie(self, cookie: Cookie) -> None:
        """Forget it."""


class Internet(Binding):
    """``js.fetch``."""

    def __init__(self, *, proxies: bool = True) -> None:
        self._client = httpx.AsyncClient(timeout=_PATIENCE, limits=_UNLIMITED, cookies=_NoCookies(), trust_env=proxies)
        for name in _OWN:
            del self._client.headers[name]

    async def fetch(self, request: Outgoing) -> Incoming:
        """The response from wherever ``request.url`` leads."""
        if request.asks_for_socket:
            return await _opened(request)
        return await self._sent(request, request.url, {})

    async def _sent(self, request: Outgoing, url: str, extra: dict[str, str]) -> Incoming:
        kept = [(name, value) for name, value in (*request.headers, *extra.items()) if name not in _HOPS]
        try:
            built = self._client.build_request(request.method, url, headers=raw(kept), content=await _content(request))
            answer = await self._client.send(built, stream=True, follow_redirects=request.redirect == "follow")
        except httpx.StreamConsumed as error:
            raise BindingError(_ONCE, "TypeError") from error
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


async def _opened(request: Outgoing) -> Incoming:
    """The WebSocket at ``request.url``, or the response that refused it."""
    headers = [pair for pair in request.headers if pair[0] not in _HOPS and not pair[0].startswith("sec-websocket")]
    offered = next((value for name, value in request.headers if name == "sec-websocket-protocol"), "")
    parts = urlsplit(request.url)
    address = parts._replace(scheme={"https": "wss", "http": "ws"}.get(parts.scheme, parts.scheme)).geturl()
    protocols = [Subprotocol(name.strip()) for name in offered.split(",") if name.strip()]
    await anext(request.body, None)
    try:
        opened = await connect(
            address,
            additional_headers=headers,
            subprotocols=protocols or None,
            user_agent_header=None,
            max_size=MAX_MESSAGE,
        )
    except InvalidStatus as error:
        answer = error.response
        found = [(name.lower(), value) for name, value in answer.headers.raw_items()]
        kept = [pair for pair in found if pair[0] not in _PACKED]
        return Incoming(answer.status_code, kept, bytes(answer.body or b""), answer.reason_phrase)
    except (OSError, InvalidHandshake) as error:
        raise BindingError(f"{parts.netloc} can't be reached: {error}") from error
    except InvalidURI as error:
        raise BindingError("Invalid URL string.", "TypeError") from error
    socket = UpstreamSocket(opened)
    named = [("sec-websocket-protocol", opened.subprotocol)] if opened.subprotocol else []
    return Incoming(101, [("upgrade", "websocket"), *named], url=request.url, socket=socket, left=socket.aclose)


class AiWire(Internet):
    """``env.AI``: the wire protocol of ``workers-binding.ai``, to the doors of the roost at ``url``."""

    def __init__(self, url: str, token: str | None = None) -> None:
        super().__init__(proxies=False)  # the doors are here, whatever HTTP_PROXY says
        self._url = url.rstrip("/")
        self._extra = {"authorization": f"Bearer {token}"} if token else {}

    def described(self) -> dict[str, Any]:
        """The isolate's own class speaks the protocol."""
        return {"kind": "ai"}

    async def fetch(self, request: Outgoing) -> Incoming:
        """The doors' answer, byte for byte."""
        parts = urlsplit(request.url)
        return await self._sent(request, f"{self._url}{parts.path}?{parts.query}", self._extra)


async def _content(request: Outgoing) -> bytes | AsyncGenerator[bytes] | None:
    """The body as httpx takes it: whole where its length is known, so that it is told and a redirect can repeat it."""
    if request.size is None and request.method not in ("GET", "HEAD"):
        return _once(request.body)
    whole = b"".join([piece async for piece in request.body])
    return whole if request.method not in ("GET", "HEAD") else None


async def _once(body: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """``body``, of a type that httpx knows to be read once."""
    async for piece in body:
        yield piece


async def _read(answer: httpx.Response) -> AsyncGenerator[bytes]:
    try:
        async for piece in answer.aiter_bytes():
            yield piece
    except httpx.HTTPError as error:
        raise BindingError(f"the response broke off: {error}") from error
    finally:
        await answer.aclose()
