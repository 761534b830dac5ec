"""An SQLite file of a binding's, which is opened when it is first needed."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import ClassVar


class SqliteFile:
    """The file ``path``, which several may have open. ``tables``: the statements that make what isn't there yet."""

    tables: ClassVar[str]

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file; whoever uses it again opens it again."""
        if self._db is not None:
            self._db.close()
        self._db = None

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._path, isolation_level=None, timeout=30)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=OFF")  # an emulator's data, lost only with the machine's power
            self._db.executescript(self.tables)
        return self._db
