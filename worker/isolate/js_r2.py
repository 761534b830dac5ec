"""``env.BUCKET``: R2's API as workerd's ``r2-bucket.c++`` has it; the objects are roost's."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

from .host import Host
from .js_base import JsArray, JsObject, JsProxy, jsnull, null, option, type_error
from .js_blobs import Blob
from .js_bodies import bytes_in
from .js_buffers import JsBuffer, bytes_of
from .js_promises import Promise, promised
from .js_r2_objects import HeadResult, made_of
from .js_r2_options import condition, custom_metadata, digests, http_metadata, included, range_of
from .js_streams import ReadableStream

_LONGEST_UPLOAD = 10_000  # parts of an upload, at most
_AT_ONCE = 1 << 18  # bytes that go to roost in one piece


class R2Bucket(JsProxy):
    """The binding."""

    def __init__(self, host: Host, service: str) -> None:
        self._host, self._service = host, service

    @promised
    async def head(self, key: Any) -> Any:
        found = await self._call("head", str(key))
        return found if found is null() else made_of(found)

    @promised
    async def get(self, key: Any, options: Any = None) -> Any:
        asked = {"key": str(key), "range": range_of(options), "onlyIf": condition(options)}
        answer, body = await self._fetch("get", asked, None)
        if answer["status"] == 200:
            return made_of(_meta(answer), body)
        async for _ in body:
            pass
        return null() if answer["status"] == 404 else made_of(_meta(answer))

    @promised
    async def put(self, key: Any, value: Any = None, options: Any = None) -> Any:
        size, body = _sized("put", "R2Bucket", value)
        try:
            told = _written(options) | {"onlyIf": condition(options), "digests": digests(options)}
        except BaseException:
            if isinstance(value, ReadableStream):
                await value.cancel()
            raise
        answer = await self._sent("put", {"key": str(key), "size": size, "options": told}, body)
        return null() if answer["status"] == 412 else made_of(_meta(answer))

    def delete(self, keys: Any) -> Promise:
        many = isinstance(keys, JsArray | list | tuple)
        return self._call("delete", [str(key) for key in keys] if many else [str(keys)])

    @promised
    async def list(self, options: Any = None) -> JsObject:
        asked = {name: option(options, name) for name in ("limit", "prefix", "cursor", "delimiter", "startAfter")}
        found = await self._call("list", asked | {"include": included(options)})
        entries = found.as_object_map()
        return JsObject(entries | {"objects": JsArray([made_of(each) for each in found.objects])})

    @promised
    async def createMultipartUpload(self, key: Any, options: Any = None) -> R2MultipartUpload:
        return R2MultipartUpload(self, str(key), await self._call("createMultipartUpload", str(key), _written(options)))

    def resumeMultipartUpload(self, key: Any, upload: Any) -> R2MultipartUpload:
        return R2MultipartUpload(self, str(key), str(upload))

    def _call(self, method: str, *args: Any) -> Promise:
        return Promise(self._called(method, *args))

    async def _called(self, method: str, *args: Any) -> Any:
        found = await self._host.call(self._service, method, [*args])
        return None if method in ("delete", "abortMultipartUpload") else found

    async def _fetch(
        self, method: str, asked: dict[str, Any], body: Any
    ) -> tuple[dict[str, Any], AsyncGenerator[bytes]]:
        head = {"method": method, "url": "", "headers": [("r2", json.dumps(asked))], "redirect": "manual"}
        return await self._host.fetch(self._service, head, body)

    async def _sent(self, method: str, asked: dict[str, Any], body: Any) -> dict[str, Any]:
        answer, rest = await self._fetch(method, asked, body)
        async for _ in rest:
            pass
        return answer


class R2MultipartUpload(JsProxy):
    """An upload in parts."""

    def __init__(self, bucket: R2Bucket, key: str, upload: str) -> None:
        self._bucket, self.key, self.uploadId = bucket, key, upload

    @promised
    async def uploadPart(self, number: Any, value: Any = None, options: Any = None) -> JsObject:
        if not 1 <= (number := int(number)) <= _LONGEST_UPLOAD:
            words = f"Part number must be between 1 and {_LONGEST_UPLOAD} (inclusive). Actual value was: {number}"
            raise type_error(words)
        size, body = _sized("uploadPart", "R2MultipartUpload", value)
        asked = {"key": self.key, "uploadId": self.uploadId, "partNumber": number, "size": size}
        answer = await self._bucket._sent("uploadPart", asked, body)
        return JsObject({"partNumber": number, "etag": _meta(answer).etag})

    @promised
    async def complete(self, parts: Any) -> HeadResult:
        told = [{"partNumber": option(part, "partNumber"), "etag": option(part, "etag")} for part in parts]
        return made_of(await self._bucket._call("completeMultipartUpload", self.key, self.uploadId, told))

    def abort(self) -> Promise:
        return self._bucket._call("abortMultipartUpload", self.key, self.uploadId)


def _written(options: Any) -> dict[str, Any]:
    return {"httpMetadata": http_metadata(options), "customMetadata": custom_metadata(options)}


def _meta(answer: dict[str, Any]) -> JsObject:
    return JsObject(json.loads(dict(answer["headers"])["r2"]))


def _sized(method: str, where: str, value: Any) -> tuple[int, Any]:
    """The bytes of ``value``, at once or as they come, and how many they are."""
    if isinstance(value, ReadableStream):
        if value.length is None:
            raise type_error(
                "Provided readable stream must have a known length (request/response body or readable half of "
                "FixedLengthStream)"
            )
        return value.length, bytes_in(value)
    if isinstance(value, Blob):
        data = value.data
    elif isinstance(value, str | JsBuffer | bytes | bytearray | memoryview):
        data = bytes_of(value)
    elif value is jsnull:
        data = b""
    else:
        kinds = "ReadableStream or ArrayBuffer or ArrayBufferView or string or Blob"
        raise type_error(f"Failed to execute '{method}' on '{where}': parameter 2 is not of type '{kinds}'.")
    return len(data), data if len(data) <= _AT_ONCE else _pieces(data)


async def _pieces(data: bytes) -> AsyncGenerator[bytes]:
    for place in range(0, len(data), _AT_ONCE):
        yield data[place : place + _AT_ONCE]
