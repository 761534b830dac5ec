"""WebSockets that a Python Worker opens to a server elsewhere, or passes on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.worker.python_workers import python_worker, served, serving, written
from tests.worker.websockets import HEAD, address, closed
from worker.bindings.service import Service, Target
from worker.front import Front


@asynccontextmanager
async def upstream() -> AsyncIterator[str]:
    """A WebSocket server of somebody else's."""

    async def answer(connection: ServerConnection) -> None:
        async for message in connection:
            if message == "close":
                return await connection.close(4010, "upstream's")
            await connection.send(message)

    async with serve(answer, "127.0.0.1", 0, subprotocols=[Subprotocol("p")]) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"127.0.0.1:{port}"


OUTGOING = (
    HEAD
    + """
        import js
        from urllib.parse import parse_qs, urlsplit
        target = parse_qs(urlsplit(request.url).query)["to"][0]
        asking = {"Upgrade": "websocket", "Sec-WebSocket-Protocol": "p"}
        if "/through" in request.url:
            return await fetch(f"http://{target}/", headers=asking)
        heard, done = [], asyncio.Event()
        def listen(socket):
            socket.binaryType = "arraybuffer"
            def message(event):
                heard.append(event.data if isinstance(event.data, str) else event.data.to_bytes().hex())
                if len(heard) == 2:
                    socket.send("close")
            def close(event):
                heard.append([event.code, event.reason, event.wasClean])
                done.set()
            socket.addEventListener("message", create_proxy(message))
            socket.addEventListener("close", create_proxy(close))
        def speak(socket):
            socket.send("text")
            socket.send(to_js(b"\\x01\\x02"))
        if "/fetch" in request.url:
            answer = await fetch(f"http://{target}/", headers=asking)
            socket = answer.js_object.webSocket
            socket.accept()
            listen(socket)
            speak(socket)
        else:
            socket = js.WebSocket.new(f"ws://{target}/", "p")
            heard_error = []
            socket.addEventListener("error", create_proxy(lambda event: heard_error.append(event.message)))
            socket.addEventListener("open", create_proxy(lambda event: speak(socket)))
            listen(socket)
        await asyncio.wait_for(done.wait(), 10)
        return Response.json([*heard, socket.readyState, socket.protocol])
"""
)


@pytest.mark.parametrize("way", ["fetch", "new"])
async def test_a_worker_connects_to_a_server(tmp_path: Path, way: str) -> None:
    async with upstream() as target, serving(tmp_path, OUTGOING) as client:
        found = await client.get(f"/{way}?to={target}")
    assert found.json() == ["text", "0102", [4010, "upstream's", True], 3, "p"]


async def test_a_server_that_is_not_there_is_a_1006(tmp_path: Path) -> None:
    async with serving(tmp_path, OUTGOING) as client:
        found = await client.get("/new?to=127.0.0.1:9")
    assert found.json() == [[1006, "WebSocket connection failed", False], 3, ""]


async def test_a_worker_passes_a_socket_on(tmp_path: Path) -> None:
    async with (
        upstream() as target,
        serving(tmp_path, OUTGOING) as client,
        connect(address(client, f"/through?to={target}"), subprotocols=[Subprotocol("p")]) as connection,
    ):
        await connection.send("x" * 1_000_000)
        assert await connection.recv() == "x" * 1_000_000
        await connection.send("close")
        assert await closed(connection) == (4010, "upstream's")


@pytest.mark.parametrize("ending", ["server.close(4011, 'there')", "os.kill(os.getpid(), 9)"])
async def test_a_socket_goes_through_a_service_binding(tmp_path: Path, ending: str) -> None:
    there = (
        HEAD
        + f"""
        def answer(server, data):
            if data == "end":
                {ending}
            else:
                server.send(data + " there")
        return pair(answer)
    """
    )
    here = HEAD + "        return await self.env.THERE.fetch(request.js_object)"
    other = python_worker(written(tmp_path / "there", worker=there))
    services = {"THERE": Service(Target("there"), {"there": (other, Front(other))})}
    worker = python_worker(written(tmp_path / "here", worker=here), bindings=services)
    async with other.running(), served(worker) as client, connect(address(client)) as connection:
        await connection.send("hi")
        assert await connection.recv() == "hi there"
        await connection.send("end")
        code, reason = await closed(connection)
    assert (code, reason) == (4011, "there") if "close" in ending else code == 1011
