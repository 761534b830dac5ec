"""``ctx`` of one request, and the work that goes on after its response."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from typing import Any

from .faults import told
from .js_base import JsProxy
from .js_convert import to_js
from .js_promises import settled

_current: contextvars.ContextVar[Context] = contextvars.ContextVar("ctx")
_background: set[asyncio.Task[Any]] = set()


class Context(JsProxy):
    """``ctx``: ``waitUntil``, ``passThroughOnException``."""

    js_name = "ExecutionContext"

    def __init__(self, props: Any = None) -> None:
        self.props = to_js(props or {}, objects=True)
        self.passes_through = False
        _current.set(self)

    def waitUntil(self, work: Any) -> None:
        go_on_with(work)

    wait_until = waitUntil

    def passThroughOnException(self) -> None:
        self.passes_through = True


def go_on_with(work: Any) -> None:
    """Let ``work`` go on after the response; what it raises is printed."""
    task = asyncio.get_running_loop().create_task(settled(work))
    _background.add(task)
    task.add_done_callback(_ended)


async def background_ended() -> None:
    """Return once no such work is left."""
    while _background:
        await asyncio.wait(_background)


def _ended(task: asyncio.Task[Any]) -> None:
    _background.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        print(f"waitUntil failed: {told(error)['traceback']}", file=sys.stderr, flush=True)  # noqa: T201
