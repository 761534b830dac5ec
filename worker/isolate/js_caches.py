"""``caches.default`` and ``caches.open(name)``: responses that roost keeps beside the project."""

from __future__ import annotations

from typing import Any

from .host import Host
from .js_base import JsProxy, option, type_error
from .js_messages import Request, Response
from .js_promises import promised


class CacheStorage(JsProxy):
    """``caches``."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.default = Cache(host, "default")

    @promised
    async def open(self, name: str) -> Cache:
        return Cache(self._host, f"named:{name}")


class Cache(JsProxy):
    """One cache."""

    def __init__(self, host: Host, name: str) -> None:
        self._host, self._name = host, name

    @promised
    async def match(self, key: Any, options: Any = None) -> Response | None:
        request = Request(key)
        if request.method != "GET" and not option(options, "ignoreMethod", False):
            return None
        found = await self._call("match", request.url)
        if not found:
            return None
        init = {"status": found.status, "headers": found.headers}
        return Response(found.body, init)

    @promised
    async def put(self, key: Any, response: Response) -> None:
        request = Request(key)
        if request.method != "GET":
            raise type_error("Cannot cache response to non-GET request.")
        if response.status == 206 or response.headers.get("vary") == "*":
            raise type_error("Cannot cache a partial response, or one with 'Vary: *'.")
        headers = [list(pair) for pair in response.headers.pairs]
        await self._call("put", request.url, response.status, headers, bytes(await response.bytes()))

    @promised
    async def delete(self, key: Any, options: Any = None) -> bool:
        return bool(await self._call("delete", Request(key).url))

    async def _call(self, method: str, *args: Any) -> Any:
        return await self._host.call("cache", method, [self._name, *args])
