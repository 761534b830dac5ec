"""In front of workerd: a relay that tells it at once when a client has left.

workerd takes a closed connection for one that has sent all it had to send, and notices that nobody is there when it
next writes: a Worker that waits for an answer would wait on. On a Unix socket the two differ, so the relay, which
closes its end as soon as the client's is closed, is noticed. Like most servers it serves no client that closes its
half and goes on reading.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_PIECE = 65_536


async def relay(listener: socket.socket, door: Path, ready: Callable[[], None]) -> None:
    """Pass connections on to the Unix socket ``door``, from when it answers until this is cancelled."""
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_unix_connection(door)
            break
        await asyncio.sleep(0.02)
    writer.close()
    server = await asyncio.start_server(functools.partial(_pass_on, door), sock=listener)
    ready()
    async with server:
        await server.serve_forever()


async def _pass_on(door: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, until either end closes it."""
    try:
        inner_reader, inner_writer = await asyncio.open_unix_connection(door)
    except OSError:
        writer.close()
        return
    ways = {asyncio.create_task(_pump(reader, inner_writer)), asyncio.create_task(_pump(inner_reader, writer))}
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        inner_writer.close()
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
