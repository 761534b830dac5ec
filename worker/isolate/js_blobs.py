"""Blob, File, FormData, and forms as bodies."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from .js_base import JsObject, JsProxy, option, type_error
from .js_buffers import ArrayBuffer, Uint8Array, bytes_of
from .js_pairs import Pairs
from .js_promises import promised
from .js_streams import ReadableStream, stream_of
from .multipart import parts_of

URLENCODED, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"


class Blob(JsProxy):
    """``Blob.new(parts, {type})``."""

    def __init__(self, parts: Any = (), options: Any = None) -> None:
        self._data: bytes = b"".join(part._data if isinstance(part, Blob) else bytes_of(part) for part in parts)
        self.type = str(option(options, "type", "")).lower()

    @property
    def data(self) -> bytes:
        """The bytes, at once."""
        return self._data

    @property
    def size(self) -> int:
        return len(self._data)

    @promised
    async def text(self) -> str:
        return self._data.decode(errors="replace")

    @promised
    async def arrayBuffer(self) -> ArrayBuffer:
        return ArrayBuffer(self._data)

    @promised
    async def bytes(self) -> Uint8Array:
        return Uint8Array(self._data)

    def stream(self) -> ReadableStream:
        return stream_of(_once(self._data), self.size)

    def slice(self, start: int | None = None, end: int | None = None, content_type: str | None = None) -> Blob:
        return Blob([self._data[slice(start, end)]], {"type": content_type})


class File(Blob):
    """``File.new(parts, name, {type, lastModified})``."""

    def __init__(self, parts: Any, filename: str, options: Any = None) -> None:
        super().__init__(parts, options)
        self.name = filename
        self.lastModified = option(options, "lastModified", int(time.time() * 1000))


class FormData(Pairs):
    """``FormData.new()``."""

    def __init__(self) -> None:
        self._pairs = []

    def append(self, name: str, value: Any, filename: str | None = None) -> None:
        self._pairs.append((name, _entry(value, filename)))

    def set(self, name: str, value: Any, filename: str | None = None) -> None:
        self.delete(name)
        self.append(name, value, filename)

    def encoded(self) -> tuple[bytes, str]:
        """The form as a body, and its content type."""
        boundary = f"----roost{secrets.token_hex(12)}"
        body = bytearray()
        for name, value in self._pairs:
            quoted = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
            body += f'--{boundary}\r\nContent-Disposition: form-data; name="{quoted}"'.encode()
            if isinstance(value, File):
                kind = value.type or "application/octet-stream"
                body += f'; filename="{value.name}"\r\nContent-Type: {kind}\r\n\r\n'.encode() + value.data
            else:
                body += b"\r\n\r\n" + str(value).encode()
            body += b"\r\n"
        return bytes(body + f"--{boundary}--\r\n".encode()), f"{MULTIPART}; boundary={boundary}"


def read_form(body: bytes, content_type: str) -> FormData:
    """The form in a body of ``content_type``; a TypeError if it is none."""
    form = FormData()
    kind = content_type.partition(";")[0].strip().lower()
    if kind == URLENCODED:
        for name, value in parse_qsl(body.decode(errors="replace"), keep_blank_values=True):
            form.append(name, value)
        return form
    if kind != MULTIPART:
        raise type_error(
            "Unrecognized Content-Type header value. FormData can only parse the following MIME types: "
            f"{MULTIPART}, {URLENCODED}"
        )
    for name, filename, file_type, content in parts_of(body, content_type):
        if filename is None:
            form.append(name, content.decode(errors="replace"))
        else:
            form.append(name, File([content], filename, {"type": file_type}))
    return form


def _entry(value: Any, filename: str | None) -> Any:
    if isinstance(value, File) and filename is None:
        return value
    if isinstance(value, Blob):
        return File([value], filename or "blob", {"type": value.type})
    if isinstance(value, JsObject | Mapping):
        raise type_error("a form takes strings and Blobs")
    return str(value)


async def _once(data: bytes) -> Any:
    if data:
        yield data
