"""``caches``: responses kept for as long as their headers say, in an SQLite file beside the project."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

from worker.bindings.binding import Binding
from worker.isolate.values import Streamed

_TABLE = """CREATE TABLE IF NOT EXISTS responses (
    cache TEXT, url TEXT, status INTEGER, headers TEXT, body BLOB, expires REAL, PRIMARY KEY (cache, url))"""


class Cache(Binding):
    """All caches of a Worker. A response without a lifetime in its headers isn't kept, as on the platform."""

    def __init__(self, path: Path | str) -> None:
        if isinstance(path, Path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute(_TABLE)

    async def call(self, method: str, args: list[Any]) -> Any:
        """See :meth:`Binding.call`."""
        match method, args:
            case "match", [cache, url]:
                return self._match(cache, url)
            case "put", [cache, url, status, headers, body]:
                return self._put(cache, url, status, headers, body)
            case "delete", [cache, url]:
                where = "DELETE FROM responses WHERE cache=? AND url=? AND expires>?"
                return self._db.execute(where, (cache, url, time.time())).rowcount > 0
        return await super().call(method, args)

    async def aclose(self) -> None:
        """Close the file."""
        self._db.close()

    def _match(self, cache: str, url: str) -> Any:
        where = "SELECT status, headers, body FROM responses WHERE cache=? AND url=? AND expires>?"
        row = self._db.execute(where, (cache, url, time.time())).fetchone()
        if row is None:
            return None
        return {
            "status": row[0],
            "headers": [*json.loads(row[1]), ["cf-cache-status", "HIT"]],
            "body": Streamed(row[2]),
        }

    def _put(self, cache: str, url: str, status: int, headers: list[list[str]], body: bytes) -> None:
        seconds = _lifetime(headers)
        if seconds <= 0:
            return
        row = (cache, url, status, json.dumps(headers), body, time.time() + seconds)
        self._db.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?, ?)", row)


def _lifetime(headers: list[list[str]]) -> float:
    """Seconds that a response may be kept, by its cache-control."""
    told = {name: value.lower() for name, value in headers}
    control = told.get("cache-control", "")
    if any(word in control for word in ("no-store", "no-cache", "private")) or "set-cookie" in told:
        return 0
    found = re.search(r"s-maxage=(\d+)", control) or re.search(r"max-age=(\d+)", control)
    return float(found[1]) if found else 0
