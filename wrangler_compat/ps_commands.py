"""``roost ps``: the models in memory and the requests that run, live in a terminal. Calls, prints."""

from __future__ import annotations

import json
import time
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live

from wrangler_compat.asking import ask_running
from wrangler_compat.one_line import one_line_errors
from wrangler_compat.terminal import as_table

_MODELS = ("model", "weights", "device", "size", "requests", "state", "adapters")
_REQUESTS = ("request", "model", "state", "age", "tokens", "tokens/s")
_EVERY = 1.0  # seconds


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, once.")
@click.option("--once", is_flag=True, help="Print the tables once. A terminal else shows them live, until Ctrl-C.")
@one_line_errors
def ps(as_json: bool, once: bool) -> None:
    """Show the running roost: the models it has in memory, and each request with its age and pace."""
    if as_json:
        running, answer = ask_running("ps")
        click.echo(json.dumps({"url": running.url, "pid": running.pid, **answer}, indent=2))
        return
    console = Console(markup=False, highlight=False, emoji=False)
    shown = _shown(console.width)
    if once or not console.is_terminal:
        console.print(shown)
        return
    try:
        with Live(shown, console=console, auto_refresh=False) as live:
            while True:
                time.sleep(_EVERY)
                live.update(_shown(console.width), refresh=True)
    except KeyboardInterrupt:
        return


def _shown(width: int) -> RenderableType:
    running, answer = ask_running("ps")
    title = f"roost {running.pid} at {running.url}"
    models = as_table(title, _MODELS, map(_model, answer["loaded"]), width)
    if not answer["requests"]:
        return models
    return Group(models, "", as_table("", _REQUESTS, map(_request, answer["requests"]), width))


def _model(row: dict[str, Any]) -> tuple[str, ...]:
    busy = row["running"] or row["waiting"]
    return (
        ", ".join(row["names"]),
        f"{row['weights']} {row['precision']}"
        + (", int8 KV" if row["kv"] == "int8" else "")
        + (" (stand-in)" if row["stand_in"] else ""),
        f"{row['device']} ({row['chip']})" if row["chip"] else row["device"],
        f"{row['megabytes']:,} MB",
        f"{row['running']} running, {row['waiting']} waiting",
        ("in use" if busy else f"idle for {row['idle_seconds']:.0f} s")
        + ("" if row["same_words"] else "; words may depend on load"),
        ", ".join(f"{adapter['name']} ({adapter['megabytes']} MB)" for adapter in row["adapters"]),
    )


def _request(row: dict[str, Any]) -> tuple[str, ...]:
    pace = row["tokens_per_second"]
    return (
        row["request_id"],
        row["model"],
        row["state"],
        f"{row['age']:.1f} s",
        f"{row['prompt_tokens'] or 0}+{row['completion_tokens']}",
        "" if pace is None else f"{pace:.1f}",
    )
