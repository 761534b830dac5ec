"""What a bucket knows of its objects and uploads, in SQLite with miniflare's tables. Knows no bytes: blobs are ids.

Methods that replace or delete return the ids of the blobs that nothing refers to any longer.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from worker.bindings.r2_blobs import Written
from worker.bindings.r2_rules import PART, R2Error, check_condition, limit_of
from worker.bindings.sqlite_file import connected

Meta: TypeAlias = dict[str, Any]
"""An object without its bytes: key, version, size, etag, uploaded (ms), httpMetadata, customMetadata, checksums."""
_TABLES = """
CREATE TABLE IF NOT EXISTS _mf_objects (
    key TEXT PRIMARY KEY, blob_id TEXT, version TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
    uploaded INTEGER NOT NULL, checksums TEXT NOT NULL, http_metadata TEXT NOT NULL, custom_metadata TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS _mf_multipart_uploads (
    upload_id TEXT PRIMARY KEY, key TEXT NOT NULL, http_metadata TEXT NOT NULL, custom_metadata TEXT NOT NULL,
    state TINYINT DEFAULT 0 NOT NULL);
CREATE TABLE IF NOT EXISTS _mf_multipart_parts (
    upload_id TEXT NOT NULL REFERENCES _mf_multipart_uploads(upload_id), part_number INTEGER NOT NULL,
    blob_id TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL, checksum_md5 TEXT NOT NULL,
    object_key TEXT REFERENCES _mf_objects(key) DEFERRABLE INITIALLY DEFERRED, PRIMARY KEY (upload_id, part_number));
"""
_IN_PROGRESS, _COMPLETED, _ABORTED = range(3)
_COLUMNS = "key, version, size, etag, uploaded, checksums, http_metadata, custom_metadata, blob_id"


class R2Index:
    """The index in the SQLite file ``path``."""

    def __init__(self, path: Path) -> None:
        self._db = connected(path, _TABLES)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def find(self, key: str) -> tuple[Meta, list[tuple[str, int]]] | None:
        """An object, and the blobs that its bytes are in, each with its size."""
        row = self._db.execute(f"SELECT {_COLUMNS} FROM _mf_objects WHERE key=?", (key,)).fetchone()
        if row is None:
            return None
        if row[-1] is not None:
            return _meta(row), [(row[-1], row[2])]
        parts = "SELECT blob_id, size FROM _mf_multipart_parts WHERE object_key=? ORDER BY part_number"
        return _meta(row), self._db.execute(parts, (key,)).fetchall()

    def put(self, key: str, blob: Written, options: Mapping[str, Any]) -> tuple[Meta, list[str]]:
        """Let ``key`` be ``blob``; ``options``: onlyIf, httpMetadata, customMetadata, checksums."""
        with self._transaction():
            found = self._db.execute("SELECT etag, uploaded FROM _mf_objects WHERE key=?", (key,)).fetchone()
            check_condition(options.get("onlyIf"), found)
            old = self._forget(key)
            http, custom = (json.dumps(options.get(name) or {}) for name in ("httpMetadata", "customMetadata"))
            sums = json.dumps(options.get("checksums") or {})
            self._insert(key, blob.id, blob.size, blob.digests["md5"], (sums, http, custom))
        return self._known(key), old

    def delete(self, keys: Sequence[str]) -> list[str]:
        """Delete objects."""
        with self._transaction():
            return [blob for key in keys for blob in self._forget(key)]

    def page(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """A page of objects in the order of their keys' UTF-8; ``options``: those of ``list()``."""
        limit, prefix = limit_of(options), options.get("prefix") or ""
        delimiter, include = options.get("delimiter") or "", options.get("include") or ()
        after = _after(options)
        where = "key>=? AND (? IS NULL OR key>?)"
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM _mf_objects WHERE {where} ORDER BY key", (prefix, after, after)
        )
        objects: list[Meta] = []
        prefixes: dict[str, None] = {}
        last = None
        for row in rows:
            if not row[0].startswith(prefix):
                break
            common, found, _ = row[0][len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            if found and prefix + common + found in prefixes:
                last = row[0]  # so that the next page begins after the last of them
                continue
            if len(objects) + len(prefixes) == limit:
                cursor = base64.b64encode(str(last).encode()).decode()
                return {"objects": objects, "truncated": True, "cursor": cursor, "delimitedPrefixes": [*prefixes]}
            if found:
                prefixes[prefix + common + found] = None
            else:
                objects.append(_meta(row) | {name: {} for name in _OPTIONAL if name not in include})
            last = row[0]
        return {"objects": objects, "truncated": False, "delimitedPrefixes": [*prefixes]}

    def create_upload(self, key: str, options: Mapping[str, Any]) -> str:
        """The id of a new upload."""
        made = secrets.token_urlsafe(96)
        http, custom = (json.dumps(options.get(name) or {}) for name in ("httpMetadata", "customMetadata"))
        insert = (
            "INSERT INTO _mf_multipart_uploads (upload_id, key, http_metadata, custom_metadata) VALUES (?, ?, ?, ?)"
        )
        self._db.execute(insert, (made, key, http, custom))
        return made

    def put_part(self, key: str, upload: str, number: int, blob: Written) -> tuple[str, list[str]]:
        """The etag of the part ``number``, which ``blob`` is now."""
        with self._transaction():
            self._upload(key, upload, gone=R2Error(10024))
            same = (upload, number)
            old = self._db.execute(
                "SELECT blob_id FROM _mf_multipart_parts WHERE upload_id=? AND part_number=?", same
            ).fetchall()
            etag = secrets.token_urlsafe(96)
            insert = (
                "INSERT OR REPLACE INTO _mf_multipart_parts"
                " (upload_id, part_number, blob_id, size, etag, checksum_md5) VALUES (?, ?, ?, ?, ?, ?)"
            )
            self._db.execute(insert, (*same, blob.id, blob.size, etag, blob.digests["md5"]))
        return etag, [name for (name,) in old]

    def complete(self, key: str, upload: str, chosen: Sequence[tuple[int, str]]) -> tuple[Meta, list[str]]:
        """Make an object of the parts ``chosen`` by number and etag."""
        with self._transaction():
            http, custom = self._upload(key, upload, gone=R2Error(10024))
            parts = sorted(_checked(chosen, self._parts(upload)))
            old = self._forget(key)
            whole = hashlib.md5(b"".join(bytes.fromhex(md5) for _, _, md5 in parts), usedforsecurity=False)
            size = sum(size for _, size, _ in parts)
            self._insert(key, None, size, f"{whole.hexdigest()}-{len(parts)}", ("{}", http, custom))
            link = "UPDATE _mf_multipart_parts SET object_key=? WHERE upload_id=? AND part_number=?"
            self._db.executemany(link, [(key, upload, number) for number, _, _ in parts])
            old += self._end(upload, _COMPLETED)
        return self._known(key), old

    def abort(self, key: str, upload: str) -> list[str]:
        """End an upload; one that has ended already stays as it is."""
        with self._transaction():
            known = "SELECT state FROM _mf_multipart_uploads WHERE upload_id=? AND key=?"
            row = self._db.execute(known, (upload, key)).fetchone()
            if row is None:
                raise R2Error(10024)
            return self._end(upload, _ABORTED) if row[0] == _IN_PROGRESS else []

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:  # which commits, or rolls back
            yield

    def _known(self, key: str) -> Meta:
        found = self.find(key)
        assert found is not None
        return found[0]

    def _forget(self, key: str) -> list[str]:
        gone: list[tuple[Any]] = self._db.execute(
            "DELETE FROM _mf_objects WHERE key=? RETURNING blob_id", (key,)
        ).fetchall()
        parts = "DELETE FROM _mf_multipart_parts WHERE object_key=? RETURNING blob_id"
        return [name for (name,) in [*gone, *self._db.execute(parts, (key,)).fetchall()] if name is not None]

    def _insert(self, key: str, blob: str | None, size: int, etag: str, told: tuple[str, str, str]) -> None:
        row = (key, secrets.token_hex(16), size, etag, int(time.time() * 1000), *told, blob)
        self._db.execute(f"INSERT INTO _mf_objects ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _upload(self, key: str, upload: str, *, gone: R2Error) -> tuple[str, str]:
        known = "SELECT http_metadata, custom_metadata, state FROM _mf_multipart_uploads WHERE upload_id=? AND key=?"
        row = self._db.execute(known, (upload, key)).fetchone()
        if row is None or row[2] != _IN_PROGRESS:
            raise gone
        return row[0], row[1]

    def _parts(self, upload: str) -> dict[int, tuple[str, int, str]]:
        rows = "SELECT part_number, etag, size, checksum_md5 FROM _mf_multipart_parts WHERE upload_id=?"
        return {number: (etag, size, md5) for number, etag, size, md5 in self._db.execute(rows, (upload,))}

    def _end(self, upload: str, state: int) -> list[str]:
        unused = "DELETE FROM _mf_multipart_parts WHERE upload_id=? AND object_key IS NULL RETURNING blob_id"
        gone = self._db.execute(unused, (upload,)).fetchall()
        self._db.execute("UPDATE _mf_multipart_uploads SET state=? WHERE upload_id=?", (state, upload))
        return [name for (name,) in gone]


_OPTIONAL = ("httpMetadata", "customMetadata")


def _checked(
    chosen: Sequence[tuple[int, str]], known: Mapping[int, tuple[str, int, str]]
) -> Iterator[tuple[int, int, str]]:
    """The number, size and md5 of the ``chosen`` parts, all as long as the first, the last perhaps shorter."""
    if len({number for number, _ in chosen}) < len(chosen):
        raise R2Error(10001)
    if any(number not in known or known[number][0] != etag for number, etag in chosen):
        raise R2Error(10025)
    if any(known[number][1] < PART for number, _ in chosen[:-1]):
        raise R2Error(10011)
    sizes = [known[number][1] for number, _ in sorted(chosen)]
    if any(size != sizes[0] for size in sizes[:-1]) or sizes[-1:] > sizes[:1]:
        raise R2Error(10048)
    for number, _ in chosen:
        yield number, *known[number][1:]


def _meta(row: Sequence[Any]) -> Meta:
    key, version, size, etag, uploaded, sums, http, custom, _ = row
    checksums = json.loads(sums) | ({"md5": etag} if "-" not in etag else {})
    known = {"key": key, "version": version, "size": size, "etag": etag, "uploaded": uploaded}
    return known | {"checksums": checksums, "httpMetadata": json.loads(http), "customMetadata": json.loads(custom)}


def _after(options: Mapping[str, Any]) -> str | None:
    """The key that a list begins after; the empty key is one, too."""
    found = [options["startAfter"]] if options.get("startAfter") is not None else []
    if (cursor := options.get("cursor")) is not None:
        with suppress(ValueError):
            found.append(base64.b64decode(str(cursor)).decode())
    return max(found, key=str.encode, default=None)
