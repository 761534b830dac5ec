"""Date, in UTC."""

from __future__ import annotations

import datetime
import time
from typing import Any

from .js_base import JsException, JsProxy


class Date(JsProxy):
    """``Date.new()``, or of milliseconds since 1970, or of an ISO text."""

    def __init__(self, at: Any = None) -> None:
        self._milliseconds: float = time.time() * 1000 // 1
        if isinstance(at, int | float):
            self._milliseconds = at
        elif at is not None:
            self._milliseconds = Date.parse(str(at))

    @staticmethod
    def now() -> int:
        return int(time.time() * 1000)

    @staticmethod
    def parse(text: str) -> float:
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError as error:
            raise JsException("Invalid time value", "RangeError") from error
        return moment.replace(tzinfo=moment.tzinfo or datetime.UTC).timestamp() * 1000 // 1

    def getTime(self) -> float:
        at = self._milliseconds
        return int(at) if float(at).is_integer() else at

    valueOf = getTime

    def toISOString(self) -> str:
        return self._moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    toJSON = toString = __str__ = toISOString

    def getUTCFullYear(self) -> int:
        return self._moment.year

    def getUTCMonth(self) -> int:
        return self._moment.month - 1

    def getUTCDate(self) -> int:
        return self._moment.day

    def getUTCDay(self) -> int:
        return self._moment.isoweekday() % 7

    def getUTCHours(self) -> int:
        return self._moment.hour

    def getUTCMinutes(self) -> int:
        return self._moment.minute

    def getUTCSeconds(self) -> int:
        return self._moment.second

    @property
    def _moment(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._milliseconds / 1000, datetime.UTC)
