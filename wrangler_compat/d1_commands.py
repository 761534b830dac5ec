"""``roost d1``: the databases of the project in this folder, with the arguments of ``wrangler d1 --local``."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from worker.bindings.d1_file import D1Error, Result
from wrangler_compat.d1_project import Database, FailedMigration, database_of
from wrangler_compat.one_line import one_line_errors
from wrangler_compat.project import open_project
from wrangler_compat.terminal import table


def _one_line(command: Callable[..., Any]) -> Callable[..., Any]:
    """What D1 refuses, and any other mistake, is one line."""

    @one_line_errors
    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (D1Error, FailedMigration) as error:
            raise click.ClickException(str(error)) from error

    return wrapped


@click.group()
def d1() -> None:
    """D1 databases of the Worker project in this folder."""


@d1.group()
def migrations() -> None:
    """SQL files that bring a database up to date, each once."""


def _about_a_database(command: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments that say which database, by name or binding."""
    environment = click.option("-e", "--env", "environment", help="The environment in the configuration.")
    config = click.option("-c", "--config", type=click.Path(path_type=Path), help="The configuration's path.")
    return click.argument("database")(config(environment(command)))


@d1.command()
@_about_a_database
@click.option("--command", "sql", help="The SQL to run.")
@click.option("--file", "file", type=click.Path(path_type=Path), help="A file of SQL to run.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@_one_line
def execute(
    database: str, config: Path | None, environment: str | None, sql: str | None, file: Path | None, as_json: bool
) -> None:
    """\b
    roost d1 execute my-db --command "SELECT * FROM users"
    roost d1 execute my-db --file seed.sql

    Run SQL in DATABASE, all of it or, after an error, nothing.
    """
    if (sql is None) == (file is None):
        raise click.UsageError("give either --command or --file")
    found = _opened(database, config, environment).run(file.read_text("utf-8") if file else str(sql))
    if as_json:
        click.echo(json.dumps([_as_d1(each) for each in found], indent=2, ensure_ascii=False))
        return
    for result in found:
        _show(result)


@migrations.command()
@_about_a_database
@click.argument("message")
@_one_line
def create(database: str, message: str, config: Path | None, environment: str | None) -> None:
    """Make an empty migration for DATABASE, to be filled with SQL."""
    click.echo(str(_opened(database, config, environment).create(message)))


@migrations.command("list")
@_about_a_database
@_one_line
def list_migrations(database: str, config: Path | None, environment: str | None) -> None:
    """List the migrations that DATABASE still lacks."""
    for path in _opened(database, config, environment).migrations():
        click.echo(path.name)


@migrations.command()
@_about_a_database
@_one_line
def apply(database: str, config: Path | None, environment: str | None) -> None:
    """Apply the migrations that DATABASE still lacks, in their order, until one fails, which is rolled back."""
    opened = _opened(database, config, environment)
    for path in opened.migrations():
        opened.apply(path)
        click.echo(path.name)


def _opened(name: str, config: Path | None, environment: str | None) -> Database:
    return database_of(open_project(Path.cwd(), config, environment), name)


def _as_d1(result: Result) -> dict[str, Any]:
    rows = [dict(zip(result.columns, map(_plain, row), strict=True)) for row in result.rows]
    return {"results": rows, "success": True, "meta": result.meta}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, bytes) else value


def _show(result: Result) -> None:
    if result.columns:
        rows: Sequence[list[str]] = [
            ["" if value is None else str(_plain(value)) for value in row] for row in result.rows
        ]
        table("", result.columns, rows)
    else:
        click.echo(f"{result.meta['changes']} rows changed")
