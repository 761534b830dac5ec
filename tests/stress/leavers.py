"""Clients that leave: before the first token, in mid stream, in mid body, half closed, or reading no more."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

import httpx

from tests.stress.asking import DOORS, a_prompt, at, greedy

_LONG = 300  # tokens: there is a middle to leave in
_AT_ONCE = 40
_SMALL = 2048  # bytes of a socket's receive buffer, for those who stop reading

Leaver: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes, random.Random], Awaitable[None]]


async def before_the_first_token(
    _reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, chance: random.Random
) -> None:
    writer.write(request)
    await writer.drain()
    await asyncio.sleep(chance.choice([0, 0.001]))


async def in_mid_stream(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, chance: random.Random
) -> None:
    writer.write(request)
    left = chance.randint(1, 4000)
    while left > 0 and (piece := await reader.read(left)):
        left -= len(piece)


async def in_mid_body(
    _reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, chance: random.Random
) -> None:
    writer.write(request[: chance.randint(1, len(request) - 1)])
    await writer.drain()


async def half_closed(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, chance: random.Random
) -> None:
    writer.write(request)
    await asyncio.sleep(chance.random() / 50)
    writer.write_eof()
    await reader.read()


async def reading_no_more(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, chance: random.Random
) -> None:
    writer.write(request)
    await reader.read(chance.randint(1, 200))
    await asyncio.sleep(chance.random() / 2)


KINDS: tuple[Leaver, ...] = (before_the_first_token, in_mid_stream, in_mid_body, half_closed, reading_no_more)


async def leave(url: str, count: int, chance: random.Random) -> None:
    """``count`` clients of every kind and door, some dozens at a time."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> None:
        async with room:
            await _leave(url, KINDS[number % len(KINDS)], request_of(DOORS[number % len(DOORS)], chance), chance)

    await asyncio.gather(*(one(number) for number in range(count)))


async def _leave(url: str, kind: Leaver, request: bytes, chance: random.Random) -> None:
    address = httpx.URL(url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
    connection.connect((address.host, address.port or 80))
    reader, writer = await asyncio.open_connection(sock=connection, limit=_SMALL)
    try:
        with suppress(ConnectionError):
            await kind(reader, writer, request, chance)
    finally:
        if chance.random() < 0.5:
            writer.transport.abort()  # half of them with a RST, as a killed process's kernel may
        writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def request_of(door: str, chance: random.Random) -> bytes:
    """A long stream or whole answer, as bytes of HTTP."""
    path, headers, body = at(door, greedy(a_prompt(chance), _LONG, stream=chance.random() < 0.7))
    content = json.dumps(body).encode()
    lines = {"host": "localhost", "connection": "close", "content-length": str(len(content)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + content
