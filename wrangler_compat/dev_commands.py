"""``roost dev`` and ``roost env``: what people type in a project. Reads arguments, calls, prints."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click

from runtime.artifacts import ArtifactStore
from runtime.errors import NoWeights
from worker.isolate_process import Limits
from wrangler_compat import serving, tool_env
from wrangler_compat.authority import trusted_file
from wrangler_compat.dev import DevOptions
from wrangler_compat.dev import dev as run_dev
from wrangler_compat.one_line import one_line_errors
from wrangler_compat.python_workers import PythonOptions
from wrangler_compat.running import find_running

_DEBUGPY = "127.0.0.1:5678"  # what editors try first


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), help="The Worker's port; wrangler's own default is 8787.")
@click.option("--env", "environment", metavar="NAME", help="The environment of the configuration to use.")
@click.option(
    "--env-file",
    "env_files",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="In place of .dev.vars and .env, relative to the configuration; a later one wins.",
)
@click.option(
    "-c",
    "--config",
    "configs",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration file; more of them for Python Workers behind its service bindings.",
)
@click.option(
    "--engine",
    type=click.Choice(["wrangler", "workerd"]),
    default="wrangler",
    show_default=True,
    help="workerd: without wrangler, for a Worker of one module.",
)
@click.option(
    "--doors-port", type=click.IntRange(0, 65_535), help="The AI doors' port. Default: 8790, or the next free."
)
@click.option("--no-stand-in", is_flag=True, help="Only models with weights of their own answer.")
@click.option("--offline", is_flag=True, help="Never fetch anything.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--inspect",
    is_flag=False,
    flag_value="pdb",
    metavar="[=DEBUGGER]",
    callback=lambda _, __, given: _debugger(given),
    help="Python Workers: breakpoint() stops, without a wall limit: in this terminal, or with =debugpy or =HOST:PORT "
    "where an editor attaches.",
)
@click.option(
    "--allow-missing", is_flag=True, help="Python Workers: a binding that roost lacks fails at its first use."
)
@click.option(
    "--wall-limit",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    help="Python Workers: seconds without an await.",
)
@click.option(
    "--isolate-memory", type=click.IntRange(64), default=512, show_default=True, help="Python Workers: megabytes each."
)
@click.argument("wrangler_args", nargs=-1, type=click.UNPROCESSED)
@one_line_errors
def dev(wrangler_args: tuple[str, ...], **given: Any) -> None:
    """Run the Worker project in this folder, with a local env.AI.

    A Python Worker runs in an isolate of roost's. For JavaScript it starts the project's own wrangler dev; arguments
    after -- go to it.
    """
    doors = serving.ServeOptions(
        port=given["doors_port"],
        no_stand_in=given["no_stand_in"],
        offline=given["offline"],
        device=given["device"],
        quiet=True,
    )
    config, *beside = given["configs"] or [None]
    limits = Limits(given["wall_limit"], given["isolate_memory"] << 20, given["inspect"])
    options = DevOptions(
        given["port"],
        given["environment"],
        config,
        given["engine"],
        wrangler_args,
        tuple(beside),
        PythonOptions(limits, given["allow_missing"]),
        given["env_files"],
    )
    click.get_current_context().exit(asyncio.run(run_dev(options, doors)))


def _debugger(given: str | None) -> str | None:
    """pdb, or the host and the port of debugpy."""
    if given in (None, "pdb"):
        return given
    if given == "debugpy":
        return _DEBUGPY
    host, _, port = str(given).rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65_536:
        raise click.BadParameter(f"{given} is none of pdb, debugpy, PORT and HOST:PORT")
    return f"{host or '127.0.0.1'}:{port}"


@click.command("env")
@click.option("--url", help="A roost elsewhere. Default: the one that runs here.")
@click.option("--token", envvar="ROOST_TOKEN", help="What that roost asks for.  [env: ROOST_TOKEN]")
@click.option("--shell", type=click.Choice(tool_env.SHELLS), default="sh", show_default=True, help="Whose syntax.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--no-preload", is_flag=True, help="Variables alone, without the Node preload.")
@one_line_errors
def env(url: str | None, token: str | None, shell: str, *, as_json: bool, no_preload: bool) -> None:
    """Print the environment for wrangler, vitest and the SDKs: eval "$(roost env)"."""
    store = ArtifactStore()
    if url is None:
        running = find_running(serving.run_folder(store))
        if running is None:
            raise NoWeights("no roost is running here: type roost serve, or give --url")
        url, token = running.url, running.token
    authority = trusted_file(serving.tls_folder(store), os.environ.get("NODE_EXTRA_CA_CERTS"))
    variables = tool_env.tool_environment(
        url.rstrip("/"),
        token,
        os.environ,
        preload=not no_preload,
        authority=authority,
    )
    click.echo(tool_env.as_json(variables) if as_json else tool_env.export_lines(variables, shell))
