"""``pyodide``, ``pyodide.ffi``, ``pyodide.http`` and the two modules that workerd adds for the SDK."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from . import js_base, js_buffers, js_convert, js_promises
from .js_base import COVERAGE, JsException, JsObject, jsnull
from .js_convert import to_js
from .js_globals import Object

VERSION = "0.28.2"
"""The Pyodide that current compatibility dates bring."""


class FetchResponse:
    """``pyodide.http.FetchResponse``."""

    def __init__(self, url: str, js_response: Any, *_: Any) -> None:
        self._url = url
        self.js_response = js_response

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.js_response.status)

    @property
    def status_text(self) -> str:
        """The reason phrase."""
        return str(self.js_response.statusText)

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return bool(self.js_response.ok)

    @property
    def redirected(self) -> bool:
        """Whether redirects were followed."""
        return bool(self.js_response.redirected)

    @property
    def type(self) -> str:
        """The response's type."""
        return str(self.js_response.type)

    @property
    def url(self) -> str:
        """The response's address."""
        return str(self.js_response.url)

    @property
    def body_used(self) -> bool:
        """Whether the body has been read."""
        return bool(self.js_response.bodyUsed)

    def _raise_if_failed(self) -> None:
        if self.body_used:
            raise OSError("Body already used")

    def raise_for_status(self) -> None:
        """Raise an ``OSError`` for a status of 400 or above."""
        if self.status >= 400:
            raise OSError(f"{self.status} {self.status_text} for url: {self.url}")

    def clone(self) -> Any:
        """A second response with the same body."""
        self._raise_if_failed()
        return type(self)(self.js_response.clone())  # type: ignore[call-arg]  # the SDK's class, made of a response

    async def buffer(self) -> Any:
        """The body as an ArrayBuffer."""
        self._raise_if_failed()
        return await self.js_response.arrayBuffer()

    async def bytes(self) -> bytes:
        """The body as bytes."""
        return bytes(await self.buffer())

    async def memoryview(self) -> Any:
        """The body as a memoryview."""
        return (await self.buffer()).to_memoryview()

    async def text(self) -> str:
        """The body as text."""
        self._raise_if_failed()
        return str(await self.js_response.text())

    string = text

    async def json(self, **options: Any) -> Any:
        """The body's JSON as Python has it."""
        import json

        return json.loads(await self.text(), **options)


async def pyfetch(url: Any, /, *, fetcher: Any = None, **options: Any) -> FetchResponse:
    """``pyodide.http.pyfetch``."""
    try:
        found = await (fetcher or sys.modules["js"].fetch)(url, to_js(options, dict_converter=Object.fromEntries))
    except JsException as error:
        raise OSError(error.message) from None
    return FetchResponse(str(url), found)


def ffi_names() -> dict[str, Any]:
    """What ``pyodide.ffi`` has."""
    names: dict[str, Any] = {name: getattr(js_base, name) for name in ("JsProxy", "JsArray", "JsMap", "JsSet")}
    names |= {
        "JsException": JsException,
        "JsBuffer": js_buffers.JsBuffer,
        "JsTypedArray": js_buffers.TypedArray,
        "JsPromise": js_promises.Promise,
        "JsDoubleProxy": js_convert.PyProxy,
        "run_sync": js_convert.run_sync,
        "can_run_sync": lambda: True,
        "to_js": to_js,
        "create_proxy": js_convert.create_proxy,
        "create_once_callable": js_convert.create_once_callable,
        "destroy_proxies": js_convert.destroy_proxies,
    }
    if js_base.null() is jsnull:
        names |= {"jsnull": jsnull, "JsNull": js_base.JsNull}
    return names


def install(js: types.ModuleType, env: Any, wait_until: Callable[[Any], None], flags: list[str]) -> None:
    """Put the modules where ``import`` finds them."""
    ffi = _module("pyodide.ffi", ffi_names())
    http = _module("pyodide.http", {"FetchResponse": FetchResponse, "pyfetch": pyfetch})
    pyodide = _module("pyodide", {"__version__": VERSION, "__path__": [], "ffi": ffi, "http": http})
    workers = JsObject({"env": env, "waitUntil": wait_until})
    helper = {
        "cloudflareWorkersModule": workers,
        "doAnImport": _no_import,
        "patchWaitUntil": lambda _: None,  # ours takes what can be awaited as it is
        "patch_env_helper": lambda changes: _patched(env, changes),
    }
    compat = dict.fromkeys(flags, True)
    for module in (js, ffi, http, pyodide, _module("_pyodide_entrypoint_helper", helper)):
        sys.modules[module.__name__] = module
    sys.modules["_cloudflare_compat_flags"] = _module("_cloudflare_compat_flags", compat, missing=lambda _: False)


def _module(name: str, names: dict[str, Any], missing: Callable[[str], Any] | None = None) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__file__ = f"not in roost; {COVERAGE}"  # see js_globals.js_module

    def absent(wanted: str) -> Any:
        if wanted.startswith("__"):
            raise AttributeError(wanted)
        raise AttributeError(f"{name}.{wanted} is not in roost: {COVERAGE}")

    module.__dict__.update(names, __getattr__=missing or absent)
    return module


async def _no_import(name: str) -> Any:
    raise JsException(f"there is no JavaScript module {name} in roost: {COVERAGE}")


def _patched(env: Any, changes: Any) -> Iterator[None]:
    before = dict(env._bindings)
    env._bindings.update(dict(changes.items()))
    try:
        yield
    finally:
        env._bindings.clear()
        env._bindings.update(before)
