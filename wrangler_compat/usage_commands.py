"""``roost usage``: what was asked of the running roost, and what it would have cost. Calls, prints."""

from __future__ import annotations

import json

import click

from wrangler_compat.asking import ask_running
from wrangler_compat.one_line import one_line_errors
from wrangler_compat.terminal import table

_COLUMNS = ("model", "requests", "tokens read", "of them kept", "tokens written", "neurons")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@one_line_errors
def usage(as_json: bool) -> None:
    """Show what each model of the running roost was asked, and what that would have cost on the platform."""
    running, told = ask_running("usage")
    if as_json:
        click.echo(json.dumps({"url": running.url, **told}, indent=2))
        return
    rows = [
        (
            row["model"],
            f"{row['requests']:,}",
            f"{row['prompt_tokens']:,}",
            f"{row['cached_tokens']:,}",
            f"{row['completion_tokens']:,}",
            "no price known" if row["neurons"] is None else f"{row['neurons']:,.2f}",
        )
        for row in told["models"]
    ]
    table(f"since roost {running.pid} at {running.url} was started", _COLUMNS, rows)
