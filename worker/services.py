"""roost's end of an isolate's requests: a Unix socket, and the bindings behind it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from worker.bindings.binding import Binding, BindingError, Incoming, Outgoing
from worker.isolate.exchanges import Exchanges
from worker.isolate.frames import HEAD, Closed, Connection, Fault
from worker.isolate.sockets import relay
from worker.isolate.uploads import Upload
from worker.isolate.values import decode, encode
from worker.isolate_process import WorkerFault

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
        body = Upload(connection)
        try:
            binding = self._bindings[head["service"]]
            if head["op"] == "rpc":
                await _send(connection, *await binding.rpc(head, body))
            elif head["op"] == "call":
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
        await body.rest()

    async def _fetch(
        self, connection: Connection, binding: Binding, head: dict[str, Any], body: AsyncGenerator[bytes]
    ) -> None:
        headers = [(name, value) for name, value in head["headers"]]
        asked = Outgoing(head["method"], head["url"], headers, body, head["redirect"], head.get("size"))
        found = await binding.fetch(asked)
        answer = {"status": found.status, "statusText": found.status_text, "headers": list(found.headers)}
        if found.length is not None:
            answer["length"] = found.length
        if found.url:
            answer["url"] = found.url
        if found.socket is not None:
            await anext(body, None)  # the request's end, before which no message stands
            return await _carry(connection, answer, found)
        await _send(connection, answer, found.body)


async def _send(connection: Connection, head: dict[str, Any], body: AsyncGenerator[bytes] | bytes) -> None:
    try:
        await connection.send(head, body)
    finally:
        if isinstance(body, AsyncGenerator):
            with suppress(RuntimeError):  # it is being closed already
                await body.aclose()


async def _carry(connection: Connection, answer: Mapping[str, Any], found: Incoming) -> None:
    """Answer with a WebSocket, and carry its messages until it is closed."""
    assert found.socket is not None
    connection.live = True
    connection.write((HEAD, json.dumps(answer).encode()))
    try:
        await relay(connection, found.socket)
    except WorkerFault as fault:
        connection.fail(fault.told)
    finally:
        if found.left is not None:
            await found.left()
    connection.finish()
