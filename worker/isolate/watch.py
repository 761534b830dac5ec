"""A thread beside the event loop: it hears from roost, ends the isolate with it, and notices a loop that is stuck."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from .faults import stuck

_BEAT = 0.2  # seconds between signs of life
ENDED = 70
"""The exit status of an isolate that has said why it ends."""


class Watch:
    """The isolate's end of its control socket. ``limit``: seconds without an ``await``, ``None`` for any number."""

    def __init__(self, control: socket.socket, limit: float | None) -> None:
        self._control = control
        self._limit = limit
        self._lock = threading.Lock()
        self._alive = time.monotonic()
        self._main = threading.get_ident()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Watch the main thread from now on."""
        threading.Thread(target=self._beat, daemon=True).start()

    def follow(self, loop: asyncio.AbstractEventLoop, retire: Callable[[], None]) -> None:
        """Let ``loop`` show that it runs; ``retire`` is called in it when roost says so."""
        self._loop = loop
        threading.Thread(target=self._listen, args=(loop, retire), daemon=True).start()
        self._tick(loop)

    def say(self, **told: Any) -> None:
        """Tell roost something."""
        with self._lock:
            self._control.sendall(json.dumps(told).encode() + b"\n")

    def end(self, told: Mapping[str, Any]) -> None:
        """Say why, and end the process."""
        self.say(ended=told)
        os._exit(ENDED)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alive = time.monotonic()
        loop.call_later(_BEAT, self._tick, loop)

    def _listen(self, loop: asyncio.AbstractEventLoop, retire: Callable[[], None]) -> None:
        while heard := self._control.recv(64):
            if b"retire" in heard:
                loop.call_soon_threadsafe(retire)
        os._exit(0)  # roost has gone, however it ended

    def _beat(self) -> None:
        try:
            while True:
                time.sleep(_BEAT)
                self.say()
                if self._limit is not None and time.monotonic() - self._alive > self._limit:
                    self.end(stuck(sys._current_frames().get(self._main), self._limit))
        except OSError:
            os._exit(0)
