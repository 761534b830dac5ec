"""The WebSocket side of a Python Worker: a client's opening handshake to a request, and then its messages."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeAlias

from starlette.types import Receive, Scope, Send

from worker.bindings.binding import Incoming, Outgoing, raw
from worker.isolate.sockets import relay
from worker.isolate_process import WorkerFault
from worker.sockets import MOST, ClientSocket

_log = logging.getLogger("roost.worker")
_GOING_AWAY = 1001
_LONGEST_REASON = 123  # bytes of UTF-8, by RFC 6455
_OURS = ("connection", "upgrade", "content-length", "sec-websocket-accept", "sec-websocket-extensions")
_PROTOCOL = "sec-websocket-protocol"
Fetch: TypeAlias = Callable[[Outgoing], Awaitable[Incoming]]
Page: TypeAlias = Callable[[WorkerFault, str], Incoming]


class SocketFront:
    """ASGI application for WebSockets: ``fetch`` answers the handshake, ``page`` shows a fault."""

    def __init__(self, fetch: Fetch, page: Page) -> None:
        self._fetch, self._page = fetch, page
        self._open: set[asyncio.Task[None]] = set()
        self._ended = False

    def end(self) -> None:
        """Close what is open with 1001."""
        self._ended = True
        for task in self._open:
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client until either side has closed."""
        await receive()
        started = time.perf_counter()
        try:
            found = await self._answer(scope, receive)
        except WorkerFault as fault:
            found = self._page(fault, "")
        if found is None:
            return  # the client has left
        took = (time.perf_counter() - started) * 1000
        _log.info("GET %s %d (%.0fms)", scope["path"], found.status, took)
        if found.socket is None:
            return await _refuse(found, send)
        try:
            await self._carry(found, ClientSocket(receive, send), send)
        finally:
            if found.left is not None:
                await found.left()

    async def _answer(self, scope: Scope, receive: Receive) -> Incoming | None:
        """What the Worker answers, ``None`` if the client leaves before."""
        if len(self._open) >= MOST:
            return Incoming(503, body=f"roost keeps {MOST} WebSockets of a Worker open, and they are".encode())
        answering = asyncio.ensure_future(self._fetch(_outgoing(scope)))
        leaving = asyncio.ensure_future(receive())
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return answering.result() if answering.done() else None
        finally:
            answering.cancel()
            leaving.cancel()

    async def _carry(self, found: Incoming, client: ClientSocket, send: Send) -> None:
        assert found.socket is not None
        protocol = next((value for name, value in found.headers if name == _PROTOCOL), None)
        headers = raw([pair for pair in found.headers if pair[0] not in (*_OURS, _PROTOCOL)])
        await send({"type": "websocket.accept", "subprotocol": protocol, "headers": headers})
        task = asyncio.ensure_future(relay(client, found.socket))
        self._open.add(task)
        try:
            await task
        except WorkerFault as fault:
            _log.error("%s", fault.told.get("traceback") or fault)
            await client.close(fault.close_code, _short(f"{fault.told.get('name')}: {fault}"))
        except asyncio.CancelledError:
            await client.close(_GOING_AWAY, "roost ends")
            if not self._ended:
                raise
        finally:
            self._open.discard(task)
            task.cancel()


def _outgoing(scope: Scope) -> Outgoing:
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    named = dict(headers)
    if "upgrade" not in named:  # HTTP/2 has another way to ask
        headers.append(("upgrade", "websocket"))
    path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
    scheme = {"ws": "http", "wss": "https"}[scope["scheme"]]
    client = (scope.get("client") or ("127.0.0.1", 0))[0]
    url = f"{scheme}://{named.get('host', '')}{path}{query}"
    return Outgoing("GET", url, [*headers, ("cf-connecting-ip", client)], _nothing())


async def _refuse(found: Incoming, send: Send) -> None:
    body = found.body if isinstance(found.body, bytes) else b"".join([piece async for piece in found.body])
    headers = [pair for pair in raw(found.headers) if pair[0] != b"content-length"]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "websocket.http.response.start", "status": found.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


def _short(reason: str) -> str:
    return reason.encode()[:_LONGEST_REASON].decode(errors="ignore")


async def _nothing() -> AsyncGenerator[bytes]:
    nothing: tuple[bytes, ...] = ()
    for piece in nothing:
        yield piece
