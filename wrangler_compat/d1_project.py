"""A project's D1 databases and their migrations, by wrangler's rules (``src/d1``). Knows no terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.bindings.d1 import database_file
from worker.bindings.d1_file import D1Error, D1File, Result, split
from wrangler_compat.project import STATE, Project, ProjectError
from wrangler_compat.python_workers import SHARED

_DIGITS = re.compile(r"\d*")


class FailedMigration(Exception):
    """A migration that was rolled back, and why."""


@dataclass(frozen=True, slots=True)
class Database:
    """A database of a project. ``file``: where its rows are, ``folder``: where its migrations are."""

    name: str
    file: Path
    folder: Path
    table: str

    def run(self, sql: str) -> list[Result]:
        """The results of the statements in ``sql``, of which all or none take effect; raises :class:`D1Error`."""
        return self._run([(each, ()) for each in split(sql)])

    def migrations(self) -> list[Path]:
        """The migrations that haven't been applied, in their order."""
        if not self.folder.is_dir():
            raise ProjectError(f"no migrations present at {self.folder}: roost d1 migrations create {self.name} NAME")
        applied = {str(row[0]) for row in self._table(f"SELECT name FROM {self._quoted}")}
        found = sorted(path for path in self.folder.iterdir() if path.suffix == ".sql")
        return sorted((path for path in found if path.name not in applied), key=_number)

    def apply(self, migration: Path) -> None:
        """Apply one, whole or not at all; raises :class:`FailedMigration`."""
        statements: list[tuple[str, Sequence[str]]] = [(each, ()) for each in split(migration.read_text("utf-8"))]
        noted = (f"INSERT INTO {self._quoted} (name) VALUES (?)", (migration.name,))
        try:
            self._run([*statements, noted])
        except D1Error as error:
            raise FailedMigration(f"{migration.name}: {error}") from error

    def create(self, message: str) -> Path:
        """A new, empty migration, numbered after the last one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = max((_number(path) for path in self.folder.glob("*.sql")), default=0) + 1
        words = re.sub(r"[^\w-]+", "_", message)
        made = self.folder / f"{number:04}_{words}.sql"
        made.write_text(f"-- Migration number: {number:04}\n", encoding="utf-8")
        return made

    def _table(self, query: str) -> list[list[object]]:
        made = (
            f"CREATE TABLE IF NOT EXISTS {self._quoted} (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE,"
            " applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL)"
        )
        return self._run([(made, ()), (query, ())])[-1].rows

    def _run(self, statements: Sequence[tuple[str, Sequence[str]]]) -> list[Result]:
        file = D1File(self.file)
        try:
            return file.run(statements)
        finally:
            file.close()

    @property
    def _quoted(self) -> str:
        return '"' + self.table.replace('"', '""') + '"'


def database_of(project: Project, name: str) -> Database:
    """The database with this name or binding; raises :class:`ProjectError`."""
    entries = [each for each in project.settings.get("d1_databases") or () if isinstance(each, Mapping)]
    for entry in entries:
        if name in (entry.get("database_name"), entry.get("binding")):
            known = str(entry.get("preview_database_id") or entry.get("database_id") or entry.get("binding"))
            folder = project.folder / str(entry.get("migrations_dir") or "migrations")
            file = database_file(project.folder / STATE / SHARED, known)
            return Database(name, file, folder, str(entry.get("migrations_table") or "d1_migrations"))
    there = ", ".join(str(each.get("database_name") or each.get("binding")) for each in entries) or "none"
    raise ProjectError(f"{project.config.name} has no D1 database {name}: it has {there}")


def _number(path: Path) -> int:
    found = _DIGITS.match(path.name)
    return int(found[0]) if found and found[0] else 0
