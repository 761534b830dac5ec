"""Events, and objects that tell them to listeners."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from .faults import told
from .js_base import JsProxy, JsType, option
from .js_promises import settled

_running: set[asyncio.Task[None]] = set()


class Event(JsProxy):
    """What happened: ``type``, and the properties of its kind."""

    target: Any

    def __init__(self, kind: str, init: Any = None) -> None:
        self.type = kind
        for name, value in (init or {}).items():
            setattr(self, name, value)


MessageEvent, CloseEvent, ErrorEvent = (
    JsType(name, (Event,), {"js_name": name}) for name in ("MessageEvent", "CloseEvent", "ErrorEvent")
)


class EventTarget(JsProxy):
    """``addEventListener`` and its kin; a function at ``on…`` listens, too."""

    def __init__(self) -> None:
        self._listeners: list[tuple[str, Callable[..., Any], bool]] = []

    def addEventListener(self, kind: str, listener: Callable[..., Any], options: Any = None, **more: Any) -> None:
        if not any(known[:2] == (kind, listener) for known in self._listeners):
            self._listeners.append((kind, listener, bool(option(options or more, "once", default=False))))

    def removeEventListener(self, kind: str, listener: Callable[..., Any], options: Any = None) -> None:
        self._listeners = [known for known in self._listeners if known[:2] != (kind, listener)]

    def dispatchEvent(self, event: Event) -> bool:
        event.target = self
        heard = [(listener, once) for kind, listener, once in self._listeners if kind == event.type]
        if callable(own := getattr(self, f"on{event.type}", None)):
            heard.append((own, False))
        for listener, once in heard:
            if once:
                self.removeEventListener(event.type, listener)
            task = asyncio.get_running_loop().create_task(self._told(listener, event))
            _running.add(task)
            task.add_done_callback(_running.discard)
        return True

    async def _told(self, listener: Callable[..., Any], event: Event) -> None:
        try:
            await settled(listener(event))
        except (SystemExit, MemoryError) as error:
            self._broken(error)
        except Exception as error:
            print(told(error)["traceback"], file=sys.stderr, flush=True)  # noqa: T201

    def _broken(self, error: BaseException) -> None:
        """A listener ended in what an isolate doesn't outlive."""
        raise error
