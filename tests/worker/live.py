"""A real server for tests: an application on hypercorn, on a port of its own, in a thread with its own event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from socket import socket
from typing import Any

import httpx
from starlette.applications import Starlette

from worker.server import bind, serve_until, url_of

_PATIENCE = 60  # seconds, for a server that never says it is ready


@contextmanager
def live(app: Starlette, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve ``app`` while the block runs, at the address this yields; a fault of the server's is raised here."""
    ready: Future[Callable[[], object]] = Future()
    listener = bind(host, 0)
    url = url_of(listener)
    with ThreadPoolExecutor(1, "live-server") as thread:
        ended = thread.submit(lambda: asyncio.run(_serve(app, listener, ready)))
        stop = ready.result(_PATIENCE)
        try:
            yield url
        finally:
            stop()
            ended.result(_PATIENCE)
            listener.detach()  # hypercorn closed it


async def _serve(app: Starlette, listener: socket, ready: Future[Callable[[], object]]) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    await serve_until(app, listener, stop, lambda: ready.set_result(lambda: loop.call_soon_threadsafe(stop.set)))


def ps(url: str) -> dict[str, Any]:
    """What the roost at ``url`` says of its only engine."""
    (row,) = httpx.get(f"{url}/cdn-cgi/local/ps").raise_for_status().json()["loaded"]
    return dict(row)


def idle_at(url: str) -> dict[str, Any]:
    """The same once it computes nothing; the test's own timeout is the limit."""
    while (row := ps(url))["running"] or row["waiting"]:
        time.sleep(0.01)
    return row


def computing_at(url: str, tokens: int = 0) -> None:
    """Return once it is at work, and has generated ``tokens`` in all."""
    while not (row := ps(url))["running"] or row["generated_tokens"] < tokens:
        time.sleep(0.001)
