"""What a binding of a Python Worker is to roost, and the messages that the Worker sends it. Knows no binding."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from worker.isolate.sockets import Duplex

Headers: TypeAlias = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request of a Worker. ``redirect``: follow or manual. ``size``: the body's, ``None`` where it is a stream."""

    method: str
    url: str
    headers: Headers
    body: AsyncGenerator[bytes]
    redirect: str = "follow"
    size: int | None = None

    @property
    def asks_for_socket(self) -> bool:
        """Whether it is a WebSocket's opening."""
        return any(name == "upgrade" and value.lower() == "websocket" for name, value in self.headers)


@dataclass(frozen=True, slots=True)
class Incoming:
    """Its response. ``url``: where redirects led; ``length``: the body's bytes, where only that is known of it.

    Whoever stops reading ``body`` closes it.
    ``socket``: with status 101 an open WebSocket; ``left`` is called when nobody needs it any more.
    """

    status: int
    headers: Headers = ()
    body: bytes | AsyncGenerator[bytes] = b""
    status_text: str = ""
    url: str = ""
    socket: Duplex | None = None
    left: Callable[[], Awaitable[None]] | None = None
    length: int | None = None


class BindingError(Exception):
    """What a binding refuses, in the platform's words. ``name``: the JavaScript error's."""

    def __init__(self, message: str, name: str = "Error") -> None:
        super().__init__(message)
        self.name = name


def raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    """``headers`` as they go over a connection: as Latin-1, which JavaScript means, else as UTF-8."""
    return [(name.lower().encode(), _bytes(value)) for name, value in headers]


def _bytes(value: str) -> bytes:
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()


class Binding:
    """One entry of ``env``. A subclass overrides what it takes: requests, calls of methods, or both."""

    def described(self) -> dict[str, Any]:
        """What the isolate is to make of it: see ``worker/isolate/bootstrap.py``."""
        return {"kind": "fetcher", "calls": False}

    async def fetch(self, request: Outgoing) -> Incoming:
        """Answer a request."""
        raise BindingError(f"{type(self).__name__} takes no requests", "TypeError")

    async def call(self, method: str, args: list[Any]) -> Any:
        """The result of a method; see ``worker/isolate/values.py`` for what may be in it."""
        raise BindingError(f"{type(self).__name__} has no method {method}", "TypeError")

    async def rpc(
        self, head: Mapping[str, Any], body: AsyncGenerator[bytes]
    ) -> tuple[dict[str, Any], AsyncGenerator[bytes] | bytes]:
        """A call of another Worker's method: its message is passed on as it is, and so is the answer."""
        raise BindingError(f"{type(self).__name__} has no method {head['method']}", "TypeError")

    async def aclose(self) -> None:
        """Give back what it holds."""


def methods(js_class: str, names: str) -> dict[str, Any]:
    """The description of an object of JavaScript's class ``js_class`` with methods of these names."""
    return {"kind": "host", "js_class": js_class, "methods": names.split()}
