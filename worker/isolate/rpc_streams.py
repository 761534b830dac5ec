"""Several streams in the one body of a message: each piece says whose it is, and how long.

Whoever reads a stream reads the body as far as it needs; what belongs to the others waits for their readers.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from .faults import told
from .frames import Closed
from .js_base import JsException

_HEADER = struct.Struct(">HBI")
_PIECE, _END, _FAULT = range(3)


async def woven(streams: Sequence[AsyncGenerator[bytes]]) -> AsyncGenerator[bytes]:
    """``streams`` as one; closing it closes them."""
    pieces: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(1)

    async def read(number: int, stream: AsyncGenerator[bytes]) -> None:
        try:
            async for piece in stream:
                await pieces.put(_frame(number, _PIECE, piece))
            await pieces.put(_frame(number, _END))
        except Exception as error:
            await pieces.put(_frame(number, _FAULT, json.dumps(told(error)).encode()))

    reading = [asyncio.ensure_future(read(*each)) for each in enumerate(streams)]
    left = len(reading)
    try:
        while left:
            kind, piece = await pieces.get()
            left -= kind != _PIECE
            yield piece
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        for stream in streams:
            with suppress(RuntimeError):
                await stream.aclose()


class Unwoven:
    """The streams in ``body``, which is closed when none of them is read any more; closing it calls its sender off."""

    def __init__(self, body: AsyncGenerator[bytes]) -> None:
        self._body = body
        self._waiting: dict[int, deque[tuple[int, bytes]]] = {}
        self._read = bytearray()
        self._reading = asyncio.Lock()
        self._left = False  # a stream that nobody reads to its end

    def stream(self, number: int) -> AsyncGenerator[bytes]:
        """One of them."""
        self._waiting[number] = deque()
        return self._pieces(number)

    async def drain(self) -> None:
        """Read to the body's end, for those that still read."""
        while await self._more():
            pass

    async def _pieces(self, number: int) -> AsyncGenerator[bytes]:
        whole = False
        try:
            waiting = self._waiting[number]
            while True:
                while not waiting:
                    if not await self._more(waiting):
                        raise Closed("the stream broke off")
                kind, piece = waiting.popleft()
                whole = kind != _PIECE
                if kind == _END:
                    return
                if kind == _FAULT:
                    raise failed(json.loads(piece))
                yield piece
        finally:
            self._waiting.pop(number, None)
            self._left |= not whole
            if not self._waiting:
                await self._end()

    async def _end(self) -> None:
        """The last of the streams has ended, so that the body's end is next, or was left."""
        async with self._reading:
            if not self._left:
                await anext(self._body, None)
            await self._body.aclose()

    async def _more(self, wanted: deque[tuple[int, bytes]] | None = None) -> bool:
        """Read a piece, unless another has brought what is wanted meanwhile; whether the body goes on."""
        async with self._reading:
            if wanted:
                return True
            piece = await anext(self._body, None)
            self._read += piece or b""
            self._deliver()
        return piece is not None

    def _deliver(self) -> None:
        """Give what has been read to those that wait for it; the pieces of a body need not be whole ones of ours."""
        place = 0
        while len(self._read) - place >= _HEADER.size:
            number, kind, size = _HEADER.unpack_from(self._read, place)
            start = place + _HEADER.size
            if len(self._read) < start + size:
                break
            if number in self._waiting:
                self._waiting[number].append((kind, bytes(self._read[start : start + size])))
            place = start + size
        del self._read[:place]


def _frame(number: int, kind: int, piece: bytes = b"") -> tuple[int, bytes]:
    return kind, _HEADER.pack(number, kind, len(piece)) + piece


def failed(error: Mapping[str, Any]) -> JsException:
    """An error of the other side."""
    return JsException(str(error.get("message", "")), str(error.get("name", "Error")))
