"""Serves an application on hypercorn: binds the port first, so that what is announced is true."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.types import ASGIApp

from worker import connections, websocket_stream
from worker.isolate.sockets import MAX_MESSAGE

GRACE = 8.0
"""Seconds that running requests are given to end at shutdown; docker stop kills what takes 10."""
STALLED = 60_000
"""Milliseconds that what was sent to a client may wait to be taken, before its connection is given up."""
_FAREWELL = 1.0  # seconds beyond the grace, for the errors that tell of the end
_PORTS_TRIED, _LAST_PORT = 20, 65_535
_KEEP_ALIVE = 75.0  # seconds; nginx's default


class PortTaken(OSError):
    """The port that was asked for is in use."""


def bind(host: str, port: int, *, or_next: bool = False) -> socket.socket:
    """A listening socket on ``host``:``port`` (0: any), or with ``or_next`` on the first free port after it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    last = min(port + _PORTS_TRIED, _LAST_PORT) if or_next and port else port
    for candidate in range(port, last + 1):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted connections inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED)
        try:
            listener.bind((host, candidate))
            listener.listen()
        except (OSError, OverflowError) as error:  # a number that is no port overflows
            listener.close()
            reason = getattr(error, "strerror", None) or str(error)
        else:
            listener.set_inheritable(True)
            return listener
    raise PortTaken(f"port {port} on {host} can't be had: {reason}")


def url_of(listener: socket.socket) -> str:
    """The address that a client types: the loopback's where the socket listens everywhere."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)
    return f"http://{shown}:{port}"


@dataclass(frozen=True, slots=True)
class Tls:
    """A second listening socket, for TLS, with its certificate and private key in PEM files."""

    listener: socket.socket
    certificate: Path
    key: Path


async def serve_until(
    app: ASGIApp,
    listener: socket.socket,
    stop: asyncio.Event,
    ready: Callable[[], None] | None = None,
    tls: Tls | None = None,
    *,
    grace: float = GRACE,
    last_word: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve ``app`` on ``listener`` until ``stop`` is set and running requests have ended or used up their ``grace``.

    ``last_word`` is called then, to tell those that are still waiting. The sockets are hypercorn's from here on, which
    closes them.
    """
    connections.install()
    websocket_stream.install()
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    if tls is not None:
        config.insecure_bind, config.bind = config.bind, [f"fd://{tls.listener.detach()}"]
        config.certfile, config.keyfile = str(tls.certificate), str(tls.key)
    config.include_server_header = False
    config.graceful_timeout = config.shutdown_timeout = grace + _FAREWELL
    config.keep_alive_timeout = _KEEP_ALIVE
    config.websocket_max_message_size = MAX_MESSAGE
    config.accesslog = None
    config.errorlog = None
    if ready is not None:
        asyncio.get_running_loop().call_soon(ready)
    ending = asyncio.create_task(_last_word(stop, grace, last_word))
    try:
        await serve(app, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]  # hypercorn's own types of ASGI
    finally:
        ending.cancel()


async def _last_word(stop: asyncio.Event, grace: float, tell: Callable[[], Awaitable[None]] | None) -> None:
    await stop.wait()
    await asyncio.sleep(grace)
    if tell is not None:
        await tell()
