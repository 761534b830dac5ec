"""Messages on a Unix socket between roost and an isolate, the same in both directions.

A message is a head (JSON), pieces of a body, and an end; or a fault (JSON) in place of what is left of it. A
connection carries one exchange at a time and is kept for the next; closing it calls the exchange off. After a head
with status 101 it is a WebSocket: messages and a close, in both directions, and then its own end.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from typing import Any

HEAD, DATA, END, FAULT, TEXT, BYTES, CLOSE = range(7)
_HEADER = struct.Struct(">BI")
_HIGH, _LOW = 1 << 18, 1 << 16  # bytes that wait to be read, before the other side is held back


class Closed(ConnectionError):
    """The other side has closed the connection in the middle of an exchange."""


class Fault(Exception):
    """What the other side says went wrong. ``told``: its JSON."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__(str(told.get("message", "")))
        self.told = told


class Connection(asyncio.Protocol):
    """One end. ``made`` and ``lost`` are called with it when the connection opens and closes.

    ``live``: it is a WebSocket now, whose reader takes what has come before it hears that the connection has closed.
    """

    def __init__(
        self, made: Callable[[Connection], None] | None = None, lost: Callable[[Connection], None] | None = None
    ) -> None:
        self.closed = self.live = False
        self._made, self._lost = made, lost
        self._buffer = bytearray()
        self._frames: deque[tuple[int, bytes]] = deque()
        self._held = 0
        self._inside = False  # a message: its head has been received, and not yet its end
        self._paused = False
        self._waiting: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._made:
            self._made(self)

    def connection_lost(self, _: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self.closed = True
        for future in (self._waiting, self._writable):
            _wake(future)
        if self._lost:
            self._lost(self)

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        self._buffer += data
        place, known = 0, len(self._buffer)
        while known - place >= _HEADER.size:
            kind, size = _HEADER.unpack_from(self._buffer, place)
            if known - place < _HEADER.size + size:
                break
            start = place + _HEADER.size
            self._frames.append((kind, bytes(self._buffer[start : start + size])))
            self._held += size
            place = start + size
        del self._buffer[:place]
        if self._held > _HIGH and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        if place:
            _wake(self._waiting)

    def pause_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        _wake(self._writable)
        self._writable = None

    def close(self) -> None:
        """Call off whatever is going on."""
        self._transport.abort()

    def finish(self) -> None:
        """Close it once what was written has gone."""
        self._transport.close()

    async def receive(self) -> tuple[int, bytes]:
        """The next frame; raises :class:`Closed`."""
        while not self._frames:
            if self.closed:
                raise Closed("the connection was closed")
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        kind, payload = self._frames.popleft()
        self._held -= len(payload)
        if self._paused and self._held < _LOW and not self.closed:
            self._paused = False
            self._transport.resume_reading()
        return kind, payload

    async def receive_head(self) -> dict[str, Any]:
        """The head of the next message; raises :class:`Fault` where a fault came in its place."""
        kind, payload = await self.receive()
        told: dict[str, Any] = json.loads(payload)
        if kind == FAULT:
            raise Fault(told)
        return told

    async def body(self) -> AsyncGenerator[bytes]:
        """The pieces that follow a head; raises :class:`Fault` where one cuts them off."""
        while True:
            kind, payload = await self.receive()
            if kind == FAULT:
                raise Fault(json.loads(payload))
            if kind == END:
                return
            yield payload

    def body_at_hand(self) -> bytes | None:
        """The whole of the body that follows a head, if it has come already: most answers are one packet."""
        if not self._frames or self._frames[-1][0] != END or any(kind != DATA for kind, _ in list(self._frames)[:-1]):
            return None
        found = b"".join(payload for _, payload in self._frames)
        self._frames.clear()
        self._held -= len(found)
        return found if not self._paused else self._resumed(found)

    def _resumed(self, found: bytes) -> bytes:
        self._paused = False
        self._transport.resume_reading()
        return found

    def write(self, *frames: tuple[int, bytes]) -> None:
        """Send ``frames`` as they are."""
        if self.closed:
            raise Closed("the connection was closed")
        self._transport.write(b"".join(_HEADER.pack(kind, len(payload)) + payload for kind, payload in frames))

    async def drained(self) -> None:
        """Return once the other side keeps up."""
        if self._writable is not None:
            await self._writable
        if self.closed:
            raise Closed("the connection was closed")

    async def send(self, head: Mapping[str, Any], body: AsyncIterable[bytes] | bytes | None = None) -> None:
        """A whole message. Whatever ``body`` raises is raised here, with the message unfinished."""
        opening = (HEAD, json.dumps(head).encode())
        if body is None or isinstance(body, bytes):
            self.write(opening, *([(DATA, body)] if body else []), (END, b""))
        else:
            self.write(opening)
            async for piece in body:
                self.write((DATA, piece))
                await self.drained()
            self.write((END, b""))
        await self.drained()

    def fail(self, told: Mapping[str, Any]) -> None:
        """Say what went wrong, in place of a head or of the rest of a body."""
        if not self.closed:
            self.write((FAULT, json.dumps(told).encode()))


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
