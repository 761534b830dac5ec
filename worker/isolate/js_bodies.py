"""The body of a Request or a Response: read once, as text, JSON, bytes, a form or a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from .js_base import JsProxy, null, type_error
from .js_blobs import URLENCODED, Blob, FormData, read_form
from .js_buffers import ArrayBuffer, JsBuffer, Uint8Array, bytes_of
from .js_convert import PyProxy
from .js_headers import Headers
from .js_json import parse
from .js_promises import promised
from .js_streams import ReadableStream, stream_of
from .js_urls import URLSearchParams

_USED = "Body has already been used. It can only be used once. Use tee() first if you need to read it twice."


class Body(JsProxy):
    """What Request and Response share."""

    headers: Headers

    def _take(self, body: Any) -> None:
        """Hold ``body``, and name its type in the headers if nothing else does."""
        self.bodyUsed = False
        self._stream: ReadableStream | None = None
        self._data: bytes | None = None
        kind = None
        if isinstance(body, PyProxy):
            body = body.unwrap()
        if body is None or body is null():
            return
        if isinstance(body, ReadableStream):
            if body.locked:
                raise type_error("This ReadableStream is currently locked to a reader.")
            self._stream = body
        elif isinstance(body, FormData):
            self._data, kind = body.encoded()
        elif isinstance(body, Blob):
            self._data, kind = body.data, body.type
        elif isinstance(body, URLSearchParams):
            self._data, kind = body.toString().encode(), f"{URLENCODED};charset=UTF-8"
        elif isinstance(body, JsBuffer | bytes | bytearray | memoryview):
            self._data = bytes_of(body)
        else:
            self._data, kind = str(body).encode(), "text/plain;charset=UTF-8"
        if kind and not self.headers.has("content-type"):
            self.headers.set("content-type", kind)

    @property
    def body(self) -> Any:
        if self._stream is None and self._data is not None:
            self._stream = stream_of(_once(self._data), len(self._data))
        return null() if self._stream is None else self._stream

    def sent(self) -> bytes | AsyncGenerator[bytes] | None:
        """The body as it goes over a connection; it is used then."""
        if self.bodyUsed:
            raise type_error(_USED)
        self.bodyUsed = self._stream is not None
        return self._data if self._stream is None else bytes_in(self._stream)

    async def _read(self) -> bytes:
        if self.bodyUsed or (self._stream is not None and self._stream.locked):
            raise type_error(_USED)
        self.bodyUsed = True
        if self._stream is None:
            return self._data or b""
        return b"".join([piece async for piece in bytes_in(self._stream)])

    @promised
    async def text(self) -> str:
        return (await self._read()).decode(errors="replace")

    @promised
    async def json(self) -> Any:
        return parse(await self._read())

    @promised
    async def arrayBuffer(self) -> ArrayBuffer:
        return ArrayBuffer(await self._read())

    @promised
    async def bytes(self) -> Uint8Array:
        return Uint8Array(await self._read())

    @promised
    async def blob(self) -> Blob:
        kind = self.headers.get("content-type")
        return Blob([await self._read()], {"type": kind or ""})

    @promised
    async def formData(self) -> FormData:
        return read_form(await self._read(), self.headers.get("content-type") or "")

    def _copied_body(self) -> Any:
        """A second body with the same bytes: a stream is split in two."""
        if self.bodyUsed:
            raise type_error(_USED)
        if self._stream is None:
            return self._data
        self._stream, other = self._stream.tee()
        return other


async def _once(data: bytes) -> AsyncGenerator[bytes]:
    if data:
        yield data


async def bytes_in(stream: ReadableStream) -> AsyncGenerator[bytes]:
    """The chunks of ``stream``, which is cancelled if they aren't read to its end."""
    chunks = stream._iterate()
    try:
        async for chunk in chunks:
            yield bytes_of(chunk)
    finally:
        await chunks.aclose()
