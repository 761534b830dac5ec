"""A Worker that calls everything of the SDK that roost says it has. Read by test_coverage.py; nobody imports it."""

# ruff: noqa
# mypy: ignore-errors

import asyncio
import io
import sys
from http import HTTPMethod

import asgi
import js
from pyodide.ffi import to_js
from workers import (
    Blob,
    BlobEnding,
    File,
    FormData,
    Request,
    Response,
    WorkerEntrypoint,
    fetch,
    handler,
    import_from_javascript,
    patch_env,
    python_from_rpc,
    python_to_rpc,
    wsgi,
)
from workers.gateway.options import BaseOptions
from workers.rpc import JsDict
from workers.utils import HTTPMessageMapping

called = set()
heard_closes = []


def watch(frame, event, _):
    code = frame.f_code
    if event == "call" and "/workers/" in code.co_filename:
        module = code.co_filename.rpartition("/workers/")[2].removesuffix(".py").replace("/", ".")
        called.add(f"{module}.{code.co_qualname}")


async def asgi_app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return await send({"type": "lifespan.shutdown.complete"})
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]})
    await send({"type": "http.response.body", "body": b"one", "more_body": True})
    if scope["path"] == "/broken":
        raise ValueError("on purpose")
    await send({"type": "http.response.body", "body": b"two"})


async def asgi_socket(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    heard = await receive()
    await send({"type": "websocket.send", "text": scope["path"] + heard["text"]})
    await send({"type": "websocket.send", "bytes": (await receive())["bytes"]})
    gone = await receive()
    heard_closes.append((gone["type"], gone["code"], gone["reason"]))


def wsgi_app(environ, start_response):
    start_response("200 OK", [("x-a", "1")])
    return [environ["wsgi.input"].read()]


async def requests():
    cf = js.JSON.parse('{"colo": "X"}')
    one = Request("http://x/a", method=HTTPMethod.POST, headers={"X-A": "1"}, body='{"a": 1}', cf=cf)
    names = (
        "js_object body body_used cf cache credentials destination headers integrity is_history_navigation keepalive"
    )
    for name in [*names.split(), "method", "mode", "redirect", "referrer", "referrer_policy", "url"]:
        getattr(one, name)
    assert (one.method, one.headers["x-a"], one.url, one.cf.colo) == (HTTPMethod.POST, "1", "http://x/a", "X")
    assert await one.clone().json() == {"a": 1}
    assert (await one.clone().buffer()).to_bytes() == b'{"a": 1}'
    assert await one.clone().bytes() == b'{"a": 1}'
    assert (await one.clone().blob()).size == 8
    assert await one.text() == '{"a": 1}'
    try:
        await one.text()
    except OSError as error:
        assert str(error) == "Body already used"
    form = FormData({"a": "é"})
    form.append("file", File(["x"], "x.txt", content_type="text/plain"))
    sent = await Request("http://x", method="POST", body=form).form_data()
    assert (sent["a"], await sent["file"].text(), sent["file"].name) == ("é", "x", "x.txt")


async def responses():
    one = Response("text", status=201, status_text="Made", headers=[("x-a", "1"), ("x-a", "2")])
    assert (one.status, one.status_text, one.ok, one.headers["x-a"]) == (201, "Made", True, "1, 2")
    assert (one.js_object.status, repr(one)[:8]) == (201, "Response")
    assert await one.replace_body("other").text() == "other"
    assert [chunk.to_bytes() async for chunk in Response(b"ab").body] == [b"ab"]
    assert await Response.json({"a": [1, None]}).json() == {"a": [1, None]}
    assert await Response.from_json([1], headers={"x-b": "1"}).text() == "[1]"
    assert Response.redirect("http://x/y", 301).headers.get("location") == "http://x/y"
    form = FormData({"a": "1"})
    assert (await Response(form).form_data())["a"] == "1"
    assert (await Response(form).formData())["a"] == "1"
    assert await (await Response("ab", headers={"content-type": "x/y"}).blob()).text() == "ab"
    assert Response(None, status=204).body is None
    assert await Response(to_js(b"ab").buffer).bytes() == b"ab"
    try:
        Response({"a": 1})
    except TypeError as error:
        assert str(error) == "Unsupported type in Response: dict"


async def blobs():
    one = Blob(["a", b"b", Blob("c")], content_type="text/x", endings=BlobEnding.TRANSPARENT)
    assert (one.size, one.content_type, await one.text(), await one.bytes()) == (3, "text/x", "abc", b"abc")
    assert await one.slice(1, 3).text() == "bc"
    file = File(one, "a.txt", last_modified=5)
    assert (file.name, file.last_modified, file.content_type, file.js_object.size) == ("a.txt", 5, "text/x", 3)
    form = FormData({"a": "1"})
    form.append("b", one, "b.txt")
    form["c"] = "3"
    form.append("c", "4")
    assert (list(form.keys()), [*form.get_all("c")], form["b"].name) == (["a", "b", "c", "c"], ["3", "4"], "b.txt")
    assert [name for name, _ in form.items()] == ["a", "b", "c", "c"]
    assert next(iter(form.values())) == "1"
    form.delete("c")
    del form["b"]
    assert ("c" in form, form.js_object.get("a")) == (False, "1")


async def conversions(env):
    there = python_to_rpc({"a": [1, None, {"b": "c"}], "e": ValueError("x")})
    back = python_from_rpc(there)
    assert (back["a"], back.a[2].b, str(back["e"])) == ([1, None, {"b": "c"}], "c", "Error: x")
    assert python_from_rpc(python_to_rpc(None)) is None
    assert isinstance(back, JsDict)
    assert import_from_javascript("cloudflare:workers").env.TEXT == "t"
    with patch_env({"TEXT": "patched"}):
        from workers import env as inside

        assert inside.TEXT == "patched"
    assert HTTPMessageMapping() is not None
    try:
        import_from_javascript("node:fs")
    except ImportError as error:
        assert "docs/coverage.md" in str(error)


@handler
async def handled(request, env):
    return Response(f"{request.method.value} {env.TEXT}")


async def socket(answer):
    client, heard, done = answer.webSocket, [], asyncio.Event()
    assert answer.status == 101
    client.accept()
    client.binaryType = "arraybuffer"
    client.addEventListener("message", lambda event: heard.append(event.data) or (len(heard) == 2 and done.set()))
    client.send("hi")
    client.send(to_js(b"ab"))
    await done.wait()
    assert (heard[0], heard[1].to_bytes()) == ("/wshi", b"ab")
    closed = asyncio.Event()
    client.addEventListener("close", lambda _: closed.set())
    client.close(4001, "bye")
    await closed.wait()
    assert heard_closes == [("websocket.disconnect", 4001, "bye")]


async def applications(env, ctx):
    request = Request("http://x/a", method="POST", body="sent")
    answer = await asgi.fetch(asgi_app, request.js_object, env, ctx, options=asgi.Options())
    assert (await answer.text(), answer.headers.get("x-a")) == ("onetwo", "1")
    made = asgi.entrypoint(asgi_app)(ctx, env)
    assert await (await made.fetch(Request("http://x/a"))).text() == "onetwo"
    assert await (await asgi.fetch(asgi_app, Request("http://x/broken"), env)).text() == "one"
    await socket(await asgi.websocket(asgi_socket, Request("http://x/ws", headers={"upgrade": "websocket"}), env))
    answer = await wsgi.fetch(wsgi_app, request.clone() if False else Request("http://x", method="POST", body="w"), env)
    assert await answer.text() == "w"
    made = wsgi.entrypoint(wsgi_app, options=wsgi.Options(encode_body="manual"))(ctx, env)
    assert await (await made.fetch(Request("http://x/a"))).text() == ""
    assert await (await handled(request.js_object, env)).text() == "POST t"


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.url.endswith("/self"):
            return Response("self")
        sys.setprofile(watch)
        try:
            await requests()
            await responses()
            await blobs()
            await conversions(self.env)
            await applications(self.env, self.ctx)
            assert await (await fetch(request.url.replace("/all", "/self"))).text() == "self"
        finally:
            sys.setprofile(None)
        return Response.json(sorted(called))
