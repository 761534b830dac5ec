"""Analytics Engine: a dataset in an SQLite file. Limits are checked in the isolate, ``worker/isolate/js_analytics.py``.

developers.cloudflare.com/analytics/analytics-engine/get-started and /limits.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from worker.bindings.analytics_file import AnalyticsFile, Point
from worker.bindings.binding import Binding


class AnalyticsDataset(Binding):
    """The dataset ``name`` in ``file``."""

    def __init__(self, file: AnalyticsFile, name: str) -> None:
        self._file, self._name = file, name

    def described(self) -> dict[str, Any]:
        """See :meth:`Binding.described`."""
        return {"kind": "analytics"}

    async def call(self, method: str, args: list[Any]) -> Any:
        """``writeDataPoint(index, blobs, doubles)``, which the isolate has checked."""
        if method != "writeDataPoint":
            return await super().call(method, args)
        index, blobs, doubles = args
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        self._file.write(self._name, Point(now, _text(index), [_text(each) for each in blobs], doubles))
        return None

    async def aclose(self) -> None:
        """Close the file."""
        self._file.close()


def _text(value: str | bytes) -> str | bytes:
    """Bytes as the text that they are, where they are one: the platform doesn't tell the two apart."""
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
