"""Python Workers as people write them: classes, functions, ASGI and WSGI applications, the context, the schedule."""

import asyncio
from pathlib import Path

import pytest

from tests.worker.python_workers import python_worker, served, serving, written
from worker.bindings.assets import Assets
from worker.front import Front


async def test_a_class_has_its_request_env_and_ctx(tmp_path: Path) -> None:
    source = """
        from workers import Response, WorkerEntrypoint

        class Default(WorkerEntrypoint):
            async def fetch(self, request, env, ctx):
                return Response.json({
                    "method": request.method, "url": request.url, "host": request.headers["host"],
                    "body": await request.json(), "colo": request.cf.colo, "ip": request.headers["cf-connecting-ip"],
                    "vars": [self.env.TEXT, env.TEXT, self.env.DATA.list[1]], "ctx": self.ctx is ctx,
                }, status=201, headers={"x-set": "yes"})
    """
    variables = {"TEXT": "words", "DATA": {"list": [1, 2]}}
    async with serving(tmp_path, source, variables=variables) as client:
        answer = await client.post("/a%20b?q=%C3%A9", json={"a": [1]})
    told = answer.json()
    host = told.pop("host")
    assert told == {
        "method": "POST",
        "url": f"http://{host}/a%20b?q=%C3%A9",
        "body": {"a": [1]},
        "colo": "DFW",
        "ip": "127.0.0.1",
        "vars": ["words", "words", 2],
        "ctx": True,
    }
    assert (answer.status_code, answer.headers["x-set"]) == (201, "yes")
    assert answer.headers["content-type"] == "application/json"


BARE = """
    from js import Object, Response
    from pyodide.ffi import to_js

    async def on_fetch(request, env, ctx):
        init = to_js({"headers": {"x-text": env.TEXT}}, dict_converter=Object.fromEntries)
        return Response.new(f"{request.method} {request.headers.get('x-a')}", init)
"""
HANDLED = """
    from workers import Response, handler

    @handler
    async def on_fetch(request, env):
        return Response(f"{request.method.value} {request.headers['x-a']}", headers={"x-text": env.TEXT})
"""


@pytest.mark.parametrize("source", [BARE, HANDLED])
@pytest.mark.parametrize(
    ("date", "flags"),
    [("2025-08-01", ()), ("2026-01-01", ("disable_python_no_global_handlers",))],
)
async def test_functions_serve_where_the_flags_allow_them(
    tmp_path: Path, source: str, date: str, flags: tuple[str, ...]
) -> None:
    options = {"date": date, "flags": ("python_workers", *flags), "variables": {"TEXT": "t"}}
    async with serving(tmp_path, source, **options) as client:
        answer = await client.get("/", headers={"x-a": "1"})
    assert (answer.text, answer.headers["x-text"]) == ("GET 1", "t")


FASTAPI = """
    from contextlib import asynccontextmanager
    import asgi
    from fastapi import FastAPI, Request
    from fastapi.responses import StreamingResponse
    from workers import WorkerEntrypoint

    @asynccontextmanager
    async def lifespan(app):
        yield {"started": True}

    app = FastAPI(lifespan=lifespan)

    @app.get("/sync")
    def in_a_thread():
        return {"thread": True}

    @app.post("/env/{name}")
    async def environment(name: str, request: Request, body: dict):
        return {"name": name, "text": request.scope["env"].TEXT, "body": body, "started": request.state.started}

    @app.get("/stream")
    async def stream():
        async def pieces():
            yield "one"
            yield "two"
        return StreamingResponse(pieces())

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            return await asgi.fetch(app, request, self.env)
"""


async def test_an_asgi_application_serves(tmp_path: Path) -> None:
    async with serving(tmp_path, FASTAPI, variables={"TEXT": "t"}) as client:
        assert (await client.get("/sync")).json() == {"thread": True}
        told = (await client.post("/env/x", json={"a": 1})).json()
        assert told == {"name": "x", "text": "t", "body": {"a": 1}, "started": True}
        assert (await client.get("/stream")).text == "onetwo"
        assert (await client.get("/none")).status_code == 404


async def test_a_wsgi_application_serves(tmp_path: Path) -> None:
    source = """
        from flask import Flask, request
        from workers import wsgi

        app = Flask(__name__)

        @app.post("/echo")
        def echo():
            return {"text": request.environ["workers.env"].TEXT, "form": request.form["a"]}

        Default = wsgi.entrypoint(app)
    """
    async with serving(tmp_path, source, variables={"TEXT": "t"}) as client:
        answers = await asyncio.gather(*(client.post("/echo", data={"a": f"é{n}"}) for n in range(5)))
    assert [answer.json() for answer in answers] == [{"text": "t", "form": f"é{n}"} for n in range(5)]


CONTEXT = """
    import asyncio
    from workers import Response, WorkerEntrypoint, wait_until

    done = []

    async def later(word):
        await asyncio.sleep(0.05)
        done.append(word)

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            if "done" in request.url:
                return Response.json(done)
            self.ctx.waitUntil(later("a"))
            self.ctx.waitUntil(asyncio.create_task(later("b")))
            wait_until(later("c"))
            return Response("at once")

        async def scheduled(self, controller, env, ctx):
            if controller.cron == "bad":
                raise ValueError("no")
            done.append([controller.cron, controller.scheduledTime])
"""


async def test_work_goes_on_after_the_response(tmp_path: Path) -> None:
    async with serving(tmp_path, CONTEXT) as client:
        assert (await client.get("/")).text == "at once"
        while sorted((await client.get("/done")).json()) != ["a", "b", "c"]:
            await asyncio.sleep(0.01)


async def test_a_retired_isolate_finishes_that_work(tmp_path: Path) -> None:
    source = """
        import asyncio, pathlib
        from workers import Response, WorkerEntrypoint

        async def later():
            await asyncio.sleep(0.3)
            pathlib.Path(__file__).with_name("done").touch()

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                self.ctx.waitUntil(later())
                return Response("")
    """
    worker = python_worker(written(tmp_path, worker=source))
    async with served(worker) as client:
        await client.get("/")
        await worker.reload()
        while not (tmp_path / "done").exists():
            await asyncio.sleep(0.01)


async def test_the_schedule_is_called_by_hand(tmp_path: Path) -> None:
    async with serving(tmp_path, CONTEXT) as client:
        answer = await client.get("/cdn-cgi/handler/scheduled", params={"cron": "* * * * *", "time": "1000"})
        assert (answer.status_code, answer.text) == (200, "ok")
        assert (await client.get("/done")).json() == [["* * * * *", 1000]]
        assert (await client.get("/cdn-cgi/handler/scheduled?cron=bad")).json()["error"]["message"] == "no"
        assert (await client.get("/cdn-cgi/handler/scheduled?time=x")).status_code == 400


async def test_pass_through_leads_to_the_assets(tmp_path: Path) -> None:
    source = """
        from workers import WorkerEntrypoint

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                if "pass" in request.url:
                    self.ctx.passThroughOnException()
                raise ValueError("no")
    """
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "pass.txt").write_text("the asset")
    assets = Assets(tmp_path / "public", run_worker_first=True)
    async with served(python_worker(written(tmp_path, worker=source)), assets) as client:
        assert (await client.get("/pass.txt")).text == "the asset"
        assert (await client.get("/other.txt")).status_code == 500


@pytest.mark.parametrize(
    ("source", "words"),
    [("return None", "returned nothing in place of a Response"), ("return 'text'", "returned a str in place of")],
)
async def test_what_is_no_response_is_said(tmp_path: Path, source: str, words: str) -> None:
    head = "from workers import WorkerEntrypoint\nclass Default(WorkerEntrypoint):\n    def fetch(self, request): "
    async with serving(tmp_path, head + source) as client:
        assert words in (await client.get("/")).json()["error"]["message"]


async def test_a_worker_without_the_handler_says_which(tmp_path: Path) -> None:
    source = "from workers import WorkerEntrypoint\nclass Default(WorkerEntrypoint): pass"
    worker = python_worker(written(tmp_path, worker=source))
    async with served(worker) as client:
        error = (await client.get("/")).json()["error"]
        assert error["message"] == "Handler does not export a fetch() function."
        assert error["traceback"] == "TypeError: Handler does not export a fetch() function.\n"
        with pytest.raises(Exception, match=r"scheduled\(\)"):
            await Front(worker).scheduled("* * * * *", 0)
