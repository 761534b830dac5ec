"""WebSockets of Python Workers on roost's side: a client's end, an isolate's, and that of a server elsewhere."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.types import Receive, Send
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from worker.isolate.frames import BYTES, CLOSE, FAULT, TEXT, Closed, Connection
from worker.isolate.sockets import ABNORMAL, NO_STATUS, closing, on_the_wire, said
from worker.isolate_process import IsolateProcess, WorkerFault

MOST = 256
"""Open WebSockets of one Worker: each takes three file descriptors of roost's, which has 1024 on many systems."""


class ClientSocket:
    """The end of a client, over ASGI."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._frames: list[tuple[int, bytes]] = []
        self.closed = False

    async def receive(self) -> tuple[int, bytes]:
        """What the client sends, and that it has left."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.closed = True
            code = int(message.get("code") or NO_STATUS)
            return closing(code, message.get("reason") or "", clean=code != ABNORMAL)
        if (data := message.get("bytes")) is not None:
            return BYTES, bytes(data)
        return TEXT, message["text"].encode()

    def write(self, *frames: tuple[int, bytes]) -> None:
        """Keep ``frames`` for :meth:`drained`."""
        if self.closed:
            raise Closed("the client has left")
        self._frames += frames

    async def drained(self) -> None:
        """Send them; hypercorn waits while the client reads slowly."""
        frames, self._frames = self._frames, []
        for kind, payload in frames:
            if kind == CLOSE:
                told = said(payload)
                await self.close(told["code"], told["reason"])
            elif kind == TEXT:
                await self._send({"type": "websocket.send", "text": payload.decode()})
            else:
                await self._send({"type": "websocket.send", "bytes": payload})

    async def close(self, code: int, reason: str = "") -> None:
        """Say goodbye, unless that was done."""
        if not self.closed:
            self.closed = True
            await self._send({"type": "websocket.close", "code": on_the_wire(code), "reason": reason})


class IsolateSocket:
    """The end of the Worker in ``isolate``."""

    def __init__(self, isolate: IsolateProcess, connection: Connection, patience: float) -> None:
        connection.live = True
        self._isolate, self._connection, self._patience = isolate, connection, patience

    async def receive(self) -> tuple[int, bytes]:
        """What the Worker sends; raises :class:`WorkerFault` where it failed or was ended."""
        try:
            kind, payload = await self._connection.receive()
        except Closed:
            await asyncio.wait({self._isolate.ended}, timeout=self._patience)
            if not self._isolate.ended.done():
                raise
            raise WorkerFault(self._isolate.ended.result()) from None
        if kind == FAULT:
            told: dict[str, Any] = json.loads(payload)
            if told.get("fatal"):
                self._isolate.retire()
            raise WorkerFault(told)
        return kind, payload

    def write(self, *frames: tuple[int, bytes]) -> None:
        """Send ``frames`` to the Worker."""
        self._connection.write(*frames)

    async def drained(self) -> None:
        """Return once the Worker keeps up."""
        await self._connection.drained()

    async def aclose(self) -> None:
        """There is no more to send."""
        self._connection.finish()


class UpstreamSocket:
    """The end of a server that the Worker connected to."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._frames: list[tuple[int, bytes]] = []

    async def receive(self) -> tuple[int, bytes]:
        """What the server sends, and its close."""
        try:
            data = await self._connection.recv()
        except ConnectionClosed as error:
            if error.rcvd is None:
                return closing(ABNORMAL, clean=False)
            return closing(error.rcvd.code, error.rcvd.reason)
        return (TEXT, data.encode()) if isinstance(data, str) else (BYTES, data)

    def write(self, *frames: tuple[int, bytes]) -> None:
        """Keep ``frames`` for :meth:`drained`."""
        self._frames += frames

    async def drained(self) -> None:
        """Send them."""
        frames, self._frames = self._frames, []
        for kind, payload in frames:
            try:
                if kind == CLOSE:
                    told = said(payload)
                    code = 1000 if told["code"] == NO_STATUS else on_the_wire(told["code"])
                    await self._connection.close(code, told["reason"])
                else:
                    await self._connection.send(payload, text=kind == TEXT)
            except ConnectionClosed as error:
                raise Closed("the server has left") from error

    async def aclose(self) -> None:
        """Leave."""
        await self._connection.close()
