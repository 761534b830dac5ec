"""The HTTP side of a Python Worker: requests to exchanges with its isolate, faults to pages that show them."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from html import escape
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from worker.bindings.assets import Assets
from worker.bindings.binding import Incoming, Outgoing, raw
from worker.bindings.queue_file import Kept
from worker.bindings.service import Target
from worker.isolate_process import WorkerFault
from worker.isolates import PythonWorker
from worker.location import CF
from worker.request_log import line_of
from worker.socket_front import SocketFront
from worker.sockets import IsolateSocket

_log = logging.getLogger("roost.worker")
_SCHEDULED = ("/cdn-cgi/handler/scheduled", "/cdn-cgi/mf/scheduled")
_HOPS = {"connection", "keep-alive", "transfer-encoding", "upgrade", "date"}  # the server writes its own
_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
_LINGER = 2.0  # seconds for the rest of a body that nobody reads
_PIECES = 4  # of a request's body, read ahead of the Worker
_PAGE = """<!doctype html><meta charset="utf-8"><title>{name}</title>
<style>body{{font:16px system-ui;margin:3em}}pre{{background:#f4f4f4;padding:1em;overflow:auto}}</style>
<h1>{name}</h1><p>{message}</p><pre>{traceback}</pre><p><small>{worker}, in roost</small></p>
"""


class Front:
    """ASGI application over ``worker``; ``assets`` are looked in first where the project says so."""

    def __init__(self, worker: PythonWorker, assets: Assets | None = None) -> None:
        self._worker = worker
        self.assets = assets
        self._sockets = SocketFront(self.fetch, self._page)

    def end_sockets(self) -> None:
        """Close the WebSockets that are open: roost ends."""
        self._sockets.end()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; stop when its client leaves."""
        if scope["type"] == "lifespan":
            return await _lifespan(receive, send)
        if scope["type"] == "websocket":
            return await self._sockets(scope, receive, send)
        request = _Request(scope, receive)
        answering = asyncio.create_task(self._answer(request, send))
        leaving = asyncio.create_task(request.pump())
        leaving.add_done_callback(lambda _: answering.cancel())
        try:
            await answering
        except asyncio.CancelledError:
            if not leaving.done():
                raise
        finally:
            leaving.cancel()
            answering.cancel()

    async def fetch(self, request: Outgoing, target: Target | None = None) -> Incoming:
        """The answer of assets and Worker to ``request``; raises :class:`WorkerFault`.

        ``target``: of a service binding; a class that it names is asked without the assets before it.
        """
        named = target is not None and target.entrypoint is not None
        if not named and self.assets is not None and (found := self.assets.before_worker(request)) is not None:
            return found
        headers = list(request.headers)
        head = {"op": "fetch", "method": request.method, "url": request.url, "headers": headers, "cf": CF}
        head |= target.head if target is not None else {}
        sent = None if request.method in ("GET", "HEAD") else request.body
        try:
            answer, body = await self._worker.exchange(head, sent)
        except WorkerFault as fault:
            if fault.told.get("passes_through") and self.assets is not None:
                return await self.assets.fetch(request)
            raise
        kept = [(name, value) for name, value in answer["headers"] if name not in _HOPS]
        if isinstance(body, IsolateSocket):
            return Incoming(101, kept, socket=body, left=body.aclose)
        return Incoming(answer["status"], kept, body, answer["statusText"])

    async def _answer(self, request: _Request, send: Send) -> None:
        started, status = time.perf_counter(), 0
        try:
            if request.scope["path"] in _SCHEDULED:
                found = await self._scheduled(request.scope["query_string"].decode())
            else:
                found = await self.fetch(request.outgoing())
            status = found.status
        except WorkerFault as fault:
            found = self._page(fault, request.header("accept"))
            status = found.status
        try:
            await _send(found, send, request)
        except WorkerFault as fault:  # after the head has gone: the connection breaks off, which clients notice
            _log.error("%s", fault.told.get("traceback") or fault)
            raise
        finally:
            took = time.perf_counter() - started
            _log.info("%s", line_of(request.scope["method"], request.scope["path"], status, took))

    async def scheduled(self, cron: str, at: float) -> None:
        """Run the Worker's scheduled handler; raises :class:`WorkerFault`."""
        await self._worker.call({"op": "scheduled", "cron": cron, "at": at})

    async def start(self) -> None:
        """Let there be an isolate; raises :class:`WorkerFault`."""
        await self._worker.isolate()

    async def queue(self, queue: str, batch: Sequence[Kept]) -> dict[str, Any]:
        """Run the Worker's queue handler; what it decided, see :func:`worker.queues.settle`.

        Raises :class:`WorkerFault`.
        """
        messages = [
            {
                "id": each.id,
                "kind": each.kind,
                "body": base64.b64encode(each.body).decode(),
                "timestamp": each.sent,
                "attempts": each.attempts + 1,
            }
            for each in batch
        ]
        return await self._worker.call({"op": "queue", "queue": queue, "messages": messages})

    async def _scheduled(self, query: str) -> Incoming:
        given = {name: values[0] for name, values in parse_qs(query).items()}
        try:
            at = float(given.get("time") or time.time() * 1000)
        except ValueError:
            return Incoming(HTTPStatus.BAD_REQUEST, body=b"time is milliseconds since 1970")
        await self.scheduled(given.get("cron", ""), at)
        if given.get("format") == "json":
            return Incoming(200, [("content-type", "application/json")], b'{"outcome":"ok","noRetry":false}')
        return Incoming(200, body=b"ok")

    def _page(self, fault: WorkerFault, accepts: str) -> Incoming:
        """A fault as a browser shows it, or as JSON."""
        told = {name: str(fault.told.get(name, "")) for name in ("name", "message", "traceback")}
        _log.error("%s", told["traceback"] or told["message"])
        if "text/html" in accepts:
            shown = {name: escape(text) for name, text in told.items()}
            page = _PAGE.format(**shown, worker=escape(self._worker.spec.name))
            return Incoming(500, [("content-type", "text/html; charset=utf-8")], page.encode())
        return Incoming(500, [("content-type", "application/json")], json.dumps({"error": told}).encode())


class _Request:
    """One request of a client, read ahead a little so that its leaving is noticed."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self._receive = receive
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_PIECES)
        self._passed_over = False
        self._whole = asyncio.Event()

    async def pump(self) -> None:
        """Read what the client sends; return when it leaves."""
        try:
            while (message := await self._receive())["type"] == "http.request":
                if not message.get("more_body"):
                    self._whole.set()
                if (piece := message.get("body")) and not self._passed_over:
                    await self._pieces.put(piece)
                if not message.get("more_body") and not self._passed_over:
                    await self._pieces.put(None)
        finally:
            self._whole.set()

    @property
    def whole(self) -> bool:
        """Whether all of it has come."""
        return self._whole.is_set()

    async def rest(self) -> None:
        """Pass over what the Worker has not read: a client that still sends, and the server, would wait for ever."""
        self._passed_over = True
        while not self._pieces.empty():
            self._pieces.get_nowait()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._whole.wait(), _LINGER)

    def header(self, name: str) -> str:
        """A header's value, empty for none."""
        return next((value for key, value in self._headers() if key == name), "")

    def outgoing(self) -> Outgoing:
        """The request as a Worker gets it."""
        scope = self.scope
        raw = scope.get("raw_path") or scope["path"].encode()
        query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        url = f"{scope['scheme']}://{self.header('host')}{raw.decode('latin-1')}{query}"
        client = (scope.get("client") or ("127.0.0.1", 0))[0]
        headers = [*self._headers(), ("cf-connecting-ip", client)]
        return Outgoing(scope["method"], url, headers, self._body())

    def _headers(self) -> list[tuple[str, str]]:
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.scope["headers"]]

    async def _body(self) -> AsyncGenerator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            yield piece


async def _send(found: Incoming, send: Send, request: _Request) -> None:
    headers = raw(found.headers)
    told = any(name == b"content-length" for name, _ in headers)
    if isinstance(found.body, bytes) and not told and found.status not in _WITHOUT_BODY:
        headers.append((b"content-length", str(len(found.body)).encode()))
    await send({"type": "http.response.start", "status": found.status, "headers": headers})
    if isinstance(found.body, bytes) and request.whole:
        return await send({"type": "http.response.body", "body": found.body})
    try:
        async for piece in _once(found.body) if isinstance(found.body, bytes) else found.body:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await request.rest()
        await send({"type": "http.response.body"})
    finally:
        if not isinstance(found.body, bytes):
            await found.body.aclose()


async def _once(body: bytes) -> AsyncGenerator[bytes]:
    yield body


async def _lifespan(receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})
