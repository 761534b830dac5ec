"""Promises: started at once, as JavaScript starts them, and awaited or chained."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from typing import Any

from .js_base import JsArray, JsError, JsException, JsObject, JsProxy


class Promise(JsProxy):
    """``Promise.new(executor)``, or around anything that can be awaited. Cancelling who awaits it cancels the work."""

    def __init__(self, work: Any) -> None:
        self._task: asyncio.Future[Any]
        if callable(work):
            self._task = asyncio.get_running_loop().create_future()
            work(self._resolve, self._reject)
        else:
            self._task = asyncio.ensure_future(work)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._task.__await__()

    def then(self, fulfilled: Any = None, rejected: Any = None) -> Promise:
        async def chained() -> Any:
            try:
                value = await self._task
            except Exception as error:
                if rejected is None:
                    raise
                return await settled(rejected(error))
            return await settled(fulfilled(value)) if fulfilled is not None else value

        return Promise(chained())

    def catch(self, rejected: Any) -> Promise:
        return self.then(None, rejected)

    def finally_(self, ended: Callable[[], Any]) -> Promise:
        async def chained() -> Any:
            try:
                return await self._task
            finally:
                await settled(ended())

        return Promise(chained())

    def _resolve(self, value: Any = None) -> None:
        if not self._task.done():
            self._task.set_result(value)

    def _reject(self, reason: Any = None) -> None:
        if not self._task.done():
            self._task.set_exception(as_exception(reason))

    @staticmethod
    def resolve(value: Any = None) -> Promise:
        return value if isinstance(value, Promise) else Promise(settled(value))

    @staticmethod
    def reject(reason: Any = None) -> Promise:
        return Promise(lambda _, reject: reject(reason))

    @staticmethod
    def all(promises: Iterable[Any]) -> Promise:
        async def gathered() -> JsArray:
            return JsArray(await asyncio.gather(*(settled(each) for each in promises)))

        return Promise(gathered())

    @staticmethod
    def allSettled(promises: Iterable[Any]) -> Promise:
        async def gathered() -> JsArray:
            ended = await asyncio.gather(*(settled(each) for each in promises), return_exceptions=True)
            return JsArray([_outcome(each) for each in ended])

        return Promise(gathered())

    @staticmethod
    def race(promises: Iterable[Any]) -> Promise:
        async def first() -> Any:
            tasks = [asyncio.ensure_future(settled(each)) for each in promises]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()

        return Promise(first())


def _outcome(ended: Any) -> JsObject:
    if isinstance(ended, BaseException):
        return JsObject({"status": "rejected", "reason": ended})
    return JsObject({"status": "fulfilled", "value": ended})


async def settled(value: Any) -> Any:
    """``value``, awaited if it can be."""
    return await value if isinstance(value, Awaitable) else value


def as_exception(reason: Any) -> BaseException:
    """What a promise that is rejected with ``reason`` raises."""
    if isinstance(reason, BaseException):
        return reason
    return reason.as_exception() if isinstance(reason, JsError) else JsException(str(reason))


def promised(function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Promise]:
    """An async method as JavaScript has it: it starts when called; keyword arguments are its last argument."""

    @functools.wraps(function)
    def start(*args: Any, **options: Any) -> Promise:
        return Promise(function(*args, *([JsObject(options)] if options else [])))

    return start
