"""Runs a Python Worker and its bindings inside a test: a loop in a thread, the AI doors, a folder for storage."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import httpx
from starlette.types import ASGIApp

from runtime.config import Usage
from runtime.tasks.text_generation import Event, Finished, Result, TextDelta
from worker.answer import Answer
from worker.bindings import AI
from worker.bindings.binding import Binding, Outgoing
from worker.call import Call as Asked
from worker.front import Front
from worker.isolate.values import Streamed, decode, encode
from worker.server import bind, serve_until, url_of
from wrangler_compat.app import create_app
from wrangler_compat.project import open_project
from wrangler_compat.python_project import read_python_project
from wrangler_compat.python_workers import PythonOptions, Workers, refuse_absent_services, refuse_second_consumers
from wrangler_compat.testing_js import CLASSES, JsThing, NearHost

Answers: TypeAlias = str | Callable[[str, Mapping[str, Any]], str | dict[str, Any]]
"""What stands in for a model: fixed words, or a function of the model's name and the inputs.

It returns words, or the whole result of a model that doesn't write, such as one of embeddings.
"""
_T = TypeVar("_T")


class RoostAI(AI):
    """The AI binding of a test. The model answers, unless :meth:`answers` says what to say in its place.

    ``calls``: the model and the checked inputs of every run. Inputs are checked against the card either way.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._answers: Answers | None = None

    def answers(self, answers: Answers | None) -> None:
        """Answer with these words, or with what the function returns or raises; ``None``: with the model again."""
        self._answers = answers

    def forget(self) -> None:
        """Be as at first."""
        self.calls.clear()
        self._answers = None

    async def _generate_here(self, call: Asked) -> Answer:
        checked = self.catalog[call.model].validate_inputs(call.inputs)
        self.calls.append((call.model, dict(checked)))
        if self._answers is None:
            return await super()._generate_here(call)
        text = self._answers if isinstance(self._answers, str) else self._answers(call.model, checked)
        streaming = checked.get("stream") is True and isinstance(text, str)
        return Answer(_said(text), streaming=streaming, request_id=call.request_id, served_by=None)


async def _said(text: str | dict[str, Any]) -> AsyncGenerator[Event]:
    if isinstance(text, dict):
        yield Result(text)
        yield Finished(None, Usage(0, 0))
        return
    words = [word + " " for word in text.split(" ")]
    for word in [*words[:-1], words[-1].removesuffix(" ")]:
        yield TextDelta(word)
    yield Finished("stop", Usage(0, len(words)))


class Call(Generic[_T]):
    """What a binding gives a test: ``await`` it, or take its :meth:`result`."""

    def __init__(self, future: Future[_T]) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, _T]:
        return asyncio.wrap_future(self._future).__await__()

    def result(self) -> _T:
        """The result, waited for."""
        return self._future.result()


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="roost", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, _T]) -> Call[_T]:
        """Do ``work`` there."""
        return Call(asyncio.run_coroutine_threadsafe(work, self._loop))

    @contextmanager
    def inside(self, context: Any) -> Iterator[Any]:
        """What an async context manager gives, which is entered and left there."""
        entered: Future[Any] = Future()
        leave = asyncio.Event()

        async def hold() -> None:
            try:
                async with context as value:
                    entered.set_result(value)
                    await leave.wait()
            except BaseException as error:
                if entered.done():
                    raise
                entered.set_exception(error)

        held = self.start(hold())
        try:
            yield entered.result()
        finally:
            self._loop.call_soon_threadsafe(leave.set)
            held.result()

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncGenerator[str]:
    """The address at which ``app`` is served while the block runs."""
    listener, stop = bind("127.0.0.1", 0), asyncio.Event()
    url = url_of(listener)
    serving = asyncio.create_task(serve_until(app, listener, stop))
    try:
        yield url
    finally:
        stop.set()
        await serving


class TestEnv:
    """``env`` as a test has it: variables, and bindings whose methods give a :class:`Call`."""

    __test__ = False

    def __init__(self, loop: Loop, bindings: Mapping[str, Binding], variables: Mapping[str, Any], ai: AI) -> None:
        self._loop, self._bindings, self._variables, self._ai = loop, bindings, variables, ai

    def __getattr__(self, name: str) -> Any:
        if name in self._variables:
            return self._variables[name]
        if name not in self._bindings:
            raise AttributeError(f"env has no {name}: it has {', '.join([*self._bindings, *self._variables])}")
        binding = self._bindings[name]
        described = binding.described()
        kind = described["kind"]
        if kind == "variable":
            return described["value"]
        if kind in CLASSES:
            return JsThing(self._loop, CLASSES[kind](NearHost(binding), name))
        if kind == "fetcher":
            return _Service(self._loop, binding)
        return _Methods(self._loop, binding) if kind == "host" else self._ai


class _Methods:
    def __init__(self, loop: Loop, binding: Binding) -> None:
        self._loop, self._binding = loop, binding

    def __getattr__(self, name: str) -> Callable[..., Call[Any]]:
        def call(*args: Any, **options: Any) -> Call[Any]:
            return self._loop.start(self._called(name, [*args, *([options] if options else [])]))

        return call

    async def _called(self, name: str, args: list[Any]) -> Any:
        result = await self._binding.call(name, list(decode(encode(args))))
        return result.data if isinstance(result, Streamed) else result


class _Service:
    """Assets, or another Worker, as a test asks it."""

    def __init__(self, loop: Loop, binding: Binding) -> None:
        self._loop, self._binding = loop, binding

    def fetch(
        self, url: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Call[httpx.Response]:
        """The response to a request."""
        return self._loop.start(self._fetched(httpx.Request(method, url, headers=headers, content=body)))

    async def _fetched(self, request: httpx.Request) -> httpx.Response:
        async def sent() -> AsyncGenerator[bytes]:
            yield request.content

        headers = [(name.lower(), value) for name, value in request.headers.items()]
        asked = Outgoing(request.method, str(request.url), headers, sent(), "manual", len(request.content))
        found = await self._binding.fetch(asked)
        body = found.body if isinstance(found.body, bytes) else b"".join([piece async for piece in found.body])
        return httpx.Response(found.status, headers=[*found.headers], content=body, request=request)


class TestWorker(httpx.Client):
    """A client of the Worker under test, and its clock."""

    __test__ = False

    def __init__(self, loop: Loop, url: str, front: Front, env: TestEnv) -> None:
        super().__init__(base_url=url, timeout=60)
        self.env = env
        self._loop, self._front = loop, front

    def scheduled(self, cron: str = "* * * * *", at: float = 0) -> None:
        """Run the scheduled handler, at ``at`` milliseconds since 1970; raises what it raised."""
        self._loop.start(self._front.scheduled(cron, at)).result()


@contextmanager
def worker_of(
    loop: Loop, ai: RoostAI, doors: str, state: Path, configs: Sequence[Path], environment: str | None = None
) -> Iterator[TestWorker]:
    """The first Worker of ``configs`` while the block runs, with its storage in ``state``, and ``doors`` for its AI."""
    read = [read_python_project(open_project(each, each, environment), allow_missing=True) for each in configs]
    refuse_absent_services(read)
    refuse_second_consumers(read)

    @asynccontextmanager
    async def running() -> AsyncGenerator[tuple[str, Front, Mapping[str, Binding]]]:
        workers = Workers(read, PythonOptions(), state, doors)
        async with AsyncExitStack() as stack:
            for each in read:
                await stack.enter_async_context(workers[each.name][0].running())
            for each in read:  # each may send to what another consumes
                await stack.enter_async_context(workers.consuming(each.name))
            name = read[0].name
            front = workers[name][1]
            async with served(front) as url:
                yield url, front, workers.bindings[name]

    with loop.inside(running()) as (url, front, bindings):
        env = TestEnv(loop, bindings, read[0].project.variables(), ai)
        with TestWorker(loop, url, front, env) as client:
            yield client


def doors_of(ai: AI) -> ASGIApp:
    """The doors over ``ai``."""
    return create_app(ai)
