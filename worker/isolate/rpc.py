"""Calls of one Worker's methods by another, at both ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from .frames import Connection
from .host import Host
from .js_base import JsObject
from .js_promises import Promise
from .rpc_streams import Unwoven, woven
from .rpc_values import packed, unpacked


def invoke(host: Host, service: str, method: str, *args: Any, **options: Any) -> Promise:
    """Call ``method`` of the Worker behind the binding ``service``; keyword arguments are its last one, an object."""

    async def invoked() -> Any:
        streams: list[AsyncGenerator[bytes]] = []
        given = [packed(arg, streams) for arg in (*args, *([JsObject(options)] if options else []))]
        head = {"op": "rpc", "method": method, "args": given, "streams": len(streams)}
        answer, body = await host.fetch(service, head, woven(streams) if streams else None)
        back = Unwoven(body)
        result = unpacked(answer["value"], back.stream)
        if not answer["streams"]:
            await back.drain()
        return result

    return Promise(invoked())


async def answer(connection: Connection, head: dict[str, Any], body: AsyncGenerator[bytes], entry: Any) -> None:
    """Let ``entry`` answer a call that came over ``connection``. Streams among the arguments may outlive it."""
    given = Unwoven(body)
    args = [unpacked(arg, given.stream) for arg in head["args"]]
    streams: list[AsyncGenerator[bytes]] = []
    value = packed(await entry(args), streams)
    sent = woven(streams) if streams else None
    try:
        await connection.send({"value": value, "streams": len(streams)}, sent)
    finally:
        if sent is not None:
            await sent.aclose()
    await given.drain()
