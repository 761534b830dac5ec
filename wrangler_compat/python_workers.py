"""The Python Workers of some projects, with their bindings, bound to each other. Knows no port and no terminal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.bindings.assets import Assets, assets_of
from worker.bindings.binding import Binding
from worker.bindings.cache import Cache
from worker.bindings.d1 import D1Database, database_file
from worker.bindings.internet import AiWire, Internet
from worker.bindings.kv import KvNamespace
from worker.bindings.r2 import R2Bucket
from worker.bindings.service import Service
from worker.front import Front
from worker.isolate_process import Limits, WorkerSpec
from worker.isolates import PythonWorker
from worker.queues import Consumer, consume
from worker.services import Services
from wrangler_compat.marked import MARK
from wrangler_compat.more_bindings import QUEUES, Shared, more_bindings
from wrangler_compat.project import ProjectError, open_project
from wrangler_compat.python_project import PythonProject, read_python_project
from wrangler_compat.queue_settings import two_consumers

SHARED = "v3"
"""The folder of wrangler's own local storage, beside roost's, where D1 and R2 keep theirs as miniflare would."""
_log = logging.getLogger("roost.worker")


@dataclass(frozen=True, slots=True)
class PythonOptions:
    """The options of ``roost dev`` that are Python Workers' alone."""

    limits: Limits = field(default_factory=Limits)
    allow_missing: bool = False


class Workers:
    """The Workers of ``projects``. ``state``: the project's ``.wrangler/state``. ``url`` and ``token``: the AI doors.

    ``mark``: what their processes bear, see :mod:`wrangler_compat.marked`.
    ``bindings`` and ``projects``: each Worker's, by its name.
    """

    def __init__(
        self,
        projects: Sequence[PythonProject],
        options: PythonOptions,
        state: Path,
        url: str,
        token: str | None = None,
        mark: str = "",
    ) -> None:
        self._options, self._url, self._token, self._mark = options, url, token, mark
        self._state, self._shared = state / "roost", state / SHARED
        self._more = Shared()
        self._changed: dict[str, asyncio.Event] = {}
        self._by_name: dict[str, tuple[PythonWorker, Front]] = {}
        self.bindings: dict[str, dict[str, Binding]] = {}
        self.projects: dict[str, PythonProject] = {}
        for project in projects:
            name = project.name
            assets = assets_of(project.project.folder, project.assets) if project.assets else None
            services = self._services(name, project, assets)
            made = PythonWorker(self._spec(name, project), services)
            self._by_name[name] = (made, Front(made, assets))
            self._changed[name] = asyncio.Event()

    def __getitem__(self, name: str) -> tuple[PythonWorker, Front]:
        return self._by_name[name]

    def again(self, name: str) -> None:
        """Let the Worker ``name`` become what its configuration and its variables are by now.

        Mistakes are shown, and the Worker stays what it was.
        """
        before = self.projects[name]
        opened, (worker, front) = before.project, self._by_name[name]
        try:
            config = None if opened.redirected_from else opened.config
            found = open_project(opened.home, config, opened.environment, opened.env_files)
            now = read_python_project(found, allow_missing=self._options.allow_missing)
            refuse_absent_services([now], self._by_name)
            refuse_second_consumers([now, *(each for each in self.projects.values() if each.name != name)])
        except ProjectError as error:
            return _log.error("%s", error)
        for warning in now.warnings:
            if warning not in before.warnings:
                _log.warning("%s", warning)
        self._changed[name].set()
        if _bound(now) == _bound(before):
            self.projects[name] = now
            return worker.become(self._spec(name, now))
        front.assets = assets_of(now.project.folder, now.assets) if now.assets else None
        services = self._services(name, now, front.assets)
        worker.become(self._spec(name, now), services)

    @asynccontextmanager
    async def consuming(self, name: str) -> AsyncGenerator[None]:
        """Give the Worker ``name`` the messages of the queues that it consumes while the block runs."""
        consuming = asyncio.create_task(self._consume(name))
        try:
            yield
        finally:
            consuming.cancel()
            await asyncio.wait({consuming})

    async def _consume(self, name: str) -> None:
        """A task for each consumer that the configuration has by now."""
        running: dict[Consumer, asyncio.Task[None]] = {}
        changed, front = self._changed[name], self._by_name[name][1]
        try:
            while True:
                wanted = self.projects[name].more.consumers
                await _ended([running.pop(each) for each in [*running] if each not in wanted])
                for each in wanted:
                    if each not in running:
                        work = consume(self._state / QUEUES, self._more.bells, each, front)
                        running[each] = asyncio.create_task(work)
                await changed.wait()
                changed.clear()
        finally:
            await _ended([*running.values()])

    def _services(self, name: str, project: PythonProject, assets: Assets | None) -> Services:
        self.projects[name] = project
        bindings = self.bindings[name] = self._bindings(project, assets)
        cache = Cache(self._state / f"cache-{name}.sqlite")
        return Services({"internet": Internet(), "cache": cache, **bindings})

    def _bindings(self, project: PythonProject, assets: Assets | None) -> dict[str, Binding]:
        """What stands in ``env``, a line for each kind."""
        found: dict[str, Binding] = {
            name: KvNamespace(self._state / "kv.sqlite", namespace) for name, namespace in project.kv.items()
        }
        found |= {name: D1Database(database_file(self._shared, database)) for name, database in project.d1.items()}
        found |= {name: R2Bucket(self._shared, bucket) for name, bucket in project.r2.items()}
        found |= {name: Service(target, self._by_name) for name, target in project.services.items()}
        found |= more_bindings(project.more, self._state, self._more)
        if project.project.ai_binding:
            found[project.project.ai_binding] = AiWire(self._url, self._token)
        if assets is not None and (name := project.assets.get("binding")):
            found[str(name)] = assets
        return found

    def _spec(self, name: str, project: PythonProject) -> WorkerSpec:
        described: list[dict[str, Any]] = [
            {"name": each, "kind": "variable", "value": value} for each, value in project.project.variables().items()
        ]
        described += [{"name": each, "kind": "missing", "what": what} for each, what in project.missing.items()]
        described += [{"name": each, **binding.described()} for each, binding in self.bindings[name].items()]
        return WorkerSpec(
            name,
            project.main,
            project.project.folder,
            project.date,
            project.flags,
            described,
            self._options.limits,
            {MARK: self._mark},
        )


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            _log.error("a queue's consumer broke off", exc_info=ended)


def _bound(project: PythonProject) -> tuple[Any, ...]:
    """What the bindings are made of."""
    opened = project.project
    stored = project.kv, project.d1, project.r2, project.services, project.more
    return *stored, opened.ai_binding, dict(project.assets), opened.folder


def refuse_absent_services(projects: Sequence[PythonProject], there: Collection[str] = ()) -> None:
    """Raise :class:`ProjectError` where a service binding leads to none of ``projects`` or of ``there``."""
    names = {project.name for project in projects} | {*there}
    absent = [
        f"{project.project.config.name}: {binding} is the Worker {target.worker}, which isn't here: add its -c CONFIG"
        for project in projects
        for binding, target in project.services.items()
        if target.worker not in names
    ]
    if absent:
        raise ProjectError("\n".join(absent))


def refuse_second_consumers(projects: Sequence[PythonProject]) -> None:
    """Raise :class:`ProjectError` where two of ``projects`` consume one queue."""
    if said := [*two_consumers([(project.name, project.more.consumers) for project in projects])]:
        raise ProjectError("\n".join(said))
