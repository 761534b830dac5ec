"""The way from an isolate to roost: requests to its services, over one Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from typing import Any

from .frames import Closed, Connection, Fault
from .js_base import JsArray, JsException, JsMap, JsObject, null
from .js_buffers import ArrayBuffer
from .js_streams import stream_of
from .values import decode, encode


class Host:
    """roost, at the Unix socket ``path``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: list[Connection] = []

    async def _connection(self) -> Connection:
        while self._idle:
            if not (kept := self._idle.pop()).closed:
                return kept
        _, made = await asyncio.get_running_loop().create_unix_connection(Connection, self._path)
        return made

    async def fetch(
        self, service: str, head: Mapping[str, Any], body: AsyncIterable[bytes] | bytes | None
    ) -> tuple[dict[str, Any], AsyncGenerator[bytes]]:
        """The head and the body of the answer of ``service``. Closing the body early calls the request off."""
        answer, connection, sending = await self._asked(service, head, body)
        return answer, self._body(connection, sending)

    async def upgrade(
        self, service: str, head: Mapping[str, Any]
    ) -> tuple[dict[str, Any], AsyncGenerator[bytes] | Connection]:
        """The same of a request for a WebSocket: with status 101 the connection is one, its caller's."""
        answer, connection, sending = await self._asked(service, {**head, "upgrade": True}, None)
        connection.live = answer["status"] == 101
        return answer, connection if connection.live else self._body(connection, sending)

    async def _asked(
        self, service: str, head: Mapping[str, Any], body: AsyncIterable[bytes] | bytes | None
    ) -> tuple[dict[str, Any], Connection, asyncio.Task[None]]:
        connection = await self._connection()
        sending = asyncio.create_task(_send(connection, {"service": service, "op": "fetch", **head}, body))
        try:
            answer = await connection.receive_head()
        except BaseException as error:
            connection.close()
            if sending.done() and not sending.cancelled() and (failed := sending.exception()) is not None:
                raise failed from None
            raise _told(error) from None
        finally:
            if not sending.done():
                sending.add_done_callback(lambda task: task.cancelled() or task.exception())
        return answer, connection, sending

    async def _body(self, connection: Connection, sending: asyncio.Task[None]) -> AsyncGenerator[bytes]:
        whole = False
        try:
            async for piece in connection.body():
                yield piece
            whole = sending.done()
        except (Fault, Closed) as error:
            raise _told(error) from None
        finally:
            if whole:
                self._idle.append(connection)
            else:
                connection.close()

    async def call(self, service: str, method: str, args: list[Any]) -> Any:
        """The result of a binding's method."""
        answer, body = await self.fetch(service, {"method": method, "args": encode(args), "op": "call"}, None)
        async for _ in body:
            pass
        return decode(answer["value"], javascript_value)


async def _send(connection: Connection, head: Mapping[str, Any], body: AsyncIterable[bytes] | bytes | None) -> None:
    try:
        await connection.send(head, body)
    finally:
        if isinstance(body, AsyncGenerator):
            await body.aclose()


def _told(error: BaseException) -> BaseException:
    if isinstance(error, Fault):
        return JsException(str(error.told.get("message", "")), str(error.told.get("name", "Error")))
    if isinstance(error, Closed):
        return JsException("Network connection lost.")
    return error


def javascript_value(kind: str, value: Any) -> Any:
    """What :func:`decode` builds for a Worker."""
    match kind:
        case "null":
            return null()
        case "bytes":
            return ArrayBuffer(value)
        case "stream":
            return stream_of(_once(value))
        case "list":
            return JsArray(value)
        case "map":
            return JsMap(value)
    return JsObject(value)


async def _once(data: bytes) -> AsyncGenerator[bytes]:
    yield data
