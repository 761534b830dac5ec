"""Values of calls between Workers: what JavaScript's structured clone and Workers RPC carry, as JSON.

developers.cloudflare.com/workers/runtime-apis/rpc; a value is a list whose first word says what the rest is, so that
nothing in it can be mistaken. Streams travel beside it, see :mod:`.rpc_streams`.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Callable
from typing import Any

from .js_base import COVERAGE, JsArray, JsError, JsException, JsMap, JsObject, JsProxy, JsSet, jsnull, null
from .js_bodies import bytes_in
from .js_buffers import ARRAYS, JsBuffer, Uint8Array
from .js_convert import PyProxy
from .js_dates import Date
from .js_headers import Headers
from .js_messages import NULL_BODY, Request, Response
from .js_streams import ReadableStream, stream_of

_Streams = list[AsyncGenerator[bytes]]


def packed(value: Any, streams: _Streams, above: tuple[int, ...] = ()) -> Any:
    """``value`` as JSON takes it; the bodies in it are added to ``streams``.

    Raises a DataCloneError for what is not carried.
    """

    def inner(each: Any) -> Any:
        if id(value) in above:
            raise _uncloned("a value that holds itself can't be sent over RPC")
        return packed(each, streams, (*above, id(value)))

    match value:
        case None:
            return ["undefined"]
        case bool() | int() | float() | str():
            return value
        case JsArray():
            return ["array", [inner(each) for each in value]]
        case JsMap():
            return ["map", [[inner(key), inner(each)] for key, each in value.items()]]
        case JsSet():
            return ["set", [inner(each) for each in value]]
        case JsObject():
            return ["object", {key: inner(each) for key, each in value.as_object_map().items()}]
        case bytes() | bytearray() | memoryview():
            return ["buffer", "Uint8Array", base64.b64encode(value).decode()]
        case JsBuffer():
            return ["buffer", type(value).name, base64.b64encode(value.to_bytes()).decode()]
        case Date():
            return ["date", value.getTime()]
        case JsError() | JsException():
            return ["error", value.name, value.message]
    return ["null"] if value is jsnull else _message(value, streams)


def _message(value: Any, streams: _Streams) -> Any:
    told: dict[str, Any]
    match value:
        case Headers():
            return ["headers", value.pairs]
        case ReadableStream():
            if value.locked:
                raise _uncloned("The ReadableStream has been locked to a reader.", "TypeError")
            streams.append(bytes_in(value))
            return ["stream", len(streams) - 1]
        case Request():
            told = {"method": value.method, "headers": value.headers.pairs, "redirect": value.redirect}
            body = _body(value, streams)
            return ["request", value.url, told, body, packed(value.cf, streams)]
        case Response():
            told = {"status": value.status, "statusText": value.statusText, "headers": value.headers.pairs}
            return ["response", value.url, told, _body(value, streams)]
    raise _refusal(value)


def _body(message: Any, streams: _Streams) -> Any:
    sent = message.sent()
    message.bodyUsed = True
    if isinstance(sent, bytes):
        return ["buffer", "Uint8Array", base64.b64encode(sent).decode()]
    if sent is None:
        return ["undefined"]
    streams.append(sent)
    return ["stream", len(streams) - 1]


def _refusal(value: Any) -> JsException:
    if isinstance(value, PyProxy):
        value = value.unwrap()
    if callable(value):
        name = getattr(value, "__name__", type(value).__name__)
        return _uncloned(f"{name} is a function, and roost's RPC carries no functions or RpcTargets: {COVERAGE}")
    name = type(value).name if isinstance(value, JsProxy) else type(value).__name__
    return _uncloned(f'Could not serialize object of type "{name}". This type does not support serialization.')


def _uncloned(message: str, name: str = "DataCloneError") -> JsException:
    return JsException(message, name)


def unpacked(value: Any, stream: Callable[[int], AsyncGenerator[bytes]]) -> Any:
    """The value that was packed; ``stream`` gives its streams by their numbers."""

    def inner(each: Any) -> Any:
        return unpacked(each, stream)

    match value:
        case ["undefined"]:
            return None
        case ["null"]:
            return null()
        case ["array", items]:
            return JsArray([inner(each) for each in items])
        case ["map", pairs]:
            return JsMap([(inner(key), inner(each)) for key, each in pairs])
        case ["set", items]:
            return JsSet([inner(each) for each in items])
        case ["object", entries]:
            return JsObject({key: inner(each) for key, each in entries.items()})
        case ["buffer", name, data]:
            return ARRAYS.get(name, Uint8Array)(base64.b64decode(data))
        case ["date", milliseconds]:
            return Date(milliseconds)
        case ["error", name, message]:
            return _error(name, message)
        case ["headers", pairs]:
            return Headers(pairs)
        case ["stream", number]:
            return stream_of(stream(number))
        case ["request", url, told, body, cf]:
            return Request(url, {**told, "body": inner(body), "cf": inner(cf)})
        case ["response", url, told, body]:
            made = Response(None if told["status"] in NULL_BODY else inner(body), told)
            made.url = url
            return made
    return value


def _error(name: str, message: str) -> JsError:
    made = JsError(message)
    made.name, made.stack = name, f"{name}: {message}"
    return made
