"""R2: objects in files, and an index of them in SQLite, asked by ``worker/isolate/js_r2.py``.

Bodies are the bodies of requests, never whole in memory: what is to be done stands in the request's header ``r2``.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

from worker.bindings.binding import Binding, BindingError, Incoming, Outgoing
from worker.bindings.miniflare import object_id
from worker.bindings.r2_blobs import Blobs, Written
from worker.bindings.r2_index import Meta, R2Index
from worker.bindings.r2_rules import (
    KEYS,
    PreconditionFailed,
    R2Error,
    check_condition,
    check_digest,
    check_key,
    check_metadata,
    range_of,
)

_CLASS = "miniflare-R2BucketObject"
_HEADER = "r2"


class R2Bucket(Binding):
    """The bucket ``name`` in the folder ``state``, in the layout that miniflare has there, too."""

    def __init__(self, state: Path, name: str) -> None:
        self._index = R2Index(state / "r2" / _CLASS / f"{object_id(_CLASS, name)}.sqlite")
        self._blobs = Blobs(state / "r2" / name / "blobs")

    def described(self) -> dict[str, Any]:
        """See :meth:`Binding.described`."""
        return {"kind": "r2"}

    async def call(self, method: str, args: list[Any]) -> Any:
        """What has no body: head, list, delete, and creating, completing and aborting an upload."""
        known: dict[str, Callable[..., Any]] = {
            "head": self._head,
            "list": self._index.page,
            "delete": self._delete,
            "createMultipartUpload": self._create,
            "completeMultipartUpload": self._complete,
            "abortMultipartUpload": self._abort,
        }
        if method not in known:
            return await super().call(method, args)
        try:
            return known[method](*args)
        except R2Error as error:
            raise error.during(method) from error

    async def fetch(self, request: Outgoing) -> Incoming:
        """What has a body: get, put and uploadPart, by the request's method. 404: no object, 412: ``onlyIf`` failed."""
        asked = json.loads(dict(request.headers)[_HEADER])
        action = request.method
        try:
            if action == "get":
                async for _ in request.body:
                    pass
                return await self._get(asked)
            return await (self._put(asked, request.body) if action == "put" else self._part(asked, request.body))
        except R2Error as error:
            raise error.during(action) from error
        except PreconditionFailed:
            return Incoming(412)

    async def aclose(self) -> None:
        """Close the index."""
        self._index.close()

    def _head(self, key: str) -> Meta | None:
        check_key(key)
        found = self._index.find(key)
        return found and found[0] | {"range": {"offset": 0, "length": found[0]["size"]}}

    def _delete(self, keys: Sequence[str]) -> None:
        if len(keys) > KEYS:
            raise BindingError(f"delete: at most {KEYS} keys can be deleted at once, not {len(keys)} (10029)")
        for key in keys:
            check_key(key)
        self._blobs.delete(self._index.delete(keys))

    async def _get(self, asked: dict[str, Any]) -> Incoming:
        check_key(asked["key"])
        found = self._index.find(asked["key"])
        if found is None:
            return Incoming(404)
        meta, blobs = found
        try:
            check_condition(asked.get("onlyIf"), (meta["etag"], meta["uploaded"]))
        except PreconditionFailed:
            return Incoming(412, _told(meta | {"range": {"offset": 0, "length": meta["size"]}}))
        offset, length = range_of(asked.get("range"), meta["size"])
        told = _told(meta | {"range": {"offset": offset, "length": length}})
        if not length:
            return Incoming(200, told)
        pieces = self._blobs.read(blobs, offset, length)
        first = await anext(pieces)  # which holds the file, before anybody can replace the object
        return Incoming(200, told, _from(first, pieces))

    async def _put(self, asked: dict[str, Any], body: AsyncGenerator[bytes]) -> Incoming:
        key, options = asked["key"], asked["options"]
        check_key(key)
        check_metadata(options.get("customMetadata") or {})
        given: dict[str, str] = options.pop("digests", {})
        blob = await self._written(asked, body, given)
        try:
            for algorithm, digest in given.items():
                check_digest(algorithm, digest, blob.digests[algorithm])
            options["checksums"] = {name: digest for name, digest in blob.digests.items() if name in given}
            meta, old = self._index.put(key, blob, options)
        except BaseException:
            self._blobs.delete([blob.id])
            raise
        self._blobs.delete(old)
        return Incoming(200, _told(meta))

    async def _part(self, asked: dict[str, Any], body: AsyncGenerator[bytes]) -> Incoming:
        check_key(asked["key"])
        blob = await self._written(asked, body)
        try:
            etag, old = self._index.put_part(asked["key"], asked["uploadId"], asked["partNumber"], blob)
        except BaseException:
            self._blobs.delete([blob.id])
            raise
        self._blobs.delete(old)
        return Incoming(200, _told({"etag": etag}))

    async def _written(
        self, asked: dict[str, Any], body: AsyncGenerator[bytes], algorithms: Sequence[str] | dict[str, str] = ()
    ) -> Written:
        blob = await self._blobs.write(body, algorithms)
        if blob.size != asked["size"]:
            self._blobs.delete([blob.id])
            raise BindingError("FixedLengthStream did not see all expected bytes before close().", "TypeError")
        return blob

    def _create(self, key: str, options: dict[str, Any]) -> str:
        check_key(key)
        check_metadata(options.get("customMetadata") or {})
        return self._index.create_upload(key, options)

    def _complete(self, key: str, upload: str, parts: list[dict[str, Any]]) -> Meta:
        check_key(key)
        meta, old = self._index.complete(key, upload, [(each["partNumber"], each["etag"]) for each in parts])
        self._blobs.delete(old)
        return meta

    def _abort(self, key: str, upload: str) -> None:
        check_key(key)
        self._blobs.delete(self._index.abort(key, upload))


async def _from(first: bytes, others: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    try:
        yield first
        async for piece in others:
            yield piece
    finally:
        await others.aclose()


def _told(meta: Meta) -> list[tuple[str, str]]:
    return [(_HEADER, json.dumps(meta))]
