"""Workers KV: an SQLite file beside the project. Limits and words are those of workerd and the KV API.

developers.cloudflare.com/kv/api and /kv/platform/limits; in workerd src/workerd/api/kv.c++.
"""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

from worker.bindings.binding import Binding, BindingError, methods
from worker.bindings.sqlite_file import connected
from worker.isolate.values import Mapped, Streamed

_KEY, _VALUE, _METADATA = 512, 25 << 20, 1024  # bytes at most
_PAGE, _MANY = 1000, 100  # keys in a list, keys in a get
_SHORTEST, _CACHED = 60, 30  # seconds that an entry lives at least, and that it is cached at the least
_PATIENCE = 5.0  # seconds for another roost that writes
_TYPES = ("text", "json", "arrayBuffer", "stream")
_TABLE = """CREATE TABLE IF NOT EXISTS entries (
    namespace TEXT, key TEXT, value BLOB, metadata TEXT, expiration INTEGER, PRIMARY KEY (namespace, key))"""


class KvNamespace(Binding):
    """The namespace ``namespace`` in the SQLite file ``path`` (``:memory:`` for none)."""

    def __init__(self, path: Path | str, namespace: str) -> None:
        self._namespace = namespace
        self._db = connected(path, _TABLE, timeout=_PATIENCE)

    def described(self) -> dict[str, Any]:
        """See :meth:`Binding.described`."""
        return methods("KvNamespace", "get getWithMetadata put delete list")

    async def call(self, method: str, args: list[Any]) -> Any:
        """See :meth:`Binding.call`."""
        match method:
            case "get":
                return self._get(*args)
            case "getWithMetadata":
                return self._get(*args, with_metadata=True)
            case "put":
                return self._put(*args)
            case "delete":
                return self._delete(*args)
            case "list":
                return self._list(*args)
        return await super().call(method, args)

    async def aclose(self) -> None:
        """Close the file."""
        self._db.close()

    def _get(self, key: Any, options: Any = None, *, with_metadata: bool = False) -> Any:
        given = {"type": options} if isinstance(options, str) else options or {}
        kind = given.get("type") or "text"
        if kind not in _TYPES:
            raise BindingError(
                'Unknown response type. Possible types are "text", "arrayBuffer", "json", and "stream".', "TypeError"
            )
        if isinstance(key, list):
            return self._many(key, kind, given, with_metadata=with_metadata)
        _check_key(key, "GET")
        _check_cache_ttl(given, "GET")
        return self._one(key, kind, with_metadata=with_metadata)

    def _many(self, keys: list[Any], kind: str, options: dict[str, Any], *, with_metadata: bool) -> Mapped:
        verb = "GET_BULK"
        if len(keys) > _MANY:
            raise BindingError(f"KV {verb} failed: 400 You can request a maximum of {_MANY} keys")
        if not keys:
            raise BindingError(f"KV {verb} failed: 400 You must request a minimum of 1 key")
        if kind not in ("text", "json"):
            raise BindingError(f'KV {verb} failed: 400 "{kind}" is not a valid type. Use "json" or "text"')
        for key in keys:
            _check_key(key, verb)
        _check_cache_ttl(options, verb)
        where = f"namespace=? AND key IN ({','.join('?' * len(keys))}) AND (expiration IS NULL OR expiration>?)"
        total = "SELECT coalesce(sum(length(value)), 0) FROM entries WHERE "
        if self._db.execute(total + where, (self._namespace, *keys, time.time())).fetchone()[0] > _VALUE:
            raise BindingError(f"KV {verb} failed: 413 Total size of request exceeds the limit of {_VALUE >> 20}MB")
        try:
            return Mapped({key: self._one(key, kind, with_metadata=with_metadata, bulk=True) for key in keys})
        except BindingError as error:
            words = f"At least one of the requested keys corresponds to a non-{kind} value"
            raise BindingError(f"KV {verb} failed: 400 {words}") from error

    def _one(self, key: Any, kind: str, *, with_metadata: bool, bulk: bool = False) -> Any:
        row = self._db.execute(
            "SELECT value, metadata FROM entries WHERE namespace=? AND key=? AND (expiration IS NULL OR expiration>?)",
            (self._namespace, key, time.time()),
        ).fetchone()
        value = None if row is None else _typed(row[0], kind)
        if not with_metadata:
            return value
        metadata = json.loads(row[1]) if row and row[1] else None
        if bulk:
            return None if row is None else {"value": value, "metadata": metadata}
        return {"value": value, "metadata": metadata, "cacheStatus": None}

    def _put(self, key: Any, value: Any, options: Any = None) -> None:
        _check_key(key, "PUT")
        if isinstance(value, bool | int | float):
            whole = isinstance(value, float) and value.is_integer()
            value = json.dumps(int(value) if whole else value)  # as String() of JavaScript has it
        data = value.encode() if isinstance(value, str) else value
        if not isinstance(data, bytes):
            raise BindingError(
                "KV put() accepts only strings, ArrayBuffers, ArrayBufferViews, and ReadableStreams as values.",
                "TypeError",
            )
        if len(data) > _VALUE:
            raise BindingError(f"KV PUT failed: 413 Value length of {len(data)} exceeds limit of {_VALUE}.")
        options = options or {}
        metadata = json.dumps(options["metadata"]) if options.get("metadata") is not None else None
        if metadata is not None and len(metadata.encode()) > _METADATA:
            size = len(metadata.encode())
            raise BindingError(f"KV PUT failed: 413 Metadata length of {size} exceeds limit of {_METADATA}.")
        row = (self._namespace, key, data, metadata, _expiration(options))
        self._db.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)", row)

    def _delete(self, key: Any) -> None:
        _check_key(key, "DELETE")
        self._db.execute("DELETE FROM entries WHERE namespace=? AND key=?", (self._namespace, key))

    def _list(self, options: Any = None) -> dict[str, Any]:
        options = options or {}
        limit, prefix = int(options.get("limit") or _PAGE), str(options.get("prefix") or "")
        if not 1 <= limit <= _PAGE:
            bound = f"less than or equal to {_PAGE}" if limit > _PAGE else "greater than or equal to 1"
            raise BindingError(
                f"KV GET failed: 400 Invalid key_count_limit of {limit}. Please specify an integer {bound}."
            )
        _check_length(prefix, "GET")
        after = _from_cursor(options.get("cursor"))
        rows = self._db.execute(
            "SELECT key, metadata, expiration FROM entries WHERE namespace=? AND key>? AND substr(key, 1, ?)=?"
            " AND (expiration IS NULL OR expiration>?) ORDER BY key LIMIT ?",
            (self._namespace, after, len(prefix), prefix, time.time(), limit + 1),
        ).fetchall()
        keys = []
        for key, metadata, expiration in rows[:limit]:
            entry = {"name": key}
            entry |= {"expiration": expiration} if expiration is not None else {}
            entry |= {"metadata": json.loads(metadata)} if metadata else {}
            keys.append(entry)
        if len(rows) <= limit:
            return {"keys": keys, "list_complete": True, "cacheStatus": None}
        cursor = base64.b64encode(rows[limit - 1][0].encode()).decode()
        return {"keys": keys, "list_complete": False, "cursor": cursor, "cacheStatus": None}


def _typed(value: bytes, kind: str) -> Any:
    match kind:
        case "arrayBuffer":
            return value
        case "stream":
            return Streamed(value)
        case "json":
            try:
                return json.loads(value)
            except ValueError as error:
                raise BindingError(str(error), "SyntaxError") from error
    return value.decode(errors="replace")


def _check_key(key: Any, verb: str) -> None:
    if not isinstance(key, str):
        raise BindingError("KV keys are strings", "TypeError")
    if key == "":
        raise BindingError("Key name cannot be empty.", "TypeError")
    if key in (".", ".."):
        raise BindingError(f'"{key}" is not allowed as a key name.', "TypeError")
    _check_length(key, verb)


def _check_length(key: str, verb: str) -> None:
    size = len(key.encode())
    if size > _KEY:
        raise BindingError(f"KV {verb} failed: 414 UTF-8 encoded length of {size} exceeds key length limit of {_KEY}.")


def _check_cache_ttl(options: dict[str, Any], verb: str) -> None:
    """There is one place here, so the value changes nothing; a wrong one is refused all the same."""
    if (given := options.get("cacheTtl")) is None:
        return
    seconds = _integer(given) or 0
    if seconds < _CACHED:
        words = f"Invalid cache_ttl of {seconds}. Cache TTL must be at least {_CACHED}."
        raise BindingError(f"KV {verb} failed: 400 {words}")


def _integer(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _expiration(options: dict[str, Any]) -> int | None:
    """Seconds since 1970, from either of the two options."""
    now = int(time.time())
    ttl, at = options.get("expirationTtl"), options.get("expiration")
    if ttl is not None:
        seconds = _integer(ttl) or 0
        if seconds <= 0:
            raise _refused_expiration("expiration_ttl", ttl, "Please specify integer greater than 0.")
        if seconds < _SHORTEST:
            raise _refused_expiration("expiration_ttl", ttl, f"Expiration TTL must be at least {_SHORTEST}.")
        return now + seconds
    if at is None:
        return None
    ends = _integer(at) or 0
    if ends <= now:
        since = "the current number of seconds since the UNIX epoch"
        raise _refused_expiration("expiration", at, f"Please specify integer greater than {since}.")
    if ends < now + _SHORTEST:
        least = f"Expiration times must be at least {_SHORTEST} seconds in the future."
        raise _refused_expiration("expiration", at, least)
    return ends


def _refused_expiration(name: str, given: Any, words: str) -> BindingError:
    return BindingError(f"KV PUT failed: 400 Invalid {name} of {given}. {words}")


def _from_cursor(cursor: Any) -> str:
    try:
        return base64.b64decode(str(cursor or ""), validate=True).decode()
    except ValueError as error:
        raise BindingError("KV GET failed: 400 Invalid cursor") from error
