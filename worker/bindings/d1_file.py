"""A D1 database as an SQLite file: what it takes, its limits, its words. Knows no Worker and no event loop.

developers.cloudflare.com/d1/platform/limits and /d1/sql-api/sql-statements; what is refused, and how, is workerd's
(src/workerd/util/sqlite.c++), asked with the workerd of wrangler 4.86.
"""

from __future__ import annotations

import math
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.bindings.d1_rules import Rules

PARAMETERS, COLUMNS = 100, 100
STATEMENT = 100_000  # bytes of SQL
VALUE = 2_000_000  # bytes of a text, a BLOB or a row
SECONDS = 30.0  # that a query may take
_RESULT = 100 << 20  # bytes that a result may take here, about
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: VALUE,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: STATEMENT,
    sqlite3.SQLITE_LIMIT_COLUMN: COLUMNS,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: PARAMETERS,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 5,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 50,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 10,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}
_OPS = 20_000  # of SQLite's virtual machine, between looks at the clock
_ROWS = 500  # fetched between looks at their size
_SAFE = 2**53 - 1  # the largest integer that a JavaScript number holds exactly
_UNNAMED = {3091: "SQLITE_CONSTRAINT_DATATYPE"}  # codes that Python has no names for
_BLANK = re.compile(r"(?>\s+|;|--[^\n]*|/\*(?:[^*]|\*(?!/))*+(?:\*/)?)*+")
_COMMENT_LINES = re.compile(r"^\s+--.*", re.MULTILINE)
_PLACED = re.compile(
    r'near "(.+)": syntax error|no such (?:column|function): ([\w.]+)|unrecognized token: "(.+)"'
    r"|not authorized to use function: (\w+)",
    re.DOTALL,
)


class D1Error(Exception):
    """What D1 says, without the prefix that tells which call it was."""


@dataclass(slots=True)
class Job:
    """A batch that is asked for. ``cancelled``: set from any thread, it stops what runs and rolls it back."""

    cancelled: bool = False
    ends: float = field(default=math.inf)

    @property
    def over(self) -> bool:
        """Whether it may not go on."""
        return self.cancelled or time.monotonic() > self.ends


@dataclass(frozen=True, slots=True)
class Result:
    """What a statement gave. ``rows``: None, int, float, str and bytes; ``meta``: as D1 names it."""

    columns: list[str]
    rows: list[list[Any]]
    meta: dict[str, Any]


class D1File:
    """The database in the file ``path`` (``:memory:`` for none), for one thread at a time."""

    def __init__(self, path: Path | str) -> None:
        if isinstance(path, Path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=SECONDS, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=OFF")  # an emulator's data, lost only with the machine's power
            self._db.execute("PRAGMA foreign_keys=ON")
            self._page: int = self._db.execute("PRAGMA page_size").fetchone()[0]
        except sqlite3.Error as error:
            self._db.close()
            raise D1Error(f"{path}: {error}") from error
        self._db.text_factory = lambda data: data.decode(errors="replace")
        for name, limit in _LIMITS.items():
            self._db.setlimit(name, limit)
        self._rules = Rules()
        self._db.set_authorizer(self._rules.allows)
        self._job = Job()
        self._db.set_progress_handler(lambda: self._job.over, _OPS)

    def run(self, statements: Sequence[tuple[str, Sequence[Any]]], job: Job | None = None) -> list[Result]:
        """Run SQL with its parameters, all or nothing; raises :class:`D1Error`.

        As workerd has it, a text may hold several statements: the last has the parameters, and its result counts.
        """
        self._job = job or Job()
        self._job.ends = time.monotonic() + SECONDS
        asked = [(sql, params) for sql, params in statements if _COMMENT_LINES.sub("", sql).strip()]
        if not asked:
            raise D1Error("No SQL statements detected.")
        self._own("BEGIN IMMEDIATE")
        try:
            found = [self._one(sql, params) for sql, params in asked]
            self._check()
            with self._rules.ours():
                self._db.commit()
        except sqlite3.Error as error:  # a deferred foreign key is found out by the commit
            raise D1Error(self._said(error, asked[-1][0])) from error
        finally:
            if self._db.in_transaction:
                with self._rules.ours():
                    self._job = Job()  # nothing stops this
                    self._db.rollback()
        return found

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _one(self, sql: str, params: Sequence[Any]) -> Result:
        sql = _well_formed(sql)
        if len(sql.encode()) > STATEMENT:
            raise D1Error("statement too long: SQLITE_TOOBIG")
        pieces = list(_cut(sql))
        if not all(map(_holds_one, pieces)):
            raise D1Error("SQL code did not contain a statement.")
        began, before = time.perf_counter(), self._state()
        for piece in pieces[:-1]:
            self._executed(piece, ())
        columns, rows = self._executed(pieces[-1], [_bound(value) for value in params])
        milliseconds = (time.perf_counter() - began) * 1000
        return Result(columns, rows, self._meta(milliseconds, len(rows), before, self._state()))

    def _executed(self, sql: str, params: Sequence[Any]) -> tuple[list[str], list[list[Any]]]:
        self._check()
        try:
            cursor = self._db.execute(sql, params)
            columns = [name for name, *_ in cursor.description or ()]
            return columns, list(self._fetched(cursor))
        except sqlite3.Error as error:
            raise D1Error(self._said(error, sql)) from error

    def _fetched(self, cursor: sqlite3.Cursor) -> Iterator[list[Any]]:
        room = _RESULT
        while rows := cursor.fetchmany(_ROWS):
            for row in rows:
                room -= sum(32 + (len(value) if isinstance(value, str | bytes) else 0) for value in row)
                yield [_returned(value) for value in row]
            if room < 0:
                raise D1Error("D1 DB exceeded its memory limit and was reset.")

    def _state(self) -> tuple[int, int, int]:
        """Rows changed so far, the last rowid, and the bytes in use."""
        return (
            self._db.total_changes,
            self._own("SELECT last_insert_rowid()"),
            (self._own("PRAGMA page_count") - self._own("PRAGMA freelist_count")) * self._page,
        )

    def _own(self, sql: str) -> Any:
        with self._rules.ours():
            try:
                row = self._db.execute(sql).fetchone()
            except sqlite3.Error as error:
                raise D1Error(self._said(error, sql)) from error
        return row and row[0]

    def _meta(
        self, milliseconds: float, rows: int, before: tuple[int, int, int], after: tuple[int, int, int]
    ) -> dict[str, Any]:
        changes = after[0] - before[0]
        return {
            "served_by": "roost",
            "served_by_primary": True,
            "duration": milliseconds,
            "timings": {"sql_duration_ms": milliseconds},
            "changes": changes,
            "last_row_id": after[1],
            "changed_db": before != after,
            "size_after": after[2],
            # Python's SQLite doesn't tell what was scanned, nor index entries: these are what it was at least.
            "rows_read": rows,
            "rows_written": changes,
        }

    def _check(self) -> None:
        if self._job.over:
            raise D1Error(self._ended())

    def _ended(self) -> str:
        if self._job.cancelled:
            return "the query was called off"
        return "D1 DB storage operation exceeded timeout which caused object to be reset."

    def _said(self, error: sqlite3.Error, sql: str) -> str:
        """``error`` in workerd's words."""
        if refused := self._rules.refusal():
            return refused
        code = _UNNAMED.get(getattr(error, "sqlite_errorcode", 0)) or getattr(error, "sqlite_errorname", None)
        if code is None:
            return "Wrong number of parameter bindings for SQL query." if "bindings" in str(error) else str(error)
        if code == "SQLITE_INTERRUPT":
            return self._ended()
        plain = "_".join(code.split("_")[:2])
        extended = f" (extended: {code})" if code != plain else ""
        return f"{error}{_place(str(error), sql)}: {plain}{extended}"


def split(sql: str) -> Iterator[str]:
    """The statements in ``sql``, without what holds none."""
    return filter(_holds_one, _cut(sql))


def _cut(sql: str) -> Iterator[str]:
    """``sql`` cut after each statement's semicolon; of what follows the last, space alone is dropped."""
    start = end = 0
    while (end := sql.find(";", end)) >= 0:
        end += 1
        if sqlite3.complete_statement(sql[start:end]) and _holds_one(sql[start:end]):
            yield sql[start:end]
            start = end
    if start == 0 or sql[start:].strip():
        yield sql[start:]


def _holds_one(sql: str) -> bool:
    return _BLANK.fullmatch(sql) is None


def _place(message: str, sql: str) -> str:
    """Where SQLite found it, which Python doesn't pass on: said where the word stands in ``sql`` once."""
    found = _PLACED.fullmatch(message)
    word = found and next(filter(None, found.groups()))
    if not word or sql.count(word) != 1:
        return ""
    return f" at offset {len(sql[: sql.index(word)].encode())}"


def _bound(value: Any) -> Any:
    """A parameter as D1 binds it: every number is a double, as JavaScript's are."""
    if isinstance(value, str):
        return _well_formed(value)
    return float(value) if isinstance(value, int | float) else value


def _well_formed(text: str) -> str:
    """``text`` with what is no Unicode replaced, as JavaScript's strings are on their way into UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _returned(value: Any) -> Any:
    """A value as JSON and JavaScript's numbers carry it."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) <= _SAFE else value
    return float(value) if isinstance(value, int) and abs(value) > _SAFE else value
