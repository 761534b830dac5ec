"""Request and Response."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from .js_base import JsException, JsProxy, null, option, type_error
from .js_bodies import Body
from .js_headers import Headers
from .js_json import stringify
from .js_signals import AbortSignal
from .js_urls import URL

_STANDARD = ("DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT")
NULL_BODY = (101, 103, 204, 205, 304)
"""Statuses whose response has no body, by the fetch standard."""
_REDIRECTS = (301, 302, 303, 307, 308)


class _Json:
    """``json``: of the class, a response made of data; of an instance, what its body says."""

    def __get__(self, instance: Any, owner: type[Response]) -> Any:
        return owner.of_data if instance is None else Body.json.__get__(instance, owner)


class Request(Body):
    """``Request.new(input, init)``."""

    url: str
    method: str
    redirect: str
    signal: Any
    cf: Any

    cache, credentials, destination, mode = "default", "same-origin", "", "cors"
    integrity, referrer, referrerPolicy = "", "about:client", ""
    isHistoryNavigation = keepalive = False

    def __init__(self, source: Any, init: Any = None) -> None:
        earlier = source if isinstance(source, Request) else None
        self.url = earlier.url if earlier else URL(source).href
        method = str(option(init, "method", earlier.method if earlier else "GET"))
        self.method = method.upper() if method.upper() in _STANDARD else method
        self.headers = Headers(option(init, "headers", earlier.headers if earlier else None))
        self.redirect = str(option(init, "redirect", earlier.redirect if earlier else "follow"))
        if self.redirect not in ("follow", "manual"):
            raise type_error('Invalid redirect value, must be one of "follow" or "manual".')
        self.signal = option(init, "signal", earlier.signal if earlier else AbortSignal())
        self.cf = option(init, "cf", earlier.cf if earlier else None)
        body = option(init, "body", earlier._copied_body() if earlier else None)
        if body is not None and self.method in ("GET", "HEAD"):
            raise type_error("Request with a GET or HEAD method cannot have a body.")
        self._take(body)

    def clone(self) -> Request:
        return Request(self)


class Response(Body):
    """``Response.new(body, {status, statusText, headers})``."""

    type = "default"
    redirected = False
    webSocket: Any
    cf: Any = None

    def __init__(self, body: Any = None, init: Any = None) -> None:
        self.url = ""
        status = option(init, "status", 200)
        self.status = int(status)
        self.webSocket = option(init, "webSocket")
        if self.webSocket is not None and self.status != 101:
            raise JsException("Responses with a WebSocket must have status code 101.", "RangeError")
        if not 200 <= self.status <= 599 and self.status != 101:
            raise JsException("Responses may only be constructed with status codes from 200 to 599.", "RangeError")
        self.statusText = str(option(init, "statusText", "")) or _phrase(self.status)
        self.headers = Headers(option(init, "headers"))
        if self.status in NULL_BODY and body is not None and body is not null():
            raise type_error("Response with null body status (101, 204, 205, or 304) cannot have a body.")
        self._take(body)

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def clone(self) -> Response:
        copied = Response(self._copied_body(), self)
        copied.url = self.url
        return copied

    json: Any = _Json()

    @staticmethod
    def of_data(data: Any, init: Any = None) -> Response:
        made = Response(stringify(data), init)
        if not Headers(option(init, "headers")).has("content-type"):
            made.headers.set("content-type", "application/json")
        return made

    @staticmethod
    def redirect(url: Any, status: int = 302) -> Response:
        if status not in _REDIRECTS:
            raise JsException(f"{status} is not a redirect status code.", "RangeError")
        return Response(None, {"status": status, "headers": {"location": URL(url).href}})

    @staticmethod
    def error() -> JsProxy:
        raise type_error("Response.error() makes nothing that a Worker can return")


def asks_for_socket(headers: Headers) -> bool:
    """Whether a request of these headers asks for a WebSocket."""
    return str(headers.get("upgrade")).lower() == "websocket"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
