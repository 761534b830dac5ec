"""What SQL may do in a D1 database: an SQLite authorizer that says no where workerd's does."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

_PRAGMAS = {
    *("case_sensitive_like", "data_version", "defer_foreign_keys", "foreign_key_check", "foreign_key_list"),
    *("foreign_keys", "ignore_check_constraints", "index_info", "index_list", "index_xinfo", "legacy_alter_table"),
    *("optimize", "quick_check", "recursive_triggers", "reverse_unordered_selects", "table_info", "table_list"),
    *("table_xinfo",),
}
_FUNCTIONS = {  # that tell of the build, or reach out of it
    *("fts3_tokenizer", "sqlite_compileoption_get", "sqlite_compileoption_used", "sqlite_log"),
    *("sqlite_offset", "sqlite_source_id", "sqlite_version"),
}
_MODULES = {"fts5", "fts5vocab"}
_NAMED = {  # which of the two arguments may be a table's name
    *(sqlite3.SQLITE_ALTER_TABLE, sqlite3.SQLITE_ANALYZE, sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_CREATE_TABLE),
    *(sqlite3.SQLITE_CREATE_TRIGGER, sqlite3.SQLITE_CREATE_VIEW, sqlite3.SQLITE_CREATE_VTABLE, sqlite3.SQLITE_DELETE),
    *(sqlite3.SQLITE_DROP_INDEX, sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_DROP_TRIGGER, sqlite3.SQLITE_DROP_VIEW),
    *(sqlite3.SQLITE_DROP_VTABLE, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_READ, sqlite3.SQLITE_REINDEX),
    *(sqlite3.SQLITE_UPDATE,),
}
_NEVER = {
    *(sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_CREATE_TEMP_INDEX, sqlite3.SQLITE_CREATE_TEMP_TABLE),
    *(sqlite3.SQLITE_CREATE_TEMP_TRIGGER, sqlite3.SQLITE_CREATE_TEMP_VIEW),
}
_TRANSACTION = (
    "To execute a transaction, please use the state.storage.transaction() or state.storage.transactionSync() APIs "
    "instead of the SQL BEGIN TRANSACTION or SAVEPOINT statements. The JavaScript API is safer because it will "
    "automatically roll back on exceptions, and because it interacts correctly with Durable Objects' automatic atomic "
    "write coalescing."
)
"""What workerd says, word for word: people search for it. D1's own way is ``batch()``."""


class Rules:
    """The authorizer of one connection."""

    def __init__(self) -> None:
        self._ours = False
        self._refusal: str | None = None

    @contextmanager
    def ours(self) -> Iterator[None]:
        """Allow everything in the block."""
        self._ours = True
        try:
            yield
        finally:
            self._ours = False

    def refusal(self) -> str | None:
        """What the last refusal is to be called where SQLite's words won't do; forgotten then."""
        refusal, self._refusal = self._refusal, None
        return refusal

    def allows(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        """See :meth:`sqlite3.Connection.set_authorizer`."""
        return sqlite3.SQLITE_OK if self._ours or self._permits(action, first, second) else sqlite3.SQLITE_DENY

    def _permits(self, action: int, first: str | None, second: str | None) -> bool:
        if action in (sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT):
            self._refusal = _TRANSACTION
            return False
        if action in _NEVER:
            return False
        if action == sqlite3.SQLITE_PRAGMA:
            return str(first).lower() in _PRAGMAS
        if action == sqlite3.SQLITE_FUNCTION:
            return str(second).lower() not in _FUNCTIONS
        if action == sqlite3.SQLITE_CREATE_VTABLE and str(second).lower() not in _MODULES:
            return False
        if action in _NAMED:  # the platform keeps names of this prefix to itself
            return not any(name and name.lower().startswith("_cf_") for name in (first, second))
        return True
