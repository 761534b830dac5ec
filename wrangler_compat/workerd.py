"""Without wrangler: one module on the ``workerd`` binary of npm, its AI binding wrapped around our wire door.

The wrapped module is the runtime's own ``cloudflare-internal:ai-api``; stock workerd binds it without a flag. What it
calls is a small Worker (``ai.js``), which passes HTTP on and refuses RPC in our words in place of workerd's.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import platform
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from worker.server import bind, url_of
from wrangler_compat import serving
from wrangler_compat.child import run_child
from wrangler_compat.project import Project, ProjectError
from wrangler_compat.relay import relay
from wrangler_compat.rpc import rpc_refusal
from wrangler_compat.wrangler import node_modules

_PORT = 8787  # wrangler's own
_JAVASCRIPT = (".js", ".mjs")
_MACHINES = {"x86_64": "64", "amd64": "64", "aarch64": "arm64", "arm64": "arm64"}
_ELSEWHERE = ("assets", "kv_namespaces", "r2_buckets", "d1_databases", "durable_objects", "queues", "services")
_CONFIG = """using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "worker", worker = .worker),
    (name = "ai", worker = .ai),
    (name = "roost", external = (address = {roost}, http = (style = host{token}))),
    (name = "internet", network = (allow = ["public", "private"], tlsOptions = (trustBrowserCas = true))),
  ],
  sockets = [(name = "http", address = {address}, http = (), service = "worker")],
);

const worker :Workerd.Worker = (
  modules = [(name = {name}, esModule = embed "worker.js")],
  compatibilityDate = {date},
  compatibilityFlags = [{flags}],
  bindings = [{bindings}],
);

const ai :Workerd.Worker = (
  modules = [(name = "ai.js", esModule = embed "ai.js")],
  compatibilityDate = "2025-01-01",
  bindings = [(name = "ROOST", service = "roost"), (name = "REFUSAL", text = {refusal})],
);
"""
_AI_WORKER = """import { WorkerEntrypoint } from "cloudflare:workers";
const refuse = ({ env }) => { throw new Error(env.REFUSAL); };
export default class extends WorkerEntrypoint {
  fetch(request) { return this.env.ROOST.fetch(request); }
  aiSearch() { refuse(this); }
  websearch() { refuse(this); }
  gateway() { refuse(this); }
  autorag() { refuse(this); }
}
"""
_AI = (
    '(name = {name}, wrapped = (moduleName = "cloudflare-internal:ai-api",'
    ' innerBindings = [(name = "fetcher", service = "ai")]))'
)


async def serve_with_workerd(
    project: Project, port: int | None, doors: serving.ServeOptions, more: Sequence[str] = ()
) -> int:
    """Serve ``project`` on ``port`` until workerd or roost ends; ``more`` are arguments for workerd."""
    workerd = find_workerd(project.folder)
    with tempfile.TemporaryDirectory(prefix="roost-") as name:
        folder = Path(name)
        (folder / "worker.js").write_bytes(one_module(project))
        (folder / "ai.js").write_text(_AI_WORKER, encoding="utf-8")
        for note in _without(project):
            click.echo(f"note: {note}", err=True)
        listener = bind("127.0.0.1", _PORT if port is None else port, or_next=port is None)
        door = folder / "worker.sock"

        async def beside(url: str, stop: asyncio.Event) -> int:
            date = _compatibility_date(workerd, project)
            text = config_for(project, f"unix:{door}", url, doors.token, date)
            (folder / "config.capnp").write_text(text, encoding="utf-8")
            command = [str(workerd), "serve", *more, str(folder / "config.capnp")]
            relaying = asyncio.create_task(relay(listener, door, lambda: _say_ready(listener)))
            try:
                return await run_child(command, os.environ, folder, stop)
            finally:
                relaying.cancel()

        with listener:
            return await serving.serve(doors, beside)


def config_for(project: Project, address: str, url: str, token: str | None, date: str) -> str:
    """The configuration of workerd, as Cap'n Proto text."""
    bindings = [f"(name = {_text(name)}, {_value(value)})" for name, value in project.variables().items()]
    if project.ai_binding:
        bindings.append(_AI.format(name=_text(project.ai_binding)))
    bearer = f"Bearer {token}" if token else None
    header = f', injectRequestHeaders = [(name = "authorization", value = {_text(bearer)})]' if bearer else ""
    return _CONFIG.format(
        roost=_text(urlsplit(url).netloc),
        refusal=_text(rpc_refusal()),
        token=header,
        address=_text(address),
        name=_text(project.main.name if project.main else "worker.js"),
        date=_text(date),
        flags=", ".join(_text(str(flag)) for flag in project.settings.get("compatibility_flags", ())),
        bindings=", ".join(bindings),
    )


def one_module(project: Project) -> bytes:
    """The Worker's only module: as it stands, or bundled with the project's esbuild where there is one."""
    main = project.main
    if main is None or not main.is_file():
        raise ProjectError(f"{project.config.name}: main must name the Worker's module, which workerd is to run")
    if esbuild := _in_modules(project.folder, "esbuild/bin/esbuild"):
        externals = ["--external:cloudflare:*", "--external:node:*"]
        command = [str(esbuild), str(main), "--bundle", "--format=esm", "--target=es2022", *externals]
        bundled = subprocess.run(command, capture_output=True, check=False)
        if bundled.returncode:
            raise ProjectError(f"{main.name} can't be bundled: {bundled.stderr.decode(errors='replace').strip()}")
        return bundled.stdout
    if main.suffix not in _JAVASCRIPT:
        raise ProjectError(f"{main.name} needs a bundler for --engine workerd: type npm install --save-dev esbuild")
    return main.read_bytes()


def find_workerd(folder: Path) -> Path:
    """The binary that npm's ``workerd`` brings; raises :class:`ProjectError` where it isn't."""
    if stated := os.environ.get("MINIFLARE_WORKERD_PATH"):
        return Path(stated)
    system, machine = platform.system().lower(), _MACHINES.get(platform.machine().lower(), platform.machine())
    package = f"@cloudflare/workerd-{system}-{machine}/bin/workerd"
    found = _in_modules(folder, package, f"workerd/node_modules/{package}", f"wrangler/node_modules/{package}")
    if found is None and (installed := shutil.which("workerd")):
        found = Path(installed)
    if found is None:
        raise ProjectError("there is no workerd in this project: type npm install --save-dev workerd")
    return found


def _in_modules(folder: Path, *paths: str) -> Path | None:
    return next(
        (modules / path for modules in node_modules(folder) for path in paths if (modules / path).exists()), None
    )


def _compatibility_date(workerd: Path, project: Project) -> str:
    """The project's date, but no later than this workerd knows; its own where the project has none."""
    said = subprocess.run([str(workerd), "--version"], capture_output=True, text=True, check=False).stdout
    known = next((word for word in said.split() if word.count("-") == 2), datetime.date.today().isoformat())
    return min(str(project.settings.get("compatibility_date", known)), known)


def _without(project: Project) -> Iterator[str]:
    for name in _ELSEWHERE:
        if project.settings.get(name):
            yield f"--engine workerd runs the Worker without {name}: use wrangler for that"


def _say_ready(listener: socket.socket) -> None:
    click.echo(f"Worker ready on {url_of(listener)}")


def _value(value: Any) -> str:
    return f"text = {_text(value)}" if isinstance(value, str) else f"json = {_text(json.dumps(value))}"


def _text(value: str) -> str:
    """A Cap'n Proto string: C's escapes, bytes beyond ASCII as they are."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
