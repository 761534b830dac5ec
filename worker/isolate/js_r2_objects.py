"""R2's objects: what is known of one, and one with its body."""

from __future__ import annotations

import email.utils
from collections.abc import AsyncGenerator
from typing import Any

from .js_base import JsObject, JsProxy, from_js
from .js_bodies import Body
from .js_buffers import ArrayBuffer
from .js_dates import Date
from .js_headers import Headers
from .js_r2_options import HTTP_FIELDS, as_object
from .js_streams import stream_of


class R2Checksums(JsProxy):
    """An object's checksums, as far as they are known."""

    js_name = "Checksums"

    def __init__(self, known: dict[str, str]) -> None:
        self._known = known
        for name in ("md5", "sha1", "sha256", "sha384", "sha512"):
            setattr(self, name, ArrayBuffer(bytes.fromhex(known[name])) if name in known else None)

    def toJSON(self) -> JsObject:
        return JsObject(self._known)


class HeadResult(JsProxy):
    """An object without its body, which TypeScript knows as R2Object."""

    httpMetadata: JsObject

    def _know(self, told: Any) -> None:
        known = told.as_object_map()
        self.key: str = known["key"]
        self.version: str = known["version"]
        self.size: int = known["size"]
        self.etag: str = known["etag"]
        self.httpEtag = f'"{self.etag}"'
        self.uploaded = Date(known["uploaded"])
        self.httpMetadata = as_object(known["httpMetadata"])
        self.customMetadata = JsObject(from_js(known["customMetadata"]))
        self.checksums = R2Checksums(from_js(known["checksums"]))
        self.storageClass = "Standard"
        self.ssecKeyMd5 = None
        self.range = JsObject(from_js(known["range"])) if "range" in known else None

    def writeHttpMetadata(self, headers: Headers) -> None:
        for name, value in self.httpMetadata.as_object_map().items():
            if isinstance(value, Date):
                value = email.utils.formatdate(value.getTime() / 1000, usegmt=True)
            headers.set(HTTP_FIELDS[name], value)


class GetResult(HeadResult, Body):
    """An object with its body, which TypeScript knows as R2ObjectBody."""


def made_of(told: Any, body: AsyncGenerator[bytes] | None = None) -> HeadResult:
    """The object that roost tells of."""
    made = HeadResult() if body is None else GetResult()
    made._know(told)
    if isinstance(made, GetResult) and body is not None:
        kind = made.httpMetadata.as_object_map().get("contentType")
        made.headers = Headers({"content-type": kind} if kind else None)
        made._take(stream_of(body, made.range.length if made.range is not None else made.size))
    return made
