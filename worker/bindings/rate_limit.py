"""Rate limiting: so many calls for a key in a period, which begins with the clock's multiples of it."""

from __future__ import annotations

import time
from typing import Any

from worker.bindings.binding import Binding, BindingError, methods

PERIODS = (10, 60)  # seconds


class RateLimit(Binding):
    """``limit`` calls per key in ``period`` seconds, counted in this process."""

    def __init__(self, limit: int, period: int) -> None:
        self._limit, self._period = limit, period
        self._window = -1
        self._counts: dict[str, int] = {}

    def described(self) -> dict[str, Any]:
        """See :meth:`Binding.described`."""
        return methods("Ratelimit", "limit")

    async def call(self, method: str, args: list[Any]) -> Any:
        """``limit({"key": …})``: whether the key is within its limit."""
        if method != "limit":
            return await super().call(method, args)
        given = args[0] if args else None
        key = given.get("key") if isinstance(given, dict) else None
        if not isinstance(key, str):
            raise BindingError("limit() takes an object with a key, which is a text", "TypeError")
        return {"success": self.take(key, time.time())}

    def take(self, key: str, now: float) -> bool:
        """Count a call at ``now``, seconds since 1970; whether it is within the limit."""
        window = int(now // self._period)
        if window != self._window:
            self._window, self._counts = window, {}
        self._counts[key] = self._counts.get(key, 0) + 1
        return self._counts[key] <= self._limit
