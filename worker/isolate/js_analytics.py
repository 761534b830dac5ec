"""Analytics Engine's ``env.DATASET``, as workerd has it: what is wrong is raised at once, the rest isn't waited for."""

from __future__ import annotations

from collections import deque
from typing import Any

from .context import go_on_with
from .host import Host
from .js_base import JsArray, JsException, JsObject, JsProxy, jsnull, option, type_error
from .js_buffers import JsBuffer

_MANY = {"indexes": 1, "blobs": 20, "doubles": 20}
_INDEX, _BLOBS = 96, 16 << 10  # bytes of the index, and of all blobs


class AnalyticsEngineDataset(JsProxy):
    """A dataset."""

    def __init__(self, host: Host, service: str) -> None:
        self._host, self._service = host, service
        self._waiting: deque[list[Any]] = deque()
        self._sending = False

    def writeDataPoint(self, event: Any = None, **named: Any) -> None:
        given = event if isinstance(event, JsObject) else JsObject(named)
        blobs = [_bytes(each, "blob") for each in _list(given, "blobs")]
        indexes = [_bytes(each, "index") for each in _list(given, "indexes")]
        doubles = [_double(each) for each in _list(given, "doubles")]
        if sum(map(len, blobs)) > _BLOBS:
            raise _wrong(f"Blobs of {sum(map(len, blobs))} bytes are more than the {_BLOBS} of a data point.")
        if indexes and len(indexes[0]) > _INDEX:
            raise _wrong(f"An index of {len(indexes[0])} bytes is longer than {_INDEX}.")
        self._waiting.append([indexes[0] if indexes else b"", blobs, doubles])
        if not self._sending:
            self._sending = True
            go_on_with(self._send())

    async def _send(self) -> None:
        """Send what waits, one after another: a loop of writes is no flood of connections."""
        try:
            while self._waiting:
                await self._host.call(self._service, "writeDataPoint", self._waiting.popleft())
        finally:
            self._sending = False


def _list(given: Any, name: str) -> list[Any]:
    found = option(given, name, JsArray([]))
    if not isinstance(found, JsArray):
        raise _wrong(f"{name} must be an array.")
    if len(found) > _MANY[name]:
        raise _wrong(f"Maximum of {_MANY[name]} {name} supported.")
    return list(found)


def _bytes(value: Any, what: str) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if isinstance(value, JsBuffer):
        return value.to_bytes()
    if value is None or value is jsnull:
        return b""
    raise _wrong(f"A {what} is a text, bytes or null, and not {value!r}.")


def _double(value: Any) -> float:
    if isinstance(value, bool | int | float):
        return float(value)
    raise _wrong(f"A double is a number, and not {value!r}.")


def _wrong(sentence: str) -> JsException:
    return type_error(f"writeDataPoint(): {sentence}")
