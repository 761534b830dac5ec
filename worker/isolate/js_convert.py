"""Python's values for JavaScript: ``to_js`` and proxies, as ``pyodide.ffi`` has them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from .js_base import JsArray, JsMap, JsObject, JsProxy, JsSet, type_error
from .js_buffers import Uint8Array, array_of


class PyProxy(JsProxy):
    """A Python object as JavaScript holds it: callable like it, with ``getBuffer`` where it holds bytes."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def unwrap(self) -> Any:
        return self._target

    def destroy(self) -> None:
        self._target = None

    def getBuffer(self, kind: str = "u8") -> BufferView:
        return BufferView(bytes(self._target))

    def to_py(self, *, depth: int = -1, default_converter: Callable[..., Any] | None = None) -> Any:
        return self._target

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._target(*args, **options)

    def __await__(self) -> Any:
        return self._target.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


class BufferView(JsProxy):
    """What ``getBuffer`` gives: ``data`` is a Uint8Array."""

    js_name = "PyBufferView"

    def __init__(self, data: bytes) -> None:
        self.data = Uint8Array(data)

    def release(self) -> None: ...


def create_proxy(value: Any, /, **options: Any) -> Any:
    """A proxy of ``value``; JavaScript here calls Python functions as they are, so it only adds Pyodide's methods."""
    return PyProxy(value)


def create_once_callable(function: Callable[..., Any], /, **options: Any) -> Callable[..., Any]:
    """``function``, which nobody has to destroy."""
    return function


def destroy_proxies(proxies: Iterable[Any]) -> None:
    """Destroy each of ``proxies``."""
    for proxy in proxies:
        proxy.destroy()


def run_sync(awaitable: Any) -> Any:
    """The result of ``awaitable``, waited for where no ``await`` can stand, while other requests go on.

    CPython can't put a stack aside, as the platform does: of two such waits the later must end first. What it takes
    to run the loop inside a task is private to asyncio, and the same in all its versions.
    """
    loop: Any = asyncio.get_running_loop()
    waited: asyncio.Future[Any] = asyncio.ensure_future(awaitable)
    current = asyncio.current_task()
    tasks: Any = asyncio.tasks
    owed = len(loop._ready)  # the round of the loop that we are in still takes that many
    tasks._leave_task(loop, current)
    try:
        while not waited.done():
            loop._run_once()
    finally:
        tasks._enter_task(loop, current)
        for _ in range(owed):
            loop.call_soon(_nothing)
    return waited.result()


def _nothing() -> None: ...


def to_js(
    value: Any,
    /,
    *,
    depth: int = -1,
    pyproxies: Any = None,
    create_pyproxies: bool = True,
    dict_converter: Callable[[Any], Any] | None = None,
    default_converter: Callable[..., Any] | None = None,
    eager_converter: Callable[..., Any] | None = None,
    objects: bool = False,
) -> Any:
    """``value`` for JavaScript: a list becomes an Array, a dict a Map, or what ``dict_converter`` makes of its entries.

    ``objects``: dicts become plain objects, as with ``dict_converter=Object.fromEntries``.
    """

    def convert(each: Any, left: int = depth) -> Any:
        if left == 0 or each is None or isinstance(each, JsProxy | bool | int | float | str):
            return each
        if isinstance(each, dict):
            entries = {key: convert(inner, left - 1) for key, inner in each.items()}
            if objects:
                return JsObject(entries)
            if dict_converter is None:
                return JsMap(entries)
            return dict_converter(JsArray([JsArray([key, inner]) for key, inner in entries.items()]))
        if isinstance(each, list | tuple):
            return JsArray([convert(inner, left - 1) for inner in each])
        if isinstance(each, set | frozenset):
            return JsSet(convert(inner, left - 1) for inner in each)
        if isinstance(each, bytes | bytearray | memoryview):
            return array_of(each)
        return _otherwise(each)

    def _otherwise(each: Any) -> Any:
        if default_converter is not None:
            return default_converter(each, convert, lambda *_: None)
        if not create_pyproxies and not callable(each):
            raise type_error(f"a {type(each).__name__} can't be converted")
        return each

    return convert(value)
