"""``js`` and ``pyodide.ffi`` as Workers use them: every check is an expression that holds inside a real isolate."""

from pathlib import Path

import pytest

from tests.worker.python_workers import serving

SETUP = """
import asyncio
import js
from js import (
    URL, AbortController, Array, Date, Float32Array, Headers, Int8Array, JSON, Map, Object, Promise, ReadableStream,
    Response, Set, TextDecoder, TextDecoderStream, TextEncoder, TransformStream, Uint8Array, Uint8ClampedArray,
    URLSearchParams, crypto, setTimeout,
)
from pyodide.ffi import JsException, create_proxy, run_sync, to_js
from workers import WorkerEntrypoint

def js_of(value):
    return to_js(value, dict_converter=Object.fromEntries)

def raised(function):
    try:
        function()
    except JsException as error:
        return error.name, error.message

def source(*chunks):
    def start(controller):
        for chunk in chunks:
            controller.enqueue(chunk)
        controller.close()
    return ReadableStream.new(js_of({"start": start}))

async def read(stream):
    return [chunk async for chunk in stream]

async def later(value):
    await asyncio.sleep(0.01)
    return value

async def after_timeout():
    heard = asyncio.Event()
    setTimeout(create_proxy(heard.set), 5)
    await heard.wait()
    return True

async def aborted():
    controller = AbortController.new()
    controller.abort()
    try:
        await js.fetch("http://127.0.0.1:1", signal=controller.signal)
    except JsException as error:
        return error.name

async def written():
    stream = TransformStream.new()
    writer = stream.writable.getWriter()
    async def write():
        for word in ("a", "b"):
            await writer.write(word)
        await writer.close()
    writing = asyncio.create_task(write())
    found = await read(stream.readable)
    await writing
    return found
"""
CHECKS = [
    # conversions
    "js_of({'a': {'b': [1, None]}}).a.b.to_py() == [1, None]",
    "isinstance(to_js({'a': 1}), Map) and to_js({'a': 1}).get('a') == 1 and js_of({'a': 1}).to_py() == {'a': 1}",
    "to_js([1, (2,)]).to_py() == [1, [2]] and to_js({1, 2}).to_py() == {1, 2}",
    "bytes(to_js(b'ab')) == b'ab' and bytes(to_js(b'ab').to_py()) == b'ab'",
    "create_proxy(len)([1]) == 1 and create_proxy([1]).unwrap() == [1]",
    "run_sync(later(3)) == 3",
    "Object.keys(js_of({'a': 1})).to_py() == ['a'] and Object.entries(js_of({'a': 1})).to_py() == [['a', 1]]",
    "Map.new([['a', 1]]).has('a') and Set.new([1, 1]).size == 1 and Array.new(1, 2).length == 2",
    # JSON
    "JSON.parse('{\"a\": [1, {\"b\": true}]}').a[1].b is True and JSON.parse('[1]').to_py() == [1]",
    "JSON.stringify(js_of({'a': [1, 'é', None]})) == '{\"a\":[1,\"é\",null]}'",
    "raised(lambda: JSON.parse('{'))[0] == 'SyntaxError'",
    "'to_js' in raised(lambda: JSON.stringify({'a': 1}))[1]",
    # headers and addresses
    "Headers.new([['A', '1'], ['a', '2']]).get('A') == '1, 2' and [*Headers.new({'b': '1'})][0].to_py() == ['b', '1']",
    "not Headers.new().get('x') and list(Headers.new(js_of({'x': '1'})).keys()) == ['x']",
    "URL.new('../c?x=1#h', 'http://u:p@Host:80/a/b').href == 'http://u:p@host/c?x=1#h'",
    "URL.new('http://x/a b?q=é').search == '?q=%C3%A9' and URL.new('http://x/a b').pathname == '/a%20b'",
    "raised(lambda: URL.new('nothing')) == ('TypeError', 'Invalid URL string.')",
    "[v for _, v in URLSearchParams.new('a=1&a=2&b=+')] == ['1', '2', ' ']",
    "(lambda url: (url.searchParams.append('b', 'é'), url.href))(URL.new('http://x/?a=1'))[1] == 'http://x/?a=1&b=%C3%A9'",
    # bytes and text
    "TextEncoder.new().encode('é').to_bytes() == b'\\xc3\\xa9' and TextDecoder.new().decode(b'\\xff') == '\\ufffd'",
    "(lambda d: d.decode(b'\\xc3', stream=True) + d.decode(b'\\xa9'))(TextDecoder.new()) == 'é'",
    "Int8Array.new([200])[0] == -56 and Uint8ClampedArray.new([300, -1]).to_py().tolist() == [255, 0]",
    "Float32Array.new([0.5]).byteLength == 4 and Float32Array.new(Float32Array.new([0.5]).buffer)[0] == 0.5",
    "Uint8Array.new([1, 2, 3]).slice(1).to_bytes() == b'\\x02\\x03' and Uint8Array.new(2).to_bytes() == b'\\0\\0'",
    # streams and promises
    "await read(source('a', 'b')) == ['a', 'b']",
    "await read(source(b'\\xc3', b'\\xa9').pipeThrough(TextDecoderStream.new())) == ['é']",
    "[await read(branch) for branch in source('a', 'b').tee()] == [['a', 'b'], ['a', 'b']]",
    "(await source('a').getReader().read()).value == 'a'",
    "await written() == ['a', 'b']",
    "await Response.new(source('a', b'b')).text() == 'ab' and await Response.json(js_of([1])).text() == '[1]'",
    "(await Promise.all([later(1), Promise.resolve(2)])).to_py() == [1, 2]",
    "await Promise.new(lambda resolve, reject: resolve(4)).then(lambda value: value + 1) == 5",
    "await Promise.reject('no').catch(lambda error: error.message) == 'no'",
    "await after_timeout() and await aborted() == 'AbortError'",
    # the rest
    "len(crypto.randomUUID()) == 36 and any(crypto.getRandomValues(Uint8Array.new(16)))",
    "(await crypto.subtle.digest('SHA-256', b'')).to_bytes().hex()[:8] == 'e3b0c442'",
    "Date.new(0).toISOString() == '1970-01-01T00:00:00.000Z' and Date.new('2026-01-02').getUTCDate() == 2",
    "js.atob(js.btoa('a')) == 'a' and js.performance.now() > 0 and js.console.log('x') is None",
]


async def test_every_check_holds(tmp_path: Path) -> None:
    tests = "\n".join(f"    try:\n        assert {check}\n    except BaseException as error:\n"
                      f"        failed.append([{check!r}, repr(error)])" for check in CHECKS)  # fmt: skip
    entry = """
class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response.json(js_of(await failures()))
"""
    source = f"{SETUP}\nasync def failures():\n    failed = []\n{tests}\n    return failed\n{entry}"
    async with serving(tmp_path, source) as client:
        answer = await client.get("/")
        assert answer.status_code == 200, answer.text
        assert answer.json() == []


@pytest.mark.parametrize(("date", "null"), [("2025-08-01", "None"), ("2026-01-01", "jsnull")])
async def test_null_is_what_the_compatibility_date_says(tmp_path: Path, date: str, null: str) -> None:
    source = """
        import js
        from workers import Response, WorkerEntrypoint

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                return Response(repr(js.Headers.new().get("x")))
    """
    async with serving(tmp_path, source, date=date) as client:
        assert (await client.get("/")).text == null
