"""The SQLite file of a project's Analytics Engine datasets: points are added, and asked for with SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from worker.bindings.sqlite_file import SqliteFile

MANY = 20  # blobs and doubles of a point
BLOBS, DOUBLES = ([f"{name}{number}" for number in range(1, MANY + 1)] for name in ("blob", "double"))
COLUMNS = ("timestamp", "index1", *BLOBS, *DOUBLES)
_TABLE = f"CREATE TABLE IF NOT EXISTS points (dataset TEXT NOT NULL, {', '.join(COLUMNS)})"
_READING = {  # what a query may do
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}


class BadQuery(ValueError):
    """A query that SQLite refuses; its words say why."""


@dataclass(frozen=True, slots=True)
class Point:
    """A point. ``timestamp``: UTC, as ``2026-01-31 12:00:00``."""

    timestamp: str
    index: str | bytes
    blobs: Sequence[str | bytes]
    doubles: Sequence[float]


class AnalyticsFile(SqliteFile):
    """The datasets in the file ``path``, which several may have open."""

    tables = _TABLE

    def write(self, dataset: str, point: Point) -> None:
        """Add a point; what it lacks is an empty text or 0, as on the platform."""
        blobs = [*point.blobs, *[""] * (MANY - len(point.blobs))]
        doubles = [*point.doubles, *[0.0] * (MANY - len(point.doubles))]
        row = (dataset, point.timestamp, point.index, *blobs, *doubles)
        self._opened().execute(f"INSERT INTO points VALUES ({', '.join('?' * len(row))})", row)

    def query(self, sql: str, datasets: Iterable[str] = ()) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The columns and the rows of a SELECT, whose tables are the datasets; raises :class:`BadQuery`.

        ``datasets``: those that are there even without points.
        """
        there = self.path.is_file()
        db = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro" if there else ":memory:", uri=there, timeout=30)
        try:
            if not there:
                db.execute(_TABLE)
            names = {*datasets, *(row[0] for row in db.execute("SELECT DISTINCT dataset FROM points"))}
            for name in sorted(names):
                which = "'" + name.replace("'", "''") + "'"
                view = '"' + name.replace('"', '""') + '"'
                db.execute(
                    f"CREATE TEMP VIEW {view} AS SELECT {', '.join(COLUMNS)}, 1 AS _sample_interval, "
                    f"dataset FROM main.points WHERE dataset = {which}"
                )
            db.set_authorizer(_allowed)
            found = db.execute(sql)
            if found.description is None:
                raise BadQuery("a query is one SELECT")
            return [column[0] for column in found.description], found.fetchall()
        except (sqlite3.Error, sqlite3.Warning) as error:
            words = "a query is one SELECT, which only reads" if "not authorized" in str(error) else str(error)
            raise BadQuery(words) from error
        finally:
            db.close()


def _allowed(action: int, _: str | None, function: str | None, *_where: Any) -> int:
    """SQLite's authorizer: reading alone, and no function that reaches files."""
    if action == sqlite3.SQLITE_FUNCTION and function in ("load_extension", "readfile", "writefile", "edit"):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY
