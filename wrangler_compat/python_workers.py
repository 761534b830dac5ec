"""The Python Workers of some projects, with their bindings, bound to each other. Knows no port and no terminal."""

from __future__ import annotations

import logging
from collections.abc import Sequence
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
from worker.services import Services
from wrangler_compat.marked import MARK
from wrangler_compat.project import ProjectError, open_project
from wrangler_compat.python_project import PythonProject, read_python_project

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
    ``bindings``: each Worker's, by its name.
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
        self._by_name: dict[str, tuple[PythonWorker, Front]] = {}
        self.bindings: dict[str, dict[str, Binding]] = {}
        for project in projects:
            assets = assets_of(project.project.folder, project.assets) if project.assets else None
            bindings = self.bindings[project.name] = self._bindings(project, assets)
            cache = Cache(self._state / f"cache-{project.name}.sqlite")
            services = Services({"internet": Internet(), "cache": cache, **bindings})
            made = PythonWorker(self._spec(project, bindings), services)
            self._by_name[project.name] = (made, Front(made, assets))

    def __getitem__(self, name: str) -> tuple[PythonWorker, Front]:
        return self._by_name[name]

    def again(self, project: PythonProject) -> WorkerSpec | None:
        """What ``project``'s Worker is now that its files may have changed; its bindings stay what they were."""
        try:
            config, environment = project.project.config, project.project.environment
            now = read_python_project(open_project(config, config, environment), allow_missing=True)
        except ProjectError as error:
            _log.error("%s", error)
            return None
        return self._spec(now, self.bindings[project.name])

    def _bindings(self, project: PythonProject, assets: Assets | None) -> dict[str, Binding]:
        """What stands in ``env``, a line for each kind."""
        found: dict[str, Binding] = {
            name: KvNamespace(self._state / "kv.sqlite", namespace) for name, namespace in project.kv.items()
        }
        found |= {name: D1Database(database_file(self._shared, database)) for name, database in project.d1.items()}
        found |= {name: R2Bucket(self._shared, bucket) for name, bucket in project.r2.items()}
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


def refuse_absent_services(projects: Sequence[PythonProject]) -> None:
    """Raise :class:`ProjectError` where a service binding leads to none of ``projects``."""
    names = {project.name for project in projects}
    absent = [
        f"{project.project.config.name}: {binding} is the Worker {service}, which isn't here: add its -c CONFIG"
        for project in projects
        for binding, service in project.services.items()
        if service not in names
    ]
    if absent:
        raise ProjectError("\n".join(absent))
