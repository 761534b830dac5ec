"""WSGI applications in real isolates: waits that overlap, and uploads whose client leaves or that nobody reads."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import httpx

from tests.worker.python_workers import serving

SOURCE = """
    from flask import Flask, request
    from js import setTimeout
    from pyodide.ffi import run_sync
    from workers import wsgi
    import asyncio

    app = Flask(__name__)
    begun, ended = [], []

    @app.get("/wait/<int:number>")
    def wait(number):
        begun.append(number)
        run_sync(asyncio.sleep(0.02))
        while len(begun) < 3:  # none of them goes on before all have begun
            run_sync(asyncio.sleep(0.01))
        return str(number)

    @app.post("/read")
    def read():
        begun.append("read")
        try:
            return str(len(request.get_data()))
        finally:
            ended.append("read")

    @app.post("/unread")
    def unread():
        return "at once"

    @app.get("/told")
    def told():
        return [begun, ended]

    Default = wsgi.entrypoint(app)
"""


async def pieces(many: int, *, then: asyncio.Event | None = None) -> AsyncGenerator[bytes]:
    for _ in range(many):
        yield b"x" * 65_536
    if then is not None:
        await then.wait()


async def test_waits_overlap(tmp_path: Path) -> None:
    async with serving(tmp_path, SOURCE) as client:
        answers = await asyncio.gather(*(client.get(f"/wait/{number}") for number in range(3)))
    assert [answer.text for answer in answers] == ["0", "1", "2"]


async def test_a_large_upload_is_read_and_one_that_nobody_reads_is_let_go(tmp_path: Path) -> None:
    async with serving(tmp_path, SOURCE) as client:
        for _ in range(3):  # also over the same connections again
            assert (await client.post("/read", content=b"x" * 4_000_000)).text == "4000000"
            for content in (pieces(2), b"x" * 100_000, pieces(64), b"x" * 10_000_000):
                with suppress(httpx.WriteError, httpx.RemoteProtocolError):  # the server may close what it won't read
                    assert (await client.post("/unread", content=content)).text == "at once"


async def test_a_client_that_leaves_in_its_upload_ends_its_request(tmp_path: Path) -> None:
    async with serving(tmp_path, SOURCE) as client:
        never = asyncio.Event()
        head = {"content-length": str(1 << 20)}
        uploading = asyncio.create_task(client.post("/read", content=pieces(2, then=never), headers=head))
        while "read" not in (await client.get("/told")).json()[0]:
            await asyncio.sleep(0.01)
        uploading.cancel()
        await asyncio.gather(uploading, return_exceptions=True)
        while "read" not in (await client.get("/told")).json()[1]:
            await asyncio.sleep(0.01)


async def test_a_client_that_leaves_before_its_upload_is_read_is_noticed(tmp_path: Path) -> None:
    source = """
        import asyncio
        from workers import Response, WorkerEntrypoint

        seen = []

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                if "told" in request.url:
                    return Response.json(seen)
                seen.append("begun")
                try:
                    await asyncio.sleep(1000)
                finally:
                    seen.append("left")
    """
    async with serving(tmp_path, source) as client:
        for size in (1, 2):
            host, port = client.base_url.host, client.base_url.port
            _, writer = await asyncio.open_connection(host, port)
            head = f"POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: {(size + 1) * 65_536}\r\n\r\n"
            writer.write(head.encode() + b"x" * 65_536 * size)
            told: list[str] = []
            while told[-1:] != ["begun"]:
                told = (await client.get("/told")).json()
            writer.transport.abort()
            while told[-1:] != ["left"]:
                await asyncio.sleep(0.01)
                told = (await client.get("/told")).json()


async def test_a_connection_serves_again_after_an_upload_that_was_left(tmp_path: Path) -> None:
    source = """
        from workers import Response, WorkerEntrypoint

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                reader = request.js_object.body.getReader()
                first = await reader.read()
                await reader.cancel()
                return Response(str(len(first.value) > 0))
    """
    async with serving(tmp_path, source) as client:
        for _ in range(5):
            with suppress(httpx.WriteError, httpx.RemoteProtocolError):  # the server may close what it won't read
                assert (await client.post("/", content=pieces(8))).text == "True"
