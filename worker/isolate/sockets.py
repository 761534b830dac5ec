"""Open WebSockets as frames between two ends: clients, isolates, and servers that Workers connect to."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Protocol

from .frames import CLOSE, FAULT, Closed, Fault

MAX_MESSAGE = 32 << 20
"""Bytes of one message that a Worker may receive: the platform's limit since October 2025, 1 MiB before."""
MAX_WAITING = 64 << 20
"""Bytes of messages that may wait for a client, or for a Worker that hasn't called ``accept()``."""
NO_STATUS, ABNORMAL, INTERNAL_ERROR = 1005, 1006, 1011
"""Codes of RFC 6455: a close without a code, no close at all, and the server's own failure."""
_CLOSING = 10.0  # seconds that the second side has to answer the first one's close


class Duplex(Protocol):
    """One end. ``write`` may hold back what ``drained`` sends; both raise :class:`Closed` once nobody is there."""

    async def receive(self) -> tuple[int, bytes]:
        """The next frame: TEXT, BYTES, CLOSE, or a FAULT in their place; raises :class:`Closed`."""

    def write(self, *frames: tuple[int, bytes]) -> None:
        """Send ``frames``."""

    async def drained(self) -> None:
        """Return once the other side keeps up."""


def closing(code: int, reason: str = "", *, clean: bool = True) -> tuple[int, bytes]:
    """The frame of a close. ``clean``: whether there was one, on the wire."""
    return CLOSE, json.dumps({"code": code, "reason": reason, "clean": clean}).encode()


def said(payload: bytes) -> dict[str, Any]:
    """What :func:`closing` put into a frame."""
    told: dict[str, Any] = json.loads(payload)
    return told


def on_the_wire(code: int) -> int:
    """``code`` as it may stand in a close frame: some only say that there was none."""
    return INTERNAL_ERROR if code in (ABNORMAL, 1015) else code


async def relay(one: Duplex, other: Duplex) -> None:
    """Carry messages both ways until both sides have closed, or one is gone; raises what either raises of its own."""
    ways = [asyncio.create_task(_carry(one, other)), asyncio.create_task(_carry(other, one))]
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        if all(way.exception() is None for way in done):
            done, _ = await asyncio.wait(ways, timeout=_CLOSING)
    finally:
        for way in ways:
            way.cancel()
    for way in done:
        way.result()


async def _carry(source: Duplex, target: Duplex) -> None:
    try:
        while True:
            try:
                kind, payload = await source.receive()
            except Closed:
                kind, payload = closing(ABNORMAL, clean=False)
            if kind == FAULT:
                raise Fault(json.loads(payload))
            target.write((kind, payload))
            await target.drained()
            if kind == CLOSE:
                return
    except Closed:
        return  # the target is gone, which the other way notices
