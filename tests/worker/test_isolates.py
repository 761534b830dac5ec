"""What happens to a Python Worker's process: what it can import, how it ends, what takes its place."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.worker.python_workers import python_worker, served, serving, written
from worker.isolate_process import Limits
from worker.reloading import keep_reloading

HEAD = """
import asyncio, os, re, sys
from workers import Response, WorkerEntrypoint

met = asyncio.Event()
left = []

async def slow():
    try:
        met.set()
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        left.append("slow")
        raise

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = request.url.rpartition("/")[2]
        if path == "pid":
            return Response(str(os.getpid()))
"""


async def test_only_the_users_modules_are_on_the_path(tmp_path: Path) -> None:
    source = """
        import importlib, sys
        import catalog, helper, runtime
        from workers import Response, WorkerEntrypoint

        def found(name):
            try:
                return importlib.import_module(name).__file__
            except ImportError as error:
                return str(error)

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                names = ["worker", "runtime", "catalog", "helper", "wrangler_compat", "worker.app"]
                return Response.json({name: found(name) for name in names})
    """
    folder = written(tmp_path, worker=source, runtime="X = 1", catalog="X = 2")
    written(tmp_path / "python_modules", helper="X = 3")
    async with served(python_worker(folder)) as client:
        found = (await client.get("/")).json()
    assert found == {
        "worker": str(tmp_path / "worker.py"),
        "runtime": str(tmp_path / "runtime.py"),
        "catalog": str(tmp_path / "catalog.py"),
        "helper": str(tmp_path / "python_modules" / "helper.py"),
        "wrangler_compat": "No module named 'wrangler_compat'",
        "worker.app": "No module named 'worker.app'; 'worker' is not a package",
    }


async def test_an_exception_ends_one_request_and_is_shown(tmp_path: Path) -> None:
    source = HEAD + "        raise ValueError('<oh>')  # here"
    async with serving(tmp_path, source) as client:
        pid = (await client.get("/pid")).text
        as_json = await client.get("/x")
        page = await client.get("/x", headers={"accept": "text/html"})
        assert (await client.get("/pid")).text == pid
    error = as_json.json()["error"]
    assert (as_json.status_code, error["name"], error["message"]) == (500, "ValueError", "<oh>")
    assert "raise ValueError('<oh>')  # here" in error["traceback"]
    assert "roost_isolate" not in error["traceback"]
    assert "isolate/" not in error["traceback"]
    assert page.status_code == 500
    assert "<h1>ValueError</h1>" in page.text
    assert "&lt;oh&gt;" in page.text


ENDS = {
    "sys.exit(3)": ("SystemExit", "sys.exit(3)"),
    "os._exit(3)": ("Crash", "exit status 3"),
    "os.kill(os.getpid(), 11)": ("Crash", "SIGSEGV"),
    "bytearray(1 << 30)": ("MemoryError", "bytearray(1 << 30)"),
    "while True: pass": ("TimeLimit", "while True: pass"),
    "re.match('(a+)+$', 'a' * 40 + 'b')": ("TimeLimit", "let nothing else run"),  # holds the interpreter's lock
}


@pytest.mark.parametrize("statement", ENDS)
async def test_whatever_ends_an_isolate_is_told_and_the_next_request_gets_a_fresh_one(
    tmp_path: Path, statement: str
) -> None:
    name, said = ENDS[statement]
    limits = Limits(wall=1, memory=400 << 20)
    async with serving(tmp_path, HEAD + f"        {statement}", limits=limits) as client:
        pid = (await client.get("/pid")).text
        ended = await client.get("/end")
        assert ended.status_code == 500
        error = ended.json()["error"]
        assert error["name"] == name
        assert said in error["message"] + error["traceback"]
        assert (await client.get("/pid")).text != pid


async def test_sys_exit_and_memory_leave_other_requests_alone(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
        if path == "wait":
            met.set()
            await asyncio.sleep(0.5)
            return Response("through")
        await met.wait()
        sys.exit()
    """
    )
    async with serving(tmp_path, source) as client:
        waiting, ending = await asyncio.gather(client.get("/wait"), client.get("/end"))
    assert (waiting.text, ending.json()["error"]["name"]) == ("through", "SystemExit")


async def test_requests_of_one_worker_interleave(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
        if path == "wait":
            await met.wait()
        else:
            met.set()
        return Response(path)
    """
    )
    async with serving(tmp_path, source) as client:
        waiting = asyncio.create_task(client.get("/wait"))
        await client.get("/pid")
        assert not waiting.done()
        await client.get("/set")
        assert (await waiting).text == "wait"


async def test_a_worker_that_sleeps_delays_no_other(tmp_path: Path) -> None:
    sleeper = HEAD + "        import time; time.sleep(3); return Response('slept')"
    async with serving(tmp_path / "a", sleeper) as slow, serving(tmp_path / "b", HEAD) as quick:
        await slow.get("/pid")
        sleeping = asyncio.create_task(slow.get("/sleep"))
        await asyncio.sleep(0.2)
        await quick.get("/pid")
        assert not sleeping.done()
        assert (await sleeping).text == "slept"


async def test_a_client_that_leaves_calls_its_request_off(tmp_path: Path) -> None:
    source = HEAD + "        if path == 'slow': await slow()\n        return Response.json(left)"
    async with serving(tmp_path, source) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/slow", timeout=1)
        while (await client.get("/left")).json() != ["slow"]:
            await asyncio.sleep(0.01)


async def test_a_request_streams_in(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
        if path == "heard":
            return Response.json(left)
        async for chunk in request.body:
            left.append(chunk.to_bytes().decode())
        return Response("done")
    """
    )
    async with serving(tmp_path, source) as client:

        async def said() -> AsyncIterator[bytes]:
            yield b"one"
            while (await client.get("/heard")).json() != ["one"]:
                await asyncio.sleep(0.01)
            yield b"two"

        assert (await client.post("/", content=said())).text == "done"
        assert (await client.get("/heard")).json() == ["one", "two"]


async def test_a_response_streams_out_and_is_left(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
        from js import ReadableStream
        from pyodide.ffi import create_proxy, to_js
        if path == "left":
            return Response.json(left)

        async def pull(controller):
            controller.enqueue(to_js(b"tick"))
            await asyncio.sleep(0.01)

        async def cancel(reason):
            left.append("cancelled")

        stream = ReadableStream.new(pull=create_proxy(pull), cancel=create_proxy(cancel))
        return Response(stream, headers={"content-type": "text/x"})
    """
    )
    async with serving(tmp_path, source) as client:
        async with client.stream("GET", "/endless") as response:
            assert await anext(response.aiter_bytes()) == b"tick"
        while (await client.get("/left")).json() != ["cancelled"]:
            await asyncio.sleep(0.01)


async def test_a_large_body_is_held_back_until_it_is_read(tmp_path: Path) -> None:
    source = HEAD + "        return Response(await request.bytes())"
    body = bytes(range(256)) * 40_000
    async with serving(tmp_path, source) as client:
        assert (await client.post("/", content=body)).content == body


async def test_a_change_is_served_and_drops_nothing(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
        while path == "slow" and not os.path.exists("GO"):
            await asyncio.sleep(0.01)
        return Response("before")
    """
    ).replace("GO", str(tmp_path / "go"))
    folder = written(tmp_path / "project", worker=source)
    worker = python_worker(folder)
    async with served(worker) as client:
        watching = asyncio.create_task(keep_reloading(worker, folder))
        assert (await client.get("/")).text == "before"
        slow = asyncio.create_task(client.get("/slow"))
        await asyncio.sleep(0.3)  # until it is there, and the watcher looks
        written(folder, worker=source.replace("before", "after"))
        while (await client.get("/")).text != "after":
            await asyncio.sleep(0.02)
        assert not slow.done()
        (tmp_path / "go").touch()
        assert (await slow).text == "before"
        watching.cancel()


async def test_a_mistake_in_the_file_is_shown_until_it_is_mended(tmp_path: Path) -> None:
    worker = python_worker(written(tmp_path, worker="def oh(:"))
    async with served(worker) as client:
        error = (await client.get("/")).json()["error"]
        assert error["name"] == "SyntaxError"
        assert 'worker.py", line 1' in error["traceback"]
        written(tmp_path, worker=HEAD)
        assert (await client.get("/pid")).status_code == 200


@pytest.mark.parametrize(
    ("source", "options", "sentence"),
    [
        ("x = 1", {}, "has no class Default"),
        (HEAD, {"flags": ()}, "python_workers"),
        ("def on_fetch(request): ...", {}, "disable_python_no_global_handlers"),
        (HEAD + "def on_fetch(request): ...".rjust(30), {}, "Cannot define multiple default entrypoints"),
    ],
)
async def test_what_is_no_worker_is_said(
    tmp_path: Path, source: str, options: dict[str, object], sentence: str
) -> None:
    if "on_fetch" in source:
        source = source.replace("   def", "\ndef")
    async with serving(tmp_path, source, **options) as client:
        assert sentence in (await client.get("/")).json()["error"]["message"]


async def test_every_isolate_ends_with_its_worker(tmp_path: Path) -> None:
    async with serving(tmp_path, HEAD) as client:
        process = psutil.Process(int((await client.get("/pid")).text))
    deadline = time.monotonic() + 10
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
