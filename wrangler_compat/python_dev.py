"""``roost dev`` for Python Workers: each in an isolate, the first one on the Worker's port."""

from __future__ import annotations

import asyncio
import datetime
import functools
import logging
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from worker.bindings.assets import Assets, assets_of
from worker.bindings.binding import Binding
from worker.bindings.cache import Cache
from worker.bindings.internet import AiWire, Internet
from worker.bindings.kv import KvNamespace
from worker.bindings.service import Service
from worker.front import Front
from worker.guard import Guard
from worker.isolate_process import Limits, WorkerFault, WorkerSpec
from worker.isolates import PythonWorker
from worker.reloading import keep_reloading
from worker.server import bind, serve_until, url_of
from worker.services import Services
from wrangler_compat import serving
from wrangler_compat.keeper import kept
from wrangler_compat.marked import MARK
from wrangler_compat.project import Project, ProjectError
from wrangler_compat.python_project import PythonProject, read_python_project

_PORT = 8787  # wrangler's own
_STATE = Path(".wrangler", "state", "roost")
_log = logging.getLogger("roost.worker")


@dataclass(frozen=True, slots=True)
class PythonOptions:
    """The options of ``roost dev`` that are Python Workers' alone."""

    limits: Limits = field(default_factory=Limits)
    allow_missing: bool = False


class Workers:
    """The Workers of ``projects``, bound to each other by name. ``url`` and ``token``: the AI doors."""

    def __init__(
        self, projects: Sequence[PythonProject], options: PythonOptions, url: str, token: str | None, mark: str = ""
    ) -> None:
        self._options, self._url, self._token, self._mark = options, url, token, mark
        self._state = projects[0].project.folder / _STATE
        self._by_name: dict[str, tuple[PythonWorker, Front]] = {}
        for project in projects:
            assets = assets_of(project.project.folder, project.assets) if project.assets else None
            bindings = self._bindings(project, assets)
            cache = Cache(self._state / f"cache-{project.name}.sqlite")
            services = Services({"internet": Internet(), "cache": cache, **bindings})
            made = PythonWorker(self._spec(project, bindings), services)
            self._by_name[project.name] = (made, Front(made, assets))

    def __getitem__(self, name: str) -> tuple[PythonWorker, Front]:
        return self._by_name[name]

    def _bindings(self, project: PythonProject, assets: Assets | None) -> dict[str, Binding]:
        """What stands in ``env``, a line for each kind."""
        found: dict[str, Binding] = {
            name: KvNamespace(self._state / "kv.sqlite", namespace) for name, namespace in project.kv.items()
        }
        found |= {name: Service(service, self._by_name) for name, service in project.services.items()}
        if project.project.ai_binding:
            found[project.project.ai_binding] = AiWire(self._url, self._token)
        if assets is not None and (name := project.assets.get("binding")):
            found[str(name)] = assets
        return found

    def _spec(self, project: PythonProject, bindings: dict[str, Binding]) -> WorkerSpec:
        described: list[dict[str, Any]] = [
            {"name": name, "kind": "variable", "value": value} for name, value in project.project.variables().items()
        ]
        described += [{"name": name, "kind": "missing", "what": what} for name, what in project.missing.items()]
        described += [{"name": name, **binding.described()} for name, binding in bindings.items()]
        return WorkerSpec(
            project.name,
            project.main,
            project.project.folder,
            project.date,
            project.flags,
            described,
            self._options.limits,
            {MARK: self._mark},
        )


async def serve_python(
    projects: Sequence[Project], port: int | None, options: PythonOptions, doors: serving.ServeOptions
) -> int:
    """Serve the first of ``projects``, with the others behind its service bindings, until roost is ended."""
    read = [read_python_project(project, allow_missing=options.allow_missing) for project in projects]
    _refuse_absent_services(read)
    for project in read:
        for warning in project.warnings:
            click.echo(f"note: {warning}", err=True)
    listener = bind("127.0.0.1", _PORT if port is None else port, or_next=port is None)
    mark = uuid.uuid4().hex

    async def beside(url: str, stop: asyncio.Event) -> int:
        _log.setLevel(logging.INFO)
        workers = Workers(read, options, url, doors.token, mark)
        async with AsyncExitStack() as stack:
            stack.enter_context(kept(mark))
            for project in read:
                await _started(stack, project, *workers[project.name])
            app = Guard(workers[read[0].name][1])
            ready = functools.partial(click.echo, f"Worker ready on {url_of(listener)}")
            await serve_until(app, listener, stop, ready)
        return 0

    return await serving.serve(doors, beside)


def _refuse_absent_services(projects: Sequence[PythonProject]) -> None:
    names = {project.name for project in projects}
    absent = [
        f"{project.project.config.name}: {binding} is the Worker {service}, which isn't here: add its -c CONFIG"
        for project in projects
        for binding, service in project.services.items()
        if service not in names
    ]
    if absent:
        raise ProjectError("\n".join(absent))


async def _started(stack: AsyncExitStack, project: PythonProject, worker: PythonWorker, front: Front) -> None:
    """Start a Worker, its watcher and its clock, which end with ``stack``."""
    await stack.enter_async_context(worker.running())
    tasks = [asyncio.create_task(keep_reloading(worker, project.project.folder))]
    if project.crons:
        tasks.append(asyncio.create_task(_keep_time(project, front)))
    for task in tasks:
        stack.callback(task.cancel)
    try:
        await worker.isolate()
    except WorkerFault as fault:
        click.echo(fault.told.get("traceback") or str(fault), err=True)


async def _keep_time(project: PythonProject, front: Front) -> None:
    """Run the scheduled handler at each minute that a pattern meets."""
    while True:
        now = datetime.datetime.now(datetime.UTC)
        await asyncio.sleep(60 - now.second - now.microsecond / 1e6)
        minute = datetime.datetime.now(datetime.UTC).replace(second=0, microsecond=0)
        for cron in project.crons:
            if cron.meets(minute):
                try:
                    await front.scheduled(cron.pattern, minute.timestamp() * 1000)
                    _log.info("scheduled %s", cron.pattern)
                except WorkerFault as fault:
                    _log.error("%s", fault.told.get("traceback") or fault)
