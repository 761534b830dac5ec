"""What a Worker finds in its ``env``: fetchers, bindings whose methods roost answers, and what roost doesn't have."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from . import rpc
from .frames import Connection
from .host import Host
from .js_base import COVERAGE, JsArray, JsException, JsMap, JsObject, JsProxy, JsSet, JsType, jsnull, type_error
from .js_buffers import JsBuffer
from .js_headers import length_in
from .js_messages import NULL_BODY, Request, Response, asks_for_socket
from .js_promises import Promise
from .js_signals import unless_aborted
from .js_streams import ReadableStream, stream_of
from .js_websockets import WebSocket, connected, dialling


async def fetch_from(host: Host, service: str, source: Any, init: Any = None) -> Response:
    """The response of a service of roost's to ``Request(source, init)``."""
    request = Request(source, init)
    headers = request.headers.pairs
    head = {"method": request.method, "url": request.url, "headers": headers, "redirect": request.redirect}
    if asks_for_socket(request.headers):
        return await _upgraded(host, service, head, request)
    sent = request.sent()
    size = None if isinstance(sent, AsyncGenerator) else len(sent or b"")
    answer, body = await unless_aborted(request.signal, host.fetch(service, head | {"size": size}, sent))
    return await _response(answer, body, request)


async def _upgraded(host: Host, service: str, head: dict[str, Any], request: Request) -> Response:
    answer, found = await unless_aborted(request.signal, host.upgrade(service, head))
    if not isinstance(found, Connection):
        return await _response(answer, found, request)
    protocol = dict(answer["headers"]).get("sec-websocket-protocol", "")
    init = {"status": 101, "headers": answer["headers"], "webSocket": connected(found, protocol)}
    response = Response(None, init)
    response.url = answer.get("url", request.url)
    return response


async def _response(answer: dict[str, Any], body: AsyncGenerator[bytes], request: Request) -> Response:
    has_body = answer["status"] not in NULL_BODY
    stream = stream_of(body, answer.get("length", length_in(answer["headers"])))
    if not has_body:
        await stream.next_chunk()
    init = {"status": answer["status"], "statusText": answer.get("statusText"), "headers": answer["headers"]}
    response = Response(stream if has_body else None, init)
    response.url = answer.get("url", request.url)
    response.redirected = response.url != request.url
    return response


def websocket_class(host: Host) -> type[WebSocket]:
    """``js.WebSocket``, whose connections go through ``host``."""

    async def dial(url: str, protocols: str) -> tuple[str, Connection]:
        headers = [("upgrade", "websocket"), *([("sec-websocket-protocol", protocols)] if protocols else [])]
        head = {"method": "GET", "url": url, "headers": headers, "redirect": "follow"}
        answer, found = await host.upgrade("internet", head)
        if not isinstance(found, Connection):
            await found.aclose()
            raise JsException(f"{url} answered {answer['status']} in place of a WebSocket")
        return dict(answer["headers"]).get("sec-websocket-protocol", ""), found

    return dialling(dial)


class Fetcher(JsProxy):
    """A service: ``fetch``, and any other method as a call of the Worker behind it."""

    def __init__(self, host: Host, service: str, *, calls: bool = False) -> None:
        self._host, self._service, self._calls = host, service, calls

    def fetch(self, source: Any, init: Any = None, **options: Any) -> Promise:
        return Promise(fetch_from(self._host, self._service, source, init or options or None))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "then" or not self._calls:
            return super().__getattr__(name)
        return functools.partial(rpc.invoke, self._host, self._service, name)


class HostBinding(JsProxy):
    """A binding that roost keeps: each of its methods is a call there."""

    _host: Host
    _service: str
    _methods: tuple[str, ...]

    def __getattr__(self, name: str) -> Any:
        if name not in type(self)._methods:
            return super().__getattr__(name)
        return functools.partial(_call, self._host, self._service, name)


def host_binding(host: Host, name: str, js_class: str, methods: tuple[str, ...]) -> HostBinding:
    """The binding ``name``, an object of JavaScript's class ``js_class``."""
    made = JsType(js_class, (HostBinding,), {"_host": host, "_service": name, "_methods": methods})()
    assert isinstance(made, HostBinding)
    return made


def _call(host: Host, service: str, method: str, *args: Any, **options: Any) -> Promise:
    async def called() -> Any:
        given = [await _sent(arg) for arg in (*args, *([JsObject(options)] if options else []))]
        return await host.call(service, method, given)

    return Promise(called())


async def _sent(value: Any) -> Any:
    """``value`` as it goes to roost."""
    if value is jsnull:
        return None
    if isinstance(value, ReadableStream):
        return b"".join([bytes(chunk) async for chunk in value])
    if isinstance(value, JsBuffer):
        return value.to_bytes()
    if isinstance(value, JsObject):
        return {key: await _sent(each) for key, each in value.as_object_map().items() if each is not None}
    if isinstance(value, JsMap):
        return {str(key): await _sent(value.get(key)) for key in value}
    if isinstance(value, JsArray | JsSet):
        return [await _sent(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    raise type_error(f"a {type(value).__name__} can't be given to a binding: to_js makes it JavaScript's")


class Missing(JsProxy):
    """A binding that roost doesn't have, under ``--allow-missing``: using it raises an error that names it."""

    def __init__(self, name: str, kind: str) -> None:
        self._name, self._kind = name, kind

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise RuntimeError(f"{self._name} is one of {self._kind}, which roost doesn't have: {COVERAGE}")


class Env(JsProxy):
    """``env``: the bindings, under their names."""

    js_name = "Object"

    def __init__(self, bindings: Mapping[str, Any]) -> None:
        self._bindings = dict(bindings)

    def object_keys(self) -> JsArray:
        return JsArray(list(self._bindings))

    def __getattr__(self, name: str) -> Any:
        try:
            return self._bindings[name]
        except KeyError:
            raise AttributeError(f"env has no {name}: it has {', '.join(self._bindings) or 'no bindings'}") from None
