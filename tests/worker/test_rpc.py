"""Calls between Workers in real isolates: named entrypoints, and whatever their arguments and results may be."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import httpx
import pytest

from tests.worker.python_workers import python_worker, served, serving, written
from worker.bindings.assets import Assets
from worker.bindings.service import Service, Target
from worker.front import Front

THERE = """
import asyncio, datetime
import js
from workers import Request, Response, WorkerEntrypoint

left = []

class Odd(Exception): ...

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response("default")

    def kind(self, value):
        return type(value).__name__

    def echo(self, value):
        return value

    def shout(self, text, end=None):
        return text.upper() + (end["end"] if end else "")

    def fail(self):
        raise Odd("not here")

    def function(self):
        return lambda: 1

    def itself(self):
        return self

    async def respond(self, request):
        words = (await request.text()) + request.headers["x-a"] + str(request.method)
        return Response(words, status=202, headers={"x-b": "1"})

    def numbers(self):
        async def pull(controller):
            try:
                controller.enqueue(b"tick")
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                left.append("cancelled")
                raise
        return js.ReadableStream.new(pull=pull, cancel=lambda _: left.append("left"))

    def broken(self):
        async def pull(controller):
            raise ValueError("in the middle")
        return js.ReadableStream.new(pull=pull)

    async def size(self, stream):
        return sum([len(chunk) async for chunk in stream])

    async def first(self, stream):
        async for chunk in stream:
            return chunk.to_bytes().decode()

    def pair(self, one, other):
        return [other, one]

    def left(self):
        return left

class Api(WorkerEntrypoint):
    async def fetch(self, request):
        return Response(f"api {self.ctx.props.role}", headers={"x-path": request.url})

    def role(self):
        return self.ctx.props.role

class NoWorker:
    def role(self):
        return "none"
"""
HERE = """
import asyncio, datetime, math
import js
from workers import Request, Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        there, api, none = self.env.THERE, self.env.API, self.env.NONE
        async def error_of(call):
            try:
                return await call
            except Exception as error:
                return [error.name, error.message]
"""


@asynccontextmanager
async def both(folder: Path, body: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a Worker whose ``fetch`` ends with ``body``, with the Worker above behind its bindings."""
    public = folder / "public"
    public.mkdir()
    (public / "asset.txt").write_text("asset")
    other = python_worker(written(folder / "there", worker=THERE))
    workers = {"there": (other, Front(other, Assets(public)))}
    bindings = {
        "THERE": Service(Target("there"), workers),
        "API": Service(Target("there", "Api", {"role": "admin"}), workers),
        "NONE": Service(Target("there", "NoWorker"), workers),
    }
    async with other.running(), serving(folder, HERE + indent(dedent(body), " " * 8), bindings=bindings) as client:
        yield client


async def told(folder: Path, body: str) -> Any:
    async with both(folder, body) as client:
        answer = await client.get("/")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_named_entrypoints_have_their_methods_and_props(tmp_path: Path) -> None:
    body = """
        answer = await api.fetch("http://any/asset.txt")
        plain = await there.fetch("http://any/asset.txt")
        return Response.json([
            await answer.text(), answer.headers["x-path"], await plain.text(), await api.role(),
            await error_of(none.role()), await error_of(api.echo(1)),
        ])
    """
    assert await told(tmp_path, body) == [
        "api admin",
        "http://any/asset.txt",
        "asset",
        "admin",
        ["TypeError", "worker.py has no class NoWorker(WorkerEntrypoint)"],
        ["TypeError", "The RPC receiver does not implement the method 'echo'."],
    ]


async def test_values_arrive_as_what_they_were(tmp_path: Path) -> None:
    body = """
        moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000)
        values = [
            None, True, 1.5, 2**60, "é", [1, [None]],
            {"a": {"$map": 1}, "$bytes": "x"}, {1, "b"}, moment, b"\\x00\\xff",
            [], {}, "null", ["array", 1],
        ]
        found = [await there.echo(value) for value in values]
        same = [
            bytes(one) == two if isinstance(two, bytes) else one == two for one, two in zip(found, values, strict=True)
        ]
        kinds = [await there.kind(value) for value in (None, {1}, moment, b"", [], {}, ValueError("x"))]
        infinite = await there.echo(math.inf)
        nothing = await there.echo(math.nan)
        many = await there.echo(js.Map.new([[1, "one"], ["two", js.Date.new(0)]]))
        floats = await there.echo(js.Float32Array.new([0.5, 1]))
        return Response.json([
            [str(value) for value, as_it_was in zip(values, same) if not as_it_was], kinds, infinite == math.inf,
            nothing != nothing, many["1"], many["two"].timestamp(), list(floats), await there.shout("a", end="!"),
        ])
    """
    kinds = ["NoneType", "set", "datetime", "memoryview", "list", "JsDict", "Exception"]
    assert await told(tmp_path, body) == [[], kinds, True, True, "one", 0.0, [0.5, 1.0], "A!"]


async def test_null_and_undefined_stay_apart(tmp_path: Path) -> None:
    body = """
        bare = there._binding
        from pyodide.ffi import jsnull
        found = await bare.echo(js.JSON.parse('{"a": null}'))
        null = await bare.echo(jsnull)
        return Response.json([null is jsnull, found.a is jsnull, await there.echo(None) is None, await bare.kind(None)])
    """
    assert await told(tmp_path, body) == [True, True, True, "NoneType"]


async def test_requests_responses_and_headers_are_carried(tmp_path: Path) -> None:
    body = """
        asked = Request("http://x/", method="PUT", body="body ", headers={"x-a": "a-"})
        answer = await there.respond(asked)
        headers = js.Headers.new([["x-c", "1"], ["x-c", "2"]])
        again = await there.echo(headers)
        empty = await there.echo(Response(None, status=204))
        inner = await there.echo({"inside": [Response("deep")]})
        return Response.json([
            answer.status, await answer.text(), answer.headers["x-b"], again.get("x-c"), empty.status,
            await inner["inside"][0].text(),
        ])
    """
    assert await told(tmp_path, body) == [202, "body a-PUT", "1", "1, 2", 204, "deep"]


async def test_streams_flow_both_ways(tmp_path: Path) -> None:
    body = """
        def stream(*pieces):
            return js.Response.new("".join(pieces)).body
        async def slow(controller):
            for n in range(3):
                controller.enqueue(bytes([65 + n]) * 100_000)
                await asyncio.sleep(0)
            controller.close()
        size = await there.size(js.ReadableStream.new(start=slow))
        back = await there.pair(stream("one"), stream("other"))
        words = [await js.Response.new(each).text() for each in back]
        echoed = await js.Response.new(await there.echo(stream("round"))).text()
        broken = await there.broken()
        try:
            async for _ in broken:
                pass
        except Exception as error:
            said = [error.name, error.message]
        return Response.json([size, words, echoed, said])
    """
    assert await told(tmp_path, body) == [300_000, ["other", "one"], "round", ["ValueError", "in the middle"]]


async def test_a_stream_that_is_left_is_called_off_over_there(tmp_path: Path) -> None:
    body = """
        if "left" in request.url:
            return Response.json(await there.left())
        if "first" in request.url:
            async def pull(controller):
                controller.enqueue(b"up")
                await asyncio.sleep(0.01)
            return Response(await there.first(js.ReadableStream.new(pull=pull)))
        return Response(await there.numbers())
    """
    async with both(tmp_path, body) as client:
        async with client.stream("GET", "/numbers") as response:
            assert b"tick" in await anext(response.aiter_bytes())
        while not (await client.get("/left")).json():
            await asyncio.sleep(0.01)
        assert (await client.get("/first")).text == "up"  # of a stream without an end
        assert (await client.get("/first")).text == "up"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("there.fail()", ["Odd", "not here"]),
        ("there.function()", ["DataCloneError", "<lambda> is a function, and roost's RPC carries no functions"]),
        ("there.echo(lambda: 1)", ["DataCloneError", "<lambda> is a function, and roost's RPC carries no functions"]),
        ("there.itself()", ["DataCloneError", 'Could not serialize object of type "Default". This type does not']),
        ("there.echo(js.URL.new('http://x'))", ["DataCloneError", 'Could not serialize object of type "URL"']),
        ("there.nothing()", ["TypeError", "The RPC receiver does not implement the method 'nothing'."]),
    ],
)
async def test_what_cannot_be_carried_is_an_error(tmp_path: Path, call: str, error: list[str]) -> None:
    name, message = await told(tmp_path, f"return Response.json(await error_of({call}))")
    assert name == error[0]
    assert message.startswith(error[1])


async def test_a_module_may_have_named_entrypoints_alone(tmp_path: Path) -> None:
    source = """
        from workers import WorkerEntrypoint

        class Api(WorkerEntrypoint):
            def one(self):
                return 1
    """
    other = python_worker(written(tmp_path / "there", worker=source))
    workers: Mapping[str, Any] = {"there": (other, Front(other))}
    bindings = {name: Service(Target("there", "Api"), workers) for name in ("THERE", "API", "NONE")}
    body = HERE + "        return Response.json(await api.one())"
    async with other.running(), serving(tmp_path, body, bindings=bindings) as client:
        assert (await client.get("/")).json() == 1
    async with served(python_worker(tmp_path / "there")) as client:
        assert "Handler does not export a fetch() function" in (await client.get("/")).text
