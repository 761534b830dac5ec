"""``roost analytics``: the Analytics Engine datasets of the project in this folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from worker.bindings.analytics_file import AnalyticsFile, BadQuery
from wrangler_compat.more_bindings import ANALYTICS
from wrangler_compat.one_line import one_line_errors
from wrangler_compat.project import STATE, open_project
from wrangler_compat.terminal import table


@click.group()
def analytics() -> None:
    """Analytics Engine datasets of the Worker project in this folder."""


@analytics.command()
@click.argument("sql")
@click.option("-c", "--config", type=click.Path(path_type=Path), help="The configuration's path.")
@click.option("-e", "--env", "environment", help="The environment in the configuration.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@one_line_errors
def query(sql: str, config: Path | None, environment: str | None, as_json: bool) -> None:
    """\b
    roost analytics query "SELECT blob1, sum(double1) FROM sales GROUP BY blob1"

    Run one SELECT in SQLite's SQL, with the datasets as its tables.
    """
    project = open_project(Path.cwd(), config, environment)
    entries = project.settings.get("analytics_engine_datasets") or ()
    named = [each.get("dataset") or each.get("binding") for each in entries if isinstance(each, Mapping)]
    try:
        columns, rows = AnalyticsFile(project.home / STATE / "roost" / ANALYTICS).query(sql, map(str, named))
    except BadQuery as error:
        raise click.ClickException(str(error)) from error
    shown = [[_plain(cell) for cell in row] for row in rows]
    if as_json:
        told = [dict(zip(columns, row, strict=True)) for row in shown]
        return click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    table("", columns, [["" if cell is None else str(cell) for cell in row] for row in shown])


def _plain(cell: Any) -> Any:
    return cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell
