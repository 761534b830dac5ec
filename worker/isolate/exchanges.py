"""Answers a Unix socket's connections: one exchange after another on each, called off when its connection closes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from .frames import Closed, Connection

Answer: TypeAlias = Callable[[Connection, dict[str, Any]], Awaitable[None]]
"""Gets a message's head, reads the rest of it from the connection and sends the answer."""


class Exchanges:
    """The connections of one socket. ``busy``: exchanges that are going on."""

    def __init__(self, answer: Answer) -> None:
        self.busy = 0
        self._answer = answer
        self._open: dict[Connection, asyncio.Task[None]] = {}

    def connection(self) -> Connection:
        """A new connection's protocol."""
        return Connection(self._made, self._lost)

    def _made(self, connection: Connection) -> None:
        self._open[connection] = asyncio.get_running_loop().create_task(self._serve(connection))

    def _lost(self, connection: Connection) -> None:
        task = self._open.pop(connection)
        if not connection.live:
            task.cancel()  # whoever asked has left

    async def _serve(self, connection: Connection) -> None:
        try:
            while True:
                head = await connection.receive_head()
                self.busy += 1
                try:
                    await self._answer(connection, head)
                finally:
                    self.busy -= 1
        except Closed:
            return
        finally:
            connection.close()  # whatever broke it off: whoever asked must not wait for ever
