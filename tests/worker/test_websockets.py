"""WebSockets of Python Workers: a real client library, the real host, a real isolate."""

import asyncio
import json
import socket
import struct
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.worker.python_workers import python_worker, served, serving, written
from tests.worker.websockets import HEAD, address, closed
from worker.isolate.sockets import MAX_MESSAGE

ECHO = """
        def back(server, data):
            server.send(f"you said {data}" if isinstance(data, str) else to_js(data.to_bytes()[::-1]))
"""


async def test_text_and_bytes_go_both_ways_with_a_protocol_and_headers(tmp_path: Path) -> None:
    source = (
        HEAD
        + ECHO
        + """
        client, server = WebSocketPair.new().object_values()
        server.accept()
        server.onmessage = create_proxy(lambda event: back(server, event.data))
        headers = {"sec-websocket-protocol": request.headers["sec-websocket-protocol"].split(",")[0], "x-a": "1"}
        return Response(None, status=101, headers=headers, web_socket=client)
    """
    )
    async with serving(tmp_path, source) as client:
        offered = [Subprotocol("chat"), Subprotocol("other")]
        async with connect(address(client), subprotocols=offered) as connection:
            assert connection.subprotocol == "chat"
            assert connection.response is not None
            assert connection.response.headers["x-a"] == "1"
            await connection.send("héé")
            assert await connection.recv() == "you said héé"
            await connection.send(bytes(range(256)))
            assert await connection.recv() == bytes(range(256))[::-1]
            await connection.send([b"ab", b"cd"])
            assert await connection.recv() == b"dcba"


async def test_messages_keep_their_order_and_fast_senders_are_held_back(tmp_path: Path) -> None:
    source = HEAD + ECHO + "        return pair(lambda server, data: server.send(data + '!'))"
    many, long = 300, "x" * 50_000
    async with serving(tmp_path, source) as client, connect(address(client), max_size=None) as connection:
        sending = asyncio.create_task(_send_all(connection, [f"{n} {long}" for n in range(many)]))
        for n in range(many):
            assert await connection.recv() == f"{n} {long}!"
        await sending


async def _send_all(connection: ClientConnection, messages: list[str]) -> None:
    for message in messages:
        await connection.send(message)


async def test_the_clients_close_reaches_the_worker(tmp_path: Path) -> None:
    async with serving(
        tmp_path, HEAD + "        return pair(lambda *_: None, lambda server: server.close())"
    ) as client:
        connection = await connect(address(client))
        await connection.close(4001, "enough")
        assert (await client.get("/told")).json() == [["close", 4001, "enough", True]]


async def test_the_workers_close_reaches_the_client_and_comes_back(tmp_path: Path) -> None:
    async with serving(tmp_path, HEAD + "        return pair(lambda server, _: server.close(4002, 'bye'))") as client:
        async with connect(address(client)) as connection:
            await connection.send("go")
            assert await closed(connection) == (4002, "bye")
        assert (await client.get("/told")).json() == [["close", 4002, "bye", True]]


async def test_a_client_that_vanishes_is_1006(tmp_path: Path) -> None:
    async with serving(tmp_path, HEAD + "        return pair(lambda *_: None)") as client:
        connection = await connect(address(client))
        raw = connection.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.transport.abort()
        code = (await client.get("/told")).json()
    assert code == [["close", 1006, "", False]]


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), 9)", "sys.exit(3)", "raise MemoryError"])
async def test_an_isolate_that_ends_closes_with_1011(tmp_path: Path, how: str) -> None:
    source = (
        HEAD
        + f"""
        def end(server, _):
            {how}
        return pair(end)
    """
    )
    async with serving(tmp_path, source) as client:
        async with connect(address(client)) as connection:
            await connection.send("go")
            code, reason = await closed(connection)
        assert code == 1011
        assert reason.startswith(("Crash", "SystemExit", "MemoryError"))
        async with connect(address(client)) as again:
            await again.ping()


async def test_an_exception_in_a_handler_is_printed_and_ends_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = (
        HEAD
        + """
        async def answer(server, data):
            await asyncio.sleep(0)
            server.send(str(1 / int(data)))
        return pair(answer)
    """
    )
    async with serving(tmp_path, source) as client, connect(address(client)) as connection:
        await connection.send("0")
        await connection.send("2")
        assert await connection.recv() == "0.5"
    assert "ZeroDivisionError" in capfd.readouterr().err


async def test_an_exception_before_the_handshake_is_an_answer(tmp_path: Path) -> None:
    async with serving(tmp_path, HEAD + "        raise ValueError('no')") as client:
        with pytest.raises(InvalidStatus) as caught:
            await connect(address(client))
    answer = caught.value.response
    assert (answer.status_code, json.loads(answer.body or b"")["error"]["name"]) == (500, "ValueError")


async def test_a_worker_may_refuse_and_may_not_open_what_nobody_asked_for(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
        if path == "refuse":
            return Response("not you", status=403)
        return pair(lambda *_: None)
    """
    )
    async with serving(tmp_path, source) as client:
        with pytest.raises(InvalidStatus) as caught:
            await connect(address(client, "/refuse"))
        assert (caught.value.response.status_code, caught.value.response.body) == (403, b"not you")
        refused = await client.get("/")
    assert refused.status_code == 500
    assert "Upgrade: websocket" in refused.json()["error"]["message"]


async def test_a_message_that_is_too_large_is_1009(tmp_path: Path) -> None:
    async with serving(
        tmp_path, HEAD + "        return pair(lambda server, data: server.send(str(len(data))))"
    ) as client:
        async with connect(address(client)) as connection:
            await connection.send("x" * MAX_MESSAGE)
            assert await connection.recv() == str(MAX_MESSAGE)
        async with connect(address(client)) as connection:
            sending = asyncio.create_task(_send_quietly(connection, b"x" * (MAX_MESSAGE + 1)))
            assert (await closed(connection))[0] == 1009
            await sending
        assert (await client.get("/told")).json()[-1][1] in (1009, 1006)


async def _send_quietly(connection: ClientConnection, message: bytes) -> None:
    try:
        await connection.send(message)
    except ConnectionClosed:
        return


async def test_what_a_websocket_refuses(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
        import js
        client, server = WebSocketPair.new().object_values()

        def said(function):
            try:
                function()
            except Exception as error:
                return str(error)

        found = [said(lambda: server.send("x")), said(lambda: Response(None, status=200, web_socket=client))]
        server.accept()
        found += [said(lambda: server.close(1006)), said(lambda: server.close(99))]
        found += [said(lambda: server.close(None, "x"))]
        found += [said(lambda: server.close(1000, "x" * 124)), server.readyState]
        server.close(4000)
        server.close()
        found += [said(lambda: server.send("x")), server.readyState]
        return Response.json(found)
    """
    )
    async with serving(tmp_path, source) as client:
        found = (await client.get("/")).json()
    assert found == [
        "TypeError: You must call accept() on this WebSocket before send().",
        "RangeError: Responses with a WebSocket must have status code 101.",
        "TypeError: Invalid WebSocket close code: 1006.",
        "TypeError: Invalid WebSocket close code: 99.",
        "TypeError: A reason for a WebSocket's close needs a code, too.",
        "SyntaxError: A close reason has at most 123 bytes of UTF-8.",
        1,
        "TypeError: Can't call WebSocket send() after close().",
        2,
    ]


async def test_only_so_many_are_open_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.socket_front.MOST", 2)
    async with serving(tmp_path, HEAD + "        return pair(lambda server, data: server.send(data))") as client:
        first = await connect(address(client))
        async with connect(address(client)):
            with pytest.raises(InvalidStatus) as caught:
                await connect(address(client))
            assert caught.value.response.status_code == 503
            await first.close()
            async with await free(address(client)) as again:
                await again.send("x")
                assert await again.recv() == "x"


async def free(url: str) -> ClientConnection:
    """A connection, once the place of one that was closed is free; the test's own timeout is the limit."""
    while True:
        try:
            return await connect(url)
        except InvalidStatus as refused:
            if refused.response.status_code != 503:
                raise
            await asyncio.sleep(0.01)


async def test_both_ends_of_a_pair_in_one_worker(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
        one, other = WebSocketPair.new().object_values()
        one.accept()
        other.accept()
        heard = []
        done = asyncio.Event()
        other.addEventListener("message", lambda event: (heard.append(event.data), other.send("back")))
        one.addEventListener("message", lambda event: (heard.append(event.data), one.close(4003, "done")))
        other.addEventListener("close", lambda event: heard.append(event.code), once=True)
        one.addEventListener("close", lambda event: done.set())
        one.send("there")
        await done.wait()
        return Response.json([*heard, one.readyState, other.readyState])
    """
    )
    async with serving(tmp_path, source) as client:
        assert (await client.get("/")).json() == ["there", "back", 4003, 3, 3]


async def test_a_reload_leaves_open_sockets_on_their_files(tmp_path: Path) -> None:
    source = HEAD + "        return pair(lambda server, data: server.send('old'))"
    worker = python_worker(written(tmp_path, worker=source))
    async with served(worker) as client, connect(address(client)) as connection:
        written(tmp_path, worker=source.replace("'old'", "'new'"))
        await worker.reload()
        await connection.send("x")
        assert await connection.recv() == "old"
        async with connect(address(client)) as another:
            await another.send("x")
            assert await another.recv() == "new"


FASTAPI = """
import asgi
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from workers import Response, WorkerEntrypoint

app = FastAPI()
left = []

@app.websocket("/ws/{name}")
async def talk(websocket: WebSocket, name: str, q: str = ""):
    await websocket.accept()
    await websocket.send_json({"hello": name, "q": q})
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"], message.get("reason"))
            if message.get("bytes") is not None:
                await websocket.send_bytes(message["bytes"] * 2)
            elif message["text"] == "end":
                return await websocket.close(4005, "ended")
            elif message["text"] == "fail":
                raise ValueError("on purpose")
            else:
                await websocket.send_text(message["text"].upper())
    except WebSocketDisconnect as gone:
        left.append([gone.code, gone.reason])

@app.get("/left")
async def who():
    return left

Default = asgi.entrypoint(app)
"""


async def test_fastapi_and_starlette_websockets(tmp_path: Path) -> None:
    async with serving(tmp_path, FASTAPI) as client:
        async with connect(address(client, "/ws/Ada?q=1")) as connection:
            assert json.loads(await connection.recv()) == {"hello": "Ada", "q": "1"}
            await connection.send("abc")
            assert await connection.recv() == "ABC"
            await connection.send(b"ab")
            assert await connection.recv() == b"abab"
            await connection.close(4004, "off")
        for word, ends in (("end", (4005, "ended")), ("fail", (1011, ""))):
            async with connect(address(client, "/ws/x")) as connection:
                await connection.recv()
                await connection.send(word)
                assert await closed(connection) == ends
        assert (await client.get("/left")).json() == [[4004, "off"]]
