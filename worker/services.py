"""roost's end of an isolate's requests: a Unix socket, and the bindings behind it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from worker.bindings.binding import Binding, BindingError, Outgoing
from worker.isolate.exchanges import Exchanges
from worker.isolate.frames import Closed, Connection, Fault
from worker.isolate.values import decode, encode

_log = logging.getLogger(__name__)


class Services:
    """The bindings of one Worker by their names, ``internet`` and ``cache`` among them."""

    def __init__(self, bindings: Mapping[str, Binding]) -> None:
        self._bindings = bindings
        self._exchanges = Exchanges(self._answer)

    @asynccontextmanager
    async def at(self, path: Path) -> AsyncIterator[None]:
        """Answer at the Unix socket ``path`` while the block runs; then close the bindings."""
        server = await asyncio.get_running_loop().create_unix_server(self._exchanges.connection, str(path))
        try:
            yield
        finally:
            server.close()
            for binding in self._bindings.values():
                await binding.aclose()

    async def _answer(self, connection: Connection, head: dict[str, Any]) -> None:
        body = connection.body()
        try:
            binding = self._bindings[head["service"]]
            if head["op"] == "call":
                result = await binding.call(head["method"], list(decode(head["args"])))
                await connection.send({"value": encode(result)})
            else:
                await self._fetch(connection, binding, head, body)
        except (Closed, asyncio.CancelledError):
            raise
        except (BindingError, Fault) as error:
            told = error.told if isinstance(error, Fault) else {"name": error.name, "message": str(error)}
            connection.fail(told)
        except Exception as error:
            _log.exception("a binding failed")
            connection.fail({"name": type(error).__name__, "message": f"roost's own fault: {error}"})
        async for _ in body:
            pass

    async def _fetch(
        self, connection: Connection, binding: Binding, head: dict[str, Any], body: AsyncGenerator[bytes]
    ) -> None:
        headers = [(name, value) for name, value in head["headers"]]
        found = await binding.fetch(Outgoing(head["method"], head["url"], headers, body, head["redirect"]))
        answer = {"status": found.status, "statusText": found.status_text, "headers": list(found.headers)}
        if found.length is not None:
            answer["length"] = found.length
        if found.url:
            answer["url"] = found.url
        try:
            await connection.send(answer, found.body)
        finally:
            if isinstance(found.body, AsyncGenerator):
                with suppress(RuntimeError):  # it is being closed already
                    await found.body.aclose()
