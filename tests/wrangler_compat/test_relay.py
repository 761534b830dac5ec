"""The relay before workerd, between real sockets."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from worker.server import bind
from wrangler_compat.relay import relay

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LONG = b"0123456789" * 500_000


@asynccontextmanager
async def client_of(serve: Serve) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection through the relay to a server on a Unix socket."""
    ready = asyncio.Event()

    async def serve_clients(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1):  # the relay itself connects and sends nothing, to see whether somebody is there
            await serve(reader, writer)
        await closed(writer)

    with TemporaryDirectory() as folder, bind("127.0.0.1", 0) as listener:  # pytest's own folders have too long a path
        door, address = Path(folder) / "door", listener.getsockname()
        relaying = asyncio.create_task(relay(listener, door, ready.set))
        await asyncio.sleep(0)
        async with await asyncio.start_unix_server(serve_clients, door):
            await ready.wait()
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"!")
            try:
                yield reader, writer
            finally:
                await closed(writer)
                relaying.cancel()


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readexactly(len(LONG)))
    await writer.drain()


async def test_both_ways_are_passed_on_to_the_last_byte() -> None:
    async with client_of(echo) as (reader, writer):
        writer.write(LONG)
        assert await reader.read(-1) == LONG


@pytest.mark.parametrize("leave", ["write_eof", "close"])
async def test_the_server_hears_at_once_that_the_client_has_left(leave: str) -> None:
    """It need not write to notice: its own end hangs up, which is what workerd looks for."""
    hung_up = asyncio.get_running_loop().create_future()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        poll = select.poll()
        poll.register(writer.get_extra_info("socket").fileno(), 0)
        hung_up.set_result(await asyncio.to_thread(poll.poll, 10_000))

    async with client_of(wait) as (reader, writer):
        assert await reader.readexactly(5) == b"hello"
        getattr(writer, leave)()
        ((_, events),) = await hung_up
        assert events & select.POLLHUP
