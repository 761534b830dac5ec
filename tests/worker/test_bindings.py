"""The bindings of Python Workers, from inside a Worker: KV, assets, other Workers, caches, fetch."""

import asyncio
import datetime
import re
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.worker.python_workers import python_worker, served, serving, written
from worker.bindings.assets import Assets
from worker.bindings.binding import BindingError
from worker.bindings.kv import KvNamespace
from worker.bindings.service import Service, Target
from worker.cron import BadCron, Cron
from worker.front import Front

HEAD = """
from workers import Response, WorkerEntrypoint, fetch
import js

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        env, KV = self.env, getattr(self.env, "KV", None)
"""


async def result(folder: Path, body: str, **options: Any) -> Any:
    """What a Worker whose ``fetch`` ends with ``body`` answers, as JSON."""
    indented = "\n".join(f"        {line}" for line in dedent(body).strip().splitlines())
    async with serving(folder, HEAD + indented, **options) as client:
        answer = await client.get("/x")
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def kv(tmp_path: Path) -> dict[str, KvNamespace]:
    return {"KV": KvNamespace(tmp_path / "state" / "kv.sqlite", "one")}


async def test_kv_keeps_every_type(tmp_path: Path, kv: dict[str, KvNamespace]) -> None:
    body = """
        await KV.put("text", "é")
        await KV.put("bytes", b"\\x00\\xff")
        await KV.put("json", '{"a": [1, null]}')
        await KV.put("stream", js.Response.new("flow").body)
        await KV.put("meta", "1", metadata={"k": [1]}, expirationTtl=100)
        await KV.put("gone", "1")
        await KV.delete("gone")
        buffer = await KV.get("bytes", "arrayBuffer")
        flow = await KV.get("stream", type="stream")
        both = await KV.getWithMetadata("meta", cacheTtl=30)
        many = await KV.get(["text", "none"])
        return Response.json({
            "text": await KV.get("text"), "bytes": list(buffer), "json": await KV.get("json", {"type": "json"}),
            "flow": [chunk.to_bytes().decode() async for chunk in flow], "none": await KV.get("none"),
            "gone": await KV.get("gone"), "value": both.value, "metadata": both["metadata"], "many": many,
        })
    """
    assert await result(tmp_path, body, bindings=kv) == {
        "text": "é",
        "bytes": [0, 255],
        "json": {"a": [1, None]},
        "flow": ["flow"],
        "none": None,
        "gone": None,
        "value": "1",
        "metadata": {"k": [1]},
        "many": {"text": "é", "none": None},
    }


async def test_kv_lists_in_pages(tmp_path: Path, kv: dict[str, KvNamespace]) -> None:
    body = """
        for n in range(5):
            await KV.put(f"a{n}", "x", metadata=n)
        await KV.put("b", "x")
        first = await KV.list(prefix="a", limit=3)
        rest = await KV.list(prefix="a", cursor=first.cursor)
        pages = [[key.name for key in page["keys"]] for page in (first, rest)]
        return Response.json([pages, first.list_complete, rest.list_complete, rest["keys"][0].metadata])
    """
    assert await result(tmp_path, body, bindings=kv) == [[["a0", "a1", "a2"], ["a3", "a4"]], False, True, 3]


async def test_kv_forgets_what_has_expired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kv = KvNamespace(":memory:", "one")
    await kv.call("put", ["a", "1", {"expirationTtl": 60}])
    assert await kv.call("get", ["a"]) == "1"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert await kv.call("get", ["a"]) is None
    assert (await kv.call("list", []))["keys"] == []
    await kv.aclose()


SOON = "in 50 seconds, as of the test"


@pytest.mark.parametrize(
    ("method", "args", "words"),
    [
        ("get", [""], "Key name cannot be empty"),
        ("get", ["k" * 513], "KV GET failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512"),
        ("get", ["a", "xml"], "Unknown response type"),
        ("get", [["a"] * 101], "maximum of 100 keys"),
        ("get", [["a", ""]], "Key name cannot be empty"),
        ("get", [[]], "KV GET_BULK failed: 400 You must request a minimum of 1 key"),
        ("get", [["a"], "stream"], 'KV GET_BULK failed: 400 "stream" is not a valid type. Use "json" or "text"'),
        ("get", ["a", {"cacheTtl": 29}], "KV GET failed: 400 Invalid cache_ttl of 29. Cache TTL must be at least 30."),
        ("get", ["a", {"cacheTtl": "x"}], "KV GET failed: 400 Invalid cache_ttl of 0."),
        ("getWithMetadata", [["a"], {"cacheTtl": 1}], "KV GET_BULK failed: 400 Invalid cache_ttl of 1."),
        ("put", ["k" * 513, ""], "KV PUT failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512"),
        ("put", ["a", ["x"]], "accepts only strings"),
        (
            "put",
            ["a", b"x" * ((25 << 20) + 1)],
            "KV PUT failed: 413 Value length of 26214401 exceeds limit of 26214400",
        ),
        (
            "put",
            ["a", "x", {"expirationTtl": 10}],
            "400 Invalid expiration_ttl of 10. Expiration TTL must be at least 60.",
        ),
        ("put", ["a", "x", {"expirationTtl": -1}], "expiration_ttl of -1. Please specify integer greater than 0."),
        (
            "put",
            ["a", "x", {"expiration": 5}],
            "Invalid expiration of 5. Please specify integer greater than the current",
        ),
        ("put", ["a", "x", {"expiration": SOON}], "Expiration times must be at least 60 seconds in the future."),
        ("list", [{"prefix": "é" * 257}], "414 UTF-8 encoded length of 514 exceeds key length limit of 512"),
        ("put", ["a", "x", {"metadata": "m" * 1100}], "Metadata length of 1102 exceeds limit of 1024"),
        ("list", [{"limit": 1001}], "Invalid key_count_limit of 1001"),
        ("list", [{"cursor": "%"}], "Invalid cursor"),
    ],
)
async def test_kv_refuses_in_the_platforms_words(method: str, args: list[Any], words: str) -> None:
    kv = KvNamespace(":memory:", "one")
    if args[-1] == {"expiration": SOON}:
        args = [*args[:-1], {"expiration": int(time.time()) + 50}]
    with pytest.raises(BindingError, match=re.escape(words)):
        await kv.call(method, args)
    await kv.aclose()


async def test_many_values_are_bounded_and_of_one_type() -> None:
    kv = KvNamespace(":memory:", "one")
    await kv.call("put", ["number", 1.5])
    await kv.call("put", ["text", "x" * (13 << 20)])
    await kv.call("put", ["more", "x" * (13 << 20)])
    assert (await kv.call("get", [["number", "none"], "json"])).entries == {"number": 1.5, "none": None}
    for args, words in (
        ([["number", "text"], "json"], "400 At least one of the requested keys corresponds to a non-json value"),
        ([["more", "text"]], "413 Total size of request exceeds the limit of 25MB"),
    ):
        with pytest.raises(BindingError, match=f"KV GET_BULK failed: {words}"):
            await kv.call("get", args)
    await kv.aclose()


async def test_a_refusal_is_an_error_of_javascripts(tmp_path: Path, kv: dict[str, KvNamespace]) -> None:
    body = """
        try:
            await KV.get("")
        except Exception as error:
            return Response.json([error.name, error.message, str(error)])
    """
    words = "Key name cannot be empty."
    assert await result(tmp_path, body, bindings=kv) == ["TypeError", words, f"TypeError: {words}"]


@pytest.fixture
def public(tmp_path: Path) -> Path:
    folder = tmp_path / "public"
    (folder / "deep").mkdir(parents=True)
    for name in ("index.html", "about.html", "deep/index.html", "404.html", "style.css", "_headers"):
        (folder / name).write_text(name)
    return folder


async def test_assets_answer_before_the_worker(tmp_path: Path, public: Path) -> None:
    worker = python_worker(written(tmp_path, worker=HEAD + "        return Response('worker')"))
    async with served(worker, Assets(public)) as client:
        found = {
            path: (await client.get(path)).text
            for path in ("/", "/about", "/deep/", "/style.css", "/none", "/_headers", "/../worker.py")
        }
        moved = {path: (await client.get(path)).headers.get("location") for path in ("/index.html", "/about/", "/deep")}
        posted = (await client.post("/about")).text
        tag = (await client.get("/style.css")).headers["etag"]
        again = await client.get("/style.css", headers={"if-none-match": tag})
        kind = (await client.get("/style.css")).headers["content-type"]
    assert found == {
        "/": "index.html",
        "/about": "about.html",
        "/deep/": "deep/index.html",
        "/style.css": "style.css",
        "/none": "worker",
        "/_headers": "worker",
        "/../worker.py": "worker",
    }
    assert moved == {"/index.html": "/", "/about/": "/about", "/deep": "/deep/"}
    assert (posted, again.status_code, kind) == ("worker", 304, "text/css; charset=utf-8")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [404, ""]),
        ({"not_found_handling": "404-page"}, [404, "404.html"]),
        ({"not_found_handling": "single-page-application"}, [200, "index.html"]),
    ],
)
async def test_the_assets_binding(tmp_path: Path, public: Path, settings: dict[str, Any], expected: list[Any]) -> None:
    body = """
        answer = await env.ASSETS.fetch("http://x/none")
        return Response.json([answer.status, await answer.text()])
    """
    assert await result(tmp_path, body, bindings={"ASSETS": Assets(public, **settings)}) == expected


async def test_the_worker_goes_first_where_a_rule_says_so(tmp_path: Path, public: Path) -> None:
    worker = python_worker(written(tmp_path, worker=HEAD + "        return Response('worker')"))
    assets = Assets(public, run_worker_first=["/deep/*", "!/deep/index.html"])
    async with served(worker, assets) as client:
        assert [(await client.get(path)).text for path in ("/", "/deep/")] == ["index.html", "worker"]


async def test_workers_call_each_other(tmp_path: Path) -> None:
    there = HEAD + (
        "        return Response('got ' + await request.text(), status=202)\n\n"
        "    async def add(self, one, other):\n        return {'sum': one + other}\n\n"
        "    async def fail(self):\n        raise ValueError('not here')\n"
    )
    body = """
        answer = await env.THERE.fetch("http://any/", method="POST", body="it")
        sums = await env.THERE.add(1, 2)
        try:
            await env.THERE.fail()
        except Exception as error:
            said = error.message
        return Response.json([answer.status, await answer.text(), sums.sum, sums["sum"], said])
    """
    other = python_worker(written(tmp_path / "there", worker=there))
    workers = {"there": (other, Front(other))}
    async with other.running():
        found = await result(tmp_path, body, bindings={"THERE": Service(Target("there"), workers)})
    assert found == [202, "got it", 3, 3, "not here"]


async def test_the_cache_keeps_what_may_be_kept(tmp_path: Path) -> None:
    body = """
        cache = js.caches.default
        async def kept(name, **headers):
            url = f"http://x/{name}"
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            await cache.put(url, Response("body", headers=named).js_object)
            found = await cache.match(url)
            return found and [found.status, await found.text()]
        again = await kept("a", cache_control="max-age=60")
        gone = [await cache.delete("http://x/a"), await cache.match("http://x/a")]
        return Response.json([again, gone, await kept("b"), await kept("c", cache_control="no-store, max-age=60")])
    """
    assert await result(tmp_path, body) == [[200, "body"], [True, None], None, None]


async def test_fetch_goes_out(tmp_path: Path) -> None:
    other = HEAD + (
        "        if 'away' in request.url:\n"
        "            return Response.redirect('http://' + request.headers['host'] + '/b')\n"
        "        return Response(await request.text() + request.headers['x-a'], headers={'x-b': '1'})\n"
    )
    async with serving(tmp_path / "other", other) as client:
        url = str(client.base_url)
        body = f"""
            answer = await fetch("{url}", method="PUT", body="sent ", headers={{"x-a": "é"}})
            led = await fetch("{url}/away", headers={{"x-a": "led"}})
            stayed = await fetch("{url}/away", redirect="manual")
            told = [answer.status, await answer.text(), answer.headers["x-b"]]
            try:
                await fetch("http://127.0.0.1:1/")
            except OSError as error:
                refused = "can't be reached" in str(error)
            return Response.json([*told, await led.text(), led.url.endswith("/b"), stayed.status, refused])
        """
        found = await result(tmp_path, body)
    assert found == [200, "sent é", "1", "led", True, 302, True]


async def test_a_stream_of_fetch_is_passed_on_and_left(tmp_path: Path) -> None:
    source = """
        import asyncio
        from workers import Response, WorkerEntrypoint, fetch
        from js import ReadableStream

        ended = []

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                if "ended" in request.url:
                    return Response.json(ended)
                if "inner" in request.url:
                    async def pull(controller):
                        controller.enqueue(b"tick")
                        await asyncio.sleep(0.01)
                    return Response(ReadableStream.new(pull=pull, cancel=lambda _: ended.append("yes")))
                inner = await fetch(request.url.replace("outer", "inner"))
                return Response(inner.body, headers={"content-type": "text/x"})
    """
    async with serving(tmp_path, source) as client:
        async with client.stream("GET", "/outer") as response:
            assert b"tick" in await anext(response.aiter_bytes())
        while (await client.get("/ended")).json() != ["yes"]:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("pattern", "moment", "meets"),
    [
        ("* * * * *", "2026-01-04T10:30", True),
        ("*/15 10-12 * JAN SUN", "2026-01-04T10:30", True),
        ("0,30 * * * 1", "2026-01-04T10:30", True),
        ("30 10 4 1 MON-FRI", "2026-01-04T10:30", False),
        ("31 * * * *", "2026-01-04T10:30", False),
    ],
)
def test_patterns_of_the_schedule(pattern: str, moment: str, meets: bool) -> None:
    assert Cron.parse(pattern).meets(datetime.datetime.fromisoformat(moment)) is meets


@pytest.mark.parametrize("pattern", ["* * * *", "60 * * * *", "* * L * *", "* * * * 0", "5-1 * * * *"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(BadCron):
        Cron.parse(pattern)
