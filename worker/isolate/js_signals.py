"""AbortController and AbortSignal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .js_base import JsException, JsProxy
from .js_promises import as_exception


class AbortSignal(JsProxy):
    """What tells work to stop."""

    def __init__(self) -> None:
        self.aborted = False
        self.reason: Any = None
        self.onabort: Any = None
        self._listeners: list[Callable[..., Any]] = []

    def addEventListener(self, kind: str, listener: Callable[..., Any], options: Any = None) -> None:
        self._listeners.append(listener)

    def removeEventListener(self, kind: str, listener: Callable[..., Any]) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)

    def throwIfAborted(self) -> None:
        if self.aborted:
            raise as_exception(self.reason)

    def abort_now(self, reason: Any = None) -> None:
        """Say that the work is to stop."""
        if self.aborted:
            return
        self.aborted = True
        self.reason = reason or JsException("The operation was aborted", "AbortError")
        for listener in [*self._listeners, *([self.onabort] if self.onabort else [])]:
            listener(self)

    @staticmethod
    def abort(reason: Any = None) -> AbortSignal:
        signal = AbortSignal()
        signal.abort_now(reason)
        return signal

    @staticmethod
    def timeout(milliseconds: float) -> AbortSignal:
        signal = AbortSignal()
        late = JsException("The operation was aborted due to timeout", "TimeoutError")
        asyncio.get_running_loop().call_later(milliseconds / 1000, signal.abort_now, late)
        return signal

    @staticmethod
    def any(signals: Any) -> AbortSignal:
        joined = AbortSignal()
        for signal in signals:
            if signal.aborted:
                joined.abort_now(signal.reason)
            signal.addEventListener("abort", lambda one: joined.abort_now(one.reason))
        return joined


class AbortController(JsProxy):
    """Who says stop."""

    def __init__(self) -> None:
        self.signal = AbortSignal()

    def abort(self, reason: Any = None) -> None:
        self.signal.abort_now(reason)


async def unless_aborted(signal: Any, work: Any) -> Any:
    """The result of ``work``, which is cancelled when ``signal`` says stop; then the signal's reason is raised."""
    task = asyncio.ensure_future(work)
    if isinstance(signal, AbortSignal):
        signal.addEventListener("abort", lambda _: task.cancel())
        if signal.aborted:
            task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        if isinstance(signal, AbortSignal) and signal.aborted:
            raise as_exception(signal.reason) from None
        raise
