"""HTTP as a Python Worker meets it: bodies in both directions, forms, headers, ``fetch`` of other servers, faults."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.worker.python_workers import serving

HEAD = """
    import asyncio, json
    import js
    from js import JSON, Object, ReadableStream
    from pyodide.ffi import create_proxy, to_js
    from workers import Blob, File, Response, WorkerEntrypoint, fetch

    log = []

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            return await getattr(self, request.url.rpartition("/")[2].partition("?")[0])(request)
"""
BIG = bytes(range(256)) * 80_000  # more than every buffer on the way holds


class _Elsewhere(BaseHTTPRequestHandler):
    """A plain server that knows lengths alone, tells what it got, and redirects."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])) if "content-length" in self.headers else b"none"
        if self.path != "/":
            self.send_response(int(self.path[1:]))
            self.send_header("location", "/")
            self.send_header("content-length", "0")
            return self.end_headers()
        names = sorted(name.lower() for name in self.headers)
        told = json.dumps([self.command, body.decode(), names]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(told)))
        self.send_header("set-cookie", "kept=1")
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST  # noqa: N815  (http.server's names)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def elsewhere() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


BODIES = (
    HEAD
    + """
        async def late(self, request):
            async def read():
                await asyncio.sleep(0.05)
                try:
                    log.append(len(await request.text()))
                except js.Error.new().as_exception().__class__ as error:
                    log.append(error.message)
            self.ctx.waitUntil(read())
            return Response("early")

        async def log(self, request):
            return Response.json(log)

        async def first(self, request):
            async for piece in request.body:
                return Response(str(piece.length > 0))

        async def hurried(self, request):
            try:
                async with asyncio.timeout(0):
                    await request.bytes()
            except TimeoutError:
                return Response("too late")

        async def passed(self, request):
            return Response(request.body)
"""
)


async def test_a_body_that_is_not_read_hinders_nobody(tmp_path: Path) -> None:
    async with serving(tmp_path, BODIES) as client:
        for path, said in (("/late", "early"), ("/first", "True"), ("/hurried", "too late")):
            for body in (b"abc", BIG):
                assert (await client.post(path, content=body)).text == said
        while len(told := (await client.get("/log")).json()) < 2:
            await asyncio.sleep(0.01)
        assert (await client.post("/passed", content=BIG[:9000])).content == BIG[:9000]
    assert told == ["Can't read from request stream after response has been sent."] * 2


async def test_what_a_client_still_sends_is_read_to_its_end(tmp_path: Path) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield BIG[:50_000]
            await asyncio.sleep(0)

    async with serving(tmp_path, BODIES) as client:
        for _ in range(2):
            assert (await client.post("/first", content=slowly())).text == "True"


FAULTS = (
    HEAD
    + """
        async def cancelled(self, request):
            raise asyncio.CancelledError

        async def odd(self, request):
            class Odd(Exception):
                name, message = 5, object()
                def __str__(self):
                    raise ValueError("no words")
            raise Odd

        async def attribute(self, request):
            return request.nothing

        async def begun(self, request):
            async def start(controller):
                controller.enqueue("one")
                await asyncio.sleep(0.01)
                raise ValueError("no more")
            return Response(ReadableStream.new({"start": create_proxy(start)}))

        async def slow(self, request):
            await asyncio.sleep(0.3)
            return Response("slow")

        async def absent(self, request):
            return ReadableStream.through()
"""
)


@pytest.mark.parametrize(
    ("path", "name", "words"),
    [
        ("/cancelled", "CancelledError", ""),
        ("/odd", "Odd", "no words"),
        ("/attribute", "AttributeError", "no attribute 'nothing'"),
        ("/absent", "AttributeError", "ReadableStream has no through here: docs/coverage.md"),
    ],
)
async def test_any_exception_ends_its_own_request_alone(tmp_path: Path, path: str, name: str, words: str) -> None:
    async with serving(tmp_path, FAULTS) as client:
        slow = asyncio.create_task(client.get("/slow"))
        error = (await asyncio.wait_for(client.get(path), 20)).json()["error"]
        assert (error["name"], words in error["message"]) == (name, True)
        assert (await slow).text == "slow"


async def test_a_stream_that_fails_breaks_the_response_off(tmp_path: Path) -> None:
    async with serving(tmp_path, FAULTS) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await asyncio.wait_for(client.get("/begun"), 20)


async def test_a_syntax_error_shows_no_frames_of_roost(tmp_path: Path) -> None:
    async with serving(tmp_path, "this is no Python") as client:
        error = (await client.get("/")).json()["error"]
    assert error["name"] == "SyntaxError"
    assert "bootstrap.py" not in error["traceback"]


FETCHES = (
    HEAD
    + """
        async def sent(self, request):
            told = await request.json()
            if told.pop("stream", False):
                told["body"] = Blob([told["body"]]).js_object.stream()
            try:
                answer = await fetch(told.pop("url"), **told)
            except OSError as error:
                return Response.json(str(error))
            return Response(await answer.text(), headers={"x-status": str(answer.status)})
"""
)


async def test_fetch_sends_what_the_platform_sends(tmp_path: Path, elsewhere: str) -> None:
    async with serving(tmp_path, FETCHES) as client:

        async def sent(path: str = "/", **told: object) -> list[object]:
            answer = await client.post("/sent", json={"url": elsewhere + path, **told})
            return answer.json()  # type: ignore[no-any-return]

        # a server without chunked bodies gets lengths; no cookies are kept, and no headers of httpx's are added
        own = ["accept-encoding", "connection", "content-length", "host"]
        assert await sent(method="POST") == ["POST", "", own]
        assert await sent(method="POST", body="é") == ["POST", "é", sorted([*own, "content-type"])]
        for code in (307, 308):  # which repeat the body
            assert (await sent(f"/{code}", method="POST", body="é"))[:2] == ["POST", "é"]
        assert (await sent("/303", method="POST", body="é"))[:2] == ["GET", "none"]
        assert "one of" in str(await sent("/302", redirect="error"))
        assert "Invalid header name" in str(await sent(headers={"bad name": "1"}))


async def test_a_stream_is_not_sent_again(tmp_path: Path) -> None:
    reply = b"HTTP/1.1 307 Moved\r\nlocation: /\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, family=socket.AF_INET)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, serving(tmp_path, FETCHES) as client:
        told = {"url": url, "method": "POST", "body": "once", "stream": True}
        assert "was a stream and has been sent" in (await client.post("/sent", json=told)).json()


RESPONSES = (
    HEAD
    + """
        async def lying(self, request):
            return Response("hello", headers={"content-length": "3"})

        async def none(self, request):
            return Response(None, status=204)

        async def unchanged(self, request):
            return Response(None, status=304, headers={"etag": "x"})

        async def dated(self, request):
            headers = [("date", "long ago"), ("set-cookie", "a=1, b"), ("set-cookie", "c=2")]
            return Response("", headers=headers)

        async def pieces(self, request):
            async def made():
                yield b"one"
                yield "two"
            return Response(ReadableStream.from_(made()))

        async def numbers(self, request):
            told = JSON.parse('{"a": [2.0, 1.5, 9007199254740993, null]}')
            given = {"f": 2.0, "n": float("nan"), "i": float("inf"), "u": None}
            written = JSON.stringify(to_js(given, dict_converter=Object.fromEntries))
            try:
                JSON.parse('{"a": NaN}')
            except Exception as error:
                refused = error.name
            date = js.Date.new("2020-01-01T00:00:00Z").getTime()
            return Response(repr([*told.a, js.JSON.stringify(told), written, refused, date]))

        async def addresses(self, request):
            text = "é /?&a=(1)"
            part, whole = js.encodeURIComponent(text), js.encodeURI(text)
            return Response.json([part, whole, js.decodeURIComponent(part), js.decodeURI("%C3%A9%2F")])
"""
)


async def test_responses_are_what_http_allows(tmp_path: Path) -> None:
    async with serving(tmp_path, RESPONSES) as client:
        assert (await client.get("/lying")).text == "hello"
        head = await client.head("/lying")
        assert (head.headers["content-length"], head.content) == ("3", b"")
        for path in ("/none", "/unchanged"):
            assert "content-length" not in (await client.get(path)).headers
        dated = await client.get("/dated")
        assert dated.headers.get_list("set-cookie") == ["a=1, b", "c=2"]
        assert len(dated.headers.get_list("date")) == 1
        assert (await client.get("/pieces")).text == "onetwo"


async def test_numbers_and_addresses_are_javascripts(tmp_path: Path) -> None:
    async with serving(tmp_path, RESPONSES) as client:
        numbers = (await client.get("/numbers")).text
        addresses = (await client.get("/addresses")).json()
    big = "9007199254740992"
    text = f'{{"a":[2,1.5,{big},null]}}'
    told = [2, 1.5, float(big), None, text, '{"f":2,"n":null,"i":null}', "SyntaxError", 1577836800000]
    assert numbers == repr(told).replace("None", "jsnull")
    assert addresses == ["%C3%A9%20%2F%3F%26a%3D(1)", "%C3%A9%20/?&a=(1)", "é /?&a=(1)", "é%2F"]


FORMS = (
    HEAD
    + """
        async def form(self, request):
            form = await request.form_data()
            return Response.json([
                [name, value if isinstance(value, str) else [value.name, value.content_type, list(await value.bytes())]]
                for name, value in form.items()
            ])
"""
)


async def test_forms_come_through_whole(tmp_path: Path) -> None:
    content = b"\x00\r\n--x\r\r\n\n\xff"
    files = [("f", ('ü".txt', content, "text/plain")), ("m", ("a.eml", content, "message/rfc822"))]
    async with serving(tmp_path, FORMS) as client:
        answer = await client.post("/form", data={"naïve": ["é", ""]}, files=files)
        assert answer.json() == [
            ["naïve", "é"],
            ["naïve", ""],
            ["f", ["ü%22.txt", "text/plain", list(content)]],
            ["m", ["a.eml", "message/rfc822", list(content)]],
        ]
        kind = "application/x-www-form-urlencoded"
        answer = await client.post("/form", content=b"a=%ff&b=\xff", headers={"content-type": kind})
        assert answer.json() == [["a", "\ufffd"], ["b", "\ufffd"]]
        named = b"--x\r\nContent-Disposition: form-data; name=\"f\"; filename*=utf-8''%C3%A9.txt\r\n\r\nhi\r\n--x--"
        for body, kind, words in (
            (named, "multipart/form-data; boundary=x", "é.txt"),
            (named[:-2], "multipart/form-data; boundary=x", "has no end"),
            (named, "multipart/form-data", "No boundary"),
        ):
            answer = await client.post("/form", content=body, headers={"content-type": kind})
            assert words in json.dumps(answer.json(), ensure_ascii=False)
