"""SQLite files of bindings, beside the project."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import ClassVar


def connected(path: Path | str, tables: str, *, timeout: float = 30) -> sqlite3.Connection:
    """The file ``path`` (``:memory:`` for none), with the ``tables`` that its statements make where they aren't there.

    ``timeout``: seconds to wait for another that writes.
    """
    if isinstance(path, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None, timeout=timeout)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=OFF")  # an emulator's data, lost only with the machine's power
    db.executescript(tables)
    return db


class SqliteFile:
    """The file ``path``, opened when it is first needed; several may have it open.

    ``tables``: see :func:`connected`.
    """

    tables: ClassVar[str]

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file; whoever uses it again opens it again."""
        if self._db is not None:
            self._db.close()
        self._db = None

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = connected(self.path, self.tables)
        return self._db
