"""Clients that leave take everything along: rows, queue, memory, descriptors and threads are back where they were."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncGenerator

import httpx
import psutil
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.stress.asking import REST, ask, greedy, right
from tests.stress.conftest import LONG, Figures
from tests.stress.leavers import leave
from tests.stress.serving import Roost
from tests.worker.live import live
from worker import server

pytestmark = pytest.mark.stress

LEAVERS = 1000 if LONG else 60
GROWTH = 40.0  # megabytes that an allocator may keep of what many clients took at once


def test_clients_that_leave_at_random_points_leave_nothing_behind(arithmetic: Roost, figures: Figures) -> None:
    chance = random.Random(2)
    asyncio.run(with_a_thread(arithmetic.url))
    asyncio.run(leave(arithmetic.url, 60, chance))  # warm: pools of threads and the allocator's are at their size
    arithmetic.idle()
    before = arithmetic.levels()
    asyncio.run(leave(arithmetic.url, LEAVERS, chance))
    arithmetic.idle()
    after = arithmetic.settled(before)
    assert after.descriptors <= before.descriptors
    assert after.threads <= before.threads
    assert after.megabytes - before.megabytes < GROWTH
    assert asyncio.run(answered(arithmetic.url, "still here")) == right("still here", 40)
    figures["clients that left at random points"] = LEAVERS
    figures["their megabytes, descriptors and threads left behind"] = (
        f"{max(0, round(after.megabytes - before.megabytes))}, {after.descriptors - before.descriptors}, "
        f"{after.threads - before.threads}"
    )


async def with_a_thread(url: str) -> None:
    """Ask for JSON, whose grammar is compiled in a thread, which stays."""
    form = {"type": "json_schema", "json_schema": {"type": "object"}}
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        await ask(client, REST, greedy("a", 40, response_format=form))


def test_a_client_that_closes_an_idle_connection_takes_its_descriptor_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_KEEP_ALIVE", 3600.0)

    async def hello(request: Request) -> Response:
        return Response("hello")

    with live(Starlette(routes=[Route("/", hello)])) as url:
        for _ in range(20):
            assert httpx.get(url).text == "hello"
        while any(one.status == psutil.CONN_CLOSE_WAIT for one in psutil.Process().net_connections()):
            time.sleep(0.02)


async def answered(url: str, prompt: str) -> str | None:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        return (await ask(client, REST, greedy(prompt, 40))).text


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such limit")
def test_a_reader_that_reads_no_more_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection stays open, so that nothing but the limit frees what it holds."""
    monkeypatch.setattr(server, "STALLED", 500)
    given_up: list[int] = []

    async def endless() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b"x" * 65_536
        finally:
            given_up.append(1)

    async def stream(request: Request) -> Response:
        return StreamingResponse(endless())

    with live(Starlette(routes=[Route("/", stream)])) as url, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        address = httpx.URL(url)
        client.connect((address.host, address.port or 80))
        client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        asyncio.run(until(given_up))


async def until(happened: list[int]) -> None:
    """The test's own timeout is the limit."""
    while not happened:
        await asyncio.sleep(0.02)
