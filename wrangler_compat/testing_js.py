"""D1, R2, queues and datasets as a test has them: the isolate's own objects, over the bindings in this process."""

from __future__ import annotations

import datetime
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from worker.bindings.binding import Binding, BindingError, Outgoing
from worker.isolate.host import Host, javascript_value
from worker.isolate.js_analytics import AnalyticsEngineDataset
from worker.isolate.js_base import JsArray, JsException, JsObject, JsProxy, jsnull
from worker.isolate.js_buffers import JsBuffer
from worker.isolate.js_convert import to_js
from worker.isolate.js_d1 import D1Database
from worker.isolate.js_dates import Date
from worker.isolate.js_promises import Promise
from worker.isolate.js_queues import WorkerQueue
from worker.isolate.js_r2 import R2Bucket
from worker.isolate.values import decode, encode

if TYPE_CHECKING:
    from wrangler_compat.testing import Loop

CLASSES: dict[str, Callable[[Host, str], JsProxy]] = {
    "d1": D1Database,
    "r2": R2Bucket,
    "queue": WorkerQueue,
    "analytics": AnalyticsEngineDataset,
}
"""The isolate's class for a binding, by the ``kind`` that the binding is described with."""


class NearHost(Host):
    """roost as an isolate reaches it, but for ``binding`` alone, and without a socket."""

    def __init__(self, binding: Binding) -> None:
        super().__init__("")
        self._binding = binding

    async def call(self, service: str, method: str, args: list[Any]) -> Any:
        """See :meth:`Host.call`."""
        try:
            return decode(encode(await self._binding.call(method, list(decode(encode(args))))), javascript_value)
        except BindingError as error:
            raise JsException(str(error), error.name) from error

    async def fetch(
        self, service: str, head: Mapping[str, Any], body: AsyncIterable[bytes] | bytes | None
    ) -> tuple[dict[str, Any], AsyncGenerator[bytes]]:
        """See :meth:`Host.fetch`."""
        request = Outgoing(head["method"], head["url"], head["headers"], _pieces(body), head["redirect"])
        try:
            answer = await self._binding.fetch(request)
        except BindingError as error:
            raise JsException(str(error), error.name) from error
        return {"status": answer.status, "headers": answer.headers}, _pieces(answer.body)


class JsThing:
    """A JavaScript object outside: what its promises lead to is a :class:`Call`, everything else is there at once."""

    def __init__(self, loop: Loop, target: JsProxy) -> None:
        self._loop, self._target = loop, target

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return self._out(found)

        def call(*args: Any, **options: Any) -> Any:
            return self._call(found, [_in(arg) for arg in args], {key: _in(each) for key, each in options.items()})

        return call

    def __repr__(self) -> str:
        return f"<{type(self._target).name}>"

    def _call(self, function: Callable[..., Any], args: list[Any], options: dict[str, Any]) -> Any:
        async def started() -> Any:
            return function(*args, **options)

        made = self._loop.start(started()).result()
        if not isinstance(made, Promise):
            return self._out(made)

        async def settled() -> Any:
            return self._out(await made)

        return self._loop.start(settled())

    def _out(self, value: Any) -> Any:
        match value:
            case JsObject():
                return {key: self._out(each) for key, each in value.as_object_map().items()}
            case JsArray():
                return [self._out(each) for each in value]
            case JsBuffer():
                return value.to_bytes()
            case Date():
                return datetime.datetime.fromtimestamp(value.getTime() / 1000, datetime.UTC)
            case JsProxy():
                return JsThing(self._loop, value)
        return None if value is jsnull else value


def _in(value: Any) -> Any:
    if value is None:
        return jsnull
    return to_js(value, objects=True, default_converter=lambda each, *_: _single(each))


def _single(value: Any) -> Any:
    if isinstance(value, JsThing):
        return value._target
    return Date(value.timestamp() * 1000) if isinstance(value, datetime.datetime) else value


async def _pieces(body: AsyncIterable[bytes] | bytes | None) -> AsyncGenerator[bytes]:
    if isinstance(body, bytes) or body is None:
        if body:
            yield body
        return
    async for piece in body:
        yield piece
