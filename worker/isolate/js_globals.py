"""The module ``js``: JavaScript's global scope, as far as Workers use it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import sys
import time
import types
import uuid
from collections.abc import Callable
from typing import Any

from . import js_blobs, js_events, js_signals, js_streams
from .host import Host
from .js_base import (
    COVERAGE,
    JsArray,
    JsError,
    JsMap,
    JsObject,
    JsProxy,
    JsSet,
    JsType,
    type_error,
)
from .js_bindings import Fetcher, websocket_class
from .js_buffers import ARRAYS, ArrayBuffer, TypedArray, Uint8Array, bytes_of
from .js_caches import CacheStorage
from .js_convert import to_js
from .js_dates import Date
from .js_headers import Headers
from .js_html_rewriter import HTMLRewriter
from .js_json import JSON, stringify
from .js_messages import Request, Response
from .js_promises import Promise, promised, settled
from .js_uri import URI
from .js_urls import URL, URLSearchParams
from .js_websockets import WebSocketPair

_READABLE = ("ReadableStream", "WritableStream", "TransformStream", "TextDecoderStream", "TextEncoderStream")
_EVENTS = ("Event", "EventTarget", "MessageEvent", "CloseEvent", "ErrorEvent")
_STREAMS = (*_READABLE, "IdentityTransformStream", "FixedLengthStream")


class Object(JsProxy):
    """``Object.fromEntries``, ``keys``, ``values``, ``entries``, ``assign``; ``new`` makes an empty object."""

    def __new__(cls, *args: Any) -> Any:
        return args[0] if args else JsObject()

    @staticmethod
    def fromEntries(entries: Any) -> JsObject:
        pairs = entries.items() if isinstance(entries, dict | JsMap) else entries
        return JsObject({key: value for key, value in pairs})  # noqa: C416  (an Array isn't a pair to dict())

    @staticmethod
    def keys(value: Any) -> JsArray:
        return to_js(value, objects=True).object_keys()  # type: ignore[no-any-return]

    @staticmethod
    def values(value: Any) -> JsArray:
        return to_js(value, objects=True).object_values()  # type: ignore[no-any-return]

    @staticmethod
    def entries(value: Any) -> JsArray:
        return to_js(value, objects=True).object_entries()  # type: ignore[no-any-return]

    @staticmethod
    def assign(target: Any, *sources: Any) -> Any:
        for source in sources:
            for key, value in Object.entries(source):
                setattr(target, key, value)
        return target


class Console(JsProxy):
    """``console``: to the terminal that roost runs in."""

    js_name = "console"

    def log(self, *values: Any) -> None:
        print(*map(_shown, values), flush=True)  # noqa: T201

    info = debug = log

    def error(self, *values: Any) -> None:
        print(*map(_shown, values), file=sys.stderr, flush=True)  # noqa: T201

    warn = trace = error


def _shown(value: Any) -> str:
    return stringify(value, None, 2) if isinstance(value, JsObject | JsArray) else str(value)


class TextEncoder(JsProxy):
    """Text to UTF-8."""

    encoding = "utf-8"

    def encode(self, text: str = "") -> Uint8Array:
        return Uint8Array(text.encode())


class TextDecoder(JsProxy):
    """Bytes to text; with ``stream`` half a character waits for its other half."""

    def __init__(self, label: str = "utf-8", options: Any = None) -> None:
        self.encoding = label
        self._waiting = b""

    def decode(self, data: Any = b"", options: Any = None, *, stream: bool = False) -> str:
        held = self._waiting + bytes_of(data)
        self._waiting = b""
        if stream or getattr(options, "stream", False):
            try:
                return held.decode(self.encoding)
            except UnicodeDecodeError as error:
                if error.end == len(held) and error.reason == "unexpected end of data":
                    held, self._waiting = held[: error.start], held[error.start :]
        return held.decode(self.encoding, "replace")


class SubtleCrypto(JsProxy):
    """``crypto.subtle``: ``digest``, ``timingSafeEqual``."""

    @promised
    async def digest(self, algorithm: Any, data: Any) -> ArrayBuffer:
        name = str(getattr(algorithm, "name", algorithm)).replace("-", "").lower()
        if name not in ("sha1", "sha256", "sha384", "sha512", "md5"):
            raise type_error(f"Unrecognized key or digest algorithm {algorithm}: {COVERAGE}")
        return ArrayBuffer(hashlib.new(name, bytes_of(data)).digest())

    def timingSafeEqual(self, one: Any, other: Any) -> bool:
        return hmac.compare_digest(bytes_of(one), bytes_of(other))


class Crypto(JsProxy):
    """``crypto``."""

    subtle = SubtleCrypto()

    def randomUUID(self) -> str:
        return str(uuid.uuid4())

    def getRandomValues(self, target: TypedArray) -> TypedArray:
        target.assign(secrets.token_bytes(target.byteLength))
        return target


class Performance(JsProxy):
    """``performance``."""

    timeOrigin = time.time() * 1000
    _began = time.perf_counter()

    def now(self) -> float:
        return (time.perf_counter() - self._began) * 1000


class Timers:
    """``setTimeout`` and its kin."""

    def __init__(self) -> None:
        self._running: dict[int, asyncio.Task[None]] = {}
        self._last = 0

    def _start(self, function: Callable[..., Any], milliseconds: float, args: tuple[Any, ...], *, again: bool) -> int:
        self._last += 1

        async def run() -> None:
            while True:
                await asyncio.sleep(max(0, milliseconds) / 1000)
                await settled(function(*args))
                if not again:
                    return

        task = asyncio.get_running_loop().create_task(run())
        self._running[number := self._last] = task
        task.add_done_callback(lambda _: self._running.pop(number, None))
        return number

    def set_timeout(self, function: Callable[..., Any], milliseconds: float = 0, *args: Any) -> int:
        """Call ``function`` once, later."""
        return self._start(function, milliseconds, args, again=False)

    def set_interval(self, function: Callable[..., Any], milliseconds: float = 0, *args: Any) -> int:
        """Call ``function`` again and again."""
        return self._start(function, milliseconds, args, again=True)

    def clear(self, number: int | None = None) -> None:
        """Don't call it any more."""
        if task := self._running.get(number or 0):
            task.cancel()


_NAMES: dict[str, Any] = {
    **{name: JsType(name, (JsError,), {"js_name": name}) for name in ("TypeError", "RangeError", "SyntaxError")},
    **{name: getattr(js_streams, name) for name in _STREAMS},
    **ARRAYS,
    **{name: getattr(js_blobs, name) for name in ("Blob", "File", "FormData")},
    **{name: getattr(js_signals, name) for name in ("AbortController", "AbortSignal")},
    **{name: getattr(js_events, name) for name in _EVENTS},
    "WebSocketPair": WebSocketPair,
    "HTMLRewriter": HTMLRewriter,
    "Array": JsArray,
    "Map": JsMap,
    "Set": JsSet,
    "Error": JsError,
    "Object": Object,
    "Promise": Promise,
    "Date": Date,
    "JSON": JSON,
    "Headers": Headers,
    "Request": Request,
    "Response": Response,
    "URL": URL,
    "URLSearchParams": URLSearchParams,
    "TextEncoder": TextEncoder,
    "TextDecoder": TextDecoder,
    "console": Console(),
    "crypto": Crypto(),
    "performance": Performance(),
    "navigator": JsObject({"userAgent": "Cloudflare-Workers"}),
    "queueMicrotask": lambda function: asyncio.get_running_loop().call_soon(function),
    "structuredClone": lambda value: to_js(value.to_py(), objects=True) if isinstance(value, JsProxy) else value,
    **URI,
    "atob": lambda text: base64.b64decode(text).decode("latin-1"),
    "btoa": lambda text: base64.b64encode(text.encode("latin-1")).decode(),
}


def js_module(host: Host) -> types.ModuleType:
    """The module, whose ``fetch`` and ``caches`` go through ``host``."""
    module = types.ModuleType("js")
    # "cannot import name 'X' from 'js' (…)": Python puts the module's file into the brackets.
    module.__file__ = f"not in roost; {COVERAGE}"
    timers = Timers()
    module.__dict__.update(
        _NAMES,
        caches=CacheStorage(host),
        fetch=Fetcher(host, "internet").fetch,
        WebSocket=websocket_class(host),
        setTimeout=timers.set_timeout,
        setInterval=timers.set_interval,
        clearTimeout=timers.clear,
        clearInterval=timers.clear,
        globalThis=module,
        self=module,
        __getattr__=_missing,
    )
    return module


def _missing(name: str) -> Any:
    raise AttributeError(f"js.{name} is not in roost: {COVERAGE}")
