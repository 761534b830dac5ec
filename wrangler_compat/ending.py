"""How roost ends: the first signal lets what runs come to its end, the second one ends it at once."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KILLED = 128
"""A shell's status of what a signal ended, less the signal's number."""


def stop_at_signals(leave: Callable[[], None]) -> asyncio.Event:
    """An event that the first signal sets. A second one calls ``leave``, then ends the process whatever it does."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def first() -> None:
        stop.set()
        for signum in SIGNALS:
            loop.remove_signal_handler(signum)
            signal.signal(signum, functools.partial(_at_once, leave))

    for signum in SIGNALS:
        loop.add_signal_handler(signum, first)
    return stop


def _at_once(leave: Callable[[], None], signum: int, _frame: FrameType | None) -> None:
    """Neither the loop nor the threads of ONNX Runtime are asked; the keeper sees to the tools that were started."""
    leave()
    os._exit(KILLED + signum)
