"""The body of a message that is being answered: read by whoever answers it, and passed over once that is done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any, Never

from .frames import DATA, FAULT, Connection, Fault


class Upload(AsyncGenerator[bytes, None]):
    """The pieces that follow a head on ``connection``. However their reader ends, the next message is found.

    ``late``: what a reader gets once the answer has gone.
    """

    def __init__(self, connection: Connection, late: Callable[[], Exception] = StopAsyncIteration) -> None:
        self._connection = connection
        self._late = late
        self._ended = self._left = self._answered = False
        self._free = asyncio.Event()
        self._free.set()

    async def asend(self, _: None) -> bytes:
        """The next piece; see :class:`AsyncGenerator`."""
        if self._answered:
            raise self._late()
        if self._left or (piece := await self._next()) is None:
            raise StopAsyncIteration
        return piece

    async def athrow(self, error: Any, *_: Any) -> Never:
        """See :class:`AsyncGenerator`."""
        self._left = True
        raise error

    async def aclose(self) -> None:
        """Read no more of it."""
        self._left = True

    async def rest(self) -> None:
        """Pass over what nobody has read, now that the answer has gone."""
        self._answered = True
        await self._free.wait()
        while await self._next() is not None:
            pass

    async def _next(self) -> bytes | None:
        if self._ended:
            return None
        self._free.clear()
        try:
            kind, payload = await self._connection.receive()
        finally:
            self._free.set()
        self._ended = kind != DATA
        if kind == FAULT:
            raise Fault(json.loads(payload))
        return payload if kind == DATA else None
