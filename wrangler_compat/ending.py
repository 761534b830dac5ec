"""How roost ends: the first signal lets what runs come to its end, a second one ends it at once."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

KILLED = 128
"""A shell's status of what a signal ended, less the signal's number."""
ONE_PRESS = 0.5
"""Seconds in which signals are one: a key reaches roost from the terminal and again from npm, which passes it on."""


def stop_at_signals(leave: Callable[[], None]) -> asyncio.Event:
    """An event that the first SIGINT, SIGTERM or SIGHUP sets.

    A second SIGINT or SIGTERM calls ``leave``, then ends the process, whatever the loop or a thread is at: the keeper
    sees to the tools that were started.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    came_at = 0.0

    def first() -> None:
        nonlocal came_at
        if not stop.is_set():
            came_at = time.monotonic()
            stop.set()
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, second)

    def second(signum: int, _frame: object) -> None:
        if time.monotonic() - came_at > ONE_PRESS:
            leave()
            os._exit(KILLED + signum)

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(signum, first)
    return stop
