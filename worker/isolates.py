"""A Python Worker: the isolate that serves it now, the fresh one after a crash or a change, and its exchanges."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from worker.isolate.frames import Closed, Connection, Fault
from worker.isolate_process import IsolateProcess, WorkerFault, WorkerSpec
from worker.services import Services
from worker.sockets import IsolateSocket

_PATIENCE = 5.0  # seconds for a process whose connection has closed to end


class PythonWorker:
    """The Worker of ``spec``, with its bindings in ``services``; :meth:`become` changes both."""

    def __init__(self, spec: WorkerSpec, services: Services) -> None:
        self.spec = spec
        self._services = services
        self._current: IsolateProcess | None = None
        self._all: dict[IsolateProcess, Services] = {}
        self._open: dict[Services, tuple[Path, AsyncExitStack]] = {}
        self._closing: set[asyncio.Future[None]] = set()
        self._starting = asyncio.Lock()
        self._numbers = itertools.count()
        self._folder: Path

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the block runs; its end is every isolate's."""
        with tempfile.TemporaryDirectory(prefix="roost-") as name:
            self._folder = Path(name)
            await self._host()
            try:
                yield
            finally:
                await asyncio.gather(*(isolate.kill() for isolate in self._all))
                await asyncio.gather(*self._closing, *(stack.aclose() for _, stack in self._open.values()))
                self._open.clear()

    async def isolate(self) -> IsolateProcess:
        """The isolate for the next request; raises :class:`WorkerFault` if none can be started."""
        async with self._starting:
            if self._current is None or self._current.retired or self._current.ended.done():
                self._current = await self._fresh()
            return self._current

    def become(self, spec: WorkerSpec, services: Services | None = None) -> None:
        """Be this from the next isolate on. Those that are there keep the services that they began with."""
        self.spec = spec
        self._services = services or self._services

    async def reload(self) -> None:
        """Use the Worker's files as they are now; raises :class:`WorkerFault` if they don't start."""
        async with self._starting:
            before, self._current = self._current, None
            try:
                self._current = await self._fresh()
            finally:
                if before is not None:
                    before.retire()

    async def _fresh(self) -> IsolateProcess:
        host = await self._host()
        made = IsolateProcess(self.spec, self._folder / str(next(self._numbers)))
        self._all[made] = self._services
        made.ended.add_done_callback(lambda _: self._ended(made))
        try:
            await made.start(host)
        except BaseException:
            await made.kill()
            raise
        return made

    async def _host(self) -> Path:
        """Where isolates that start now find their services."""
        if self._services not in self._open:
            path, stack = self._folder / f"host-{next(self._numbers)}", AsyncExitStack()
            await stack.enter_async_context(self._services.at(path))
            self._open[self._services] = path, stack
        return self._open[self._services][0]

    def _ended(self, isolate: IsolateProcess) -> None:
        """Close the services that nobody uses any more."""
        services = self._all.pop(isolate)
        if services is not self._services and services not in self._all.values() and services in self._open:
            closing = asyncio.ensure_future(self._open.pop(services)[1].aclose())
            closing.add_done_callback(self._closing.discard)
            self._closing.add(closing)

    async def exchange(
        self, head: Mapping[str, Any], body: AsyncIterable[bytes] | bytes | None = None
    ) -> tuple[dict[str, Any], bytes | AsyncGenerator[bytes] | IsolateSocket]:
        """Send a message; the head of the answer, and its body: whole, or pieces that must be read or closed.

        With status 101 it is a WebSocket in place of a body, which must be finished.

        Raises :class:`WorkerFault`, here or while the body is read. Cancelling this calls the exchange off.
        """
        isolate, connection = await self._connected()
        sending = None
        try:
            if body is None:
                await connection.send(head)
            else:
                sending = asyncio.create_task(connection.send(head, body))
            answer = await connection.receive_head()
        except BaseException as error:
            connection.close()
            if sending is not None:
                sending.cancel()
            if isinstance(error, Fault | Closed):
                raise await self._fault(isolate, error) from None
            raise
        finally:
            if sending is not None:
                sending.add_done_callback(lambda task: task.cancelled() or task.exception())
        if answer.get("status") == 101:
            return answer, IsolateSocket(isolate, connection, _PATIENCE)
        if (sending is None or sending.done()) and (whole := connection.body_at_hand()) is not None:
            isolate.keep(connection)
            return answer, whole
        return answer, self._body(isolate, connection, sending)

    async def call(self, head: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a message where neither has a body; raises :class:`WorkerFault`."""
        answer, body = await self.exchange(head)
        if isinstance(body, AsyncGenerator):
            async for _ in body:
                pass
        return answer

    async def _connected(self) -> tuple[IsolateProcess, Connection]:
        while True:
            isolate = await self.isolate()
            try:
                return isolate, await isolate.connection()
            except OSError:  # it ended a moment ago
                await isolate.kill()

    async def _body(
        self, isolate: IsolateProcess, connection: Connection, sending: asyncio.Task[None] | None
    ) -> AsyncGenerator[bytes]:
        whole = False
        try:
            async for piece in connection.body():
                yield piece
            whole = sending is None or sending.done()
        except (Fault, Closed) as error:
            raise await self._fault(isolate, error) from None
        finally:
            if whole:
                isolate.keep(connection)
            else:
                connection.close()
                if sending is not None:
                    sending.cancel()  # it may wait for the client's next piece
                    await asyncio.wait({sending})

    async def _fault(self, isolate: IsolateProcess, error: Fault | Closed) -> WorkerFault:
        if isinstance(error, Fault):
            if error.told.get("fatal"):
                isolate.retire()
            return WorkerFault(error.told)
        await asyncio.wait({isolate.ended}, timeout=_PATIENCE)
        if not isolate.ended.done():
            await isolate.kill({"name": "Crash", "message": "the Worker's process broke off", "traceback": ""})
        return WorkerFault(isolate.ended.result())
