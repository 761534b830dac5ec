"""What tests of WebSockets share: a Worker to write on, and a client's view of its socket."""

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

HEAD = """
import asyncio, json, os, sys
from js import WebSocketPair
from pyodide.ffi import create_proxy, to_js
from workers import Response, WorkerEntrypoint, fetch

told = []
gone = asyncio.Event()

def pair(on_message, on_close=None):
    client, server = WebSocketPair.new().object_values()
    server.accept()

    def closed(event):
        told.append(["close", event.code, event.reason, event.wasClean])
        if on_close:
            on_close(server)
        gone.set()

    server.addEventListener("message", create_proxy(lambda event: on_message(server, event.data)))
    server.addEventListener("close", create_proxy(closed))
    return Response(None, status=101, web_socket=client)

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = request.url.rpartition("/")[2]
        if path == "told":
            await asyncio.wait_for(gone.wait(), 10)
            return Response.json(told)
"""


def address(client: httpx.AsyncClient, path: str = "/") -> str:
    return f"ws{str(client.base_url).rstrip('/').removeprefix('http')}{path}"


async def closed(connection: ClientConnection) -> tuple[int, str]:
    """The code and the reason that the other side closes with."""
    with pytest.raises(ConnectionClosed) as caught:
        await _drain(connection)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def _drain(connection: ClientConnection) -> None:
    while True:
        await connection.recv()
