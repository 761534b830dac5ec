"""``roost dev``: the doors, and beside them the project's Worker: on the real engine, or in a Python isolate."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from wrangler_compat import serving
from wrangler_compat.child import run_child
from wrangler_compat.project import ProjectError, open_project
from wrangler_compat.python_dev import serve_python
from wrangler_compat.python_project import is_python
from wrangler_compat.python_workers import PythonOptions
from wrangler_compat.tool_env import tool_environment
from wrangler_compat.workerd import serve_with_workerd
from wrangler_compat.wrangler import wrangler_dev

_OTHER_CREDENTIALS = ("CLOUDFLARE_API_KEY", "CLOUDFLARE_EMAIL", "CF_API_TOKEN", "CF_ACCOUNT_ID", "CF_API_BASE_URL")

_NPX = "this project has no wrangler of its own, so npx looks for one: npm install --save-dev wrangler brings it"


@dataclass(frozen=True, slots=True)
class DevOptions:
    """The options of ``roost dev`` that are not the doors'. ``more``: the arguments after ``--``, for wrangler.

    ``beside``: the configurations of Workers behind service bindings, of Python Workers alone. ``env_files``: relative
    to each configuration.
    """

    port: int | None = None
    environment: str | None = None
    config: Path | None = None
    engine: str = "wrangler"
    more: tuple[str, ...] = ()
    beside: tuple[Path, ...] = ()
    python: PythonOptions = field(default_factory=PythonOptions)
    env_files: tuple[Path, ...] = ()


async def dev(options: DevOptions, doors: serving.ServeOptions) -> int:
    """Serve until the tool or roost is ended; the tool's exit status."""
    environment = options.environment or os.environ.get("CLOUDFLARE_ENV") or None
    project = open_project(Path.cwd(), options.config, environment, options.env_files)
    if is_python(project):
        others = [open_project(Path.cwd(), config, environment, options.env_files) for config in options.beside]
        return await serve_python([project, *others], options.port, options.python, doors)
    if options.beside:
        raise ProjectError("several -c are for Python Workers: wrangler takes its own after --")
    for note in [*project.notes, *_notes_on(options.more)]:
        click.echo(f"note: {note}", err=True)
    if options.engine == "workerd":
        return await serve_with_workerd(project, options.port, doors, options.more)
    more = [*(word for file in options.env_files for word in ("--env-file", str(file))), *options.more]
    command = wrangler_dev(project, options.port, options.config, more)
    if Path(command[0]).stem == "npx":
        click.echo(f"note: {_NPX}", err=True)

    async def beside(url: str, stop: asyncio.Event) -> int:
        kept = {name: value for name, value in os.environ.items() if name not in _OTHER_CREDENTIALS}
        return await run_child(command, kept | tool_environment(url, doors.token, kept), Path.cwd(), stop)

    return await serving.serve(doors, beside)


def _notes_on(more: Sequence[str]) -> list[str]:
    notes = {
        ("--local", "-l"): "--local switches the AI binding off: leave it out, nothing leaves this machine anyway",
        ("--remote", "-r"): "--remote runs the Worker on Cloudflare's machines, which roost is not: leave it out",
    }
    return [f"wrangler's {note}" for names, note in notes.items() if {*names} & {*more}]
